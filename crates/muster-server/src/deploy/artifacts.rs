//! Where the steps of a flow find what they need of a registry, and with what credential.
//!
//! `registry` names a registry of the account, or an artifact repository of this server. Of
//! the server's own a device gets a grant, for that content and a while; of another
//! registry as well, with which this server fetches it. What cannot be found is left
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
use crate::artifacts::{grants, upstream};

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
    /// Something of a registry of the account, which this server fetches for the device.
    Registry { registry: RowId, name: String, path: String, right: Right },
    /// Images, which the device's container engine fetches.
    Images(Artifact),
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
        return Ok(of_registry(app, order.account_id, registry, reference));
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

/// Something of a registry of the account. Its secret stays here, and the device is told of an
/// address of this server: see `docs/decisions/0008`. Images alone are fetched by the device's
/// container engine itself, with the credential.
fn of_registry(app: &App, account_id: RowId, registry: Registry, reference: &Reference) -> Option<Source> {
    let (path, right) = match (&reference.git, &reference.path, &reference.image) {
        // The credential is shown to no other server than its own.
        (Some(git), ..) => (upstream::git_path(&registry, git)?, Right::CloneFromRegistry),
        (None, None, Some((path, tag))) if registry.kind != RegistryKind::Git => {
            let image = image(registry.kind, &registry.url, path, tag)?;
            return Some(Source::Images(with_credential(app, account_id, &registry, image)?));
        }
        (None, Some(path), _) if registry.kind != RegistryKind::Docker => {
            (ArtifactPath::parse(path).ok()?.into_string(), Right::FetchFromRegistry)
        }
        (None, None, None) if reference.has_compose => {
            let scheme = if registry.url.contains("://") { "" } else { "https://" };
            let url = format!("{scheme}{}", registry.url);
            return Some(Source::Images(with_credential(app, account_id, &registry, url)?));
        }
        _ => return None,
    };
    Some(Source::Registry { registry: registry.id, name: registry.name, path, right })
}

/// What the device's own engine is told to fetch it with.
fn with_credential(app: &App, account_id: RowId, registry: &Registry, url: String) -> Option<Artifact> {
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
    let (base, ends_at) = (app.base_url(), app.clock().now().after(ARTIFACT_GRANT_LIFETIME));
    let headers = |repository: RowId, path: &str, right: Right| {
        let holder = format!("device:#{device_id}");
        let bearer = grants::issue(app, &Grant { repository, path: path.to_owned(), right, holder, ends_at }).0;
        BTreeMap::from([("Authorization".to_owned(), Secret::received(format!("Bearer {bearer}")))])
    };
    match source {
        Source::Images(artifact) => artifact.clone(),
        Source::Registry { registry, name, path, right } => Artifact {
            url: format!("{base}/link/v1/registries/{}/{}", encoded(name), encoded(path)),
            headers: headers(*registry, path, right.clone()),
            sha256: None,
            size_bytes: None,
        },
        Source::Own { repository, name, path, blob, sha256, size } => Artifact {
            url: download_uri(&format!("{base}/artifactory"), name, path),
            headers: headers(*repository, path, Right::FetchContent(*blob)),
            sha256: Some(sha256.clone()),
            size_bytes: Some(*size),
        },
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
        assert_eq!(image(docker, "https://hub.example.com/v1/", "library/a", "1"), some("hub.example.com/library/a:1"));
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
