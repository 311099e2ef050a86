//! What a device must be able to do for an operation, and what is said when it is not.

use muster_core::invalid::Invalid;
use muster_core::limits::NAME_CHARS_MAX;
use muster_store::devices::Device;

use crate::app::App;
use crate::error::{OpError, Result};

/// Refuses unless the device has a link to this server.
pub(crate) fn check_link(app: &App, device: &Device) -> Result<()> {
    if app.links.has(device.id) {
        return Ok(());
    }
    let problem = format!("{} is not connected to this server", device.uuid);
    Err(OpError::NotNow { code: "device_offline", problem: Invalid::new("device_uuid", problem) })
}

/// Refuses unless the device's agent announced `capability`.
pub(crate) fn require(device: &Device, capability: &str, field: &str) -> Result<()> {
    if device.capabilities.iter().any(|announced| announced == capability) {
        return Ok(());
    }
    let version: String = device.agent_version.chars().take(NAME_CHARS_MAX).collect();
    let who = if device.has_agent { "the agent" } else { "the Agent API client" };
    let problem = format!("{who} of {}, version {version}, does not support {capability}", device.uuid);
    Err(OpError::NotNow { code: "not_supported_by_device", problem: Invalid::new(field, problem) })
}
