//! A stream to the server: TCP, or TLS over it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use muster_link::stream::ReadAhead;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::server_url::ServerUrl;
use crate::trust::Trust;

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server cannot be reached.
    #[error("cannot reach {host}: {source}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What the network said.
        source: io::Error,
    },
    /// The machine has no certificate authorities to check the server by.
    #[error("no certificate authorities were found on this machine: {0}")]
    NoRoots(String),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
}

/// Dials the server.
#[derive(Clone)]
pub struct Dialer {
    server: ServerUrl,
    tls: Option<Arc<ClientConfig>>,
}

/// A stream to the server.
pub enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<ReadAhead<TcpStream>>>),
}

impl Dialer {
    /// Dials `server`; for `https`, one that `trust` recognises.
    pub fn new(server: ServerUrl, trust: &Trust) -> Result<Self, ConnectError> {
        let tls = if server.is_tls() { Some(Arc::new(trust.config(&server)?)) } else { None };
        Ok(Self { server, tls })
    }

    /// The server that is dialled.
    pub fn server(&self) -> &ServerUrl {
        &self.server
    }

    /// A new stream. Bounded by the caller's time-out.
    pub async fn connect(&self) -> Result<Stream, ConnectError> {
        let (host, port) = (self.server.host(), self.server.port());
        let unreachable = |source| ConnectError::Unreachable { host: self.server.authority(), source };
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
        // Reports are small and wait for no more.
        stream.set_nodelay(true).map_err(unreachable)?;
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(stream)) };
        let name = ServerName::try_from(host).map_err(|error| ConnectError::Tls(error.to_string()))?;
        let connecting = TlsConnector::from(Arc::clone(tls)).connect(name, ReadAhead::new(stream));
        let stream = connecting.await.map_err(unreachable)?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

impl Stream {
    /// The device's own address on the way to the server.
    pub fn local_ip(&self) -> Option<IpAddr> {
        let address = match self {
            Self::Plain(stream) => stream.local_addr(),
            Self::Tls(stream) => stream.get_ref().0.get_ref().local_addr(),
        };
        address.ok().map(|address: SocketAddr| address.ip().to_canonical())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
