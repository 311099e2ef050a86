//! Files of the device, for people far away.
//!
//! * [`FilePolicy`]: what the device allows, whatever the fleet's rules say;
//! * [`places`]: from a path to what lies there, so that no link leads out of the rules;
//! * [`look`]: listing, reading, packing; [`change`]: writing, making, deleting.
//!
//! The disk is worked on by threads of its own; a few pieces at most wait between them and
//! the connection, in either direction.

mod change;
mod look;
mod places;
mod policy;
#[cfg(test)]
mod tests;

pub use change::clean_up;
pub use policy::{FileLevel, FilePolicy};

use std::io;
use std::sync::Arc;
use std::time::Duration;

use muster_link::files::{FileAnswer, FileOperation, FileOrder, FileProblem, read_message, write_message};
use muster_link::stream::ByteStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use self::places::Places;

/// Bytes of a piece on its way between the disk and the connection.
const PIECE_BYTES: usize = 64 * 1024;
/// How long the other side may take to end what it says when it has been answered.
const REST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pieces that wait there.
const PIECES_MAX: usize = 2;

/// Why something is not done.
#[derive(Debug)]
struct Refusal {
    problem: FileProblem,
    reason: String,
}

impl Refusal {
    fn new(problem: FileProblem, reason: impl Into<String>) -> Self {
        Self { problem, reason: reason.into() }
    }

    fn answer(self) -> FileAnswer {
        FileAnswer::Refused { problem: self.problem, reason: self.reason }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => FileProblem::NotFound,
            io::ErrorKind::AlreadyExists => FileProblem::Changed,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FileProblem::NoRoom,
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::DirectoryNotEmpty => {
                FileProblem::WrongKind
            }
            io::ErrorKind::InvalidFilename => FileProblem::BadPath,
            _ => FileProblem::Failed,
        };
        Self::new(problem, error.to_string())
    }
}

impl From<rustix::io::Errno> for Refusal {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// What comes from the disk: the answer first, then bytes.
struct FromDisk {
    answer: oneshot::Receiver<FileAnswer>,
    pieces: Receiver<Vec<u8>>,
    /// Whether the bytes are all that the answer promised.
    whole: oneshot::Receiver<bool>,
}

/// The same, from the thread's side.
struct ToCaller {
    answer: Option<oneshot::Sender<FileAnswer>>,
    pieces: Sender<Vec<u8>>,
}

impl ToCaller {
    fn answer(&mut self, answer: FileAnswer) {
        if let Some(sender) = self.answer.take() {
            let _ = sender.send(answer);
        }
    }
}

impl io::Write for ToCaller {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pieces.blocking_send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Does what one order asks for. An error is a stream that cannot go on.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut ByteStream<S>,
    policy: &Arc<FilePolicy>,
) -> io::Result<()> {
    let order: FileOrder = read_message(stream).await?;
    let places = Places::new(Arc::clone(policy), order.rules);
    match order.operation {
        FileOperation::Write { .. } => write(stream, places, order.operation).await?,
        operation => read(stream, from_disk(places, operation)).await?,
    }
    stream.shutdown().await?;
    timeout(REST_TIMEOUT, rest(stream)).await.map_err(|_| io::Error::other("more came than was asked for"))?
}

/// Waits for the other side's end, so that the carrier can serve the next one. What is on its
/// way to a file that was refused is thrown away: a connection that is closed while something
/// comes takes along what was said last, and that is why it was refused.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

fn from_disk(places: Places, operation: FileOperation) -> FromDisk {
    let ((to_answer, answer), (to_whole, whole)) = (oneshot::channel(), oneshot::channel());
    let (to_pieces, pieces) = channel(PIECES_MAX);
    spawn_blocking(move || {
        let mut to = ToCaller { answer: Some(to_answer), pieces: to_pieces };
        let done = match look::look(&places, operation, &mut to) {
            Ok(()) => true,
            Err(refusal) if to.answer.is_some() => {
                to.answer(refusal.answer());
                true
            }
            Err(refusal) => {
                tracing::debug!(reason = refusal.reason, "a file could not be read to its end");
                false
            }
        };
        let _ = to_whole.send(done);
    });
    FromDisk { answer, pieces, whole }
}

async fn read(stream: &mut (impl AsyncWrite + Unpin), mut from: FromDisk) -> io::Result<()> {
    let answer = from.answer.await.map_err(io::Error::other)?;
    write_message(stream, &answer).await?;
    while let Some(piece) = from.pieces.recv().await {
        stream.write_all(&piece).await?;
    }
    match from.whole.await {
        Ok(true) => stream.flush().await,
        _ => Err(io::Error::other("it could not be read to its end")),
    }
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    places: Places,
    operation: FileOperation,
) -> io::Result<()> {
    let begun = spawn_blocking(move || change::Writing::begin(&places, operation)).await.map_err(io::Error::other)?;
    let writing = match begun {
        Ok(writing) => writing,
        Err(refusal) => return write_message(stream, &refusal.answer()).await,
    };
    write_message(stream, &FileAnswer::Ready).await?;
    let (pieces, to_disk) = channel(PIECES_MAX);
    let (to_ended, ended) = oneshot::channel();
    spawn_blocking(move || {
        let _ = to_ended.send(writing.take_all(to_disk).unwrap_or_else(Refusal::answer));
    });
    // Without its end, what came is thrown away.
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let length = stream.read(&mut buffer).await?;
        let piece = change::Piece { bytes: buffer[..length].to_vec(), is_end: length == 0 };
        // A thread that has given up has an answer.
        if pieces.send(piece).await.is_err() || length == 0 {
            break;
        }
    }
    write_message(stream, &ended.await.map_err(io::Error::other)?).await
}
