//! Shapes that several calls of API v1 share.

use muster_core::clock::Timestamp;
use muster_core::filter::{DeviceFilter, WireDeviceFilter, WireFilter, WireName};
use muster_core::invalid::Invalid;
use muster_core::names::FleetName;
use muster_core::wire::{object, objects};
use muster_store::updates::UpdateView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::fleet::devices::DeviceDetails;

/// `{"message": "Success"}`, or `Created` where something was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct Success {
    /// One word.
    #[schema(example = "Success")]
    pub message: &'static str,
}

/// The answer to every call that only changes something.
pub const SUCCESS: Success = Success { message: "Success" };

/// The answer to a call that makes something.
pub const CREATED: Success = Success { message: "Created" };

/// The answer to every mistake.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorV1 {
    /// What is wrong: the field, and the value.
    #[schema(example = "device_filter.project.name: no project is called \"Demo\"")]
    pub error_message: String,
}

/// The device filter of API v1: all three keys are required, lists may be empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceFilterV1 {
    /// The fleet.
    #[serde(deserialize_with = "object")]
    project: WireName,
    /// Devices in any of these groups; empty for the whole fleet.
    #[serde(deserialize_with = "objects")]
    groups: Vec<WireName>,
    /// Conditions that all must hold.
    #[serde(deserialize_with = "objects")]
    filters: Vec<WireFilter>,
}

impl DeviceFilterV1 {
    /// The project's name and the filter.
    pub fn check(self) -> Result<(FleetName, DeviceFilter), Invalid> {
        let project = FleetName::parse(self.project.name).map_err(|refusal| refusal.within("project.name"))?;
        let filter = DeviceFilter::try_from(WireDeviceFilter { groups: self.groups, filters: self.filters })?;
        Ok((project, filter))
    }
}

/// A device as `GET /v1/devices_details` prints it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceV1 {
    device_id: i64,
    #[schema(example = "d-1234-1234")]
    device_uuid: String,
    device_name: String,
    upswift_version: String,
    project: String,
    group: String,
    device_ip: String,
    #[schema(example = "2020-02-08 16:12:11")]
    last_keepalive: String,
    /// Per cent.
    cpu_usage: i64,
    /// Per cent.
    ram_usage: i64,
    /// Megabytes.
    disk_usage: f64,
    address: String,
    #[schema(required = true)]
    lat: Option<f64>,
    #[schema(required = true)]
    lng: Option<f64>,
    is_update_trigger_set: bool,
    description: String,
    #[schema(example = "2020-02-07 16:12:11")]
    registered_date: String,
    tags: Vec<String>,
    updates: Vec<UpdateV1>,
    updates_v2: Vec<UpdateV2>,
    apps: Vec<AppV1>,
    mac_addresses: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct UpdateV1 {
    update_id: i64,
    update_status: &'static str,
    update_version: String,
    comment: String,
    deployment_schedule_time: String,
}

/// Where the documents' sample and their list of fields disagree about a name, the sample's is printed.
#[derive(Debug, Serialize, ToSchema)]
struct UpdateV2 {
    flow_name: String,
    update_status: &'static str,
    comment: String,
    deployment_schedule_time: String,
    deployment_start_time: String,
    deployment_finish_time: String,
    apps_updated: Vec<AppUpdated>,
    deployment_type: String,
}

/// An app that an update sets.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppUpdated {
    /// The app.
    pub app_name: String,
    /// The version that the device has once the update succeeded.
    pub app_new_version: String,
}

/// An app of a device.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppV1 {
    /// The app.
    pub app_name: String,
    /// The version that the device has of it.
    pub version: String,
}

/// The apps that an update sets: none or one.
pub fn apps_updated(update: &UpdateView) -> Vec<AppUpdated> {
    let app = update.app.iter();
    app.map(|(name, version)| AppUpdated { app_name: name.clone(), app_new_version: version.clone() }).collect()
}

/// A moment, or the empty text for one that has not come.
pub fn spaced(at: Option<Timestamp>) -> String {
    at.map(Timestamp::to_spaced).unwrap_or_default()
}

/// Bytes as megabytes.
pub fn megabytes(bytes: Option<i64>) -> f64 {
    const BYTES_PER_MEGABYTE: f64 = 1e6;
    #[expect(clippy::cast_precision_loss, reason = "a disk's size needs no more than 52 bits")]
    let bytes = bytes.unwrap_or(0) as f64;
    (bytes / BYTES_PER_MEGABYTE * 10.0).round() / 10.0
}

#[expect(clippy::cast_possible_truncation, reason = "a share of at most 100")]
fn percent(share: Option<f64>) -> i64 {
    share.unwrap_or(0.0).round() as i64
}

impl From<DeviceDetails> for DeviceV1 {
    fn from(details: DeviceDetails) -> Self {
        let DeviceDetails { device, tags, apps, updates } = details;
        Self {
            device_id: device.id,
            device_uuid: device.uuid,
            device_name: device.name,
            upswift_version: device.agent_version,
            project: device.fleet_name,
            group: device.group_name,
            device_ip: device.device_ip.unwrap_or_default(),
            last_keepalive: device.last_keepalive_at.to_spaced(),
            cpu_usage: percent(device.cpu_percent),
            ram_usage: percent(device.ram_percent),
            disk_usage: megabytes(device.disk_used_bytes),
            address: device.address,
            lat: device.lat,
            lng: device.lng,
            is_update_trigger_set: device.is_update_trigger_set,
            description: device.description,
            registered_date: device.registered_at.to_spaced(),
            tags,
            updates: updates.iter().map(UpdateV1::from).collect(),
            updates_v2: updates.iter().map(UpdateV2::from).collect(),
            apps: apps.into_iter().map(|(app_name, version)| AppV1 { app_name, version }).collect(),
            mac_addresses: device.mac_addresses,
        }
    }
}

impl From<&UpdateView> for UpdateV1 {
    fn from(update: &UpdateView) -> Self {
        Self {
            update_id: update.deployment_id,
            update_status: update.status.filter_word(),
            update_version: update.app.as_ref().map(|(_, version)| version.clone()).unwrap_or_default(),
            comment: update.comment.clone(),
            deployment_schedule_time: update.created_at.to_spaced(),
        }
    }
}

impl From<&UpdateView> for UpdateV2 {
    fn from(update: &UpdateView) -> Self {
        Self {
            flow_name: update.flow_name.clone(),
            update_status: update.status.filter_word(),
            comment: update.comment.clone(),
            deployment_schedule_time: update.created_at.to_spaced(),
            deployment_start_time: spaced(update.started_at),
            deployment_finish_time: spaced(update.finished_at),
            apps_updated: apps_updated(update),
            deployment_type: update.kind.clone(),
        }
    }
}
