//! One end of a carrier.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::StreamMessage;
use super::frame::{FrameError, HEAD_BYTES_MAX, Kind, Parser, Piece, Side, apply_mask, head};

/// Bytes that are read at once where only messages are waited for.
const READ_BYTES: usize = 1024;
/// Bytes that may wait to be sent before the other end is given up: answers to pings
/// alone wait here without a stream holding back.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// Why a carrier is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum CarrierError {
    /// The network.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The other end.
    #[error("the other end sent {0}")]
    Frame(#[from] FrameError),
    /// The other end has closed it.
    #[error("the other end closed the connection")]
    Closed,
    /// The other end said what it may not say now.
    #[error("the other end said something out of its place")]
    OutOfPlace,
}

/// One end of a carrier: a WebSocket over `io`, whose handshake is done.
#[derive(Debug)]
pub struct Carrier<S> {
    io: S,
    side: Side,
    pub(super) parser: Parser,
    /// Came, and was not looked at yet.
    pub(super) input: Vec<u8>,
    output: Vec<u8>,
    sent_of_output: usize,
    /// Only messages wait, and sending them was not tried: what comes next goes out with them.
    may_join: bool,
    /// Nothing was written since `io` was last told to send everything.
    is_flushed: bool,
    mask_seed: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Carrier<S> {
    /// That end of a carrier; a client's masks come from the random `mask_seed`.
    pub fn new(io: S, side: Side, mask_seed: u64) -> Self {
        let parser = Parser::new(side);
        let (input, output) = (Vec::new(), Vec::new());
        Self { io, side, parser, input, output, sent_of_output: 0, may_join: false, is_flushed: true, mask_seed }
    }

    /// With bytes of the other end that came together with the handshake.
    #[must_use]
    pub fn with_input(mut self, came: Vec<u8>) -> Self {
        self.input = came;
        self
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &StreamMessage) -> Result<(), CarrierError> {
        self.queue(message)?;
        Ok(poll_fn(|cx| self.poll_send(cx)).await?)
    }

    /// The next message. Bytes of a stream have no place here.
    pub async fn receive(&mut self) -> Result<StreamMessage, CarrierError> {
        loop {
            if let Some(message) = self.parse_message()? {
                return Ok(message);
            }
            poll_fn(|cx| self.poll_send(cx)).await?;
            let mut bytes = [0; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            poll_fn(|cx| Pin::new(&mut self.io).poll_read(cx, &mut buffer)).await?;
            if buffer.filled().is_empty() {
                return Err(CarrierError::Closed);
            }
            self.input.extend_from_slice(buffer.filled());
        }
    }

    /// Whether the other end has not closed it, as far as is known here.
    pub fn is_alive(&mut self) -> bool {
        let mut bytes = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut self.io).poll_read(&mut cx, &mut buffer) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                self.input.extend_from_slice(buffer.filled());
                self.input.len() <= WAITING_BYTES_MAX
            }
            Poll::Ready(_) => false,
        }
    }

    fn parse_message(&mut self) -> Result<Option<StreamMessage>, CarrierError> {
        let mut at = 0;
        while at < self.input.len() {
            let (next, piece) = self.parser.next(&mut self.input, at)?;
            at = next;
            match piece {
                Piece::Text(text) => {
                    self.input.drain(..at);
                    self.forget_if_empty();
                    return Ok(Some(message(&text)?));
                }
                Piece::Ping(payload) => self.pong(&payload)?,
                Piece::Data(_) => return Err(CarrierError::OutOfPlace),
                Piece::Close => return Err(CarrierError::Closed),
                Piece::Nothing => {}
            }
        }
        self.input = Vec::new();
        Ok(None)
    }

    pub(super) fn forget_if_empty(&mut self) {
        if self.input.is_empty() {
            self.input = Vec::new();
        }
    }

    /// Puts a message behind what waits to be sent, which goes out with the next that is
    /// sent or as soon as a stream is pumped.
    pub fn queue(&mut self, message: &StreamMessage) -> Result<(), CarrierError> {
        let text = serde_json::to_vec(message).map_err(io::Error::other)?;
        self.queue_frame(Kind::Text, text)
    }

    pub(super) fn pong(&mut self, payload: &[u8]) -> Result<(), CarrierError> {
        self.queue_frame(Kind::Pong, payload.to_vec())
    }

    /// Puts bytes behind what waits to be sent.
    pub(super) fn queue_bytes(&mut self, bytes: Vec<u8>) -> Result<(), CarrierError> {
        self.queue_frame(Kind::Binary, bytes)
    }

    /// Whether something waits to be sent.
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    fn queue_frame(&mut self, kind: Kind, mut payload: Vec<u8>) -> Result<(), CarrierError> {
        if self.output.len() > WAITING_BYTES_MAX {
            return Err(CarrierError::OutOfPlace);
        }
        self.may_join |= self.output.is_empty();
        let mask = self.next_mask();
        let (head, length) = head(kind, payload.len(), mask);
        if let Some(mask) = mask {
            apply_mask(&mut payload, mask, 0);
        }
        self.output.extend_from_slice(&head[..length]);
        self.output.extend_from_slice(&payload);
        Ok(())
    }

    /// Whether bytes may be sent now: nothing waits, or what waits can go out with them.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.may_join { Poll::Ready(Ok(())) } else { self.poll_send(cx) }
    }

    /// Sends `length` bytes that lie in `room` behind space for a head; what does not go
    /// out at once waits. To be called only when [`Self::poll_ready`] said so.
    pub(super) fn send_data(&mut self, cx: &mut Context<'_>, room: &mut [u8], length: usize) -> io::Result<()> {
        let mask = self.next_mask();
        let (head, head_length) = head(Kind::Binary, length, mask);
        let begin = HEAD_BYTES_MAX - head_length;
        room[begin..HEAD_BYTES_MAX].copy_from_slice(&head[..head_length]);
        if let Some(mask) = mask {
            apply_mask(&mut room[HEAD_BYTES_MAX..HEAD_BYTES_MAX + length], mask, 0);
        }
        self.is_flushed = false;
        let frame = &room[begin..HEAD_BYTES_MAX + length];
        if self.may_join {
            self.output.extend_from_slice(frame);
            let _ = self.poll_send(cx)?;
            return Ok(());
        }
        let sent = match Pin::new(&mut self.io).poll_write(cx, frame) {
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        self.output.extend_from_slice(&frame[sent..]);
        Ok(())
    }

    /// Sends what waits, and sees to it that nothing of it stays in between.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.may_join = false;
        while self.sent_of_output < self.output.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.output[self.sent_of_output..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent_of_output += sent,
            }
        }
        if !self.output.is_empty() {
            (self.output, self.sent_of_output) = (Vec::new(), 0);
            self.is_flushed = false;
        }
        // Asked at every turn of a stream, and mostly there is nothing to do.
        if !self.is_flushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Receives what is there, as far as there is room: through TLS it comes by the record.
    /// What fails, or ends, behind something that came, does so again. Whether that was
    /// everything, and the caller will be woken when more comes.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let mut before = 0;
        while buffer.filled().len() > before && buffer.remaining() > 0 {
            before = buffer.filled().len();
            match Pin::new(&mut self.io).poll_read(cx, buffer) {
                Poll::Pending => return Poll::Ready(Ok(true)),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => break,
            }
        }
        Poll::Ready(Ok(false))
    }

    /// Masks keep what others make the device send from being taken for a request by
    /// something on the way; so they must not be guessed by whoever sees the bytes go in.
    fn next_mask(&mut self) -> Option<[u8; 4]> {
        if self.side == Side::Server {
            return None;
        }
        // SplitMix64.
        self.mask_seed = self.mask_seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.mask_seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, c, d, ..] = (mixed ^ (mixed >> 31)).to_be_bytes();
        Some([a, b, c, d])
    }
}

pub(super) fn message(text: &[u8]) -> Result<StreamMessage, CarrierError> {
    serde_json::from_slice(text).map_err(|_| CarrierError::OutOfPlace)
}
