//! `connect/docker-compose`: the containers of a compose file.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::WholeCheck;
use super::source::{ArtifactPath, one_source};
use super::values::{Count, DevicePath, Flag, ProjectName, Text};
use crate::invalid::{Invalid, quoted};

/// Its `with`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("oneOf" = super::compose_rule())))]
pub struct DockerCompose {
    /// The project's folder on the device, into which the compose file goes. Must exist.
    pub device_path: DevicePath,
    /// The compose file's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<Text>,
    /// The registry that holds the compose file, or whose credential its images need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Text>,
    /// Where the compose file stands in the registry.
    #[serde(default, rename = "artifactory-path", skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactPath>,
    /// The project's name; the folder's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectName>,
    /// What the compose file finds in its environment.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = { "pattern": "^[^=]+$" })))]
    pub env: IndexMap<String, String>,
    /// How long the containers may take to become healthy, in seconds; 300 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_within_seconds: Option<Count>,
    /// How long containers without a health check must run, in seconds; 5 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady_seconds: Option<Count>,
    /// Whether the images of the containers before are removed.
    #[serde(default)]
    pub delete_previous_images: Flag,
}

impl WholeCheck for DockerCompose {
    fn check(&self) -> Result<(), Invalid> {
        let given = [("compose", self.compose.is_some()), ("artifactory-path", self.artifact.is_some())];
        match self
            .env
            .iter()
            .find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'))
        {
            Some((name, _)) => Err(Invalid::new("env", format!("{} is no variable", quoted(name)))),
            // Its images may need the credential as well.
            None => one_source(&given, self.artifact.as_ref().and(self.registry.as_ref()), self.artifact.as_ref()),
        }
    }
}
