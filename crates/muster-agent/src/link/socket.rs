//! One connection: dials, carries out what the session says, until it ends.

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use muster_core::limits::{HANDSHAKE_TIMEOUT, LINK_MESSAGE_BYTES_MAX};
use muster_link::CONTROL_PATH;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Bytes, Message};

use super::session::{End, Input, Output, Session};
use super::status::StatusFile;
use crate::command::desk;
use crate::command::driver::{Message as ToCommands, Report as CommandReport};
use crate::inventory::Inventory;
use crate::net::{ConnectError, Dialer, Stream};
use crate::remote::Carriers;
use crate::run::driver::{Message as ToRuns, Report, Said};
use crate::run::effect;
use crate::update::probation::Probation;
use crate::upload::Uploads;

/// How long a message may take to leave the device.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the server may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Small, since an idle link is what a device has nearly all the time.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Why there is no connection any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// None could be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It took too long to make one.
    #[error("the server did not answer in time")]
    ConnectTimedOut,
    /// The session ended it.
    #[error(transparent)]
    Ended(#[from] End),
    /// The server closed it.
    #[error("the server closed the connection")]
    Closed,
    /// The WebSocket failed.
    #[error("{0}")]
    Broken(String),
    /// A message did not leave the device.
    #[error("a message could not be sent in time")]
    SendTimedOut,
    /// The part that carries out runs has ended.
    #[error("the agent is ending")]
    RunsEnded,
}

/// What a connection needs from the rest of the agent.
pub struct Ends<'a> {
    /// To the part that carries out runs.
    pub to_runs: &'a Sender<ToRuns>,
    /// From it.
    pub reports: &'a mut UnboundedReceiver<Report>,
    /// To the part that carries out remote commands.
    pub to_commands: &'a Sender<ToCommands>,
    /// From it.
    pub command_reports: &'a mut UnboundedReceiver<CommandReport>,
    /// Measures the device.
    pub inventory: &'a mut Inventory,
    /// Sends files that the server asks for.
    pub uploads: &'a mut Uploads,
    /// Told of the connection's ups and downs.
    pub status: &'a mut StatusFile,
    /// Told that the server answered behind a keepalive.
    pub probation: &'a mut Probation,
    /// Dials carriers of streams.
    pub carriers: &'a mut Carriers,
}

/// An open WebSocket and its session.
pub struct Socket {
    websocket: WebSocketStream<Stream>,
    session: Session,
    opened_at: Instant,
    /// When the server said welcome.
    pub welcomed_at: Option<Instant>,
}

/// Dials the server and opens the WebSocket.
pub async fn dial(dialer: &Dialer) -> Result<WebSocketStream<Stream>, LinkError> {
    let opening = async {
        let stream = dialer.connect().await?;
        let url = dialer.server().websocket(CONTROL_PATH);
        let opened = tokio_tungstenite::client_async_with_config(url, stream, Some(config())).await;
        opened.map(|(websocket, _)| websocket).map_err(|error| broken(&error))
    };
    timeout(HANDSHAKE_TIMEOUT, opening).await.map_err(|_| LinkError::ConnectTimedOut)?
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(LINK_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(LINK_MESSAGE_BYTES_MAX))
}

/// A server that dies closes its connections, with or without a goodbye.
fn broken(error: &tungstenite::Error) -> LinkError {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => LinkError::Closed,
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => LinkError::Closed,
        tungstenite::Error::Io(error)
            if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ) =>
        {
            LinkError::Closed
        }
        other => LinkError::Broken(other.to_string()),
    }
}

impl Socket {
    /// A connection that has just been opened.
    pub fn new(websocket: WebSocketStream<Stream>, session: Session) -> Self {
        Self { websocket, session, opened_at: Instant::now(), welcomed_at: None }
    }

    /// Serves the connection until it ends, and says why it did.
    pub async fn serve(&mut self, ends: &mut Ends<'_>) -> LinkError {
        loop {
            if let Err(end) = self.turn(ends).await {
                return end;
            }
        }
    }

