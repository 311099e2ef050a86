//! Terminals: a shell on a device, for a person, recorded from its first byte on.

use std::future::{Future, pending};
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_core::limits::{CARRIER_TIMEOUT, TERMINAL_CHARS_MAX, WATCHER_TIMEOUT};
use muster_core::remote_session::{EndReason, SessionKind};
use muster_link::capability;
use muster_link::stream::{Exit, StreamMessage, Talk, TerminalSize, Turn};
use muster_store::terminals::TerminalEnd;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until, timeout};

use super::carriers::Taken;
use super::recordings::{Opened, Progress, Recorder};
use super::sessions::{self, Held, Session, SessionOrder};
use super::streams::open_stream;
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result};
use crate::http::websocket::ServerCarrier;
use crate::listener::Accepted;

/// How long a caller may take to hear why its terminal ended.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes of a recording that are read at once.
const PIECE_BYTES: usize = 32 * 1024;

/// What a caller wants.
#[derive(Clone, Debug)]
pub struct TerminalOrder {
    /// The device, as a caller wrote it.
    pub device_uuid: String,
    /// Whose terminal; empty for whom the device has it by default.
    pub user: String,
    /// Its size.
    pub size: TerminalSize,
    /// What understands its output.
    pub term: String,
}

/// A terminal whose shell runs.
pub struct Begun {
    held: Held,
    taken: Taken,
    recorder: Recorder,
}

/// Begins a session and its recording, and has the device start a shell.
pub async fn begin(app: &App, permitted: &Permitted, order: &TerminalOrder) -> Result<Begun> {
    let session = SessionOrder {
        device_uuid: order.device_uuid.clone(),
        kind: SessionKind::Terminal,
        host: None,
        target: order.user.clone(),
        capability: capability::TERMINAL,
    };
    let held = sessions::open(app, permitted, &session).await?;
    let who = if order.user.is_empty() { String::new() } else { format!("{}@", order.user) };
    let title = format!("{who}{}", order.device_uuid);
    let recorder = match Recorder::begin(app, &held.session().uuid, order.size, &title, &order.term).await {
        Ok(recorder) => recorder,
        Err(error) => {
            held.finish(EndReason::RECORDING_FAILED).await;
            return Err(OpError::Internal(format!("a recording: {error}")));
        }
    };
    let first = StreamMessage::OpenTerminal { user: order.user.clone(), size: order.size, term: order.term.clone() };
    match open_stream(app, held.session().device_id, &first).await {
        Ok(taken) => Ok(Begun { held, taken, recorder }),
        Err(problem) => {
            let (reason, error) = problem.told();
            held.finish(reason).await;
            Err(error)
        }
    }
}

/// Serves the terminal until its shell has ended, or it must end.
pub async fn carry(app: App, begun: Begun, upgraded: impl Future<Output = io::Result<ServerCarrier>> + Send) {
    let Begun { held, taken, mut recorder } = begun;
    let Ok(Ok(caller)) = timeout(CARRIER_TIMEOUT, upgraded).await else {
        return held.finish(EndReason::CALLER_GONE).await;
    };
    let mut caller = Talk::new(caller);
    let Taken { carrier, link_ends, .. } = taken;
    let mut ends = Ends { caller: &mut caller, device: Talk::new(carrier), recorder: &mut recorder };
    let session = held.session();
    let served = async {
        let served = link_ends.run_until_cancelled(ends.serve(session, app.config.terminal_idle)).await;
        served.unwrap_or(Err(EndReason::DEVICE_GONE))
    };
    let end = session.while_it_may(served).await.unwrap_or_else(Err);
    // What runs on the device is cut at once, whatever becomes of the caller's end.
    drop(ends);
    let (reason, exit) = match end {
        Ok(exit) => (EndReason::FINISHED, exit),
        Err(reason) => (reason, Exit::default()),
    };
    let told = match end {
        Ok(exit) => StreamMessage::Exited(exit),
        Err(reason) => StreamMessage::Failed { reason: reason.text.to_owned() },
    };
    let _ = timeout(FAREWELL_TIMEOUT, farewell(&mut caller, &told)).await;
    let end = TerminalEnd { exit_code: exit.code, exit_signal: exit.signal, is_cut_short: recorder.is_cut_short() };
    drop(recorder);
    let uuid = session.uuid.as_str();
    if let Err(error) = app.store.write(|tx| async move { tx.end_terminal(uuid, end).await }).await {
        tracing::warn!(%error, session = uuid, "how a terminal ended could not be stored");
    }
    held.finish(reason).await;
}

async fn farewell(caller: &mut Talk<Accepted>, told: &StreamMessage) -> Result<(), OpError> {
    let gone = |error: muster_link::stream::CarrierError| OpError::Internal(error.to_string());
    caller.say(told).map_err(gone)?;
    caller.flush().await.map_err(gone)
}

