//! Files of devices: each operation is a session of its own, with a row and its entries in
//! the audit log, and ends with the right to it.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use muster_core::file_rules::FileRules;
use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::{DEVICE_PATH_BYTES_MAX, FILE_SILENCE_MAX};
use muster_core::remote_session::{EndReason, SessionKind};
use muster_link::capability;
use muster_link::files::{FileAnswer, FileOperation, FileOrder, FileProblem, read_message, write_message};
use muster_link::stream::{ByteStream, StreamMessage};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf, split};
use tokio::sync::mpsc::channel;
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::carriers::LinkId;
use super::sessions::{self, Held, SessionOrder};
use super::streams::open_stream;
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};
use crate::listener::Accepted;

/// Bytes of a piece on its way to the caller.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for the caller.
const PIECES_MAX: usize = 2;
/// How long a device may take to end a stream that is over.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

type DeviceStream = ByteStream<Accepted>;

/// A device that has answered.
pub struct Exchange {
    app: App,
    held: Held,
    stream: DeviceStream,
    link: LinkId,
    link_ends: CancellationToken,
}

/// Checks the form of a path on a device.
pub fn check_path(path: &str) -> Result<(), Invalid> {
    let wrong = |why: &str| Err(Invalid::new("path", format!("{} {why}", quoted(path))));
    match () {
        () if !path.starts_with('/') => wrong("is no absolute path"),
        () if path.len() > DEVICE_PATH_BYTES_MAX => wrong(&format!("has more than {DEVICE_PATH_BYTES_MAX} bytes")),
        () if path.contains('\0') => wrong("has a zero byte in it"),
        () if path.split('/').any(|part| part == "..") => wrong("has the part .."),
        () => Ok(()),
    }
}

/// Has a device do something, and waits for its answer, which is no refusal.
pub async fn begin(
    app: &App,
    permitted: &Permitted,
    device_uuid: &str,
    path: &str,
    operation: FileOperation,
) -> Result<(Exchange, FileAnswer)> {
    check_path(path)?;
    let rules = app.store.read().file_rules(permitted.fleet().id).await?;
    let order = SessionOrder {
        device_uuid: device_uuid.to_owned(),
        kind: SessionKind::Files,
        host: None,
        target: path.to_owned(),
        capability: capability::FILES,
    };
    let held = sessions::open(app, permitted, &order).await?;
    let taken = match open_stream(app, held.session().device_id, &StreamMessage::OpenFiles).await {
        Ok(taken) => taken,
        Err(problem) => {
            let (reason, error) = problem.told();
            held.finish(reason).await;
            return Err(error);
        }
    };
    let stream = ByteStream::new(taken.carrier);
    let mut exchange = Exchange { app: app.clone(), held, stream, link: taken.link, link_ends: taken.link_ends };
    match exchange.ask(&FileOrder { operation, rules }).await {
        Ok(FileAnswer::Refused { problem, reason }) => {
            exchange.finish(EndReason::DEVICE_REFUSED).await;
            Err(refused(problem, reason, path))
        }
        Ok(answer) => Ok((exchange, answer)),
        Err(reason) => {
            exchange.finish(reason).await;
            Err(ended(reason))
        }
    }
}

/// The whole of an operation that moves no content.
pub async fn ask(
    app: &App,
    permitted: &Permitted,
    device_uuid: &str,
    path: &str,
    operation: FileOperation,
) -> Result<FileAnswer> {
    let (exchange, answer) = begin(app, permitted, device_uuid, path, operation).await?;
    exchange.finish(EndReason::FINISHED).await;
    Ok(answer)
}

impl Exchange {
    async fn ask(&mut self, order: &FileOrder) -> Result<FileAnswer, EndReason> {
        let stream = &mut self.stream;
        let asked = async {
            write_message(stream, order).await?;
            read_message(stream).await
        };
        let session = Arc::clone(self.held.session());
        let asked = self.link_ends.run_until_cancelled(timeout(FILE_SILENCE_MAX, asked));
        match session.while_it_may(asked).await? {
            None | Some(Ok(Err(_))) => Err(EndReason::DEVICE_GONE),
            Some(Err(_)) => Err(EndReason::IDLE),
            Some(Ok(Ok(answer))) => Ok(answer),
        }
    }

    /// Ends the session; a stream that came to its end leaves its carrier for the next.
    pub async fn finish(self, reason: EndReason) {
        let Self { app, held, mut stream, link, .. } = self;
        if reason == EndReason::FINISHED || reason == EndReason::DEVICE_REFUSED {
            let closing = async {
                stream.shutdown().await?;
                stream.read(&mut [0; 1]).await
            };
            if let Ok(Ok(0)) = timeout(CLOSE_TIMEOUT, closing).await
                && let Some(carrier) = stream.into_carrier()
            {
                app.carriers.give_back(link, carrier);
            }
        }
        held.finish(reason).await;
    }

