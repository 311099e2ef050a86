//! Storing artifacts.
//!
//! The order of it, so that a crash at any point leaves nothing wrong: the id is noted as a
//! loose object; the bytes are written under it; one transaction makes it a blob, or drops
//! it for a blob of the same content, and puts the artifact in its place.

use std::time::Duration;

use axum::body::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};
use muster_core::artifact::{Checksums, Expected};
use muster_core::ids::RowId;
use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::ARTIFACT_UPLOAD_TIMEOUT;
use muster_core::names::ArtifactPath;
use muster_store::artifacts::{Artifact, NewArtifact};
use muster_store::blobs::Blob;
use muster_store::repositories::RepositoryKind;
use muster_store::{ConnectionTrait, Db, Tx};
use serde_json::json;

use super::reading::described;
use crate::access::artifacts::PermittedRepository;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// What an artifact is whose sender says nothing of it.
pub const MIME_TYPE: &str = "application/octet-stream";

/// Added to the longest upload, before what it has left is removed.
const LOOSE_SLACK: Duration = Duration::from_secs(60 * 60);
/// Repositories that are looked through for a content that somebody names by its hash.
const LOOKED_THROUGH_MAX: u64 = 1_000;

/// What is asked of an artifact that is stored.
#[derive(Clone, Debug)]
pub struct StoreOrder {
    /// Where.
    pub path: ArtifactPath,
    /// What kind of content it is.
    pub mime_type: String,
    /// What its sender says of the content.
    pub expected: Expected,
    /// Bytes, at most.
    pub bytes_max: u64,
    /// Bytes, where the sender says it before.
    pub bytes_said: Option<u64>,
}

