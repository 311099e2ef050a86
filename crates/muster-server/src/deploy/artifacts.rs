//! Where the steps of a flow find what they need of a registry, and with what credential.
//!
//! `registry` names a registry of the account, or an artifact repository of this server. Of
//! the server's own a device gets a grant, for that content and a while; of another
//! registry as well, with which this server fetches it. What cannot be found is left
//! out: then the device says which artifact is missing, and its run ends.

use std::collections::BTreeMap;

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
}

/// What a step says of a registry, its inputs filled in.
struct Reference {
    registry: String,
    path: Option<String>,
    /// The address of a repository of git.
    git: Option<String>,
}

impl Reference {
    fn of(with: &actions::With, values: &InputValues) -> Option<Self> {
        let text = |key: &str| with.get(key)?.as_str().and_then(|text| fill(text, values).ok());
        Some(Self { registry: text("registry")?, path: text("artifactory-path"), git: text("repository") })
    }
}

/// What the steps of a deployment need.
pub async fn resolve<C: ConnectionTrait>(db: &Db<C>, order: &DeploymentOrder) -> Result<Vec<Needed>, StoreError> {
    let mut found = Vec::new();
    for (step, action) in order.flow.steps.iter().map(|step| &step.action).enumerate() {
        let Action::Uses { with, .. } = action else { continue };
        let Some(reference) = Reference::of(with, &order.inputs) else { continue };
        match source(db, order, &reference).await? {
            Some(source) => found.push(Needed { step, source }),
            None => tracing::warn!(deployment = order.uuid, step, "what a step needs of a registry was not found"),
        }
    }
    Ok(found)
}

async fn source<C: ConnectionTrait>(
    db: &Db<C>,
    order: &DeploymentOrder,
    reference: &Reference,
) -> Result<Option<Source>, StoreError> {
    if let Ok(name) = RegistryName::parse(&reference.registry)
        && let Some(registry) = db.find_registry(order.account_id, &name).await?
    {
        return Ok(of_registry(registry, reference));
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

/// Something of a registry of the account. Its secret stays here: the device is told of an
/// address of this server. See `docs/decisions/0008`.
fn of_registry(registry: Registry, reference: &Reference) -> Option<Source> {
    let (path, right) = match (&reference.git, &reference.path) {
        // The credential is shown to no other server than its own.
        (Some(git), _) => (upstream::git_path(&registry, git)?, Right::CloneFromRegistry),
        (None, Some(path)) if registry.kind != RegistryKind::Docker => {
            (ArtifactPath::parse(path).ok()?.into_string(), Right::FetchFromRegistry)
        }
        _ => return None,
    };
    Some(Source::Registry { registry: registry.id, name: registry.name, path, right })
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
