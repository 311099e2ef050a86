//! Deleting devices: one by name, or every one that a filter matches.

use muster_core::filter::DeviceFilter;
use muster_core::ids::{DeviceUuid, RowId};
use muster_core::invalid::Invalid;
use muster_store::Tx;
use muster_store::filter::Matching;
use serde_json::{Value, json};

use super::devices;
use super::tags::in_filter;
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};
use crate::link::session::deleted;

/// Deletes the device of a fleet with that uuid, as a caller wrote it.
pub async fn delete(app: &App, permitted: &Permitted, uuid: &str) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let device = devices::find(&tx, permitted, uuid).await?;
        let matching = tx.everything_in(vec![permitted.fleet().id]).only(device.id);
        let (_, linked) = delete_matching(&tx, &app.server_id, &matching).await?;
        let before = json!({ "device_name": device.name, "group_name": device.group_name });
        let detail = json!({ "before": before, "after": Value::Null });
        tx.audit(&permitted.event(format!("device:{}", device.uuid), detail)).await?;
        Ok::<_, WorkError>(linked)
    });
    end_links(app, work.await?);
    Ok(())
}

/// Deletes every device that matches, if they are as many as the caller expects, and
/// says how many. The number is the guard: an empty filter means the whole fleet.
pub async fn delete_many(
    app: &App,
    permitted: &Permitted,
    filter: &DeviceFilter,
    wire_filter: &Value,
    expected_count: u64,
) -> Result<u64> {
    let work = app.store.write(|tx| async move {
        let matching = tx.resolve(permitted.fleet(), filter).await.map_err(in_filter)?;
        let count = tx.devices_count(&matching).await?;
        if count != expected_count {
            return Err(differs(expected_count, count).into());
        }
        let (deleted, linked) = delete_matching(&tx, &app.server_id, &matching).await?;
        let detail =
            json!({ "device_filter": wire_filter, "before": { "devices": deleted }, "after": { "devices": 0 } });
        tx.audit(&permitted.event("devices".to_owned(), detail)).await?;
        Ok::<_, WorkError>((deleted, linked))
    });
    let (deleted, linked) = work.await?;
    end_links(app, linked);
    Ok(deleted)
}

/// Deletes what matches; how many, and which of their links this server holds. The
/// links are to be ended with [`end_links`] once this is committed.
pub(crate) async fn delete_matching(
    tx: &Tx,
    server_id: &str,
    matching: &Matching,
) -> Result<(u64, Vec<RowId>), WorkError> {
    let linked = tx.linked_matching(matching, server_id).await?;
    Ok((tx.delete_matching(matching).await?, linked))
}

/// Ends the links of devices that were deleted. Other servers notice at the next keepalive.
pub(crate) fn end_links(app: &App, device_ids: Vec<RowId>) {
    for device_id in device_ids {
        app.links.end(device_id, deleted());
    }
}

fn differs(expected: u64, actual: u64) -> OpError {
    let problem = Invalid::new("expected_count", format!("{actual} devices match, not {expected}"));
    OpError::NotNow { code: "count_differs", problem }
}

/// Lets a deleted device come back as a new one.
pub async fn forget(app: &App, permitted: &Permitted, uuid: &str) -> Result<()> {
    let unknown = || OpError::not_found("deleted device", uuid);
    let uuid = uuid.parse::<DeviceUuid>().map_err(|_| unknown())?;
    let uuid = &uuid;
    let work = app.store.write(|tx| async move {
        if !tx.forget_deleted_device(permitted.fleet().id, uuid).await? {
            return Err(unknown().into());
        }
        let detail = json!({ "before": "deleted", "after": Value::Null });
        tx.audit(&permitted.event(format!("device:{uuid}"), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}
