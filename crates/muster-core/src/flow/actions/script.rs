//! `connect/script`: runs a script, given in the document or by an artifact.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::WholeCheck;
use super::source::{ArtifactPath, one_source};
use super::values::{DevicePath, Text};
use crate::invalid::{Invalid, quoted};

/// Its `with`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("oneOf" = super::source_rule("script"))))]
pub struct Script {
    /// The script's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Text>,
    /// The registry that holds the script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Text>,
    /// Where the script stands in the registry.
    #[serde(default, rename = "artifactory-path", skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactPath>,
    /// The program that reads it; `sh` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<Text>,
    /// What it is called with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Added to its environment.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" })))]
    pub env: IndexMap<String, String>,
    /// Where it runs; `/` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<DevicePath>,
    /// The files and folders that it changes: saved before it runs, and put back by `revert-all-files`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<DevicePath>,
}

impl WholeCheck for Script {
    fn check(&self) -> Result<(), Invalid> {
        let given = [("script", self.script.is_some()), ("artifactory-path", self.artifact.is_some())];
        one_source(&given, self.registry.as_ref(), self.artifact.as_ref())?;
        let is_name = |name: &str| {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        };
        match self.env.keys().find(|name| !is_name(name)) {
            Some(name) => Err(Invalid::new("env", format!("{} is no name of a variable", quoted(name)))),
            None => Ok(()),
        }
    }
}
