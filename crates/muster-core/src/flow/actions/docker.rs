//! `connect/docker`: a container of an image of a registry.

use serde::{Deserialize, Serialize};

use super::WholeCheck;
pub use super::run_options::RunOptions;
use super::values::{Count, Flag, ImagePath, ImageTag, Text, Words};
use crate::invalid::Invalid;

/// Its `with`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Docker {
    /// The registry that holds the image.
    pub registry: Text,
    /// Where the image stands in the registry. May begin with the registry's host.
    pub image_path: ImagePath,
    /// Its tag, or its digest.
    pub image_tag: ImageTag,
    /// How the container is run.
    #[serde(default)]
    pub run_options: Box<RunOptions>,
    /// What runs in it, instead of the image's own command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Words>,
    /// How long the container may take to become healthy, in seconds; 300 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_within_seconds: Option<Count>,
    /// How long a container without a health check must run, in seconds; 5 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady_seconds: Option<Count>,
    /// Whether the image of the container before is removed.
    #[serde(default)]
    pub delete_previous_image: Flag,
}

impl Docker {
    /// The container's name: the last word of the image's path unless one is given.
    pub fn container(&self) -> &str {
        let path = self.image_path.as_str();
        self.run_options.name.as_ref().map_or_else(|| path.rsplit('/').next().unwrap_or(path), |name| name.as_str())
    }
}

impl WholeCheck for Docker {
    fn check(&self) -> Result<(), Invalid> {
        self.run_options.check()
    }
}
