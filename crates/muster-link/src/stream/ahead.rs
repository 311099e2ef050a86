//! Reads as much as there is, for whoever reads little at a time.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at once: four whole records of TLS.
const AHEAD_BYTES: usize = 4 * (16 * 1024 + 22);
/// Buffers that each thread keeps for the next connection.
const SPARE_MAX: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A connection that is read ahead. TLS reads its connection in steps of 4 KiB, and each is
/// a call of the system. A buffer is held only while something lies in it.
#[derive(Debug)]
pub struct ReadAhead<S> {
    io: S,
    ahead: Option<Ahead>,
}

#[derive(Debug)]
struct Ahead {
    bytes: Box<[u8]>,
    begin: usize,
    end: usize,
}

impl<S> ReadAhead<S> {
    /// Reads that connection.
    pub const fn new(io: S) -> Self {
        Self { io, ahead: None }
    }

    /// The connection.
    pub const fn get_ref(&self) -> &S {
        &self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_none() {
            if buf.remaining() >= AHEAD_BYTES / 2 {
                return Pin::new(&mut this.io).poll_read(cx, buf);
            }
            let mut bytes = take_spare();
            let mut room = ReadBuf::new(&mut bytes);
            let read = Pin::new(&mut this.io).poll_read(cx, &mut room);
            let end = room.filled().len();
            if end == 0 {
                give_spare(bytes);
                return read;
            }
            ready!(read)?;
            this.ahead = Some(Ahead { bytes, begin: 0, end });
        }
        if let Some(ahead) = &mut this.ahead {
            let length = buf.remaining().min(ahead.end - ahead.begin);
            buf.put_slice(&ahead.bytes[ahead.begin..ahead.begin + length]);
            ahead.begin += length;
        }
        if let Some(used_up) = this.ahead.take_if(|ahead| ahead.begin == ahead.end) {
            give_spare(used_up.bytes);
        }
        Poll::Ready(Ok(()))
    }
}

fn take_spare() -> Box<[u8]> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; AHEAD_BYTES].into_boxed_slice())
}

fn give_spare(bytes: Box<[u8]>) {
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            spare.push(bytes);
        }
    });
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.get_mut().io);
        match slices {
            // Which the system does faster; through TLS a small message is one record.
            [slice] => io.poll_write(cx, slice),
            _ => io.poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_read_in_small_steps_is_what_came() {
        let (mut far, near) = duplex(3 * AHEAD_BYTES);
        let sent: Vec<u8> = (0..2 * AHEAD_BYTES + 5).map(|i| (i % 251) as u8).collect();
        far.write_all(&sent).await.unwrap();
        drop(far);
        let (mut ahead, mut came) = (ReadAhead::new(near), Vec::new());
        for step in [1, 5, 4_096, AHEAD_BYTES - 7, AHEAD_BYTES].into_iter().cycle() {
            let mut room = vec![0; step];
            let length = ahead.read(&mut room).await.unwrap();
            came.extend_from_slice(&room[..length]);
            if length == 0 {
                break;
            }
        }
        assert!(came == sent && ahead.ahead.is_none());
    }
}
