//! Files that a device is asked for.

use muster_core::invalid::Invalid;
use muster_core::names::DevicePath;
use muster_link::capability::UPLOAD_FILES;
use muster_store::devices::Device;

use super::capabilities::require;
use crate::error::{OpError, Result};

/// Checks whether a device can be asked for what lies at `path`. It never can today:
/// no agent uploads files, and this server has no repository to upload them to. So
/// the answer says which of the two is missing, and nothing is stored.
pub fn request(device: &Device, path: &DevicePath) -> Result<std::convert::Infallible> {
    require(device, UPLOAD_FILES, "device_uuid")?;
    let problem = format!("this server has no repository that {path} could be uploaded to");
    Err(OpError::NotNow { code: "not_supported_by_server", problem: Invalid::new("files_path", problem) })
}
