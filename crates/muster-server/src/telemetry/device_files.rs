//! Files that devices send, mostly their logs: kept, shown, deleted, and swept.

use std::io;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use muster_core::invalid::Invalid;
use muster_core::limits::{DEVICE_FILE_BYTES_MAX, DEVICE_FILES_MAX};
use muster_core::names::FileName;
use muster_store::device_files::{DeviceFile, NewDeviceFile};
use muster_store::devices::Device;
use muster_store::{ConnectionTrait, Db};
use serde_json::{Value, json};
use tokio::fs::File;

use super::file_store::{FileStore, Incoming};
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};
use crate::fleet::devices;
use crate::periodic::{every, or_later};

/// Writes what arrives to the disk, up to [`DEVICE_FILE_BYTES_MAX`]. It is not kept
/// before [`keep`] is called.
pub async fn receive<B: AsRef<[u8]>, E: From<OpError>>(
    app: &App,
    mut pieces: impl Stream<Item = Result<B, E>> + Unpin,
) -> Result<Incoming<'_>, E> {
    let mut incoming = app.files.begin(app.store.reserve_id()).await.map_err(|error| on_disk(&error))?;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let piece = piece.as_ref();
        if incoming.size() + piece.len() > DEVICE_FILE_BYTES_MAX {
            return Err(OpError::TooLarge { field: "file", bytes_max: DEVICE_FILE_BYTES_MAX }.into());
        }
        incoming.write(piece).await.map_err(|error| on_disk(&error))?;
    }
    Ok(incoming)
}

/// Keeps a file of a device: in the place of one of the same name, and of the oldest
/// when there are more than [`DEVICE_FILES_MAX`]. Like keepalives it leaves no trace in
/// the audit log.
pub async fn keep(app: &App, device: &Device, name: FileName, mut incoming: Incoming<'_>) -> Result<()> {
    incoming.publish().await.map_err(|error| on_disk(&error))?;
    let size = i64::try_from(incoming.size()).unwrap_or(i64::MAX);
    let new = &NewDeviceFile { id: incoming.id(), device_id: device.id, name, size };
    let work = app.store.write(|tx| async move {
        // It may have been deleted, or have moved, while the file arrived.
        let found = tx.find_device_by_id(device.account_id, device.id).await?;
        found.filter(|found| found.fleet_id == device.fleet_id).ok_or_else(gone)?;
        Ok::<_, WorkError>(tx.insert_device_file(new, DEVICE_FILES_MAX).await?)
    });
    match work.await {
        Ok(replaced) => {
            app.files.remove(&replaced).await;
            Ok(())
        }
        Err(WorkError::Op(error)) => {
            app.files.remove(&[new.id]).await;
            Err(error)
        }
        // Whether it was committed is not known: the sweep finds out.
        Err(error) => Err(error.into()),
    }
}

fn gone() -> OpError {
    Invalid::new("device_token", "its device was deleted or moved meanwhile").into()
}

fn on_disk(error: &io::Error) -> OpError {
    OpError::Internal(format!("a device file: {error}"))
}

/// The file of a device with that name, as a caller wrote it.
async fn find<C: ConnectionTrait>(db: &Db<C>, device: &Device, name: &str) -> Result<DeviceFile> {
    let found = match FileName::parse(name) {
        Ok(name) => db.find_device_file(device.id, &name).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| OpError::not_found("file", name))
}

fn seen(file: &DeviceFile) -> Value {
    json!({ "name": file.name, "size": file.size, "created_time": file.created_at.to_rfc3339() })
}

/// Opens a file of a device for a download, of which the audit log tells.
pub async fn open(app: &App, permitted: &Permitted, uuid: &str, name: &str) -> Result<(DeviceFile, File)> {
    let device = devices::find(app.store.read(), permitted, uuid).await?;
    let file = find(app.store.read(), &device, name).await?;
    let content = match app.files.read(file.id).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // It may have been overwritten since; otherwise it is not in this server's folder.
            let now = find(app.store.read(), &device, name).await?;
            let content = app.files.read(now.id).await;
            return match content {
                Ok(content) => told(app, permitted, &device, now, content).await,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(elsewhere(&now)),
                Err(error) => Err(on_disk(&error)),
            };
        }
        content => content.map_err(|error| on_disk(&error))?,
    };
    told(app, permitted, &device, file, content).await
}

async fn told(
    app: &App,
    permitted: &Permitted,
    device: &Device,
    file: DeviceFile,
    content: File,
) -> Result<(DeviceFile, File)> {
    let event = &permitted.event(format!("device:{}", device.uuid), json!({ "file": seen(&file) }));
    app.store.write(|tx| async move { Ok::<_, WorkError>(tx.audit(event).await?) }).await?;
    Ok((file, content))
}

fn elsewhere(file: &DeviceFile) -> OpError {
    let problem = format!("{} lies in the data folder of another server", muster_core::invalid::quoted(&file.name));
    OpError::NotNow { code: "not_supported_by_server", problem: Invalid::new("file_name", problem) }
}

/// Deletes a file of a device.
pub async fn delete(app: &App, permitted: &Permitted, uuid: &str, name: &str) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let device = devices::find(&tx, permitted, uuid).await?;
        let file = find(&tx, &device, name).await?;
        tx.delete_device_files(&[file.id]).await?;
        let detail = json!({ "before": { "file": seen(&file) }, "after": null });
        tx.audit(&permitted.event(format!("device:{}", device.uuid), detail)).await?;
        Ok::<_, WorkError>(file.id)
    });
    let id = work.await?;
    app.files.remove(&[id]).await;
    Ok(())
}

/// Time between two sweeps.
const SWEEP_PERIOD: Duration = Duration::from_secs(60 * 60);
/// Files that one statement asks for.
const SWEEP_BATCH: usize = 500;

/// Sweeps at the start, and every [`SWEEP_PERIOD`], for ever.
pub async fn run(app: App) {
    let mut period = every(SWEEP_PERIOD);
    loop {
        period.tick().await;
        or_later(sweep(&app).await, "the device files could not be swept");
    }
}

/// Removes every file that has no row: what a crash has left, and the files of devices
/// that were deleted.
pub async fn sweep(app: &App) -> Result<()> {
    for shard in FileStore::shards() {
        let listed = app.files.listed(shard).await.map_err(|error| on_disk(&error))?;
        for batch in listed.chunks(SWEEP_BATCH) {
            // In this order: what is not claimed any more has its row by now, if ever.
            let claimed = app.files.claimed(batch);
            let known = app.store.read().known_device_files(batch).await?;
            let orphans = batch.iter().filter(|id| !claimed.contains(*id) && !known.contains(*id));
            app.files.remove(&orphans.copied().collect::<Vec<_>>()).await;
        }
    }
    Ok(())
}
