//! Where the content of an action comes from: the document, or a registry.

use super::values::Text;
use crate::invalid::Invalid;

/// Where an artifact stands in its registry: repository, folders and file.
pub type ArtifactPath = Text;

/// Checks that exactly one of the `given` keys is there, and that a registry goes
/// with an artifact and with nothing else.
pub(super) fn one_source(
    given: &[(&str, bool)],
    registry: Option<&Text>,
    artifact: Option<&ArtifactPath>,
) -> Result<(), Invalid> {
    let keys = || given.iter().map(|(key, _)| format!("\"{key}\"")).collect::<Vec<_>>().join(" or ");
    match given.iter().filter(|(_, is_given)| *is_given).count() {
        1 => {}
        0 => return Err(Invalid::new("", format!("needs {}", keys()))),
        _ => return Err(Invalid::new("", format!("has more than one of {}", keys()))),
    }
    match (registry, artifact) {
        (Some(_), None) => Err(Invalid::new("registry", "goes with \"artifactory-path\"")),
        (None, Some(_)) => Err(Invalid::new("artifactory-path", "needs its \"registry\"")),
        _ => Ok(()),
    }
}
