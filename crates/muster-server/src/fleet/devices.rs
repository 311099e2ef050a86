//! Devices: changed and moved, one at a time.

use muster_core::ids::{DeviceUuid, RowId};
use muster_core::invalid::Invalid;
use muster_core::limits::{LISTED_TAGS_MAX, SHOWN_UPDATES_MAX};
use muster_core::names::GroupName;
use muster_core::patch::DeviceChange;
use muster_store::devices::Device;
use muster_store::updates::UpdateView;
use muster_store::{ConnectionTrait, Db, Tx};
use serde_json::{Value, json};

use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// A device with everything that the APIs show of it.
#[derive(Clone, Debug)]
pub struct DeviceDetails {
    /// The device.
    pub device: Device,
    /// Its tags, in the order of their making.
    pub tags: Vec<String>,
    /// Its apps with their versions.
    pub apps: Vec<(String, String)>,
    /// Its newest updates, newest first.
    pub updates: Vec<UpdateView>,
}

/// Most tags of one device that its details show.
const DETAIL_TAGS_MAX: usize = 10_000;

/// The device of a fleet with that uuid, as a caller wrote it; one that the operation may
/// be done to.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &Permitted, uuid: &str) -> Result<Device> {
    let device = match uuid.parse::<DeviceUuid>() {
        Ok(uuid) => db.find_device(permitted.fleet().id, &uuid).await?,
        Err(_) => None,
    };
    let device = device.ok_or_else(|| OpError::not_found("device", uuid))?;
    permitted.check_device(device.id)?;
    Ok(device)
}

/// Adds everything that the APIs show, in a fixed number of queries.
pub async fn with_details<C: ConnectionTrait>(db: &Db<C>, devices: Vec<Device>) -> Result<Vec<DeviceDetails>> {
    let ids: Vec<RowId> = devices.iter().map(|device| device.id).collect();
    let (tags, apps) = (db.tags_of(&ids, DETAIL_TAGS_MAX).await?, db.apps_of(&ids).await?);
    let updates = db.updates_of(&ids, SHOWN_UPDATES_MAX).await?;
    let details = devices.into_iter().map(|device| DeviceDetails {
        tags: tags.iter().filter(|(id, _)| *id == device.id).map(|(_, name)| name.clone()).collect(),
        apps: apps
            .iter()
            .filter(|(id, ..)| *id == device.id)
            .map(|(_, name, version)| (name.clone(), version.clone()))
            .collect(),
        updates: updates.iter().filter(|update| update.device_id == device.id).cloned().collect(),
        device,
    });
    Ok(details.collect())
}

/// The tags of each device of a page, one more than the most that is shown, so
/// that a caller can tell whether there are more.
pub async fn listed_tags<C: ConnectionTrait>(db: &Db<C>, devices: &[Device]) -> Result<Vec<(RowId, String)>> {
    let ids: Vec<RowId> = devices.iter().map(|device| device.id).collect();
    Ok(db.tags_of(&ids, LISTED_TAGS_MAX + 1).await?)
}

/// Carries out every change, or none. A refusal names the change at fault as
/// `place` says, by its number.
pub async fn change(
    app: &App,
    permitted: &Permitted,
    device_id: RowId,
    changes: &[DeviceChange],
    place: impl Fn(usize) -> String,
) -> Result<()> {
    let place = &place;
    let work = app.store.write(|tx| async move {
        let account_id = permitted.fleet().account_id;
        let device = tx.find_device_by_id(account_id, device_id).await?;
        let device = device.filter(|device| device.fleet_id == permitted.fleet().id);
        let device = device.ok_or_else(|| OpError::not_found("device", "that has been moved or deleted"))?;
        let uuid = device.uuid.clone();
        let before = changed_parts(&tx, &device, changes).await?;
        tx.change_device(&device, changes, place).await?;
        let device = tx.find_device_by_id(account_id, device_id).await?.unwrap_or(device);
        let after = changed_parts(&tx, &device, changes).await?;
        let detail = json!({ "before": before, "after": after });
        tx.audit(&permitted.event(format!("device:{uuid}"), detail)).await?;
        Ok::<_, WorkError>(())
    });
    work.await?;
    // The update trigger may have been cleared.
    app.wake.device(device_id);
    Ok(())
}

/// What the changes touch, as the device has it at this moment: for the audit log.
async fn changed_parts(tx: &Tx, device: &Device, changes: &[DeviceChange]) -> Result<Value, WorkError> {
    let mut parts = serde_json::Map::new();
    for change in changes {
        let (key, value) = match change {
            DeviceChange::Name(_) => ("device_name", json!(device.name)),
            DeviceChange::Description(_) => ("description", json!(device.description)),
            DeviceChange::Address(_) => ("address", json!(device.address)),
            DeviceChange::Lat(_) => ("lat", json!(device.lat)),
            DeviceChange::Lng(_) => ("lng", json!(device.lng)),
            DeviceChange::Group(_) => ("group_name", json!(device.group_name)),
            DeviceChange::UpdateTrigger(_) => ("is_update_trigger_set", json!(device.is_update_trigger_set)),
            DeviceChange::AddTags(_) | DeviceChange::RemoveTags(_) | DeviceChange::ReplaceTags(_) => {
                ("tags", Value::Null)
            }
            DeviceChange::SetApps(_) | DeviceChange::RemoveApps(_) | DeviceChange::ReplaceApps(_) => {
                ("apps", Value::Null)
            }
        };
        parts.insert(key.to_owned(), value);
    }
    // Once, however many changes touch them.
    if let Some(tags) = parts.get_mut("tags") {
        let held = tx.tags_of(&[device.id], DETAIL_TAGS_MAX).await?;
        *tags = held.into_iter().map(|(_, name)| name).collect();
    }
    if let Some(apps) = parts.get_mut("apps") {
        let held = tx.apps_of(&[device.id]).await?.into_iter();
        *apps = held.map(|(_, name, version)| json!({ "app_name": name, "version": version })).collect();
    }
    Ok(parts.into())
}

/// Moves a device into a group of another fleet. The caller must be permitted in both.
pub async fn move_to(app: &App, from: &Permitted, uuid: &str, into: &Permitted, group: &GroupName) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let device = find(&tx, from, uuid).await?;
        let group_id = tx.find_group(into.fleet().id, group).await?;
        let unknown = || Invalid::unknown("destination_group_name", "group of the fleet", group.as_str());
        tx.move_device(device.id, into.fleet().id, group_id.ok_or_else(unknown)?).await?;
        let detail = json!({
            "before": { "project_key": from.fleet().project_key, "group_name": device.group_name },
            "after": { "project_key": into.fleet().project_key, "group_name": group },
        });
        tx.audit(&from.event(format!("device:{}", device.uuid), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}
