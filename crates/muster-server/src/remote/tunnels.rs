//! Port tunnels: asked for, answered by their device, ended.

use muster_core::access::Operation;
use muster_core::ids::RowId;
use muster_core::invalid::Invalid;
use muster_core::limits::{LISTED_TUNNELS_MAX, TEXT_CHARS_MAX, TUNNEL_ANSWER_TIMEOUT, TUNNEL_LIFETIME_MAX};
use muster_core::tunnel::{AllowedIp, TargetHost, TunnelStatus};
use muster_link::{ToDevice, TunnelState, capability};
use muster_store::audit::NewAuditEvent;
use muster_store::devices::Device;
use muster_store::port_tunnels::{EndingTunnel, NewTunnel, PortTunnel};
use muster_store::{StoreError, Tx};
use rand::RngExt;
use serde_json::json;

use super::capabilities::{check_link, require};
use super::live;
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};
use crate::fleet::devices;

/// What is asked of a new tunnel.
#[derive(Clone, Debug)]
pub struct TunnelOrder {
    /// The device, as a caller wrote it.
    pub device_uuid: String,
    /// The port of the device, or of `host`.
    pub port: u16,
    /// Where it ends in the device's network, where that is not the device itself.
    pub host: Option<TargetHost>,
    /// Whom it lets through; the caller, unless they say otherwise.
    pub allowed_ip: Option<AllowedIp>,
}

/// Random characters in a tunnel's own host name.
const HOST_CHARS: usize = 11;
const HOST_ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// Most tunnels that are ended in one transaction.
const BATCH_MAX: u64 = 500;

/// Makes a tunnel, listens for it, and asks its device to open it. The row is there before
/// anybody can use it.
pub async fn create(app: &App, permitted: &Permitted, order: &TunnelOrder) -> Result<PortTunnel> {
    if order.host.is_some() && !permitted.fleet().tunnels_to_network {
        return Err(OpError::Refused("the fleet does not allow tunnels to other hosts of a device's network"));
    }
    let listener = live::bind_any(app).await.map_err(|error| {
        tracing::error!(%error, "no port for a tunnel");
        let problem = format!("the server has no free port of {} for a tunnel", app.config.tunnel_ports);
        OpError::NotNow { code: "no_free_port", problem: Invalid::new("port", problem) }
    })?;
    let server_port = listener.local_addr().map_err(|error| OpError::Internal(error.to_string()))?.port();
    let work = app.store.write(|tx| async move {
        let device = devices::find(&tx, permitted, &order.device_uuid).await.map_err(|error| match error {
            OpError::NotFound { .. } => {
                Invalid::unknown("device_uuid", "device of the fleet", &order.device_uuid).into()
            }
            other => other,
        })?;
        check(app, &device, order)?;
        insert(app, &tx, permitted, &device, order, server_port).await
    });
    let tunnel = work.await?;
    app.tunnels.start(app, &tunnel, listener)?;
    let (uuid, host) = (tunnel.uuid.clone(), tunnel.host.clone());
    app.links.tell(tunnel.device_id, ToDevice::OpenTunnel { tunnel: uuid, port: tunnel.port, host });
    Ok(tunnel)
}

fn check(app: &App, device: &Device, order: &TunnelOrder) -> Result<()> {
    require(device, capability::PORT_TUNNEL, "device_uuid")?;
    if order.host.is_some() {
        require(device, capability::TUNNEL_TO_NETWORK, "host")?;
    }
    check_link(app, device)
}

async fn insert(
    app: &App,
    tx: &Tx,
    permitted: &Permitted,
    device: &Device,
    order: &TunnelOrder,
    server_port: u16,
) -> Result<PortTunnel, WorkError> {
    let allowed_ip = match &order.allowed_ip {
        Some(allowed) => allowed.clone(),
        None => AllowedIp::parse(permitted.source_ip())?,
    };
    let now = tx.now();
    let new = NewTunnel {
        fleet_id: permitted.fleet().id,
        device_id: device.id,
        port: order.port,
        host: order.host.clone(),
        allowed_ip,
        server_address: server_address(app, device),
        server_port,
        created_by: permitted.actor(),
        token_id: permitted.caller().token_id(),
        home: app.home.clone(),
        answer_by: now.after(TUNNEL_ANSWER_TIMEOUT),
        expires_at: now.after(app.config.tunnel_lifetime.min(TUNNEL_LIFETIME_MAX)),
    };
    let uuid = tx.insert_port_tunnel(&new).await?;
    let mut after = json!({ "device_uuid": device.uuid, "port": new.port, "allowed_ip": new.allowed_ip.as_str() });
    if let Some(host) = &new.host {
        after["host"] = json!(host.as_str());
    }
    let detail = json!({ "before": null, "after": after });
    tx.audit(&permitted.event(format!("port_tunnel:{uuid}"), detail)).await?;
    let lost = || StoreError::Corrupt { table: "port_tunnels", problem: format!("{uuid} is missing") };
    Ok(tx.find_port_tunnel(permitted.fleet().id, &uuid).await?.ok_or_else(lost)?)
}

/// Where callers connect to. The name is hard to guess, though `allowed_ip` is what protects.
fn server_address(app: &App, device: &Device) -> String {
    app.random(|rng| {
        let word: String =
            (0..HOST_CHARS).map(|_| char::from(HOST_ALPHABET[rng.random_range(0..HOST_ALPHABET.len())])).collect();
        format!("{}-{word}.{}", device.uuid, app.config.tunnel_domain)
    })
}

