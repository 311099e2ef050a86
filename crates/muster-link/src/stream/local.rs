//! The connection at either end of a stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP connection that is reset when it is dropped before its stream was over: whoever
/// is at its other end must not take a part for the whole.
#[derive(Debug)]
pub struct Local {
    stream: TcpStream,
    is_over: bool,
}

impl Local {
    /// Takes the connection.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        // What comes in pieces goes on in pieces: waiting for more would only delay it.
        stream.set_nodelay(true)?;
        Ok(Self { stream, is_over: false })
    }

    /// Its stream has ended properly: so does the connection.
    pub fn over(mut self) {
        self.is_over = true;
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if !self.is_over {
            // Where the system refuses, it closes the connection in another way.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Local {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Local {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