/// Stores what arrives, in the place of what lies at the path.
pub async fn store<E: From<OpError>>(
    app: &App,
    permitted: &PermittedRepository,
    order: &StoreOrder,
    pieces: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<Artifact, E> {
    check_way(app, permitted, &order.path).await?;
    app.objects.check_room(order.bytes_said.unwrap_or(0))?;
    check_quota(app, app.store.read(), permitted, order.bytes_said.unwrap_or(0)).await?;
    let id = begin(app).await?;
    match receive(app, id, order, pieces).await {
        Ok(blob) => Ok(publish(app, permitted, order, &blob).await?),
        Err(error) => {
            drop_object(app, id).await;
            Err(error)
        }
    }
}

/// Stores a content that the account has already, by its hash alone.
pub async fn store_known(app: &App, permitted: &PermittedRepository, order: &StoreOrder) -> Result<Artifact> {
    check_way(app, permitted, &order.path).await?;
    let Some(sha256) = &order.expected.sha256 else {
        return Err(Invalid::missing("X-Checksum-Sha256").into());
    };
    let unknown = || OpError::not_found("content with the SHA-256", sha256);
    let blob = app.store.read().find_blob_by_sha256(sha256).await?.ok_or_else(unknown)?;
    if !is_seen(app, permitted, blob.id).await? {
        return Err(unknown());
    }
    order.expected.check(&blob.checksums).map_err(OpError::Conflict)?;
    let work = app.store.write(|tx| async move {
        let (now, id) = (tx.find_blob_by_sha256(sha256).await?.ok_or_else(unknown)?, permitted.repository().id);
        still_there(&tx, permitted).await?;
        put(app, &tx, permitted, order, id, now.id).await
    });
    Ok(work.await?)
}

/// Whether the caller sees an artifact that has the blob: a hash must not open what its
/// bearer may not read.
async fn is_seen(app: &App, permitted: &PermittedRepository, blob_id: RowId) -> Result<bool> {
    let db = app.store.read();
    for id in db.repositories_of_blob(blob_id, LOOKED_THROUGH_MAX).await? {
        if let Some(repository) = db.find_repository_by_id(id).await?
            && repository.kind == permitted.repository().kind
            && permitted.sees(&repository)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Says early what would be refused in the end.
async fn check_way(app: &App, permitted: &PermittedRepository, path: &ArtifactPath) -> Result<()> {
    match app.store.read().in_the_way(permitted.repository().id, path).await? {
        Some(other) => Err(in_the_way(path, &other)),
        None => Ok(()),
    }
}

/// Refuses when the artifacts of the account and `more` bytes are more than it may have.
async fn check_quota<C: ConnectionTrait>(
    app: &App,
    db: &Db<C>,
    permitted: &PermittedRepository,
    more: u64,
) -> Result<()> {
    let Some(quota) = app.config.artifact_quota_bytes else { return Ok(()) };
    let used = db.artifact_bytes(permitted.repository().account_id).await?;
    if used.saturating_add(more) <= quota {
        return Ok(());
    }
    let text = format!("the account's artifacts may have {quota} bytes, and have {used}; nothing was stored");
    Err(OpError::NoRoom(text))
}

fn in_the_way(path: &ArtifactPath, other: &str) -> OpError {
    let problem = match path.as_str() == other {
        true => format!("{} is a folder", quoted(other)),
        false => format!("{} is an artifact, and not a folder", quoted(other)),
    };
    OpError::Conflict(Invalid::new("path", problem))
}

/// Notes the id of an object before a byte of it is written.
pub async fn begin(app: &App) -> Result<RowId> {
    let id = app.store.reserve_id();
    let due_at = app.clock().now().after(ARTIFACT_UPLOAD_TIMEOUT + LOOSE_SLACK);
    app.store.write(|tx| async move { tx.insert_loose_object(id, due_at).await }).await?;
    Ok(id)
}

/// Writes what arrives into the storage, and checks it.
pub async fn receive<E: From<OpError>>(
    app: &App,
    id: RowId,
    order: &StoreOrder,
    mut pieces: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<Blob, E> {
    let note = Box::new(move |multipart_id: String| -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let name = multipart_id.as_str();
            Ok(app.store.write(|tx| async move { tx.note_multipart(id, name).await }).await?)
        })
    });
    let mut upload = app.objects.begin(id, note).await?;
    while let Some(piece) = pieces.next().await {
        let piece = match piece {
            Ok(piece) if upload.size() + piece.len() as u64 <= order.bytes_max => piece,
            refused => {
                upload.abort().await;
                let bytes_max = usize::try_from(order.bytes_max).unwrap_or(usize::MAX);
                return Err(refused.err().unwrap_or_else(|| OpError::TooLarge { field: "body", bytes_max }.into()));
            }
        };
        if let Err(error) = upload.write(piece).await {
            upload.abort().await;
            return Err(error.into());
        }
    }
    let (checksums, size) = upload.finish().await?;
    order.expected.check(&checksums).map_err(OpError::Conflict)?;
    Ok(blob(id, checksums, size))
}

fn blob(id: RowId, checksums: Checksums, size: u64) -> Blob {
    Blob { id, checksums, size: i64::try_from(size).unwrap_or(i64::MAX) }
}

/// Makes what lies in the storage a blob, and the blob an artifact.
pub async fn publish(app: &App, permitted: &PermittedRepository, order: &StoreOrder, new: &Blob) -> Result<Artifact> {
    let work = app.store.write(|tx| async move {
        still_there(&tx, permitted).await?;
        let blob_id = match tx.find_blob_by_sha256(&new.checksums.sha256).await? {
            Some(same) => {
                tx.give_up_objects(&[new.id]).await?;
                same.id
            }
            None => {
                if tx.forget_loose_objects(&[new.id]).await? == 0 {
                    return Err(OpError::Internal("an upload took longer than any may".to_owned()).into());
                }
                tx.insert_blob(new).await?;
                new.id
            }
        };
        Ok::<_, WorkError>((
            blob_id == new.id,
            put(app, &tx, permitted, order, permitted.repository().id, blob_id).await?,
        ))
    });
    match work.await {
        Ok((is_new, artifact)) => {
            if !is_new {
                drop_object(app, new.id).await;
            }
            Ok(artifact)
        }
        Err(WorkError::Op(error)) => {
            drop_object(app, new.id).await;
            Err(error)
        }
        // Whether it was committed is not known: what is loose is removed when it is due.
        Err(error) => Err(error.into()),
    }
}

/// The repository may have been deleted while the artifact arrived.
async fn still_there(tx: &Tx, permitted: &PermittedRepository) -> Result<(), WorkError> {
    let repository = permitted.repository();
    match tx.find_repository_by_id(repository.id).await? {
        Some(_) => Ok(()),
        None => Err(OpError::not_found("repository", &repository.name).into()),
    }
}

async fn put(
    app: &App,
    tx: &Tx,
    permitted: &PermittedRepository,
    order: &StoreOrder,
    repository_id: RowId,
    blob_id: RowId,
) -> Result<Artifact, WorkError> {
    if let Some(other) = tx.in_the_way(repository_id, &order.path).await? {
        return Err(in_the_way(&order.path, &other).into());
    }
    let before = tx.find_artifact(repository_id, &order.path).await?;
    let new = NewArtifact {
        repository_id,
        path: order.path.clone(),
        blob_id,
        mime_type: order.mime_type.clone(),
        by: permitted.actor().to_owned(),
    };
    tx.keep_blob(blob_id).await?;
    // What takes the place of something larger is let through.
    if tx.put_artifact(&new).await? > 0 {
        check_quota(app, tx, permitted, 0).await?;
    }
    if permitted.repository().kind == RepositoryKind::DeviceFiles {
        tx.file_request_stored(repository_id, order.path.as_str()).await?;
    }
    let after = tx.find_artifact(repository_id, &order.path).await?.ok_or_else(|| WorkError::lost("artifacts"))?;
    let detail = json!({ "before": before.as_ref().map(described), "after": described(&after) });
    tx.audit(&permitted.event(order.path.as_str(), detail)).await?;
    Ok(after)
}

/// Removes an object that did not become a blob. Where that fails it is due later.
async fn drop_object(app: &App, id: RowId) {
    let forget = async {
        let Some(object) = app.store.read().find_loose_object(id).await? else { return Ok(()) };
        app.objects.remove(&object).await?;
        app.store.write(|tx| async move { tx.forget_loose_objects(&[id]).await }).await?;
        Ok::<_, OpError>(())
    };
    if let Err(error) = forget.await {
        tracing::debug!(%error, id, "an object is removed later");
    }
}
