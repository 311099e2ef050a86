//! `connect/download-artifact`: a file of a registry, onto the device.

use serde::{Deserialize, Serialize};

use super::WholeCheck;
use super::source::ArtifactPath;
use super::values::{Count, DevicePath, Mode, Owner, Text};
use crate::invalid::Invalid;

/// Its `with`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DownloadArtifact {
    /// The registry that holds it.
    pub registry: Text,
    /// Where it stands in the registry.
    pub artifactory_path: ArtifactPath,
    /// The folder into which it goes, or the file that it becomes. The folder must exist.
    pub device_path: DevicePath,
    /// Its mode; that of the file before, or 0644, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Its owner; that of the file before, or the agent's user, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The most that is fetched in a second, in thousands of bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_kilobytes_per_second: Option<Count>,
}

impl WholeCheck for DownloadArtifact {
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }
}
