//! Carriers of streams: each dialled when the server asks, then one connection after the
//! other, until it breaks, is not needed any more, or the control link ends.

use std::sync::Arc;
use std::time::Duration;

use muster_core::limits::{CARRIER_TIMEOUT, CARRIERS_MAX, READY_CARRIER_IDLE, STREAM_CONNECT_TIMEOUT};
use muster_core::token::Secret;
use muster_link::STREAM_PATH;
use muster_link::stream::{ByteStream, Carrier, Counts, Local, Side, StreamMessage, pump};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::files::{self, FilePolicy};
use super::terminal::{self, TerminalOrder};
use super::{Policy, TunnelPolicy};
use crate::net::{Dialer, Stream};

/// How long a carrier waits for a connection. The server closes it before.
const IDLE_MAX: Duration = READY_CARRIER_IDLE.saturating_mul(2);
const HANDSHAKE_BUFFER_BYTES: usize = 1024;
/// Where the device itself listens.
const OWN_HOST: &str = "127.0.0.1";

/// Every carrier of one control link.
pub struct Carriers {
    dialer: Dialer,
    policy: Policy,
    rng: StdRng,
    tasks: JoinSet<()>,
}

impl Carriers {
    /// None yet. Masks come from `rng`.
    pub fn new(dialer: Dialer, policy: Policy, rng: StdRng) -> Self {
        Self { dialer, policy, rng, tasks: JoinSet::new() }
    }

    /// What the device allows.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Dials a carrier with each secret, as far as there is room.
    pub fn dial(&mut self, secrets: Vec<Secret>) {
        while self.tasks.try_join_next().is_some() {}
        for secret in secrets {
            if self.tasks.len() >= CARRIERS_MAX {
                tracing::warn!("too many connections through tunnels");
                return;
            }
            let (dialer, policy, mask_seed) = (self.dialer.clone(), self.policy.clone(), self.rng.random());
            self.tasks.spawn(async move {
                if let Err(problem) = serve(&dialer, &policy, &secret, mask_seed).await {
                    tracing::debug!(problem, "a carrier ended");
                }
            });
        }
    }

    /// Ends every carrier, and resets what it carried.
    pub fn close_all(&mut self) {
        self.tasks.abort_all();
        // What has ended is dropped here, the rest as soon as it is polled.
        while self.tasks.try_join_next().is_some() {}
    }
}

async fn serve(dialer: &Dialer, policy: &Policy, secret: &Secret, mask_seed: u64) -> Result<(), String> {
    let dialled = timeout(CARRIER_TIMEOUT, open(dialer, secret)).await;
    let stream = dialled.map_err(|_| "the server did not answer in time".to_owned())??;
    let mut carrier = Carrier::new(stream, Side::Client, mask_seed);
    send(&mut carrier, StreamMessage::Ready).await?;
    while let Ok(message) = timeout(IDLE_MAX, carrier.receive()).await {
        match message.map_err(|error| error.to_string())? {
            StreamMessage::Open { host, port } => carry(&mut carrier, policy.tunnels, &host, port).await?,
            StreamMessage::OpenFiles => carrier = serve_files(carrier, &policy.files).await?,
            StreamMessage::OpenTerminal { user, size, term } => {
                let order = TerminalOrder { user, size, term };
                return terminal::carry(carrier, &policy.terminals, &order).await;
            }
            StreamMessage::Unknown => {}
            _ => return Err("the server said something out of its place".to_owned()),
        }
    }
    Ok(())
}

/// The handshake of the WebSocket. The server sends nothing before the device is ready,
/// so nothing stays behind in what made the handshake.
async fn open(dialer: &Dialer, secret: &Secret) -> Result<Stream, String> {
    let stream = dialer.connect().await.map_err(|error| error.to_string())?;
    let mut request =
        dialer.server().websocket(STREAM_PATH).into_client_request().map_err(|error| error.to_string())?;
    let bearer = HeaderValue::from_str(&format!("Bearer {}", secret.expose())).map_err(|error| error.to_string())?;
    request.headers_mut().insert(AUTHORIZATION, bearer);
    // For the handshake alone.
    let config = WebSocketConfig::default().read_buffer_size(HANDSHAKE_BUFFER_BYTES).write_buffer_size(0);
    let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    opened.map(|(websocket, _)| websocket.into_inner()).map_err(|error| error.to_string())
}

/// One connection.
async fn carry(carrier: &mut Carrier<Stream>, policy: TunnelPolicy, host: &str, port: u16) -> Result<(), String> {
    let mut local = match connect(policy, host, port).await {
        Ok(local) => local,
        Err(reason) => {
            send(carrier, StreamMessage::Failed { reason: reason.clone() }).await?;
            return Err(reason);
        }
    };
    send(carrier, StreamMessage::Opened).await?;
    pump(carrier, &mut local, &Counts::default(), None).await.map_err(|error| error.to_string())?;
    local.over();
    Ok(())
}

/// One order about files.
async fn serve_files(mut carrier: Carrier<Stream>, files: &Arc<FilePolicy>) -> Result<Carrier<Stream>, String> {
    send(&mut carrier, StreamMessage::Opened).await?;
    let mut stream = ByteStream::new(carrier);
    files::serve(&mut stream, files).await.map_err(|error| error.to_string())?;
    stream.into_carrier().ok_or_else(|| "a stream of files did not end".to_owned())
}

async fn connect(policy: TunnelPolicy, host: &str, port: u16) -> Result<Local, String> {
    policy.check(host)?;
    let host = if host.is_empty() { OWN_HOST } else { host };
    let connecting = timeout(STREAM_CONNECT_TIMEOUT, TcpStream::connect((host, port))).await;
    let connected = connecting.map_err(|_| format!("{host}:{port} did not answer in time"))?;
    let said_no = |error| format!("{host}:{port}: {error}");
    Local::new(connected.map_err(said_no)?).map_err(said_no)
}

async fn send(carrier: &mut Carrier<Stream>, message: StreamMessage) -> Result<(), String> {
    carrier.send(&message).await.map_err(|error| error.to_string())
}
