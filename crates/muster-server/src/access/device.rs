//! A device that asks for itself, with nothing but its token.

use muster_core::token::{Secret, TokenKind};
use muster_store::devices::Device;
use muster_store::fleets::Fleet;

use super::rate::Source;
use crate::app::App;
use crate::error::{OpError, Result};

/// A device, proven by its device token.
#[derive(Clone, Debug)]
pub struct DeviceCaller {
    device: Device,
    fleet: Fleet,
}

impl DeviceCaller {
    /// The device that bears `secret`; counts as one of its calls. A device that was
    /// deleted is told so.
    pub async fn from_token(app: &App, source: &Source, secret: &Secret) -> Result<Self> {
        let refused = || OpError::Unauthenticated("device_token: is not a valid device token".to_owned());
        let store = app.store.read();
        let Some(token) = store.find_token(TokenKind::Device, secret).await? else {
            return match store.find_deleted_device_by_token(secret).await? {
                Some(_) => Err(OpError::Deleted),
                None => Err(refused()),
            };
        };
        source.count(&app.agent_calls, &token.id)?;
        let device = match token.device_id {
            Some(id) => store.find_device_by_id(token.account_id, id).await?,
            None => None,
        };
        // It may have been deleted since its token was read; the next call is told so.
        let device = device.ok_or_else(refused)?;
        let fleet = store.find_fleet(device.account_id, device.fleet_id).await?.ok_or_else(refused)?;
        Ok(Self { device, fleet })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Its fleet.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }
}
