//! Moves a stream's bytes between a carrier and a connection, in both directions at once.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use super::StreamMessage;
use super::carrier::{Carrier, CarrierError, message};
use super::frame::{HEAD_BYTES_MAX, Piece};

/// Bytes that are read at once: with its head a frame is four whole records of TLS.
const CHUNK_BYTES: usize = 64 * 1024 - HEAD_BYTES_MAX;
/// Pieces of what came that are written with one call.
const PIECES_MAX: usize = 16;
/// How often one stream moves what it has before others have their turn.
const TURNS: usize = 4;

thread_local! {
    // One for each thread and not for each stream: between two turns nothing lies in it.
    static CHUNK: RefCell<Vec<u8>> = RefCell::new(vec![0; HEAD_BYTES_MAX + CHUNK_BYTES]);
}

/// Bytes that streams have moved.
#[derive(Debug, Default)]
pub struct Counts {
    /// From the connection to the carrier.
    pub sent: AtomicU64,
    /// From the carrier to the connection.
    pub received: AtomicU64,
}

/// How long nothing may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// While both sides may send.
    pub idle: Duration,
    /// When one side has ended.
    pub half_closed: Duration,
}

/// Why a stream ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Local(io::Error),
    /// The carrier failed.
    #[error("the carrier failed: {0}")]
    Carrier(#[from] CarrierError),
    /// The device could not connect, or did not want to.
    #[error("the device could not connect: {0}")]
    Refused(String),
    /// Nothing moved for too long.
    #[error("nothing moved for too long")]
    Idle,
}

impl From<io::Error> for StreamError {
    fn from(error: io::Error) -> Self {
        Self::Carrier(error.into())
    }
}

/// Moves bytes until both sides have ended; then the carrier can serve another stream.
/// After an error neither the carrier nor the connection is of any use. Without limits
/// it is for the other end to see that nothing moves.
pub async fn pump<S, L>(
    carrier: &mut Carrier<S>,
    local: &mut L,
    counts: &Counts,
    limits: Option<Limits>,
) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    L: AsyncRead + AsyncWrite + Unpin,
{
    let mut pump = Pump {
        carrier,
        local,
        counts,
        clock: limits.map(IdleClock::new),
        waiting: Vec::new(),
        written: 0,
        has_ended: false,
        other_ended: false,
        is_shut: false,
    };
    poll_fn(|cx| pump.poll(cx)).await
}

struct IdleClock {
    limits: Limits,
    moved_at: Instant,
    sleep: Pin<Box<Sleep>>,
    /// Whom the sleep wakes.
    wakes: Option<Waker>,
}

impl IdleClock {
    fn new(limits: Limits) -> Self {
        let moved_at = Instant::now();
        let sleep = Box::pin(sleep_until(moved_at + limits.idle.min(limits.half_closed)));
        Self { limits, moved_at, sleep, wakes: None }
    }

    /// Whether the time is over. The sleep is set anew, and looked at, only when it has
    /// ended: what moves must not cost a timer.
    fn poll(&mut self, cx: &mut Context<'_>, is_half_closed: bool) -> Poll<()> {
        let will_wake = self.wakes.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if will_wake && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        let limit = if is_half_closed { self.limits.half_closed } else { self.limits.idle };
        // Without a budget, since "later" must mean here that the sleep will wake the stream.
        while pin!(unconstrained(self.sleep.as_mut())).poll(cx).is_ready() {
            let until = self.moved_at + limit;
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            // A half-close may come meanwhile, and its limit is looked at in time.
            let look = Instant::now() + self.limits.half_closed.min(self.limits.idle);
            self.sleep.as_mut().reset(until.min(look));
        }
        self.wakes = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// What one direction did in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Did {
    /// Nothing, and it will be woken when it can, or has ended.
    Nothing,
    /// Moved something, and there may be more.
    Some,
    /// Moved everything there was, and will be woken when there is more.
    All,
}

struct Pump<'a, S, L> {
    carrier: &'a mut Carrier<S>,
    local: &'a mut L,
    counts: &'a Counts,
    clock: Option<IdleClock>,
    /// Came over the carrier, and the connection has not taken it yet.
    waiting: Vec<u8>,
    written: usize,
    /// The connection has ended, and the other end has been told.
    has_ended: bool,
    /// The other end has ended.
    other_ended: bool,
    /// The connection has been told that the other end has ended.
    is_shut: bool,
}

