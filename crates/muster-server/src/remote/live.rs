//! The port tunnels that this server holds: their listeners, and what ends them.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::invalid::Invalid;
use muster_core::tunnel::AllowedIp;
use muster_link::stream::Counts;
use muster_store::port_tunnels::{Moved, PortTunnel};
use rand::RngExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::visitor;
use crate::access::refusals;
use crate::app::App;
use crate::listener::rest_after;

/// How long the connections of tunnels may take to end with the server.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// An open tunnel.
pub struct LiveTunnel {
    /// As every API names it.
    pub uuid: String,
    /// Whose it is.
    pub account_id: RowId,
    /// The fleet of its device.
    pub fleet_id: RowId,
    /// Its device.
    pub device_id: RowId,
    /// Where it ends in the device's network; empty for the device itself.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// Ends its listener and every connection through it.
    pub cut: CancellationToken,
    /// What its connections have moved.
    pub counts: Counts,
    allowed: AllowedIp,
    connections: AtomicU64,
    places: Arc<Semaphore>,
    stored: Mutex<Moved>,
}

impl LiveTunnel {
    /// What has been moved since the last call.
    pub fn take_moved(&self) -> Option<Moved> {
        let now = Moved {
            connections: self.connections.load(Ordering::Relaxed),
            bytes_to_device: self.counts.sent.load(Ordering::Relaxed),
            bytes_from_device: self.counts.received.load(Ordering::Relaxed),
        };
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let more = Moved {
            connections: now.connections - stored.connections,
            bytes_to_device: now.bytes_to_device - stored.bytes_to_device,
            bytes_from_device: now.bytes_from_device - stored.bytes_from_device,
        };
        *stored = now;
        (more != Moved::default()).then_some(more)
    }
}

/// A connection's place among those of its tunnel and of the server.
pub(super) struct Place {
    _of_tunnel: OwnedSemaphorePermit,
    _of_server: OwnedSemaphorePermit,
}

/// Every tunnel of this server.
pub struct Tunnels {
    live: Mutex<HashMap<String, Arc<LiveTunnel>>>,
    /// Ended, and not all of what they moved is stored yet.
    ended: Mutex<Vec<Arc<LiveTunnel>>>,
    places: Arc<Semaphore>,
    /// Listeners, connections, and carriers on their way.
    pub(crate) tasks: TaskTracker,
}

impl Tunnels {
    /// None yet, and at most that many connections through all of them.
    pub fn new(connections_max: usize) -> Self {
        let places = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        Self { live: Mutex::default(), ended: Mutex::default(), places, tasks: TaskTracker::new() }
    }

    /// Begins to listen for a tunnel. The row is there already.
    pub fn start(&self, app: &App, tunnel: &PortTunnel, listener: TcpListener) -> Result<(), Invalid> {
        let live = Arc::new(LiveTunnel {
            uuid: tunnel.uuid.clone(),
            account_id: tunnel.account_id,
            fleet_id: tunnel.fleet_id,
            device_id: tunnel.device_id,
            host: tunnel.host.clone(),
            port: tunnel.port,
            expires_at: tunnel.expires_at,
            cut: CancellationToken::new(),
            counts: Counts::default(),
            allowed: AllowedIp::parse(&tunnel.allowed_ip)?,
            connections: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(app.config.tunnel_connections_max.min(Semaphore::MAX_PERMITS))),
            stored: Mutex::default(),
        });
        lock(&self.live).insert(live.uuid.clone(), Arc::clone(&live));
        self.tasks.spawn(listen(app.clone(), live, listener));
        Ok(())
    }

    /// Ends a tunnel's listener and connections at once; nothing when it is not here.
    pub fn cut(&self, app: &App, uuid: &str) {
        let Some(tunnel) = lock(&self.live).remove(uuid) else { return };
        tunnel.cut.cancel();
        if !self.live().iter().any(|other| other.device_id == tunnel.device_id) {
            app.carriers.cool(tunnel.device_id);
        }
        lock(&self.ended).push(tunnel);
    }

    /// Every tunnel.
    pub fn live(&self) -> Vec<Arc<LiveTunnel>> {
        lock(&self.live).values().cloned().collect()
    }

    /// What each tunnel has moved since the last call, also those that have ended.
    pub(super) fn take_moved(&self) -> Vec<(String, Moved)> {
        let mut all = self.live();
        all.append(&mut lock(&self.ended));
        all.iter().filter_map(|tunnel| Some((tunnel.uuid.clone(), tunnel.take_moved()?))).collect()
    }

    /// Ends everything; the rows stay as they are, for the next run of the server.
    pub async fn close_all(&self) {
        let all: Vec<_> = lock(&self.live).drain().map(|(_, tunnel)| tunnel).collect();
        all.iter().for_each(|tunnel| tunnel.cut.cancel());
        lock(&self.ended).extend(all);
        self.tasks.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("some connections through port tunnels did not end in time");
        }
    }

    fn place(&self, tunnel: &LiveTunnel) -> Option<Place> {
        Some(Place {
            _of_tunnel: Arc::clone(&tunnel.places).try_acquire_owned().ok()?,
            _of_server: Arc::clone(&self.places).try_acquire_owned().ok()?,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A listener at a free port of those for tunnels.
pub(super) async fn bind_any(app: &App) -> io::Result<TcpListener> {
    let ports = &app.config.tunnel_ports;
    let first = app.random(|rng| rng.random_range(0..ports.count()));
    let mut refused = io::ErrorKind::AddrInUse.into();
    for port in ports.beginning_at(first) {
        match bind(app, port).await {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// A listener at that port.
pub(super) async fn bind(app: &App, port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((app.config.tunnel_listen, port)).await
}

/// Takes connections until the tunnel is cut.
async fn listen(app: App, tunnel: Arc<LiveTunnel>, listener: TcpListener) {
    while let Some(accepted) = tunnel.cut.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => admit(&app, &tunnel, stream, peer.ip().to_canonical()),
            Err(error) => rest_after(&error).await,
        }
    }
}

/// Lets a connection in, or resets it before a byte of it is read.
fn admit(app: &App, tunnel: &Arc<LiveTunnel>, stream: TcpStream, source: IpAddr) {
    if !tunnel.allowed.lets_through(source) {
        refuse(stream);
        let (app, tunnel) = (app.clone(), Arc::clone(tunnel));
        let note = async move { refusals::note_address(&app, &tunnel, source).await };
        tokio::spawn(note);
        return;
    }
    let Some(place) = app.tunnels.place(tunnel) else {
        tracing::info!(tunnel = tunnel.uuid, %source, "too many connections through a port tunnel");
        return refuse(stream);
    };
    tunnel.connections.fetch_add(1, Ordering::Relaxed);
    app.tunnels.tasks.spawn(visitor::serve(app.clone(), Arc::clone(tunnel), stream, place));
}

fn refuse(stream: TcpStream) {
    // A reset where the system allows it; dropped in any case.
    let _ = stream.set_zero_linger();
    drop(stream);
}
