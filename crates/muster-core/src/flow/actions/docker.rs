//! `connect/docker`: a container of an image of a registry.

use serde::{Deserialize, Serialize};

use super::WholeCheck;
use super::values::{Flag, Text};
use crate::invalid::Invalid;

/// Its `with`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Docker {
    /// The registry that holds the image.
    pub registry: Text,
    /// Where the image stands in the registry.
    pub image_path: Text,
    /// Its tag.
    pub image_tag: Text,
    /// How the container is run.
    #[serde(default)]
    pub run_options: RunOptions,
    /// What runs in it, instead of the image's own command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Text>,
    /// Whether the image of the container before is removed.
    #[serde(default)]
    pub delete_previous_image: Flag,
}

/// How a container is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunOptions {
    /// When the container is started again: `no`, `always`, `on-failure`, `unless-stopped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Text>,
    /// Whether the step waits for the container's end, and keeps its output.
    #[serde(default)]
    pub attach: Flag,
}

impl WholeCheck for Docker {
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }
}