/// The newest tunnels of what the caller reaches of a fleet, oldest first.
pub async fn list(app: &App, permitted: &Permitted) -> Result<Vec<PortTunnel>> {
    Ok(app.store.read().port_tunnels(permitted.fleet().id, permitted.reach(), LISTED_TUNNELS_MAX).await?)
}

/// A tunnel of a fleet.
pub async fn find(app: &App, permitted: &Permitted, uuid: &str) -> Result<PortTunnel> {
    let tunnel = app.store.read().find_port_tunnel(permitted.fleet().id, &row_text(uuid)).await?;
    let tunnel = tunnel.ok_or_else(|| OpError::not_found("port tunnel", uuid))?;
    permitted.check_device(tunnel.device_id)?;
    Ok(tunnel)
}

/// PostgreSQL takes no NUL, not even in a comparison.
fn row_text(text: &str) -> String {
    text.replace('\0', "")
}

/// Ends a tunnel for a person. Doing it again changes nothing.
pub async fn close(app: &App, permitted: &Permitted, uuid: &str) -> Result<()> {
    let tunnel = &find(app, permitted, uuid).await?;
    let work = app.store.write(|tx| async move {
        let reason = ("closed_by_user", "A person closed the tunnel.");
        let was_open = tx.end_port_tunnel(tunnel.device_id, &tunnel.uuid, TunnelStatus::Closed, reason).await?;
        if was_open {
            let detail = json!({ "before": tunnel.status.word(), "after": TunnelStatus::Closed.word() });
            tx.audit(&permitted.event(format!("port_tunnel:{}", tunnel.uuid), detail)).await?;
        }
        Ok::<_, WorkError>(was_open)
    });
    if work.await? {
        app.tunnels.cut(app, &tunnel.uuid);
        app.links.tell(tunnel.device_id, ToDevice::CloseTunnel { tunnel: tunnel.uuid.clone() });
    }
    Ok(())
}

/// A device has said, from that address, how a tunnel stands. One that nobody waits
/// for is closed again.
pub async fn answered(app: &App, device_id: RowId, source_ip: &str, uuid: &str, state: TunnelState, reason: &str) {
    let text: String = reason.chars().filter(|c| *c != '\0').take(TEXT_CHARS_MAX).collect();
    let (uuid, text) = (&row_text(uuid), text.as_str());
    let work = app.store.write(|tx| async move {
        let (status, code) = match state {
            TunnelState::Opened => return tx.open_port_tunnel(device_id, uuid).await,
            TunnelState::Closed => (TunnelStatus::Closed, "closed_by_device"),
            TunnelState::Failed => (TunnelStatus::Terminated, "device_failed"),
        };
        let Some(tunnel) = tx.find_open_port_tunnel(device_id, uuid).await? else { return Ok(false) };
        tx.end_port_tunnel(device_id, uuid, status, (code, text)).await?;
        let by = (format!("device:{}", tunnel.device_uuid), source_ip.to_owned());
        tx.audit(&ended(&tunnel, by, status, code)).await?;
        Ok(true)
    });
    match work.await {
        Ok(false) if state == TunnelState::Opened => {
            app.links.tell(device_id, ToDevice::CloseTunnel { tunnel: uuid.clone() });
        }
        Ok(true) if state == TunnelState::Opened => app.carriers.warm(app, device_id),
        Ok(true) => app.tunnels.cut(app, uuid),
        Ok(false) => {}
        // The clock ends it.
        Err(error) => tracing::warn!(%error, device_id, "what a device says of a tunnel could not be stored"),
    }
}

/// What the log says of a tunnel that no person ended; `by` is who did, and from where.
fn ended(tunnel: &EndingTunnel, by: (String, String), status: TunnelStatus, code: &str) -> NewAuditEvent {
    NewAuditEvent {
        account_id: tunnel.account_id,
        fleet_id: Some(tunnel.fleet_id),
        actor: by.0,
        action: Operation::DeletePortTunnel,
        subject: format!("port_tunnel:{}", tunnel.uuid),
        source_ip: by.1,
        detail: json!({ "before": tunnel.was.word(), "after": status.word(), "reason": code }),
    }
}

/// The same, of one that the server itself has ended.
pub(super) fn ended_by_server(tunnel: &EndingTunnel, status: TunnelStatus, code: &str) -> NewAuditEvent {
    ended(tunnel, ("server".to_owned(), String::new()), status, code)
}

fn ended_by_clock(tunnel: &EndingTunnel) -> NewAuditEvent {
    let (status, code, _) = tunnel.was.when_overdue();
    ended_by_server(tunnel, status, code)
}

/// Ends every tunnel whose time is over, and tells its device where it is linked here.
pub async fn expire(app: &App) -> Result<(), StoreError> {
    loop {
        // A look first: a write would hold up others.
        if app.store.read().overdue_port_tunnels(1).await?.is_empty() {
            return Ok(());
        }
        let work = app.store.write(|tx| async move {
            let ended = tx.expire_port_tunnels(BATCH_MAX).await?;
            tx.audit_all(&ended.iter().map(ended_by_clock).collect::<Vec<_>>()).await?;
            Ok::<_, StoreError>(ended)
        });
        for tunnel in work.await? {
            app.tunnels.cut(app, &tunnel.uuid);
            app.links.tell(tunnel.device_id, ToDevice::CloseTunnel { tunnel: tunnel.uuid });
        }
    }
}
