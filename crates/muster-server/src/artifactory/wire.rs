//! Shapes of Artifactory's API.

use muster_core::clock::Timestamp;
use muster_core::limits::LISTED_ARTIFACTS_MAX;
use muster_store::artifacts::{Artifact, Children, Folder};
use serde::Serialize;
use utoipa::ToSchema;

/// The answer to every mistake.
#[derive(Debug, Serialize, ToSchema)]
pub struct ArtifactoryErrors {
    /// One.
    errors: Vec<ArtifactoryError>,
}

/// A mistake.
#[derive(Debug, Serialize, ToSchema)]
pub struct ArtifactoryError {
    /// The HTTP status.
    status: u16,
    /// What is wrong.
    message: String,
}

/// Hashes in hexadecimal digits.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChecksumsInfo {
    sha1: String,
    md5: String,
    sha256: String,
}

/// Information about an artifact.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileInfo {
    repo: String,
    /// With a slash before it.
    path: String,
    #[schema(example = "2025-06-09T14:10:44.000Z")]
    created: String,
    created_by: String,
    last_modified: String,
    modified_by: String,
    last_updated: String,
    download_uri: String,
    mime_type: String,
    /// Bytes.
    #[schema(example = "1024")]
    size: String,
    checksums: ChecksumsInfo,
    original_checksums: ChecksumsInfo,
    uri: String,
}

/// Information about a folder, or about a repository.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FolderInfo {
    repo: String,
    /// With a slash before it.
    path: String,
    #[schema(example = "2025-06-09T14:10:44.000Z")]
    created: String,
    created_by: String,
    last_modified: String,
    modified_by: String,
    last_updated: String,
    /// At most 10000 folders and 10000 files.
    children: Vec<ChildInfo>,
    uri: String,
}

/// What lies in a folder.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChildInfo {
    /// Its name, with a slash before it.
    uri: String,
    folder: bool,
}

/// Information about what lies at a path.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ItemInfo {
    /// An artifact.
    File(Box<FileInfo>),
    /// A folder.
    Folder(Box<FolderInfo>),
}

const _: () = assert!(LISTED_ARTIFACTS_MAX == 10_000, "the documents say so");

/// A moment as Artifactory prints it.
fn moment(at: Timestamp) -> String {
    let text = at.to_rfc3339();
    let millis = at.as_millis().rem_euclid(1_000);
    format!("{}.{millis:03}Z", text.get(..19).unwrap_or(&text))
}

/// The name of who acted, without what the audit log has before it.
fn name_of(actor: &str) -> String {
    actor.strip_prefix("user:").unwrap_or(actor).to_owned()
}

/// A path in an address.
pub(crate) fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// The address of what lies at a path.
pub(crate) fn download_uri(base: &str, repository: &str, path: &str) -> String {
    format!("{base}/{repository}/{}", encoded(path))
}

fn info_uri(base: &str, repository: &str, path: &str) -> String {
    let slash = if path.is_empty() { "" } else { "/" };
    format!("{base}/api/storage/{repository}{slash}{}", encoded(path))
}

impl FileInfo {
    /// The information about an artifact of a repository.
    pub(crate) fn new(base: &str, repository: &str, artifact: &Artifact) -> Self {
        let found = &artifact.blob.checksums;
        let checksums =
            ChecksumsInfo { sha1: found.sha1.clone(), md5: found.md5.clone(), sha256: found.sha256.clone() };
        Self {
            repo: repository.to_owned(),
            path: format!("/{}", artifact.path),
            created: moment(artifact.created_at),
            created_by: name_of(&artifact.created_by),
            last_modified: moment(artifact.modified_at),
            modified_by: name_of(&artifact.modified_by),
            last_updated: moment(artifact.modified_at),
            download_uri: download_uri(base, repository, &artifact.path),
            mime_type: artifact.mime_type.clone(),
            size: artifact.blob.size.to_string(),
            original_checksums: checksums.clone(),
            checksums,
            uri: info_uri(base, repository, &artifact.path),
        }
    }

    /// Where the artifact can be fetched.
    pub(crate) fn download_uri(&self) -> &str {
        &self.download_uri
    }
}

impl FolderInfo {
    /// The information about a folder of a repository.
    pub(crate) fn new(base: &str, repository: &str, folder: &Folder, children: &Children) -> Self {
        let child = |path: &str, folder| {
            let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
            ChildInfo { uri: format!("/{name}"), folder }
        };
        let folders = children.folders.iter().map(|path| child(path, true));
        let files = children.artifacts.iter().map(|path| child(path, false));
        let created = moment(folder.created_at);
        Self {
            repo: repository.to_owned(),
            path: format!("/{}", folder.path),
            created_by: name_of(&folder.created_by),
            last_modified: created.clone(),
            modified_by: name_of(&folder.created_by),
            last_updated: created.clone(),
            created,
            children: folders.chain(files).collect(),
            uri: info_uri(base, repository, &folder.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_thousandths() {
        assert_eq!(moment(Timestamp::from_millis(1_749_478_244_007)), "2025-06-09T14:10:44.007Z");
    }

    #[test]
    fn addresses_hold_no_odd_characters() {
        assert_eq!(download_uri("http://h/artifactory", "r", "a b/é%"), "http://h/artifactory/r/a%20b/%C3%A9%25");
    }
}
