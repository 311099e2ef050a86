//! `connect/debian-package`: one package, in one version.

use serde::{Deserialize, Serialize};

use super::WholeCheck;
use super::source::{ArtifactPath, one_source};
use super::values::{DevicePath, PackageName, PackageVersion, Text};
use crate::invalid::Invalid;

/// Its `with`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("oneOf" = super::package_rule())))]
pub struct DebianPackage {
    /// The package's name. From the device's own sources, when there is nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageName>,
    /// Its version, for a package from the device's own sources; the newest unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<PackageVersion>,
    /// A `.deb` that stands on the device already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_path: Option<DevicePath>,
    /// The registry that holds the `.deb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Text>,
    /// Where the `.deb` stands in the registry.
    #[serde(default, rename = "artifactory-path", skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactPath>,
}

impl WholeCheck for DebianPackage {
    fn check(&self) -> Result<(), Invalid> {
        let given = [
            ("package", self.package.is_some()),
            ("device-path", self.device_path.is_some()),
            ("artifactory-path", self.artifact.is_some()),
        ];
        one_source(&given, self.registry.as_ref(), self.artifact.as_ref())?;
        match &self.version {
            Some(_) if self.package.is_none() => Err(Invalid::new("version", "goes with \"package\"")),
            _ => Ok(()),
        }
    }
}
