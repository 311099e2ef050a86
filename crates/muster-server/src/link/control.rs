//! The owner of a control link's socket: reads, writes, keeps time, and does what
//! the [`Session`] says.

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use axum::extract::{State, WebSocketUpgrade};
use axum::response::Response;
use muster_core::limits::{HANDSHAKE_TIMEOUT, LINK_MESSAGE_BYTES_MAX};
use muster_link::{Nonce, PROTOCOL_VERSION, RunId, ToDevice, ToServer};
use muster_store::command_targets::CommandReport;
use muster_store::devices::DeviceKey;
use muster_store::targets::{Report, ReportOutcome};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::session::{Effect, Hello, Session, answer, answer_command, deleted, not_recognised};
use crate::access::rate::Source;
use crate::app::App;
use crate::deploy::reports::Reported;
use crate::fleet::enrolment::stored_facts;
use crate::http::ApiError;
use crate::remote::{logs, tunnels};

/// Bytes of a link's read buffer; the default costs ten times as much memory for each device.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// The control link of a device.
///
/// A WebSocket whose messages are those of `muster-link`: the server sends a
/// challenge, the device proves that it holds the key it enrolled with.
#[utoipa::path(
    get, path = "/link/v1/control", operation_id = "OpenControlLink", tag = "Device link",
    responses(
        (status = 101, description = "Switching to the WebSocket protocol"),
        (status = 426, description = "Not a WebSocket handshake", body = crate::v2::wire::Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn open(
    State(app): State<App>,
    source: Source,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|rejection| ApiError::UpgradeRequired(rejection.body_text()))?;
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(LINK_MESSAGE_BYTES_MAX)
        .max_frame_size(LINK_MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        Link { app, socket, device_ip: source.address().to_string() }.run().await;
    }))
}

struct Link {
    app: App,
    socket: WebSocket,
    device_ip: String,
}

/// The link is gone: it was closed, or broke.
struct Gone;

impl Link {
    async fn run(mut self) {
        let Ok(Ok((device, hello))) = timeout(HANDSHAKE_TIMEOUT, self.handshake()).await else { return };
        let mut session = Session::open(&device, self.device_ip.clone(), self.app.clock().now());
        let Some(epoch) = self.opened(&device, &session, hello).await else { return };
        let Some(mut outgoing) = self.app.links.insert(device.id, epoch) else { return };
        self.app.carriers.link_up(device.id, epoch);
        tracing::info!(device_id = device.id, epoch, "link open");
        let welcome = ToDevice::Welcome { epoch, heartbeat_ms: device.heartbeat_ms };
        if self.send(&welcome).await.is_ok() {
            self.app.wake.device(device.id);
            // Only how it ended is of interest, and that is always that the link is gone.
            let Gone = self.serve(&mut session, &mut outgoing).await;
        }
        self.closed(device.id, epoch).await;
    }

    async fn handshake(&mut self) -> Result<(DeviceKey, Hello), Gone> {
        let nonce = self.app.random(Nonce::random);
        self.send(&ToDevice::Challenge { nonce: nonce.clone(), protocol: PROTOCOL_VERSION }).await?;
        let hello = loop {
            match self.receive().await? {
                Some(message) => break Hello::from_message(message).ok_or(Gone)?,
                None => continue,
            }
        };
        let device = match self.app.store.read().find_device_key(&hello.device_uuid).await {
            Ok(device) => device,
            Err(error) => return Err(self.unavailable(&error).await),
        };
        match hello.check(&nonce, device) {
            Some(device) => Ok((device, hello)),
            None => {
                tracing::info!(device = %hello.device_uuid, ip = self.device_ip, "a device was refused");
                let refusal = self.refusal(&hello, &nonce).await;
                self.send(&refusal).await?;
                Err(Gone)
            }
        }
    }