    async fn turn(&mut self, ends: &mut Ends<'_>) -> Result<(), LinkError> {
        let wake_at = self.opened_at + self.session.wake_at();
        let input = tokio::select! {
            message = self.websocket.next() => match message {
                Some(Ok(Message::Text(text))) => Input::Received(text.as_str().to_owned()),
                Some(Ok(Message::Close(_))) | None => return Err(LinkError::Closed),
                Some(Ok(other)) => {
                    // A ping follows each keepalive and nothing else: its answer acknowledges both.
                    if matches!(other, Message::Pong(_)) && self.welcomed_at.is_some() {
                        ends.probation.passed();
                    }
                    Input::Traffic
                }
                Some(Err(error)) => return Err(broken(&error)),
            },
            Some(Report { epoch, run, said }) = ends.reports.recv() => match said {
                Said::Happened { seq, event } => Input::Report { epoch, run, seq, event },
                Said::NotNow { reason } => Input::NotNow { epoch, run, reason },
            },
            Some(CommandReport { epoch, command, event }) = ends.command_reports.recv() => {
                Input::Command { epoch, command, event }
            }
            refused = ends.uploads.refused() => Input::UploadFailed(refused),
            () = sleep_until(wake_at) => Input::Tick,
        };
        let outputs = self.session.handle(input, self.opened_at.elapsed());
        self.carry_out(outputs, ends).await
    }

    async fn carry_out(&mut self, outputs: Vec<Output>, ends: &mut Ends<'_>) -> Result<(), LinkError> {
        for output in outputs {
            match output {
                Output::Send(message) => {
                    let text = serde_json::to_string(&message).map_err(|error| LinkError::Broken(error.to_string()))?;
                    self.send(Message::Text(text.into())).await?;
                }
                Output::Ping => self.send(Message::Ping(Bytes::new())).await?,
                Output::Sample => self.sample(ends).await?,
                Output::Up { epoch } => {
                    self.welcomed_at = Some(Instant::now());
                    ends.status.connected();
                    tracing::info!(epoch, "connected");
                    tell(ends, ToRuns::LinkUp { epoch }).await?;
                    tell_commands(ends, ToCommands::LinkUp { epoch }).await?;
                }
                Output::Instructed(instruction) => tell_book(ends, effect::Input::Instructed(instruction)).await?,
                Output::Unreadable(run, problem) => tell_book(ends, effect::Input::Unreadable(run, problem)).await?,
                Output::Aborted(run) => tell_book(ends, effect::Input::Aborted(run)).await?,
                Output::Acked(run, seq) => tell_book(ends, effect::Input::Acked(run, seq)).await?,
                Output::RunCommand(order) => tell_commands(ends, ToCommands::Ordered(order)).await?,
                Output::AbortCommand(id) => tell_commands(ends, ToCommands::Desk(desk::Input::Aborted(id))).await?,
                Output::CommandStored(id) => tell_commands(ends, ToCommands::Desk(desk::Input::Stored(id))).await?,
                Output::Upload(order) => ends.uploads.begin(order),
                Output::DialStreams(secrets) => ends.carriers.dial(secrets),
                Output::Close(end) => return Err(end.into()),
            }
        }
        Ok(())
    }

    async fn sample(&mut self, ends: &mut Ends<'_>) -> Result<(), LinkError> {
        let (metrics, facts) = (ends.inventory.metrics(), ends.inventory.facts(self.websocket.get_ref().local_ip()));
        let outputs = self.session.handle(Input::Sampled { metrics, facts }, self.opened_at.elapsed());
        Box::pin(self.carry_out(outputs, ends)).await
    }

    async fn send(&mut self, message: Message) -> Result<(), LinkError> {
        let sent = timeout(SEND_TIMEOUT, self.websocket.send(message)).await;
        sent.map_err(|_| LinkError::SendTimedOut)?.map_err(|error| broken(&error))
    }

    /// Says goodbye, so that the server need not wait for silence.
    pub async fn close(&mut self) {
        let _ = timeout(CLOSE_TIMEOUT, self.websocket.close(None)).await;
    }
}

async fn tell_book(ends: &Ends<'_>, input: effect::Input) -> Result<(), LinkError> {
    tell(ends, ToRuns::Book(input)).await
}

async fn tell(ends: &Ends<'_>, message: ToRuns) -> Result<(), LinkError> {
    ends.to_runs.send(message).await.map_err(|_| LinkError::RunsEnded)
}

async fn tell_commands(ends: &Ends<'_>, message: ToCommands) -> Result<(), LinkError> {
    ends.to_commands.send(message).await.map_err(|_| LinkError::RunsEnded)
}
