//! `connect/git`: a repository, cloned into an existing folder.

use serde::{Deserialize, Serialize};

use super::WholeCheck;
use super::values::{DevicePath, GitRef, Text};
use crate::invalid::Invalid;

/// Its `with`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Git {
    /// Its address, as `git clone` takes it.
    pub repository: Text,
    /// The branch, tag or commit; the repository's own choice unless given.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<GitRef>,
    /// The folder in which `git clone` runs: the clone becomes a folder in it, named as the
    /// repository is. Must exist.
    pub device_path: DevicePath,
    /// The registry whose credentials are shown to the repository's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Text>,
}

impl WholeCheck for Git {
    fn check(&self) -> Result<(), Invalid> {
        if self.repository.as_str().starts_with('-') {
            return Err(Invalid::new("repository", "is no address of a repository"));
        }
        Ok(())
    }
}