    /// What follows the answer, to its end; an error where it ends before.
    pub fn content(mut self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let (pieces, received) = channel(PIECES_MAX);
        let tasks = self.app.tunnels.tasks.clone();
        tasks.spawn(async move {
            let session = Arc::clone(self.held.session());
            let (stream, link_ends) = (&mut self.stream, self.link_ends.clone());
            let moved = async {
                let mut buffer = vec![0; PIECE_BYTES];
                loop {
                    let length = match timeout(FILE_SILENCE_MAX, stream.read(&mut buffer)).await {
                        Err(_) => return EndReason::IDLE,
                        Ok(Err(_)) => return EndReason::DEVICE_GONE,
                        Ok(Ok(length)) => length,
                    };
                    session.counts.received.fetch_add(length as u64, Ordering::Relaxed);
                    // An empty piece is the end: without it, what came is not whole.
                    let sent = pieces.send(Bytes::copy_from_slice(&buffer[..length]));
                    match timeout(FILE_SILENCE_MAX, sent).await {
                        Ok(Ok(())) if length == 0 => return EndReason::FINISHED,
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return EndReason::CALLER_GONE,
                        Err(_) => return EndReason::IDLE,
                    }
                }
            };
            let moved = async {
                tokio::select! {
                    moved = link_ends.run_until_cancelled(moved) => moved.unwrap_or(EndReason::DEVICE_GONE),
                    () = pieces.closed() => EndReason::CALLER_GONE,
                }
            };
            let reason = session.while_it_may(moved).await.unwrap_or_else(|cut| cut);
            drop(pieces);
            self.finish(reason).await;
        });
        stream::unfold(Some(received), |received| async move {
            let mut received = received?;
            match received.recv().await {
                Some(piece) if piece.is_empty() => None,
                Some(piece) => Some((Ok(piece), Some(received))),
                None => Some((Err(io::Error::other("the file did not come to its end")), None)),
            }
        })
    }

    /// Sends a content to the device, and waits for what becomes of it.
    pub async fn send(
        mut self,
        path: &str,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<FileAnswer> {
        let session = Arc::clone(self.held.session());
        let (mut from_device, mut to_device) = split(self.stream);
        let moved = async {
            let mut answer = pin!(read_message(&mut from_device));
            let sent = tokio::select! {
                answer = &mut answer => return answer.map_err(|_| EndReason::DEVICE_GONE),
                sent = write_all(&mut to_device, content, &session.counts.sent) => sent,
            };
            let (patience, reason) = match sent {
                // To bring much to the disk takes its time.
                Ok(()) => (FILE_SILENCE_MAX, EndReason::IDLE),
                // A device that has given up has said why, and that may not be read yet.
                Err(EndReason::DEVICE_GONE) => (CLOSE_TIMEOUT, EndReason::DEVICE_GONE),
                Err(reason) => return Err(reason),
            };
            let answer = timeout(patience, answer).await.map_err(|_| reason)?;
            answer.map_err(|_| EndReason::DEVICE_GONE)
        };
        let moved = async { self.link_ends.run_until_cancelled(moved).await.unwrap_or(Err(EndReason::DEVICE_GONE)) };
        let answer = session.while_it_may(moved).await.unwrap_or_else(Err);
        self.stream = from_device.unsplit(to_device);
        match answer {
            Ok(FileAnswer::Refused { problem, reason }) => {
                self.finish(EndReason::DEVICE_REFUSED).await;
                Err(refused(problem, reason, path))
            }
            Ok(answer) => {
                self.finish(EndReason::FINISHED).await;
                Ok(answer)
            }
            Err(reason) => {
                self.finish(reason).await;
                Err(ended(reason))
            }
        }
    }
}

/// Sends a content to its end, and that it has ended.
async fn write_all(
    to_device: &mut WriteHalf<DeviceStream>,
    content: impl Stream<Item = io::Result<Bytes>>,
    sent: &AtomicU64,
) -> Result<(), EndReason> {
    let mut content = pin!(content);
    while let Some(piece) = timeout(FILE_SILENCE_MAX, content.next()).await.map_err(|_| EndReason::IDLE)? {
        let piece = piece.map_err(|_| EndReason::CALLER_GONE)?;
        sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        let written = timeout(FILE_SILENCE_MAX, to_device.write_all(&piece)).await.map_err(|_| EndReason::IDLE)?;
        written.map_err(|_| EndReason::DEVICE_GONE)?;
    }
    to_device.shutdown().await.map_err(|_| EndReason::DEVICE_GONE)
}

/// What a caller is told of a session that was cut.
fn ended(reason: EndReason) -> OpError {
    OpError::NotNow { code: "session_ended", problem: Invalid::new("device_uuid", reason.text) }
}

/// What a caller is told of a device's refusal.
fn refused(problem: FileProblem, reason: String, path: &str) -> OpError {
    let not_now = |code| OpError::NotNow { code, problem: Invalid::new("path", reason.clone()) };
    match problem {
        FileProblem::NotFound => OpError::not_found("file", path),
        FileProblem::NotAllowed => OpError::Refused("the fleet's file rules, or the device, do not allow that path"),
        FileProblem::WrongKind => not_now("wrong_kind"),
        FileProblem::Changed => not_now("file_changed"),
        FileProblem::NotAsSaid => OpError::Invalid(Invalid::new("body", reason)),
        FileProblem::NoRoom => OpError::NoRoom(reason),
        FileProblem::BadPath => OpError::Invalid(Invalid::new("path", reason)),
        FileProblem::OutOfRange => not_now("out_of_range"),
        FileProblem::Failed => not_now("device_refused"),
    }
}

/// Gives a fleet these rules in the place of those that it has.
pub async fn replace_rules(app: &App, permitted: &Permitted, rules: &FileRules) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let fleet = permitted.fleet();
        let before = tx.file_rules(fleet.id).await?;
        tx.replace_file_rules(fleet.id, rules).await?;
        let detail = json!({ "before": { "file_rules": before }, "after": { "file_rules": rules } });
        tx.audit(&permitted.event(format!("fleet:{}", fleet.project_key), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}
