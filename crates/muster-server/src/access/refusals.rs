//! Refused calls and failed logins in the audit log. They change nothing, so they are
//! bounded: whoever asks a thousand times does not fill the log.

use std::net::IpAddr;
use std::num::NonZeroU32;

use muster_core::access::Operation;
use muster_core::ids::RowId;
use muster_core::names::ProjectKey;
use muster_store::audit::NewAuditEvent;
use muster_store::{Store, StoreError};
use serde_json::json;

use super::Caller;
use crate::app::App;
use crate::error::OpError;
use crate::remote::live::LiveTunnel;

/// Refused calls of one user, and failed logins from one address, that the audit log
/// keeps in a minute; what comes above that is in the server's log alone.
pub const AUDITED_REFUSALS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(30).expect("thirty is not zero");

/// Notes that a caller was refused, when `error` is such a refusal.
pub async fn note(app: &App, caller: &Caller, operation: Operation, key: Option<&str>, error: &OpError) {
    let is_refusal = matches!(
        error,
        OpError::Forbidden(_)
            | OpError::ForbiddenAnywhere(_)
            | OpError::GrantNeeded { .. }
            | OpError::NotAdmin
            | OpError::Refused(_)
    );
    if !is_refusal {
        return;
    }
    let fleet_id = match key.map(ProjectKey::parse) {
        Some(Ok(key)) => {
            let fleet = app.store.read().find_fleet_by_key(caller.account_id(), &key).await;
            fleet.ok().flatten().map(|fleet| fleet.id)
        }
        _ => None,
    };
    let event = NewAuditEvent {
        account_id: caller.account_id(),
        fleet_id,
        actor: caller.actor(),
        action: operation,
        subject: key.map_or_else(|| "account".to_owned(), |key| format!("fleet:{key}")),
        source_ip: caller.source_ip.clone(),
        detail: json!({ "refused": error.to_string() }),
    };
    write(app, event, caller.actor()).await;
}

/// Notes that somebody did not get in as a user of that account.
pub async fn note_login(app: &App, account_id: RowId, user: &str, source_ip: IpAddr) {
    let event = NewAuditEvent {
        account_id,
        fleet_id: None,
        actor: "anonymous".to_owned(),
        action: Operation::LogIn,
        subject: format!("user:{user}"),
        source_ip: source_ip.to_string(),
        detail: json!({ "refused": "the password is wrong" }),
    };
    write(app, event, source_ip.to_string()).await;
}

/// Notes that a port tunnel did not let an address through.
pub async fn note_address(app: &App, tunnel: &LiveTunnel, source: IpAddr) {
    let event = NewAuditEvent {
        account_id: tunnel.account_id,
        fleet_id: Some(tunnel.fleet_id),
        actor: "anonymous".to_owned(),
        action: Operation::OpenStream,
        subject: format!("port_tunnel:{}", tunnel.uuid),
        source_ip: source.to_string(),
        detail: json!({ "refused": "the port tunnel does not let this address through" }),
    };
    // For each tunnel and not each address: those may be many.
    write(app, event, format!("port_tunnel:{}", tunnel.uuid)).await;
}

async fn write(app: &App, event: NewAuditEvent, whose: String) {
    let (action, source_ip) = (event.action.name(), event.source_ip.clone());
    if app.audited_refusals.check(&whose).is_err() {
        tracing::info!(action, source_ip, "a refusal that the audit log has no room for");
        return;
    }
    if let Err(error) = stored(&app.store, &event).await {
        // The refusal stands, whether it is told or not.
        tracing::warn!(%error, action, source_ip, "a refusal could not be written to the audit log");
    }
}

async fn stored(store: &Store, event: &NewAuditEvent) -> Result<(), StoreError> {
    store.write(|tx| async move { tx.audit(event).await }).await
}
