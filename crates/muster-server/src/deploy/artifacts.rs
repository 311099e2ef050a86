//! Where the steps of a flow find what they need of a registry, and with what credential.
//!
//! `registry` names a registry of the account, or an artifact repository of this server. Of
//! the server's own a device gets a grant, for that content and a while; of another
//! registry its stored credential, only in a run that needs it. What cannot be found is left
//! out: then the device says which artifact is missing, and its run ends.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use muster_core::artifact::{Grant, Right};
use muster_core::flow::inputs::{InputValues, fill};
use muster_core::flow::{Action, actions};
use muster_core::ids::RowId;
use muster_core::limits::ARTIFACT_GRANT_LIFETIME;
use muster_core::names::{ArtifactPath, RegistryName, RepositoryName};
use muster_core::registry::RegistryKind;
use muster_core::token::Secret;
use muster_link::Artifact;
use muster_store::dispatch::DeploymentOrder;
use muster_store::registries::Registry;
use muster_store::repositories::{Repository, RepositoryKind};
use muster_store::{ConnectionTrait, Db, StoreError};

use crate::access::registries::opened;
use crate::app::App;
use crate::artifactory::wire::{download_uri, encoded};
use crate::artifacts::grants;

/// What one step needs, the same for every device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    step: usize,
    source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// An artifact of this server.
    Own { repository: RowId, name: String, path: String, blob: RowId, sha256: String, size: u64 },
    /// Something of another registry.
    Other(Artifact),
}

/// What a step says of a registry, its inputs filled in.
struct Reference {
    registry: String,
    path: Option<String>,
    /// The address of a repository of git.
    git: Option<String>,
    /// An image of containers: its path and its tag.
    image: Option<(String, String)>,
    /// A compose file stands in the flow: its images need the credential alone.
    has_compose: bool,
}

impl Reference {
    fn of(with: &actions::With, values: &InputValues) -> Option<Self> {
        let text = |key: &str| with.get(key)?.as_str().and_then(|text| fill(text, values).ok());
        Some(Self {
            registry: text("registry")?,
            path: text("artifactory-path"),
            git: text("repository"),
            image: text("image-path").zip(text("image-tag")),
            has_compose: with.contains_key("compose"),
        })
    }
}

/// What the steps of a deployment need.
pub async fn resolve<C: ConnectionTrait>(
    app: &App,
    db: &Db<C>,
    order: &DeploymentOrder,
) -> Result<Vec<Needed>, StoreError> {
    let mut found = Vec::new();
    for (step, action) in order.flow.steps.iter().map(|step| &step.action).enumerate() {
        let Action::Uses { with, .. } = action else { continue };
        let Some(reference) = Reference::of(with, &order.inputs) else { continue };
        match source(app, db, order, &reference).await? {
            Some(source) => found.push(Needed { step, source }),
            None => tracing::warn!(deployment = order.uuid, step, "what a step needs of a registry was not found"),
        }
    }
    Ok(found)
}

async fn source<C: ConnectionTrait>(
    app: &App,
    db: &Db<C>,
    order: &DeploymentOrder,
    reference: &Reference,
) -> Result<Option<Source>, StoreError> {
    if let Ok(name) = RegistryName::parse(&reference.registry)
        && let Some(registry) = db.find_registry(order.account_id, &name).await?
    {
        return Ok(other(app, order.account_id, &registry, reference).map(Source::Other));
    }
    match (RepositoryName::parse(&reference.registry), &reference.path) {
        (Ok(name), Some(path)) => own(db, order, &name, path).await,
        _ => Ok(None),
    }
}

/// An artifact of this server. The path may begin with the repository's name, as in Artifactory.
async fn own<C: ConnectionTrait>(
    db: &Db<C>,
    order: &DeploymentOrder,
    name: &RepositoryName,
    path: &str,
) -> Result<Option<Source>, StoreError> {
    let found = db.find_repository(order.account_id, name).await?;
    let is_for = |found: &Repository| {
        found.kind == RepositoryKind::Generic && found.fleet_id.is_none_or(|fleet| fleet == order.fleet_id)
    };
    let Some(repository) = found.filter(is_for) else { return Ok(None) };
    let inner = path.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('/'));
    for path in [Some(path), inner].into_iter().flatten() {
        let Ok(path) = ArtifactPath::parse(path) else { continue };
        if let Some(artifact) = db.find_artifact(repository.id, &path).await? {
            return Ok(Some(Source::Own {
                repository: repository.id,
                name: repository.name,
                path: artifact.path,
                size: u64::try_from(artifact.blob.size).unwrap_or_default(),
                blob: artifact.blob.id,
                sha256: artifact.blob.checksums.sha256,
            }));
        }
    }
    Ok(None)
}