    async fn refusal(&mut self, hello: &Hello, nonce: &Nonce) -> ToDevice {
        match self.app.store.read().find_deleted_device(&hello.device_uuid).await {
            Ok(Some(device)) if hello.is_from_deleted(nonce, &device) => deleted(),
            Ok(_) => not_recognised(),
            Err(error) => unavailable(&error),
        }
    }

    async fn unavailable(&mut self, error: &muster_store::StoreError) -> Gone {
        // The device tries again whether or not this arrives.
        let _ = self.send(&unavailable(error)).await;
        Gone
    }

    async fn opened(&mut self, device: &DeviceKey, session: &Session, hello: Hello) -> Option<i64> {
        let (keepalive, facts) = (session.first_keepalive(), stored_facts(hello.facts));
        let (app, keepalive, facts, capabilities) = (&self.app, &keepalive, &facts, &hello.capabilities);
        let opened = app.store.write(|tx| async move {
            tx.set_device_facts(device.id, facts).await?;
            tx.set_device_capabilities(device.id, capabilities).await?;
            tx.open_link(&app.server_id, keepalive).await
        });
        match opened.await {
            Ok(epoch) if epoch > 0 => Some(epoch),
            Ok(_) => {
                // It was deleted since it said hello. The next link hears the same.
                let _ = self.send(&deleted()).await;
                None
            }
            Err(error) => {
                self.unavailable(&error).await;
                None
            }
        }
    }

    async fn closed(&mut self, device_id: i64, epoch: i64) {
        self.app.links.remove(device_id, epoch);
        self.app.carriers.link_down(device_id, epoch);
        tracing::info!(device_id, epoch, "link closed");
        if let Err(error) = self.app.store.write(|tx| async move { tx.close_link(device_id, epoch).await }).await {
            // The next link of the device has a higher epoch, so nothing depends on this.
            tracing::warn!(%error, device_id, "the end of a link could not be stored");
        }
    }

    async fn serve(&mut self, session: &mut Session, outgoing: &mut mpsc::Receiver<ToDevice>) -> Gone {
        let mut period = tokio::time::interval(session.period());
        loop {
            let step = tokio::select! {
                message = outgoing.recv() => match message {
                    Some(message) => self.send(&message).await,
                    None => self.close("another link of the device took over, or it was too slow").await,
                },
                _ = period.tick() => match session.waited(self.app.clock().now()) {
                    Some(_) => self.close("nothing was heard of the device").await,
                    None => Ok(()),
                },
                message = self.receive() => match message {
                    Ok(Some(message)) => self.heard(session, message).await,
                    Ok(None) => {
                        session.heard_sign_of_life(self.app.clock().now());
                        Ok(())
                    }
                    Err(gone) => Err(gone),
                },
            };
            if let Err(gone) = step {
                return gone;
            }
        }
    }

    async fn heard(&mut self, session: &mut Session, message: ToServer) -> Result<(), Gone> {
        for effect in session.heard(message, self.app.clock().now()) {
            match effect {
                Effect::Keep(keepalive) => self.app.keepalives.push(keepalive),
                Effect::StoreFacts(facts) => self.store_facts(session, facts).await,
                Effect::Store(report) => self.store(report).await?,
                Effect::StoreCommand(report) => self.store_command(report).await?,
                Effect::PutOff { run, reason } => self.put_off(session, &run, &reason).await?,
                Effect::UploadFailed { request, reason } => self.upload_failed(session, &request, &reason).await?,
                Effect::Tunnel { uuid, state, reason } => {
                    let (device_id, ip) = (session.first_keepalive().device_id, &session.first_keepalive().device_ip);
                    tunnels::answered(&self.app, device_id, ip, &uuid, state, &reason).await;
                }
                Effect::Close => return Err(Gone),
            }
        }
        Ok(())
    }