/// Both ends of a terminal.
struct Ends<'a> {
    caller: &'a mut Talk<Accepted>,
    device: Talk<Accepted>,
    recorder: &'a mut Recorder,
}

impl Ends<'_> {
    /// Moves what is typed and what is shown until the shell has ended. Neither side is read
    /// while the other has something left to take.
    async fn serve(&mut self, session: &Session, idle: Duration) -> Result<Exit, EndReason> {
        let mut idle_at = Instant::now() + idle;
        loop {
            let (caller_is_busy, device_is_busy) = (self.caller.is_busy(), self.device.is_busy());
            tokio::select! {
                turn = self.device.turn(!caller_is_busy) => {
                    if let Some(exit) = self.shown(session, turn.map_err(|_| EndReason::DEVICE_GONE)?).await? {
                        return Ok(exit);
                    }
                }
                turn = self.caller.turn(!device_is_busy) => {
                    let turn = turn.map_err(|_| EndReason::CALLER_GONE)?;
                    if turn != Turn::Sent {
                        idle_at = Instant::now() + idle;
                    }
                    self.typed(session, turn).await?;
                }
                () = sleep_until(idle_at) => return Err(EndReason::IDLE),
            }
        }
    }

    async fn shown(&mut self, session: &Session, turn: Turn) -> Result<Option<Exit>, EndReason> {
        match turn {
            Turn::Data(bytes) => {
                session.counts.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.recorder.output(&bytes).await.map_err(unrecorded)?;
                self.caller.say_bytes(bytes).map_err(|_| EndReason::CALLER_GONE)?;
            }
            Turn::Message(StreamMessage::Exited(exit)) => return Ok(Some(exit)),
            Turn::Message(StreamMessage::Unknown) | Turn::Sent => {}
            Turn::Message(_) => return Err(EndReason::DEVICE_REFUSED),
        }
        Ok(None)
    }

    async fn typed(&mut self, session: &Session, turn: Turn) -> Result<(), EndReason> {
        match turn {
            Turn::Data(bytes) => {
                session.counts.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.recorder.input(&bytes).await.map_err(unrecorded)?;
                self.device.say_bytes(bytes).map_err(|_| EndReason::DEVICE_GONE)
            }
            Turn::Message(StreamMessage::Resize(size)) if is_size(size) => {
                self.recorder.resize(size).await.map_err(unrecorded)?;
                self.device.say(&StreamMessage::Resize(size)).map_err(|_| EndReason::DEVICE_GONE)
            }
            Turn::Message(StreamMessage::Unknown) | Turn::Sent => Ok(()),
            Turn::Message(_) => Err(EndReason::CALLER_GONE),
        }
    }
}

fn is_size(size: TerminalSize) -> bool {
    let is_one = |number| (1..=TERMINAL_CHARS_MAX).contains(&number);
    is_one(size.columns) && is_one(size.rows)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is mapped")]
fn unrecorded(error: io::Error) -> EndReason {
    tracing::warn!(%error, "a terminal cannot be recorded, and ends");
    EndReason::RECORDING_FAILED
}

/// Shows a recording to a watcher: what there is, and what comes, as long as `may` lasts.
pub async fn show(
    app: App,
    opened: Opened,
    upgraded: impl Future<Output = io::Result<ServerCarrier>> + Send,
    may: impl Future<Output = ()> + Send,
) {
    let Ok(_room) = app.recordings.watchers.try_acquire() else { return };
    let Ok(Ok(watcher)) = timeout(CARRIER_TIMEOUT, upgraded).await else { return };
    let mut watcher = Talk::new(watcher);
    let told = tokio::select! {
        shown = follow(&mut watcher, opened) => if shown.is_some() { StreamMessage::End } else { return },
        () = may => StreamMessage::Failed { reason: "You may not watch this any more.".to_owned() },
    };
    let _ = timeout(FAREWELL_TIMEOUT, farewell(&mut watcher, &told)).await;
}

/// Sends the recording to its end; nothing when the watcher has gone, or takes nothing.
async fn follow(watcher: &mut Talk<Accepted>, opened: Opened) -> Option<()> {
    let Opened { mut file, mut growing, .. } = opened;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        // Before the file is read: what is over then has its last byte there.
        let progress = growing.as_mut().map(|growing| *growing.borrow_and_update());
        loop {
            let length = file.read(&mut piece).await.ok()?;
            if length == 0 {
                break;
            }
            watcher.say_bytes(piece[..length].to_vec()).ok()?;
            timeout(WATCHER_TIMEOUT, watcher.flush()).await.ok()?.ok()?;
        }
        match progress {
            Some(Progress { is_over: false, .. }) => {}
            _ => return Some(()),
        }
        let grown = async {
            match &mut growing {
                Some(growing) => drop(growing.changed().await),
                None => pending().await,
            }
        };
        tokio::select! {
            () = grown => {}
            // Nothing is said by a watcher; that it goes is heard.
            turn = watcher.turn(true) => drop(turn.ok()?),
        }
    }
}
