//! What a device without a link says of itself, and what it must be told.

use std::time::Duration;

use muster_link::Metrics;
use muster_store::presence::Keepalive;

use crate::access::device::DeviceCaller;
use crate::app::App;
use crate::error::{OpError, Result};

/// How long a device may wait between two calls: its fleet's heartbeat. From now on
/// the device knows it.
pub async fn heartbeat(app: &App, caller: &DeviceCaller) -> Result<Duration> {
    let (device, heartbeat) = (caller.device(), caller.fleet().heartbeat);
    if device.told_heartbeat != heartbeat {
        let id = device.id;
        app.store.write(|tx| async move { tx.set_told_heartbeat(id, heartbeat).await }).await?;
    }
    Ok(heartbeat)
}

/// Takes in how a device is: a sign of life for three heartbeats. A device that does
/// not know its fleet's heartbeat is told to ask for it; that it lives counts all the same.
pub fn keep(app: &App, caller: &DeviceCaller, metrics: Metrics, device_ip: String) -> Result<()> {
    let (device, heartbeat) = (caller.device(), caller.fleet().heartbeat);
    let metrics = metrics.plausible();
    app.keepalives.push(Keepalive {
        device_id: device.id,
        at: app.clock().now(),
        heartbeat,
        device_ip,
        cpu_percent: metrics.cpu_percent,
        ram_percent: metrics.ram_percent,
        disk_used_bytes: metrics.disk_used_bytes,
        disk_size_bytes: metrics.disk_size_bytes,
    });
    let was_told = device.told_heartbeat != Duration::ZERO;
    if was_told && device.told_heartbeat != heartbeat { Err(OpError::ParametersChanged) } else { Ok(()) }
}