impl<S, L> Pump<'_, S, L>
where
    S: AsyncRead + AsyncWrite + Unpin,
    L: AsyncRead + AsyncWrite + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let (has_moved, may_have_more) = CHUNK.with_borrow_mut(|chunk| {
            let (mut sent, mut received, mut has_moved) = (Did::Some, Did::Some, false);
            for _ in 0..TURNS {
                // Who will be woken is not asked again: each question costs a lock.
                if sent == Did::Some {
                    sent = self.send(cx, chunk)?;
                    has_moved |= sent != Did::Nothing;
                }
                if received == Did::Some {
                    received = self.receive(cx, chunk)?;
                    has_moved |= received != Did::Nothing;
                }
                if sent != Did::Some && received != Did::Some {
                    return Ok((has_moved, false));
                }
            }
            Ok::<_, StreamError>((has_moved, true))
        })?;
        // What was queued in the last turn, an end or an answer, must not wait for the next.
        let is_sent = self.carrier.poll_send(cx)?.is_ready();
        // Not every connection sends by itself what it was given.
        let _ = Pin::new(&mut *self.local).poll_flush(cx).map_err(StreamError::Local)?;
        if self.has_ended && self.is_shut && is_sent {
            return Poll::Ready(Ok(()));
        }
        if let Some(clock) = &mut self.clock {
            if has_moved {
                clock.moved_at = Instant::now();
            }
            if clock.poll(cx, self.has_ended || self.other_ended).is_ready() {
                return Poll::Ready(Err(StreamError::Idle));
            }
        }
        if may_have_more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// From the connection to the carrier. While the carrier takes nothing, nothing is read.
    fn send(&mut self, cx: &mut Context<'_>, chunk: &mut [u8]) -> Result<Did, StreamError> {
        if self.has_ended || self.carrier.poll_ready(cx)?.is_pending() {
            return Ok(Did::Nothing);
        }
        let mut buffer = ReadBuf::new(&mut chunk[HEAD_BYTES_MAX..]);
        match Pin::new(&mut *self.local).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(Did::Nothing),
            Poll::Ready(read) => read.map_err(StreamError::Local)?,
        }
        let length = buffer.filled().len();
        if length == 0 {
            self.has_ended = true;
            self.carrier.queue(&StreamMessage::End)?;
        } else {
            self.carrier.send_data(cx, chunk, length)?;
            self.counts.sent.fetch_add(length as u64, Ordering::Relaxed);
        }
        Ok(Did::Some)
    }

    /// From the carrier to the connection. While the connection takes nothing, nothing is read.
    fn receive(&mut self, cx: &mut Context<'_>, chunk: &mut [u8]) -> Result<Did, StreamError> {
        if !self.write_waiting(cx)? {
            return Ok(Did::Nothing);
        }
        if self.other_ended {
            return self.shut(cx, chunk);
        }
        if !self.carrier.input.is_empty() {
            let mut input = std::mem::take(&mut self.carrier.input);
            self.take(cx, &mut input)?;
            return Ok(Did::Some);
        }
        let mut buffer = ReadBuf::new(chunk);
        let is_everything = match self.carrier.poll_receive(cx, &mut buffer) {
            Poll::Pending => return Ok(Did::Nothing),
            Poll::Ready(received) => received?,
        };
        if buffer.filled().is_empty() {
            return Err(CarrierError::Closed.into());
        }
        self.take(cx, buffer.filled_mut())?;
        let has_more = self.other_ended || !self.waiting.is_empty() || !self.carrier.input.is_empty();
        Ok(if is_everything && !has_more { Did::All } else { Did::Some })
    }

    /// Writes what waits for the connection; whether nothing waits any more.
    fn write_waiting(&mut self, cx: &mut Context<'_>) -> Result<bool, StreamError> {
        while self.written < self.waiting.len() {
            match Pin::new(&mut *self.local).poll_write(cx, &self.waiting[self.written..]) {
                Poll::Pending => return Ok(false),
                Poll::Ready(written) => self.written += written.map_err(StreamError::Local)?,
            }
        }
        if !self.waiting.is_empty() {
            (self.waiting, self.written) = (Vec::new(), 0);
        }
        Ok(true)
    }

    /// Tells the connection that the other end has ended. From then on nothing may come
    /// over the carrier, but it may break.
    fn shut(&mut self, cx: &mut Context<'_>, chunk: &mut [u8]) -> Result<Did, StreamError> {
        if !self.is_shut {
            match Pin::new(&mut *self.local).poll_shutdown(cx) {
                Poll::Pending => return Ok(Did::Nothing),
                Poll::Ready(shut) => shut.map_err(StreamError::Local)?,
            }
            self.is_shut = true;
            return Ok(Did::Some);
        }
        if self.has_ended || !self.carrier.input.is_empty() {
            return Ok(Did::Nothing);
        }
        let mut buffer = ReadBuf::new(chunk);
        match self.carrier.poll_receive(cx, &mut buffer) {
            Poll::Pending => Ok(Did::Nothing),
            Poll::Ready(Ok(_)) if !buffer.filled().is_empty() => {
                self.carrier.input.extend_from_slice(buffer.filled());
                Ok(Did::Nothing)
            }
            Poll::Ready(Ok(_)) => Err(CarrierError::Closed.into()),
            Poll::Ready(Err(error)) => Err(error.into()),
        }
    }

    /// Takes what came over the carrier, up to the end of the stream or as far as the
    /// connection can. The rest waits in the carrier.
    fn take(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Result<(), StreamError> {
        let mut at = 0;
        while at < bytes.len() && !self.other_ended && self.waiting.is_empty() {
            at = self.take_some(cx, bytes, at)?;
        }
        self.carrier.input.extend_from_slice(&bytes[at..]);
        Ok(())
    }

    /// As many pieces as are written with one call; where the rest begins.
    fn take_some(&mut self, cx: &mut Context<'_>, bytes: &mut [u8], from: usize) -> Result<usize, StreamError> {
        let (mut at, mut pieces, mut count) = (from, [const { 0..0 }; PIECES_MAX], 0);
        while at < bytes.len() && !self.other_ended && count < PIECES_MAX {
            let (next, piece) = self.carrier.parser.next(bytes, at)?;
            at = next;
            match piece {
                Piece::Data(range) => {
                    pieces[count] = range;
                    count += 1;
                }
                Piece::Text(text) => self.hear(message(&text)?)?,
                Piece::Ping(payload) => self.carrier.pong(&payload)?,
                Piece::Close => return Err(CarrierError::Closed.into()),
                Piece::Nothing => {}
            }
        }
        self.write(cx, bytes, &pieces[..count])?;
        Ok(at)
    }

    /// Writes these pieces; what the connection does not take at once waits.
    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8], pieces: &[Range<usize>]) -> Result<(), StreamError> {
        let local = Pin::new(&mut *self.local);
        let written = match pieces {
            [] => return Ok(()),
            // Which the system does faster.
            [piece] => local.poll_write(cx, &bytes[piece.clone()]),
            _ => {
                let slices: [IoSlice<'_>; PIECES_MAX] =
                    std::array::from_fn(|i| IoSlice::new(pieces.get(i).map_or(&[], |piece| &bytes[piece.clone()])));
                local.poll_write_vectored(cx, &slices[..pieces.len()])
            }
        };
        let written = match written {
            Poll::Ready(written) => written.map_err(StreamError::Local)?,
            Poll::Pending => 0,
        };
        let mut left = written;
        for piece in pieces {
            let skipped = left.min(piece.len());
            left -= skipped;
            self.waiting.extend_from_slice(&bytes[piece.start + skipped..piece.end]);
        }
        let length: usize = pieces.iter().map(Range::len).sum();
        self.counts.received.fetch_add(length as u64, Ordering::Relaxed);
        Ok(())
    }

    fn hear(&mut self, message: StreamMessage) -> Result<(), StreamError> {
        match message {
            StreamMessage::End => self.other_ended = true,
            StreamMessage::Failed { reason } => return Err(StreamError::Refused(reason)),
            StreamMessage::Opened | StreamMessage::Unknown => {}
            _ => return Err(CarrierError::OutOfPlace.into()),
        }
        Ok(())
    }
}

impl From<super::FrameError> for StreamError {
    fn from(error: super::FrameError) -> Self {
        Self::Carrier(error.into())
    }
}

#[cfg(test)]
mod tests;
