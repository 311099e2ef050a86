//! A carrier on which messages come between the bytes, as a terminal's does.

use std::future::poll_fn;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::StreamMessage;
use super::carrier::{Carrier, CarrierError, message};
use super::frame::Piece;

/// Bytes that are read at once.
const READ_BYTES: usize = 16 * 1024;

/// What came over a carrier.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Bytes.
    Data(Vec<u8>),
    /// A message.
    Message(StreamMessage),
    /// Nothing came; what waited has been sent.
    Sent,
}

/// One end of a carrier on which bytes and messages follow each other in both directions.
/// Whoever reads no more from elsewhere while [`is_busy`](Self::is_busy) holds nothing back
/// but one piece.
#[derive(Debug)]
pub struct Talk<S>(Carrier<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    /// Talks over that carrier.
    pub fn new(carrier: Carrier<S>) -> Self {
        Self(carrier)
    }

    /// Says bytes. They leave with [`turn`](Self::turn).
    pub fn say_bytes(&mut self, bytes: Vec<u8>) -> Result<(), CarrierError> {
        self.0.queue_bytes(bytes)
    }

    /// Says a message. It leaves with [`turn`](Self::turn).
    pub fn say(&mut self, message: &StreamMessage) -> Result<(), CarrierError> {
        self.0.queue(message)
    }

    /// Whether something that was said has not left.
    pub fn is_busy(&self) -> bool {
        self.0.has_output()
    }

    /// Sends what was said, and meanwhile hears, if it `listens`, what comes. May be dropped
    /// and called again without a loss.
    pub async fn turn(&mut self, listens: bool) -> Result<Turn, CarrierError> {
        poll_fn(|cx| self.poll_turn(cx, listens)).await
    }

    /// Sends what was said.
    pub async fn flush(&mut self) -> Result<(), CarrierError> {
        Ok(poll_fn(|cx| self.0.poll_send(cx)).await?)
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>, listens: bool) -> Poll<Result<Turn, CarrierError>> {
        if self.0.has_output() && self.0.poll_send(cx)?.is_ready() {
            return Poll::Ready(Ok(Turn::Sent));
        }
        loop {
            if !listens {
                break;
            }
            if let Some(turn) = self.parse()? {
                return Poll::Ready(Ok(turn));
            }
            let mut bytes = [0; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            match self.0.poll_receive(cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(read) => drop(read?),
            }
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(CarrierError::Closed));
            }
            self.0.input.extend_from_slice(buffer.filled());
        }
        // An answer to a ping leaves, too.
        let _ = self.0.poll_send(cx)?;
        Poll::Pending
    }

    fn parse(&mut self) -> Result<Option<Turn>, CarrierError> {
        let mut at = 0;
        while at < self.0.input.len() {
            let (next, piece) = self.0.parser.next(&mut self.0.input, at)?;
            at = next;
            let turn = match piece {
                Piece::Data(range) => Turn::Data(self.0.input[range].to_vec()),
                Piece::Text(text) => Turn::Message(message(&text)?),
                Piece::Ping(payload) => {
                    self.0.pong(&payload)?;
                    continue;
                }
                Piece::Close => return Err(CarrierError::Closed),
                Piece::Nothing => continue,
            };
            self.0.input.drain(..at);
            self.0.forget_if_empty();
            return Ok(Some(turn));
        }
        self.0.input = Vec::new();
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::super::Side;
    use super::*;

    #[tokio::test]
    async fn bytes_and_messages_keep_their_order() {
        let (one, other) = duplex(512);
        let mut one = Talk::new(Carrier::new(one, Side::Client, 7));
        let mut other = Talk::new(Carrier::new(other, Side::Server, 0));
        one.say_bytes(vec![1; 2_000]).unwrap();
        one.say(&StreamMessage::End).unwrap();
        assert!(one.is_busy());
        let sender = tokio::spawn(async move {
            assert_eq!(one.turn(true).await.unwrap(), Turn::Sent);
            one
        });
        let mut came = Vec::new();
        loop {
            match other.turn(true).await.unwrap() {
                Turn::Data(bytes) => came.extend(bytes),
                Turn::Message(message) => break assert_eq!(message, StreamMessage::End),
                Turn::Sent => {}
            }
        }
        assert_eq!(came, [1; 2_000]);
        drop(sender.await.unwrap());
        assert!(matches!(other.turn(true).await, Err(CarrierError::Closed)));
    }
}
