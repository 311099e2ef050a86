//! Sessions of people on devices: what every kind of them shares. A session has a row and an
//! entry in the audit log when it begins and when it ends, lasts for a limited time, and is
//! cut as soon as whoever opened it may not have it any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use muster_core::access::{Operation, Permission};
use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::limits::TUNNEL_LIFETIME_MAX;
use muster_core::remote_session::{EndReason, SessionKind};
use muster_core::tunnel::TargetHost;
use muster_link::stream::Counts;
use muster_store::StoreError;
use muster_store::audit::NewAuditEvent;
use muster_store::devices::Device;
use muster_store::remote_sessions::{NewSession, RemoteSession, SessionBytes};
use serde_json::json;
use std::sync::atomic::Ordering;
use tokio_util::sync::CancellationToken;

use super::capabilities::{check_link, require};
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};
use crate::fleet::devices;

/// What is asked of a new session.
#[derive(Clone, Debug)]
pub struct SessionOrder {
    /// The device, as a caller wrote it.
    pub device_uuid: String,
    /// What it is for.
    pub kind: SessionKind,
    /// Where it ends in the device's network, where that is not the device itself.
    pub host: Option<TargetHost>,
    /// What it reaches there, in the words of its kind.
    pub target: String,
    /// What the device's agent must be able to do.
    pub capability: &'static str,
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// As the API names it.
    pub uuid: String,
    /// Its device.
    pub device_id: RowId,
    /// When it ends by itself.
    pub ends_at: Timestamp,
    /// What it has moved: sent to the device, received from it.
    pub counts: Counts,
    cut: CancellationToken,
    why: OnceLock<EndReason>,
    event: NewAuditEvent,
}

impl Session {
    /// Does `work` while the session may go on; else why it may not.
    pub async fn while_it_may<T>(&self, work: impl Future<Output = T>) -> Result<T, EndReason> {
        match self.cut.run_until_cancelled(work).await {
            Some(done) => Ok(done),
            None => Err(self.why.get().copied().unwrap_or(EndReason::SERVER_STOPPED)),
        }
    }

    /// Ends it at once, for that reason unless there is one already.
    pub fn cut(&self, reason: EndReason) {
        let _ = self.why.set(reason);
        self.cut.cancel();
    }

    fn bytes(&self) -> SessionBytes {
        SessionBytes {
            to_device: self.counts.sent.load(Ordering::Relaxed),
            from_device: self.counts.received.load(Ordering::Relaxed),
        }
    }
}

/// An open session in the hands of whoever serves it. Dropping it ends the session as one
/// whose caller has gone; [`Self::finish`] says more.
pub struct Held {
    app: App,
    session: Arc<Session>,
    is_finished: bool,
}

impl Held {
    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Ends it, and returns when that is stored, or could not be.
    pub async fn finish(mut self, reason: EndReason) {
        self.is_finished = true;
        store_end(&self.app, &self.session, reason).await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let (app, session) = (self.app.clone(), Arc::clone(&self.session));
        let reason = session.why.get().copied().unwrap_or(EndReason::CALLER_GONE);
        self.app.tunnels.tasks.spawn(async move { store_end(&app, &session, reason).await });
    }
}

/// The sessions that this server holds.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Sessions {
    /// Every one.
    pub fn live(&self) -> Vec<Arc<Session>> {
        self.with(|live| live.values().cloned().collect())
    }

    /// That one, if it is open here.
    pub fn find(&self, uuid: &str) -> Option<Arc<Session>> {
        self.with(|live| live.get(uuid).cloned())
    }

    /// Cuts every one, because the server stops.
    pub fn cut_all(&self) {
        self.live().iter().for_each(|session| session.cut(EndReason::SERVER_STOPPED));
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut HashMap<String, Arc<Session>>) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Begins a session. The row and the audit log's entry are there before anything is done.
pub async fn open(app: &App, permitted: &Permitted, order: &SessionOrder) -> Result<Held> {
    if order.host.is_some() && !permitted.fleet().tunnels_to_network {
        return Err(OpError::Refused("the fleet does not allow other hosts of a device's network"));
    }
    let permission =
        permitted.permission().ok_or_else(|| OpError::Internal("a session needs a permission".to_owned()))?;
    let ends_at = app.clock().now().after(app.config.tunnel_lifetime.min(TUNNEL_LIFETIME_MAX));
    let work = app.store.write(|tx| async move {
        let device = devices::find(&tx, permitted, &order.device_uuid).await?;
        require(&device, order.capability, "device_uuid")?;
        check_link(app, &device)?;
        let uuid = tx.insert_remote_session(&new(app, permitted, &device, order, (permission, ends_at))).await?;
        tx.audit(&permitted.event(format!("remote_session:{uuid}"), begun(&device, order))).await?;
        Ok::<_, WorkError>((uuid, device))
    });
    let (uuid, device) = work.await?;
    let session = Arc::new(Session {
        event: permitted.event(format!("remote_session:{uuid}"), json!({})),
        uuid: uuid.clone(),
        device_id: device.id,
        ends_at,
        counts: Counts::default(),
        cut: CancellationToken::new(),
        why: OnceLock::new(),
    });
    app.sessions.with(|live| live.insert(uuid, Arc::clone(&session)));
    Ok(Held { app: app.clone(), session, is_finished: false })
}