    async fn store_facts(&mut self, session: &Session, facts: muster_link::Facts) {
        let (device_id, facts) = (session.first_keepalive().device_id, stored_facts(facts));
        let facts = &facts;
        let stored = self.app.store.write(|tx| async move { tx.set_device_facts(device_id, facts).await });
        if let Err(error) = stored.await {
            tracing::warn!(%error, device_id, "what a device says of itself could not be stored");
        }
    }

    /// Stores a report and answers it. Without an answer from the store the link
    /// ends: the device then sends the report again over the next one.
    async fn store(&mut self, report: Report) -> Result<(), Gone> {
        let outcome = self.app.reports.store(Reported::Run(report.clone())).await.ok_or(Gone)?;
        if matches!(outcome, ReportOutcome::Stored { is_final: true }) {
            // The device may have been waiting for its next deployment.
            self.app.wake.device(report.device_id);
        }
        for message in answer(&report, outcome) {
            self.send(&message).await?;
        }
        Ok(())
    }

    /// The same for what the device says of a command.
    async fn store_command(&mut self, report: CommandReport) -> Result<(), Gone> {
        let outcome = self.app.reports.store(Reported::Command(report.clone())).await.ok_or(Gone)?;
        if matches!(outcome, ReportOutcome::Stored { is_final: true }) {
            // The device may have room for its next command.
            self.app.wake.device(report.device_id);
        }
        match answer_command(&report, outcome) {
            Some(message) => self.send(&message).await,
            None => Ok(()),
        }
    }

    /// Stores that the device will not begin a run now. Where that cannot be stored the
    /// link ends: over the next one the device is told again, and asks its hook again.
    async fn put_off(&mut self, session: &Session, run: &RunId, reason: &str) -> Result<(), Gone> {
        let device_id = session.first_keepalive().device_id;
        let stored =
            self.app.store.write(|tx| async move { tx.put_off(&run.deployment, device_id, run.attempt, reason).await });
        match stored.await {
            Ok(is_put_off) => {
                if is_put_off {
                    // Its place in a rollout is another's now.
                    self.app.wake.device(device_id);
                }
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, device_id, "that a device said not now could not be stored");
                Err(Gone)
            }
        }
    }

    /// Stores why a device cannot send what it was asked for. Where that cannot be stored the
    /// link ends: over the next one the device is asked again.
    async fn upload_failed(&mut self, session: &Session, request: &str, reason: &str) -> Result<(), Gone> {
        let device_id = session.first_keepalive().device_id;
        logs::refused(&self.app, device_id, request, reason).await.map_err(|error| {
            tracing::warn!(%error, device_id, "why a device sends no files could not be stored");
            Gone
        })
    }

    async fn send(&mut self, message: &ToDevice) -> Result<(), Gone> {
        let text = serde_json::to_string(message).map_err(|error| {
            tracing::error!(%error, "a message to a device could not be written");
            Gone
        })?;
        self.socket.send(Message::Text(text.into())).await.map_err(|_| Gone)
    }

    /// The next message; `None` for a sign of life that says nothing more.
    async fn receive(&mut self) -> Result<Option<ToServer>, Gone> {
        match self.socket.recv().await {
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(message) => Ok(Some(message)),
                Err(error) => {
                    tracing::warn!(%error, "a message of a device could not be read");
                    Ok(None)
                }
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => Ok(None),
            Some(Ok(Message::Close(_)) | Err(_)) | None => Err(Gone),
        }
    }

    async fn close(&mut self, reason: &'static str) -> Result<(), Gone> {
        let frame = CloseFrame { code: close_code::AWAY, reason: reason.into() };
        // Whether or not the device hears of it, the link is over.
        let _ = self.socket.send(Message::Close(Some(frame))).await;
        Err(Gone)
    }
}

fn unavailable(error: &muster_store::StoreError) -> ToDevice {
    tracing::warn!(%error, "a device could not be let in");
    let message = "the server cannot serve at the moment".to_owned();
    ToDevice::Refused { code: muster_link::RefusedCode::Unavailable, message }
}
