//! Files that a device is asked for: it stores them in a repository of its fleet, from
//! where whoever asked can fetch them.

use std::collections::BTreeMap;

use muster_core::artifact::{Grant, Right};
use muster_core::ids::RowId;
use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::{DOWNLOAD_GRANT_LIFETIME, FILE_REQUEST_LIFETIME, FILE_REQUESTS_MAX, TEXT_CHARS_MAX};
use muster_core::names::{DevicePath, RepositoryName, Text};
use muster_core::token::Secret;
use muster_link::ToDevice;
use muster_link::capability::UPLOAD_FILES;
use muster_store::devices::Device;
use muster_store::file_requests::{DueFileRequest, NewFileRequest};
use muster_store::repositories::{NewRepository, RepositoryKind};
use muster_store::{StoreError, Tx};
use serde_json::json;

use super::capabilities::require;
use crate::access::Permitted;
use crate::app::App;
use crate::artifactory::wire::download_uri;
use crate::artifacts::grants;
use crate::error::{OpError, Result, WorkError};
use crate::link::dispatch::{self, Over};

/// Instructions of one transaction.
const BATCH_MAX: u64 = 500;

/// Asks a device for what lies at `path`, now or when it is back, and answers with the address
/// below `base` at which it can be fetched once it is there. The address bears its own credential.
pub async fn request(
    app: &App,
    permitted: &Permitted,
    device: &Device,
    path: &DevicePath,
    base: &str,
) -> Result<String> {
    require(device, UPLOAD_FILES, "device_uuid")?;
    let name = &repository_name(permitted)?;
    let (id, now) = (app.store.reserve_id(), app.clock().now());
    let place = &place(device, path, id);
    let work = app.store.write(|tx| async move {
        if tx.pending_file_requests(device.id).await? >= FILE_REQUESTS_MAX {
            let problem = format!("{} has not answered {FILE_REQUESTS_MAX} requests for files yet", device.uuid);
            let problem = Invalid::new("device_uuid", problem);
            return Err(OpError::NotNow { code: "too_many_requests", problem }.into());
        }
        let repository = ensure_repository(&tx, permitted, name).await?;
        let new = NewFileRequest {
            id,
            device_id: device.id,
            repository_id: repository,
            path: place.clone(),
            files_path: path.as_str().to_owned(),
            ends_at: now.after(FILE_REQUEST_LIFETIME),
        };
        tx.insert_file_request(&new).await?;
        let asked = json!({ "files_path": path.as_str(), "artifact": format!("{name}/{place}") });
        tx.audit(&permitted.event(format!("device:{}", device.uuid), asked)).await?;
        Ok::<_, WorkError>(repository)
    });
    let repository = work.await?;
    app.wake.device(device.id);
    let ends_at = now.after(DOWNLOAD_GRANT_LIFETIME);
    let grant = Grant { repository, path: place.clone(), right: Right::Fetch, holder: permitted.actor(), ends_at };
    let fetch = grants::issue(app, &grant).0;
    Ok(format!("{}?token={fetch}", download_uri(&format!("{base}/artifactory"), name.as_str(), place)))
}

/// Tells the given devices, or all that are linked here, what they are asked for and have not
/// been told over their present link.
pub async fn send_due(app: &App, device_ids: Option<&[RowId]>) -> Result<(), StoreError> {
    let server_id = app.server_id.as_str();
    loop {
        // A look first: most wake-ups find nothing, and a write would hold up others.
        if app.store.read().due_file_requests(server_id, device_ids, 1).await?.is_empty() {
            return Ok(());
        }
        let over = |due: &Vec<DueFileRequest>| due.iter().map(over).collect();
        let marked = dispatch::mark_sent(app, over, |tx| async move {
            let due = tx.due_file_requests(server_id, device_ids, BATCH_MAX).await?;
            tx.mark_file_requests_sent(&due).await?;
            Ok(due)
        });
        for due in marked.await? {
            app.links.send(due.device_id, due.link_epoch, message(app, &due));
        }
    }
}

fn over(due: &DueFileRequest) -> Over {
    Over { device_id: due.device_id, epoch: due.link_epoch }
}

fn message(app: &App, due: &DueFileRequest) -> ToDevice {
    let grant = Grant {
        repository: due.repository_id,
        path: due.path.clone(),
        right: Right::Store,
        holder: format!("device:{}", due.device_uuid),
        ends_at: due.ends_at(),
    };
    let upload = format!("Bearer {}", grants::issue(app, &grant).0);
    ToDevice::UploadFiles {
        request: due.id.to_string(),
        path: due.files_path.clone(),
        url: download_uri(&format!("{}/artifactory", app.base_url()), &due.repository_name, &due.path),
        headers: BTreeMap::from([("Authorization".to_owned(), Secret::received(upload))]),
    }
}

/// A device cannot send what it was asked for, and says why. An error is
/// one of the store: then the device must be asked again.
pub async fn refused(app: &App, device_id: RowId, request: &str, reason: &str) -> Result<(), StoreError> {
    let Ok(id) = request.parse() else { return Ok(()) };
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect();
    let reason = reason.as_str();
    app.store.write(|tx| async move { tx.file_request_failed(device_id, id, reason).await }).await?;
    Ok(())
}

/// Named as the Connect API names it.
fn repository_name(permitted: &Permitted) -> Result<RepositoryName> {
    Ok(RepositoryName::parse(format!("connect-{}-generic", permitted.fleet().project_key))?)
}

fn place(device: &Device, path: &DevicePath, number: RowId) -> String {
    let last = path.as_str().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain: String = last.chars().map(|c| if is_plain(c) { c } else { '_' }).take(LAST_CHARS_MAX).collect();
    format!("upswift-general/devices/{}/files/user_requested/logs_{plain}/{number}", device.uuid)
}

/// Characters of the asked path's last part that stand in the artifact's.
const LAST_CHARS_MAX: usize = 100;

async fn ensure_repository(tx: &Tx, permitted: &Permitted, name: &RepositoryName) -> Result<RowId, WorkError> {
    let fleet = permitted.fleet();
    match tx.find_repository(fleet.account_id, name).await? {
        Some(found) if found.kind == RepositoryKind::DeviceFiles && found.fleet_id == Some(fleet.id) => Ok(found.id),
        Some(_) => {
            let problem = format!("repository {} is in the way of the files of this fleet", quoted(name.as_str()));
            Err(OpError::Conflict(Invalid::new("files_path", problem)).into())
        }
        None => {
            let new = NewRepository {
                account_id: fleet.account_id,
                fleet_id: Some(fleet.id),
                name: name.clone(),
                kind: RepositoryKind::DeviceFiles,
                description: Text::parse("Files that devices were asked for")?,
                created_by: permitted.actor(),
            };
            Ok(tx.insert_repository(&new).await?)
        }
    }
}
