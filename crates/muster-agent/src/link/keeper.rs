//! Keeps the link up: one connection after the other, with a wait between them.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use muster_core::ids::DeviceUuid;
use muster_link::{Identity, RefusedCode};
use rand::Rng;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::time::sleep;

use super::backoff::Backoff;
use super::session::{End, Session};
use super::socket::{Ends, LinkError, Socket, dial};
use super::status::StatusFile;
use crate::command::driver::{Message as ToCommands, Report as CommandReport};
use crate::command::policy::CommandPolicy;
use crate::inventory::Inventory;
use crate::inventory::capabilities::capabilities;
use crate::net::Dialer;
use crate::remote::Carriers;
use crate::run::driver::{Message, Report};
use crate::update::probation::Probation;
use crate::upload::Uploads;

/// Everything that makes connections.
pub struct Keeper<R> {
    /// Dials the server.
    pub dialer: Dialer,
    /// The device.
    pub device: DeviceUuid,
    /// The secret half of its key.
    pub secret: [u8; muster_link::handshake::SECRET_KEY_BYTES],
    /// Where the container engine listens, when that was set.
    pub docker_socket: Option<PathBuf>,
    /// Measures the device.
    pub inventory: Inventory,
    /// Told that the server was reached.
    pub probation: Probation,
    /// What `status` shows.
    pub status: StatusFile,
    /// Spreads the waits.
    pub rng: R,
    /// To the part that carries out runs.
    pub to_runs: Sender<Message>,
    /// From it.
    pub reports: UnboundedReceiver<Report>,
    /// What remote commands the device allows.
    pub commands: CommandPolicy,
    /// To the part that carries out remote commands.
    pub to_commands: Sender<ToCommands>,
    /// From it.
    pub command_reports: UnboundedReceiver<CommandReport>,
    /// Sends files that the server asks for.
    pub uploads: Uploads,
    /// Dials carriers of streams.
    pub carriers: Carriers,
    /// Why the link is down, as it was last logged.
    pub logged: Option<String>,
}

impl<R: Rng> Keeper<R> {
    /// Connects, serves, waits, for as long as it is polled. Dropping the future
    /// ends the link at once.
    pub async fn keep(&mut self) -> Infallible {
        let mut backoff = Backoff::default();
        loop {
            let (error, lasted) = self.connect_once().await;
            let _ = self.to_runs.send(Message::LinkDown).await;
            let _ = self.to_commands.send(ToCommands::LinkDown).await;
            self.note(&error);
            backoff.ended(lasted);
            let delay = match error {
                LinkError::Ended(End::Refused { code: RefusedCode::NotRecognised, .. }) => {
                    backoff.delay_unrecognised(&mut self.rng)
                }
                LinkError::Ended(End::Refused { code: RefusedCode::Deleted, .. }) => {
                    backoff.delay_deleted(&mut self.rng)
                }
                _ => backoff.delay(&mut self.rng),
            };
            tracing::debug!(delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), "dialling again later");
            sleep(delay).await;
        }
    }

    /// One connection: why it ended, and for how long it was welcome.
    async fn connect_once(&mut self) -> (LinkError, Duration) {
        let websocket = match dial(&self.dialer).await {
            Ok(websocket) => websocket,
            Err(error) => return (error, Duration::ZERO),
        };
        let facts = self.inventory.facts(websocket.get_ref().local_ip());
        let identity = Identity::from_secret_bytes(&self.secret);
        let mut capabilities = capabilities(self.docker_socket.as_deref());
        capabilities.extend(self.carriers.policy().files.capabilities());
        capabilities.extend(self.commands.capabilities());
        capabilities.extend(self.carriers.policy().terminals.capability());
        let session = Session::new(self.device.clone(), identity, facts, capabilities, self.carriers.policy().tunnels);
        let mut socket = Socket::new(websocket, session);
        let mut ends = Ends {
            to_runs: &self.to_runs,
            reports: &mut self.reports,
            to_commands: &self.to_commands,
            command_reports: &mut self.command_reports,
            uploads: &mut self.uploads,
            inventory: &mut self.inventory,
            status: &mut self.status,
            probation: &mut self.probation,
            carriers: &mut self.carriers,
        };
        let error = socket.serve(&mut ends).await;
        self.carriers.close_all();
        socket.close().await;
        if socket.welcomed_at.is_some() {
            // What goes wrong next is news again.
            self.logged = None;
        }
        (error, socket.welcomed_at.map_or(Duration::ZERO, |at| at.elapsed()))
    }

    /// Logs why the link is down, once for each reason.
    fn note(&mut self, error: &LinkError) {
        let text = error.to_string();
        if self.logged.as_ref() != Some(&text) {
            tracing::warn!(error = text, "the link is down");
        }
        self.status.disconnected(Some(text.clone()));
        self.logged = Some(text);
    }
}