/// Something of another registry, with the credential that the account keeps for it.
fn other(app: &App, account_id: RowId, registry: &Registry, reference: &Reference) -> Option<Artifact> {
    let url = match (&reference.git, &reference.path, &reference.image) {
        // The credential is shown to no other server than its own.
        (Some(git), ..) if authority(git) == authority(&registry.url) => git.clone(),
        (None, None, Some((path, tag))) if registry.kind != RegistryKind::Git => {
            image(registry.kind, &registry.url, path, tag)?
        }
        (None, Some(path), _) if registry.kind != RegistryKind::Docker => {
            let path = ArtifactPath::parse(path).ok()?;
            let scheme = if registry.url.contains("://") { "" } else { "https://" };
            format!("{scheme}{}/{}", registry.url.trim_end_matches('/'), encoded(path.as_str()))
        }
        (None, None, None) if reference.has_compose => {
            let scheme = if registry.url.contains("://") { "" } else { "https://" };
            format!("{scheme}{}", registry.url)
        }
        _ => return None,
    };
    let secret = match opened(app, account_id, registry) {
        Ok(secret) => secret,
        Err(error) => {
            tracing::error!(%error, registry = registry.name, "the secret of a registry cannot be opened");
            return None;
        }
    };
    let credential = secret.map(|secret| match registry.username.as_str() {
        "" => format!("Bearer {}", secret.expose()),
        name => format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{}", secret.expose()))),
    });
    let headers = credential.map(|value| ("Authorization".to_owned(), Secret::received(&value))).into_iter().collect();
    Some(Artifact { url, headers, sha256: None, size_bytes: None })
}

/// The image's name, as a container engine takes it: `HOST/PATH:TAG`, or `HOST/PATH@DIGEST`.
///
/// A path may begin with the registry's own host. One that begins with another is of no
/// use: the credential is shown to no other server.
fn image(kind: RegistryKind, url: &str, path: &str, tag: &str) -> Option<String> {
    let host = authority(url);
    let first = path.split_once('/').map_or("", |(first, _)| first);
    let is_host = first == "localhost" || first.contains(['.', ':']);
    let mark = if tag.starts_with("sha256:") { '@' } else { ':' };
    match is_host {
        true if first.eq_ignore_ascii_case(host) => Some(format!("{path}{mark}{tag}")),
        true => None,
        false => Some(format!("{host}/{}{path}{mark}{tag}", folder(kind, url))),
    }
}

/// Where the images of a Docker registry stand on its host. Artifactory has its other
/// things below its address, and its images on its host.
fn folder(kind: RegistryKind, url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split_once('/').map_or("", |(_, path)| path).trim_matches('/');
    // What stands there at Docker Hub, and at registries by their interface, is no folder.
    if kind != RegistryKind::Docker || matches!(path, "" | "v1" | "v2") {
        return String::new();
    }
    format!("{path}/")
}

/// The host and port that an address names.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let whole = rest.split(['/', '?', '#']).next().unwrap_or_default();
    whole.rsplit_once('@').map_or(whole, |(_, host)| host)
}

/// What one device is told: the same, with credentials of its own.
pub fn for_device(app: &App, needed: &[Needed], device_id: RowId) -> BTreeMap<String, Artifact> {
    needed.iter().map(|needed| (needed.step.to_string(), told(app, &needed.source, device_id))).collect()
}

fn told(app: &App, source: &Source, device_id: RowId) -> Artifact {
    match source {
        Source::Other(artifact) => artifact.clone(),
        Source::Own { repository, name, path, blob, sha256, size } => {
            let grant = Grant {
                repository: *repository,
                path: path.clone(),
                right: Right::FetchContent(*blob),
                holder: format!("device:#{device_id}"),
                ends_at: app.clock().now().after(ARTIFACT_GRANT_LIFETIME),
            };
            let bearer = format!("Bearer {}", grants::issue(app, &grant).0);
            Artifact {
                url: download_uri(&format!("{}/artifactory", app.base_url()), name, path),
                headers: BTreeMap::from([("Authorization".to_owned(), Secret::received(&bearer))]),
                sha256: Some(sha256.clone()),
                size_bytes: Some(*size),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_as_an_engine_takes_it() {
        let some = |text: &str| Some(text.to_owned());
        let docker = RegistryKind::Docker;
        assert_eq!(image(docker, "https://r.example.com", "a/b", "1"), some("r.example.com/a/b:1"));
        assert_eq!(image(docker, "r.example.com:5000", "r.example.com:5000/a", "1"), some("r.example.com:5000/a:1"));
        assert_eq!(
            image(docker, "https://r.example.com/team/", "a", "sha256:0f"),
            some("r.example.com/team/a@sha256:0f")
        );
        assert_eq!(image(docker, "https://index.docker.io/v1/", "library/a", "1"), some("index.docker.io/library/a:1"));
        let artifactory = image(RegistryKind::Artifactory, "https://x.example.com/artifactory", "platform-url/a", "1");
        assert_eq!(artifactory, some("x.example.com/platform-url/a:1"));
        assert_eq!(image(docker, "https://r.example.com", "evil.org/a", "1"), None);
    }

    #[test]
    fn an_address_names_its_server() {
        for url in [
            "https://git.example.com/a/b.git",
            "git.example.com",
            "https://user@git.example.com?x",
            "git.example.com#/y",
        ] {
            assert_eq!(authority(url), "git.example.com", "{url}");
        }
        assert_eq!(authority("https://git.example.com.evil.org/x"), "git.example.com.evil.org");
        assert_eq!(authority("https://git.example.com@evil.org/x"), "evil.org");
    }
}
