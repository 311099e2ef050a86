//! Connections: accepted one by one, so that a slow or silent sender has limits,
//! and ended when the server is told to.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use muster_link::stream::ReadAhead;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::tls::ACME_TLS;

/// How long the head of a request may take to arrive; also how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the two sides may take to agree on their keys.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when the system has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A connection that was accepted: in the clear, or behind its handshake of TLS.
pub(crate) type Accepted = Either<TcpStream, Box<TlsStream<ReadAhead<TcpStream>>>>;

/// Serves connections until `stop`, then lets the requests that are under way end.
pub(crate) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, stop: CancellationToken) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let graceful = GracefulShutdown::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                // Answers are written whole; waiting for more would only delay them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, %peer, "no TCP_NODELAY");
                }
                let connection = Connection { builder: builder.clone(), peer, router: router.clone() };
                let watcher = graceful.watcher();
                match tls.clone() {
                    None => drop(tokio::spawn(connection.serve(Either::Left(stream), watcher))),
                    Some(tls) => drop(tokio::spawn(connection.serve_tls(tls, stream, watcher, stop.clone()))),
                }
            }
            Err(error) => rest_after(&error).await,
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

/// One connection that was accepted.
struct Connection {
    builder: Builder<TokioExecutor>,
    peer: SocketAddr,
    router: Router,
}

impl Connection {
    async fn serve_tls(self, tls: TlsAcceptor, stream: TcpStream, watcher: Watcher, stop: CancellationToken) {
        let shaken = stop.run_until_cancelled(timeout(HANDSHAKE_TIMEOUT, tls.accept(ReadAhead::new(stream)))).await;
        match shaken {
            // Whoever looks whose a name is has seen it, and says nothing more.
            Some(Ok(Ok(stream))) if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) => {}
            Some(Ok(Ok(stream))) => self.serve(Either::Right(Box::new(stream)), watcher).await,
            Some(Ok(Err(error))) => tracing::debug!(%error, peer = %self.peer, "no TLS"),
            Some(Err(_)) => tracing::debug!(peer = %self.peer, "TLS took too long"),
            None => {}
        }
    }

    async fn serve(self, stream: Accepted, watcher: Watcher) {
        let Self { builder, peer, router } = self;
        let service = service_fn(move |request| answer(router.clone(), request, peer));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, %peer, "a connection ended badly");
        }
    }
}

async fn answer(router: Router, request: Request<Incoming>, peer: SocketAddr) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request).await
}

/// A connection that is gone already concerns nobody; any other failure is the system's, and passes.
pub(crate) async fn rest_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(%error, "no connection can be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
