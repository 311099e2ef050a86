//! Files that a device is asked for: it stores them in a repository of its fleet, from
//! where whoever asked can fetch them.

use std::collections::BTreeMap;

use muster_core::artifact::{Grant, Right};
use muster_core::ids::RowId;
use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::{DOWNLOAD_GRANT_LIFETIME, UPLOAD_GRANT_LIFETIME};
use muster_core::names::{DevicePath, RepositoryName, Text};
use muster_core::token::Secret;
use muster_link::ToDevice;
use muster_link::capability::UPLOAD_FILES;
use muster_store::Tx;
use muster_store::devices::Device;
use muster_store::repositories::{NewRepository, RepositoryKind};
use serde_json::json;

use super::capabilities::{check_link, require};
use crate::access::Permitted;
use crate::app::App;
use crate::artifactory::wire::download_uri;
use crate::artifacts::grants;
use crate::error::{OpError, Result, WorkError};

/// Asks a device for what lies at `path`, and answers with the address below `base` at which
/// it can be fetched once it is there. The address bears its own credential.
pub async fn request(
    app: &App,
    permitted: &Permitted,
    device: &Device,
    path: &DevicePath,
    base: &str,
) -> Result<String> {
    require(device, UPLOAD_FILES, "device_uuid")?;
    check_link(app, device)?;
    let name = &repository_name(permitted)?;
    let place = &place(device, path, app.store.reserve_id());
    let work = app.store.write(|tx| async move {
        let repository = ensure_repository(&tx, permitted, name).await?;
        let asked = json!({ "files_path": path.as_str(), "artifact": format!("{name}/{place}") });
        tx.audit(&permitted.event(format!("device:{}", device.uuid), asked)).await?;
        Ok::<_, WorkError>(repository)
    });
    let repository = work.await?;
    let grant = |right, holder, life| {
        let ends_at = app.clock().now().after(life);
        grants::issue(app, &Grant { repository, path: place.clone(), right, holder, ends_at }).0
    };
    let upload = grant(Right::Store, format!("device:{}", device.uuid), UPLOAD_GRANT_LIFETIME);
    let message = ToDevice::UploadFiles {
        path: path.as_str().to_owned(),
        url: download_uri(&format!("{}/artifactory", app.base_url()), name.as_str(), place),
        headers: BTreeMap::from([("Authorization".to_owned(), Secret::received(format!("Bearer {upload}")))]),
    };
    app.links.tell(device.id, message);
    let fetch = grant(Right::Fetch, permitted.actor(), DOWNLOAD_GRANT_LIFETIME);
    Ok(format!("{}?token={fetch}", download_uri(&format!("{base}/artifactory"), name.as_str(), place)))
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
