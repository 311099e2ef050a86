//! The ready-made actions: what stands behind `uses:`, one file for each.
//!
//! A `with` is read twice, by the same types. When a flow is created, a reference
//! to an input may stand for any value; on the device the inputs are filled in
//! first. To add an action, write its file and its row in the table below.

pub mod debian_package;
pub mod docker;
pub mod docker_compose;
pub mod download_artifact;
pub mod file;
pub mod git;
pub mod run_options;
pub mod script;
pub mod source;
pub mod values;

use serde::{Deserialize, Serialize};

use crate::flow::inputs::{InputValues, fill};
use crate::invalid::{Invalid, quoted};

/// A `with` as a document gives it, apart from what stands in it for every action.
pub type With = serde_json::Map<String, serde_json::Value>;

/// What no single key of a `with` can tell.
trait WholeCheck {
    /// Errors name the key at fault.
    fn check(&self) -> Result<(), Invalid>;
}

macro_rules! built_ins {
    ($($(#[$doc:meta])* $uses:literal => $variant:ident($with:ty);)*) => {
        /// A ready-made action and its `with`.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "name", content = "with")]
        pub enum BuiltIn {
            $($(#[$doc])* #[serde(rename = $uses)] $variant($with),)*
        }

        /// Every `uses:` that the flow language knows.
        pub const USES: &[&str] = &[$($uses),*];

        impl BuiltIn {
            /// The action of that name. Errors name the key of `with` that is wrong.
            pub fn read(name: &str, with: With) -> Result<Self, Invalid> {
                match name {
                    $($uses => Ok(Self::$variant(read(with)?)),)*
                    _ => Err(unknown(name)),
                }
            }
        }

        #[cfg(feature = "schema")]
        /// Each `uses:`, and the schema of its `with`.
        pub(super) fn schemas(generator: &mut schemars::SchemaGenerator) -> Vec<(&'static str, schemars::Schema)> {
            vec![$(($uses, generator.subschema_for::<$with>())),*]
        }
    };
}

built_ins! {
    /// Installs a package of Debian.
    "connect/debian-package" => DebianPackage(debian_package::DebianPackage);
    /// Runs a container.
    "connect/docker" => Docker(docker::Docker);
    /// Runs the containers of a compose file.
    "connect/docker-compose" => DockerCompose(docker_compose::DockerCompose);
    /// Fetches a file of a registry.
    "connect/download-artifact" => DownloadArtifact(download_artifact::DownloadArtifact);
    /// Writes one file.
    "connect/file" => File(file::File);
    /// Clones a repository.
    "connect/git" => Git(git::Git);
    /// Runs a script.
    "connect/script" => Script(script::Script);
}

impl BuiltIn {
    /// Reads `with` after its inputs are filled in, with `values`.
    pub fn filled(name: &str, with: &With, values: &InputValues) -> Result<Self, Invalid> {
        let mut with = with.clone();
        with.values_mut().try_for_each(|value| fill_all(value, values)).map_err(|problem| Invalid::new("", problem))?;
        Self::read(name, with)
    }

    /// What the device needs for it of a registry: an artifact, or an image.
    pub fn artifact(&self) -> Option<&str> {
        let artifact = match self {
            Self::DebianPackage(with) => with.artifact.as_ref(),
            Self::DockerCompose(with) => with.artifact.as_ref().or(with.registry.as_ref()),
            Self::DownloadArtifact(with) => Some(&with.artifactory_path),
            Self::File(with) => with.artifact.as_ref(),
            Self::Script(with) => with.artifact.as_ref(),
            Self::Docker(with) => return Some(with.image_path.as_str()),
            Self::Git(_) => None,
        };
        artifact.map(source::ArtifactPath::as_str)
    }
}

/// In the schema: the text in the document, under `inline`, or an artifact and its registry.
#[cfg(feature = "schema")]
fn source_rule(inline: &str) -> serde_json::Value {
    serde_json::json!([
        { "required": [inline], "properties": { "registry": false, "artifactory-path": false } },
        { "required": ["registry", "artifactory-path"], "properties": { inline: false } },
    ])
}

/// In the schema: the compose file in the document, or an artifact and its registry.
#[cfg(feature = "schema")]
fn compose_rule() -> serde_json::Value {
    serde_json::json!([
        { "required": ["compose"], "properties": { "artifactory-path": false } },
        { "required": ["registry", "artifactory-path"], "properties": { "compose": false } },
    ])
}

/// In the schema: the device's own sources, a file of the device, or an artifact.
#[cfg(feature = "schema")]
fn package_rule() -> serde_json::Value {
    serde_json::json!([
        { "required": ["package"], "properties": { "registry": false, "artifactory-path": false, "device-path": false } },
        {
            "required": ["device-path"],
            "properties": { "registry": false, "artifactory-path": false, "package": false, "version": false },
        },
        {
            "required": ["registry", "artifactory-path"],
            "properties": { "package": false, "version": false, "device-path": false },
        },
    ])
}

fn read<T: serde::de::DeserializeOwned + WholeCheck>(with: With) -> Result<T, Invalid> {
    let with: T = serde_path_to_error::deserialize(serde_json::Value::Object(with)).map_err(|error| {
        let path = error.path().to_string();
        Invalid::new(if path == "." { "" } else { &path }, error.into_inner().to_string())
    })?;
    with.check()?;
    Ok(with)
}

pub(super) fn unknown(name: &str) -> Invalid {
    let known: Vec<String> = USES.iter().map(|uses| format!("\"{uses}\"")).collect();
    Invalid::new("", format!("{} is none of {}", quoted(name), known.join(", ")))
}

fn fill_all(value: &mut serde_json::Value, values: &InputValues) -> Result<(), String> {
    match value {
        serde_json::Value::String(text) => *text = fill(text, values)?,
        serde_json::Value::Array(items) => items.iter_mut().try_for_each(|item| fill_all(item, values))?,
        serde_json::Value::Object(map) => map.values_mut().try_for_each(|item| fill_all(item, values))?,
        _ => {}
    }
    Ok(())
}
