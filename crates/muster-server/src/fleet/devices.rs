//! Devices: changed and moved, one at a time.

use muster_core::ids::{DeviceUuid, RowId};
use muster_core::invalid::Invalid;
use muster_core::limits::{LISTED_TAGS_MAX, SHOWN_UPDATES_MAX};
use muster_core::names::{AppName, GroupName, Version};
use muster_core::patch::DeviceChange;
use muster_store::devices::Device;
use muster_store::updates::UpdateView;
use muster_store::{ConnectionTrait, Db};
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

/// The device of a fleet with that uuid, as a caller wrote it.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &Permitted, uuid: &str) -> Result<Device> {
    let device = match uuid.parse::<DeviceUuid>() {
        Ok(uuid) => db.find_device(permitted.fleet().id, &uuid).await?,
        Err(_) => None,
    };
    device.ok_or_else(|| OpError::not_found("device", uuid))
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
        tx.change_device(&device, changes, place).await?;
        let detail = json!({ "changes": changes.iter().map(described).collect::<Vec<_>>() });
        tx.audit(&permitted.event(format!("device:{}", device.uuid), detail)).await?;
        Ok::<_, WorkError>(())
    });
    work.await?;
    // The update trigger may have been cleared.
    app.wake.device(device_id);
    Ok(())
}

/// A change as the audit log tells it: what changed, and to what.
fn described(change: &DeviceChange) -> Value {
    let apps = |apps: &[(AppName, Version)]| -> Vec<Value> {
        apps.iter().map(|(name, version)| json!({ "app_name": name, "version": version })).collect()
    };
    match change {
        DeviceChange::Name(name) => json!({ "device_name": name }),
        DeviceChange::Description(text) => json!({ "description": text }),
        DeviceChange::Address(text) => json!({ "address": text }),
        DeviceChange::Lat(lat) => json!({ "lat": lat }),
        DeviceChange::Lng(lng) => json!({ "lng": lng }),
        DeviceChange::Group(group) => json!({ "group_name": group }),
        DeviceChange::UpdateTrigger(is_set) => json!({ "is_update_trigger_set": is_set }),
        DeviceChange::AddTags(tags) => json!({ "add_tags": tags }),
        DeviceChange::RemoveTags(tags) => json!({ "remove_tags": tags }),
        DeviceChange::ReplaceTags(tags) => json!({ "tags": tags }),
        DeviceChange::SetApps(set) => json!({ "set_apps": apps(set) }),
        DeviceChange::RemoveApps(names) => json!({ "remove_apps": names }),
        DeviceChange::ReplaceApps(set) => json!({ "apps": apps(set) }),
    }
}

/// Moves a device into a group of another fleet. The caller must be permitted in both.
pub async fn move_to(app: &App, from: &Permitted, uuid: &str, into: &Permitted, group: &GroupName) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let device = find(&tx, from, uuid).await?;
        let group_id = tx.find_group(into.fleet().id, group).await?;
        let unknown = || Invalid::unknown("destination_group_name", "group of the fleet", group.as_str());
        tx.move_device(device.id, into.fleet().id, group_id.ok_or_else(unknown)?).await?;
        let detail = json!({ "to_fleet": into.fleet().project_key, "to_group": group.as_str() });
        tx.audit(&from.event(format!("device:{}", device.uuid), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}
