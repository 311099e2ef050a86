//! API v1 of Connect: tokens in the JSON body on every method, 200 or 400, and
//! the words of its documents. Translates, and nothing else.

pub mod agent_api;
pub mod app_monitor;
pub mod deploy_update;
pub mod device_apps;
pub mod device_state;
pub mod device_tags;
pub mod devices_details;
pub mod update_trigger;
pub mod wire;

use muster_core::access::Operation;
use muster_core::filter::DeviceFilter;
use muster_core::invalid::Invalid;
use muster_core::names::FleetName;
use muster_core::token::{Secret, TokenKind};
use muster_store::devices::Device;

use crate::access::rate::Source;
use crate::access::{Caller, Permitted};
use crate::app::App;
use crate::error::{OpError, Result};

/// Who asks: the address, until a token has said more.
pub(crate) struct Asker<'a> {
    app: &'a App,
    source: Source,
}

impl<'a> Asker<'a> {
    pub(crate) fn new(app: &'a App, source: Source) -> Self {
        Self { app, source }
    }

    /// The caller who bears an account token; counts as one call.
    pub(crate) async fn caller(&self, user_token: &Secret) -> Result<Caller> {
        let caller = Caller::from_token(&self.app.store, TokenKind::User, user_token, self.source.address()).await?;
        self.source.count(&self.app.account_calls, &caller.token_id())?;
        Ok(caller)
    }

    /// The caller and the device that two tokens name; counts as one call of either.
    pub(crate) async fn caller_and_device(
        &self,
        operation: Operation,
        user_token: &Secret,
        device_token: &Secret,
    ) -> Result<(Permitted, Device)> {
        let caller = self.caller(user_token).await?;
        let refused = || OpError::Invalid(Invalid::new("device_token", "is not a valid device token of the account"));
        let store = self.app.store.read();
        let token = store.find_token(TokenKind::Device, device_token).await?;
        let token = token.filter(|token| token.account_id == caller.account_id()).ok_or_else(refused)?;
        self.source.count(&self.app.device_calls, &token.id)?;
        let device = match token.device_id {
            Some(id) => store.find_device_by_id(caller.account_id(), id).await?,
            None => None,
        };
        let device = device.ok_or_else(refused)?;
        let permitted = caller.fleet_of_device(store, operation, device.fleet_id).await?;
        Ok((permitted, device))
    }

    /// The caller and the fleet that a device filter names.
    pub(crate) async fn caller_and_filter(
        &self,
        operation: Operation,
        user_token: &Secret,
        filter: wire::DeviceFilterV1,
    ) -> Result<(Permitted, DeviceFilter)> {
        let caller = self.caller(user_token).await?;
        let (project, filter) = filter.check().map_err(|refusal| refusal.within("device_filter"))?;
        let permitted = self.project(&caller, operation, &project, "device_filter.project.name").await?;
        Ok((permitted, filter))
    }

    /// The project of that name; the refusal names the field that it stood in.
    pub(crate) async fn project(
        &self,
        caller: &Caller,
        operation: Operation,
        name: &FleetName,
        field: &str,
    ) -> Result<Permitted> {
        let found = caller.fleet_by_name(self.app.store.read(), operation, name).await;
        found.map_err(|error| match error {
            OpError::NotFound { .. } => Invalid::unknown(field, "project", name.as_str()).into(),
            other => other,
        })
    }
}
