//! Looking at artifacts and folders, and deleting them.

use muster_core::artifact::{Grant, Right};
use muster_core::limits::LISTED_ARTIFACTS_MAX;
use muster_core::names::ArtifactPath;
use muster_store::artifacts::{Artifact, Children, Folder};
use muster_store::file_requests::FileRequestStatus;
use muster_store::repositories::RepositoryKind;
use muster_store::{ConnectionTrait, Db};
use serde_json::{Value, json};

use crate::access::artifacts::PermittedRepository;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An artifact.
    Artifact(Artifact),
    /// A folder, with what lies in it.
    Folder(Folder, Children),
}

/// The place in a repository, as a caller wrote it; `None` for the repository itself.
pub fn place(path: &str) -> Result<Option<ArtifactPath>> {
    match path.trim_end_matches('/') {
        "" => Ok(None),
        path => Ok(Some(ArtifactPath::parse(path).map_err(|refusal| refusal.within("path"))?)),
    }
}

fn nothing(path: &str) -> OpError {
    OpError::not_found("artifact", path)
}

/// Why nothing lies there. What a device was asked for may come yet, or the device has said
/// why it cannot send it.
async fn nothing_yet(app: &App, permitted: &PermittedRepository, path: &str) -> Result<OpError> {
    let repository = permitted.repository();
    if repository.kind != RepositoryKind::DeviceFiles {
        return Ok(nothing(path));
    }
    Ok(match app.store.read().find_file_request(repository.id, path).await? {
        Some(FileRequestStatus::Pending) => OpError::NotYet("the device has not sent it yet".to_owned()),
        Some(FileRequestStatus::Overdue) => OpError::NotYet("the device did not send it in time".to_owned()),
        Some(FileRequestStatus::Failed(why)) => OpError::NotYet(format!("the device cannot send it: {why}")),
        // It was deleted.
        Some(FileRequestStatus::Stored) | None => nothing(path),
    })
}

/// What lies at a path.
pub async fn find(app: &App, permitted: &PermittedRepository, path: &str) -> Result<Found> {
    let (db, repository) = (app.store.read(), permitted.repository());
    let place = place(path).map_err(|_| nothing(path))?;
    if let Some(place) = &place
        && let Some(artifact) = db.find_artifact(repository.id, place).await?
    {
        return Ok(Found::Artifact(artifact));
    }
    let folder = db.find_folder(repository.id, place.as_ref()).await?.ok_or_else(|| nothing(path))?;
    let children = db.folder_children(folder.id, LISTED_ARTIFACTS_MAX).await?;
    Ok(Found::Folder(folder, children))
}

/// The artifact at a path. With a grant of one content it is that content, whatever lies
/// there by now: a device that fetches must not be given another half-way.
pub async fn artifact(
    app: &App,
    permitted: &PermittedRepository,
    path: &str,
    grant: Option<&Grant>,
) -> Result<Artifact> {
    let place = ArtifactPath::parse(path).map_err(|_| nothing(path))?;
    let found = app.store.read().find_artifact(permitted.repository().id, &place).await?;
    let Some(Right::FetchContent(blob_id)) = grant.map(|grant| &grant.right) else {
        return match found {
            Some(found) => Ok(found),
            None => Err(nothing_yet(app, permitted, path).await?),
        };
    };
    if let Some(found) = found.filter(|found| found.blob.id == *blob_id) {
        return Ok(found);
    }
    let blob = app.store.read().find_blob(*blob_id).await?.ok_or_else(|| nothing(path))?;
    let (by, at) = (permitted.actor().to_owned(), muster_core::clock::Timestamp::NEVER);
    Ok(Artifact {
        id: 0,
        path: place.into_string(),
        blob,
        mime_type: super::storing::MIME_TYPE.to_owned(),
        created_by: by.clone(),
        created_at: at,
        modified_by: by,
        modified_at: at,
    })
}

/// Notes that somebody fetches an artifact, where that is as much as to look at a device.
pub async fn note_fetch(app: &App, permitted: &PermittedRepository, artifact: &Artifact) -> Result<()> {
    if permitted.repository().kind != RepositoryKind::DeviceFiles {
        return Ok(());
    }
    let event = &permitted.event(&artifact.path, json!({ "artifact": described(artifact) }));
    app.store.write(|tx| async move { Ok::<_, WorkError>(tx.audit(event).await?) }).await?;
    Ok(())
}

/// Deletes what lies at a path: an artifact, or a folder with all that lies in it. What
/// they held stays in the storage for a while.
pub async fn delete(app: &App, permitted: &PermittedRepository, path: &str) -> Result<()> {
    let place = &place(path).ok().flatten().ok_or_else(|| nothing(path))?;
    let repository_id = permitted.repository().id;
    let work = app.store.write(|tx| async move {
        let before = match tx.find_artifact(repository_id, place).await? {
            Some(artifact) => {
                tx.delete_artifact(artifact.id).await?;
                described(&artifact)
            }
            None => {
                let folder = folder(&tx, repository_id, place).await?;
                tx.delete_folder(folder.id).await?;
                json!({ "folder": folder.path })
            }
        };
        tx.audit(&permitted.event(place.as_str(), json!({ "before": before, "after": null }))).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

async fn folder<C: ConnectionTrait>(db: &Db<C>, repository_id: i64, place: &ArtifactPath) -> Result<Folder> {
    db.find_folder(repository_id, Some(place)).await?.ok_or_else(|| nothing(place.as_str()))
}

/// An artifact as the audit log tells it.
pub(super) fn described(artifact: &Artifact) -> Value {
    json!({ "sha256": artifact.blob.checksums.sha256, "size": artifact.blob.size, "mime_type": artifact.mime_type })
}