fn new(
    app: &App,
    permitted: &Permitted,
    device: &Device,
    order: &SessionOrder,
    (permission, ends_at): (Permission, Timestamp),
) -> NewSession {
    NewSession {
        fleet_id: permitted.fleet().id,
        device_id: device.id,
        kind: order.kind,
        permission,
        host: order.host.as_ref().map_or_else(String::new, |host| host.as_str().to_owned()),
        target: order.target.clone(),
        created_by: permitted.actor(),
        source_ip: permitted.source_ip().to_owned(),
        token_id: permitted.caller().token_id(),
        home: app.home.clone(),
        ends_at,
        recording_until: (order.kind == SessionKind::Terminal).then(|| ends_at.after(app.config.recordings_kept)),
    }
}

fn begun(device: &Device, order: &SessionOrder) -> serde_json::Value {
    let mut after = json!({ "device_uuid": device.uuid, "kind": order.kind.word(), "target": order.target });
    if let Some(host) = &order.host {
        after["host"] = json!(host.as_str());
    }
    json!({ "before": null, "after": after })
}

/// Stores that a session is over. What it took with it is gone already.
async fn store_end(app: &App, session: &Session, reason: EndReason) {
    app.sessions.with(|live| live.remove(&session.uuid));
    let bytes = session.bytes();
    let event = &ended(&session.event, reason, bytes);
    let work = app.store.write(|tx| async move {
        if tx.end_remote_session(&session.uuid, reason, bytes).await? {
            tx.audit(event).await?;
        }
        Ok::<_, StoreError>(())
    });
    if let Err(error) = work.await {
        // The row stays open; the next start of this server ends it.
        tracing::warn!(%error, session = session.uuid, "the end of a remote session could not be stored");
    }
}

fn ended(begun: &NewAuditEvent, reason: EndReason, bytes: SessionBytes) -> NewAuditEvent {
    let after = json!({
        "status": "ended", "reason": reason.code,
        "bytes_to_device": bytes.to_device, "bytes_from_device": bytes.from_device,
    });
    NewAuditEvent {
        action: Operation::EndRemoteSession,
        detail: json!({ "before": { "status": "open" }, "after": after }),
        ..begun.clone()
    }
}

/// A session of a fleet.
pub async fn find(app: &App, permitted: &Permitted, uuid: &str) -> Result<RemoteSession> {
    let found = app.store.read().find_remote_session(permitted.fleet().id, &uuid.replace('\0', "")).await?;
    let found = found.ok_or_else(|| OpError::not_found("remote session", uuid))?;
    permitted.check_device(found.device_id)?;
    Ok(found)
}

/// Ends a session for a person. Doing it again changes nothing.
pub async fn end(app: &App, permitted: &Permitted, uuid: &str) -> Result<()> {
    let found = &find(app, permitted, uuid).await?;
    let (here, reason) = (app.sessions.find(&found.uuid), EndReason::ENDED_BY_USER);
    let bytes = here.as_ref().map_or_else(SessionBytes::default, |session| session.bytes());
    let work = app.store.write(|tx| async move {
        if tx.end_remote_session(&found.uuid, reason, bytes).await? {
            let begun = permitted.event(format!("remote_session:{}", found.uuid), json!({}));
            tx.audit(&ended(&begun, reason, bytes)).await?;
        }
        Ok::<_, WorkError>(())
    });
    work.await?;
    if let Some(session) = here {
        session.cut(reason);
    }
    Ok(())
}

/// One round of the keeper: cuts what is overdue, and what has lost its right to be.
pub(super) async fn look(app: &App) -> Result<(), StoreError> {
    // Before the rows are read: a session that begins meanwhile has a row, and is not here.
    let here = app.sessions.live();
    for session in here.iter().filter(|session| session.ends_at <= app.clock().now()) {
        session.cut(EndReason::EXPIRED);
    }
    if here.is_empty() {
        return Ok(());
    }
    let standing: HashMap<String, _> =
        app.store.read().standing_remote_sessions(&app.home).await?.into_iter().collect();
    for session in here {
        match standing.get(&session.uuid) {
            // Somebody ended it on another server, or it went with its device.
            None => session.cut(EndReason::DEVICE_DELETED),
            Some(standing) => {
                if let Some(reason) = standing.verdict() {
                    session.cut(reason.into());
                }
            }
        }
    }
    Ok(())
}

/// Ends the rows that a run of this server left open when it was killed.
pub(super) async fn restore(app: &App) -> Result<(), StoreError> {
    for left in app.store.read().remote_sessions_held_by(&app.home).await? {
        let reason = EndReason::SERVER_STOPPED;
        let begun = NewAuditEvent {
            account_id: left.account_id,
            fleet_id: Some(left.fleet_id),
            actor: "server".to_owned(),
            action: Operation::EndRemoteSession,
            subject: format!("remote_session:{}", left.uuid),
            source_ip: String::new(),
            detail: json!({}),
        };
        let (uuid, event) = (&left.uuid, &ended(&begun, reason, SessionBytes::default()));
        let work = app.store.write(|tx| async move {
            if tx.end_remote_session(uuid, reason, SessionBytes::default()).await? {
                tx.audit(event).await?;
            }
            Ok::<_, StoreError>(())
        });
        work.await?;
    }
    Ok(())
}
