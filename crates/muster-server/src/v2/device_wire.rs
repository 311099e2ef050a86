//! A device as API v2 prints it, in its list and by itself.

use muster_core::clock::Timestamp;
use muster_store::devices::Device;
use serde::Serialize;
use utoipa::ToSchema;

/// What the list and the single device have in common.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceV2 {
    address: String,
    agent_version: String,
    /// Per cent.
    #[schema(required = true)]
    cpu_usage: Option<f64>,
    /// Megabytes.
    current_disk_usage: i64,
    description: String,
    #[schema(required = true)]
    device_ip: Option<String>,
    device_name: String,
    /// `online` or `offline`.
    device_status: &'static str,
    device_uuid: String,
    /// Megabytes.
    disk_size: i64,
    group_name: String,
    is_update_trigger_set: bool,
    last_keepalive: String,
    #[schema(required = true)]
    lat: Option<f64>,
    #[schema(required = true)]
    lng: Option<f64>,
    project: String,
    /// Per cent.
    #[schema(required = true)]
    ram_usage: Option<f64>,
    registered_date: String,
}

impl DeviceV2 {
    /// `print` is the one of the API's three forms of a moment that the call uses.
    pub(crate) fn new(device: Device, now: Timestamp, print: impl Fn(Timestamp) -> String) -> Self {
        Self {
            device_status: if device.is_online(now) { "online" } else { "offline" },
            address: device.address,
            agent_version: device.agent_version,
            cpu_usage: device.cpu_percent.map(one_decimal),
            current_disk_usage: megabytes(device.disk_used_bytes),
            description: device.description,
            device_ip: device.device_ip,
            device_name: device.name,
            device_uuid: device.uuid,
            disk_size: megabytes(device.disk_size_bytes),
            group_name: device.group_name,
            is_update_trigger_set: device.is_update_trigger_set,
            last_keepalive: print(device.last_keepalive_at),
            lat: device.lat,
            lng: device.lng,
            project: device.fleet_name,
            ram_usage: device.ram_percent.map(one_decimal),
            registered_date: print(device.registered_at),
        }
    }
}

fn one_decimal(share: f64) -> f64 {
    (share * 10.0).round() / 10.0
}

fn megabytes(bytes: Option<i64>) -> i64 {
    const BYTES_PER_MEGABYTE: i64 = 1_000_000;
    bytes.unwrap_or(0) / BYTES_PER_MEGABYTE
}
