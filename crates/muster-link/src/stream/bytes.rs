//! A carrier of one stream, as a connection like any other.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::StreamMessage;
use super::carrier::{Carrier, CarrierError, message};
use super::frame::{HEAD_BYTES_MAX, Piece};

/// Bytes of the longest frame that is written.
const FRAME_BYTES_MAX: usize = 32 * 1024;

thread_local! {
    // One for each thread and not for each stream: between two writes nothing lies in it.
    static FRAME: RefCell<Vec<u8>> = RefCell::new(vec![0; HEAD_BYTES_MAX + FRAME_BYTES_MAX]);
}

/// The bytes of the stream that a carrier carries, from [`Opened`](StreamMessage::Opened) to
/// [`End`](StreamMessage::End). Shutting it down says `End`; what is read ends where the
/// other side says it, and is an error where the carrier breaks before.
#[derive(Debug)]
pub struct ByteStream<S> {
    carrier: Carrier<S>,
    /// Came, and was not read yet.
    waiting: Vec<u8>,
    read_of_waiting: usize,
    other_ended: bool,
    has_ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ByteStream<S> {
    /// The stream that has just begun on that carrier.
    pub fn new(carrier: Carrier<S>) -> Self {
        Self { carrier, waiting: Vec::new(), read_of_waiting: 0, other_ended: false, has_ended: false }
    }

    /// The carrier again, ready for the next stream, where this one came to its proper end.
    pub fn into_carrier(self) -> Option<Carrier<S>> {
        let is_over = self.other_ended && self.has_ended && self.waiting.is_empty();
        is_over.then_some(self.carrier)
    }

    /// Tells the other side that the stream is over before its time, and why.
    pub async fn fail(mut self, reason: &str) -> Result<(), CarrierError> {
        self.carrier.send(&StreamMessage::Failed { reason: reason.to_owned() }).await
    }

    /// Takes what came with the last message, or was read with it.
    fn take_input(&mut self) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.carrier.input);
        self.take(&mut input)
    }

    fn take(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let (next, piece) = self.carrier.parser.next(bytes, at).map_err(CarrierError::from)?;
            at = next;
            match piece {
                Piece::Data(_) if self.other_ended => return Err(CarrierError::OutOfPlace.into()),
                Piece::Data(range) => self.waiting.extend_from_slice(&bytes[range]),
                Piece::Text(text) => self.hear(message(&text)?)?,
                Piece::Ping(payload) => self.carrier.pong(&payload)?,
                Piece::Close if self.other_ended => {}
                Piece::Close => return Err(CarrierError::Closed.into()),
                Piece::Nothing => {}
            }
        }
        Ok(())
    }

    /// Reads once from the carrier.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        FRAME.with_borrow_mut(|frame| {
            let mut buffer = ReadBuf::new(frame);
            ready!(self.carrier.poll_receive(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(CarrierError::Closed.into()));
            }
            Poll::Ready(self.take(buffer.filled_mut()))
        })
    }

    fn hear(&mut self, message: StreamMessage) -> io::Result<()> {
        match message {
            StreamMessage::End => self.other_ended = true,
            StreamMessage::Failed { reason } => return Err(io::Error::other(reason)),
            StreamMessage::Opened | StreamMessage::Unknown => {}
            _ => return Err(CarrierError::OutOfPlace.into()),
        }
        Ok(())
    }

    /// Hands over what waits; whether there was something.
    fn hand_over(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let rest = &self.waiting[self.read_of_waiting..];
        if rest.is_empty() {
            return false;
        }
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        self.read_of_waiting += length;
        if self.read_of_waiting == self.waiting.len() {
            (self.waiting, self.read_of_waiting) = (Vec::new(), 0);
        }
        true
    }
}

impl From<CarrierError> for io::Error {
    fn from(error: CarrierError) -> Self {
        match error {
            CarrierError::Io(error) => error,
            CarrierError::Closed => Self::new(io::ErrorKind::UnexpectedEof, error),
            other => Self::other(other),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ByteStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.hand_over(buffer) || this.other_ended {
                return Poll::Ready(Ok(()));
            }
            // Answers to pings go out when nothing is written either.
            let _ = this.carrier.poll_send(cx)?;
            if this.carrier.input.is_empty() {
                ready!(this.poll_receive(cx))?;
            } else {
                this.take_input()?;
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ByteStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.carrier.poll_send(cx))?;
        let length = bytes.len().min(FRAME_BYTES_MAX);
        FRAME.with_borrow_mut(|frame| {
            frame[HEAD_BYTES_MAX..HEAD_BYTES_MAX + length].copy_from_slice(&bytes[..length]);
            this.carrier.send_data(cx, frame, length)
        })?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().carrier.poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.has_ended {
            this.carrier.queue(&StreamMessage::End)?;
            this.has_ended = true;
        }
        this.carrier.poll_send(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::super::Side;
    use super::*;

    fn pair() -> (ByteStream<DuplexStream>, ByteStream<DuplexStream>) {
        let (one, other) = duplex(4 * 1024);
        (ByteStream::new(Carrier::new(one, Side::Client, 7)), ByteStream::new(Carrier::new(other, Side::Server, 0)))
    }

    #[tokio::test]
    async fn carries_bytes_both_ways_to_their_ends() {
        let (mut one, mut other) = pair();
        let much: Vec<u8> = (0..1_000_000_u32).map(|i| i.to_le_bytes()[i as usize % 3]).collect();
        let sent = much.clone();
        let sender = tokio::spawn(async move {
            one.write_all(&sent).await.unwrap();
            one.shutdown().await.unwrap();
            let mut answer = Vec::new();
            one.read_to_end(&mut answer).await.unwrap();
            answer
        });
        let mut came = Vec::new();
        other.read_to_end(&mut came).await.unwrap();
        assert!(came == much);
        other.write_all(b"got it").await.unwrap();
        other.shutdown().await.unwrap();
        assert_eq!(sender.await.unwrap(), b"got it");
    }

    #[tokio::test]
    async fn a_break_is_no_end() {
        let (mut one, other) = pair();
        drop(other);
        assert_eq!(one.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_ends_early_says_why() {
        let (mut one, other) = pair();
        other.fail("the token was revoked").await.unwrap();
        assert_eq!(one.read(&mut [0; 8]).await.unwrap_err().to_string(), "the token was revoked");
    }
}
