//! `connect/file`: one file on the device, at once or not at all.

use serde::{Deserialize, Serialize};

use super::WholeCheck;
use super::source::{ArtifactPath, one_source};
use super::values::{DevicePath, Mode, Owner, Text};
use crate::invalid::Invalid;

/// Its `with`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("oneOf" = super::source_rule("content"))))]
pub struct File {
    /// Where the file will stand. Its folder must exist.
    pub device_path: DevicePath,
    /// What it will hold. May be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The registry that holds the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Text>,
    /// Where the content stands in the registry.
    #[serde(default, rename = "artifactory-path", skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactPath>,
    /// Its mode; that of the file before, or 0644, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Its owner; that of the file before, or the agent's user, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

impl WholeCheck for File {
    fn check(&self) -> Result<(), Invalid> {
        let given = [("content", self.content.is_some()), ("artifactory-path", self.artifact.is_some())];
        one_source(&given, self.registry.as_ref(), self.artifact.as_ref())
    }
}
