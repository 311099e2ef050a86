//! The registration of devices without an agent, which then speak for themselves
//! through the Agent API of Connect.

use muster_core::identifiers::DeviceIdentifiers;
use muster_core::ids::{DeviceUuid, RowId};
use muster_core::invalid::Invalid;
use muster_core::names::{AppName, DeviceName, GroupName, Version};
use muster_core::patch::DeviceChange;
use muster_core::token::Secret;
use muster_store::apps::DEFAULT_APP;
use muster_store::devices::{Device, DeviceAccess, DeviceFacts, NewDevice};
use muster_store::fleets::Fleet;
use muster_store::{StoreError, Tx};
use serde_json::json;

use super::enrolment::device_token;
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// What a device says when it registers.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Who it is.
    pub identifiers: DeviceIdentifiers,
    /// Its operating system, in its own words.
    pub os: String,
    /// Which client speaks: `AgentAPI-…`.
    pub client_version: String,
    /// Its name. Only the first registration sets it.
    pub name: DeviceName,
    /// Its group, unless it is to land in the default one. Only the first registration sets it.
    pub group: Option<GroupName>,
    /// The version of the app that every account has.
    pub software_version: Option<Version>,
}

/// Registers a device and answers with its token. The same identifiers are the same
/// device: it gets a new token, and the old one ends.
pub async fn register(app: &App, permitted: &Permitted, registration: &Registration) -> Result<Secret> {
    let work = app.store.write(|tx| async move {
        let fleet = permitted.fleet();
        let key = registration.identifiers.key(fleet.account_id);
        if tx.find_deleted_device_by_key(fleet.account_id, &key).await?.is_some() {
            return Err(OpError::Deleted.into());
        }
        let known = tx.find_device_by_key(&key).await?;
        let is_new = known.is_none();
        let device = match known {
            Some(device) => same_project(permitted, device)?,
            None => new_device(&tx, permitted, registration, key).await?,
        };
        tx.set_device_facts(device.id, &facts(registration)).await?;
        set_software_version(&tx, &device, registration).await?;
        let token = device_token(&tx, &device, "made at registration").await?;
        let before = if is_new { json!(null) } else { shown(&device) };
        let detail = json!({ "before": before, "after": shown(&device) });
        tx.audit(&permitted.event(format!("device:{}", device.uuid), detail)).await?;
        Ok::<_, WorkError>(token)
    });
    Ok(work.await?)
}

fn shown(device: &Device) -> serde_json::Value {
    json!({ "device_name": device.name, "group_name": device.group_name })
}

fn same_project(permitted: &Permitted, device: Device) -> Result<Device, WorkError> {
    if device.fleet_id == permitted.fleet().id {
        return Ok(device);
    }
    let problem = "the device is registered in another project; move it there, or delete it first";
    Err(Invalid::new("project_name", problem).into())
}

fn facts(registration: &Registration) -> DeviceFacts {
    DeviceFacts {
        agent_version: registration.client_version.clone(),
        os: registration.os.clone(),
        mac_addresses: registration.identifiers.as_slice().to_vec(),
        ..DeviceFacts::default()
    }
}

async fn new_device(
    tx: &Tx,
    permitted: &Permitted,
    registration: &Registration,
    key: String,
) -> Result<Device, WorkError> {
    let fleet = permitted.fleet();
    let new = NewDevice {
        name: registration.name.clone(),
        group_id: group(tx, fleet, registration.group.as_ref()).await?,
        public_key: key,
        access: DeviceAccess::AgentApi { heartbeat: fleet.heartbeat },
        facts: facts(registration),
    };
    let uuid: DeviceUuid = tx.insert_device(fleet, &new).await?;
    let lost = || StoreError::Corrupt { table: "devices", problem: format!("{uuid} is missing") };
    Ok(tx.find_device(fleet.id, &uuid).await?.ok_or_else(lost)?)
}

/// The group that the device names, else the default one, which may have been renamed.
async fn group(tx: &Tx, fleet: &Fleet, named: Option<&GroupName>) -> Result<RowId, WorkError> {
    let group_id = match named {
        Some(name) => tx.find_group(fleet.id, name).await?,
        None => tx.default_group(fleet.id).await?,
    };
    let unknown = || Invalid::unknown("device_group", "group of the project", named.map_or("", GroupName::as_str));
    Ok(group_id.ok_or_else(unknown)?)
}

async fn set_software_version(tx: &Tx, device: &Device, registration: &Registration) -> Result<(), WorkError> {
    let Some(version) = &registration.software_version else { return Ok(()) };
    let change = [DeviceChange::SetApps(vec![(AppName::parse(DEFAULT_APP)?, version.clone())])];
    Ok(tx.change_device(device, &change, |_| "software_version".to_owned()).await?)
}
