//! Looks after the tunnels of this server, twice a second: a reconciler, which reads what
//! holds and ends what does not hold any more, however it came about and on whichever server.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use muster_core::tunnel::TunnelStatus;
use muster_link::ToDevice;
use muster_store::StoreError;
use muster_store::port_tunnels::EndingTunnel;
use rand::RngExt;
use rand::rngs::StdRng;

use super::{live, sessions, tunnels};
use crate::app::App;
use crate::periodic::{every, or_later};

/// How often: whoever loses a right loses its connections within a second.
const PERIOD: Duration = Duration::from_millis(500);
/// How many of those periods lie between two times at which what was moved is stored.
const COUNT_EVERY: u32 = 4;
/// The file, in the data folder, of the server's name in the database.
const HOME_FILE: &str = "server.id";

/// Looks for ever.
pub async fn run(app: App) {
    let mut rounds = 0_u32;
    let mut period = every(PERIOD);
    loop {
        period.tick().await;
        app.carriers.sweep();
        rounds = rounds.wrapping_add(1);
        if rounds.is_multiple_of(COUNT_EVERY) {
            count(&app).await;
        }
        or_later(sessions::look(&app).await, "whether remote sessions may go on could not be read");
        if !app.tunnels.live().is_empty() {
            or_later(look(&app).await, "whether port tunnels may go on could not be read");
        }
    }
}

/// One round: ends what is overdue, and what has lost its right to be.
pub async fn look(app: &App) -> Result<(), StoreError> {
    // Before the rows are read: a tunnel that is made meanwhile has a row, and is not here.
    let here = app.tunnels.live();
    for tunnel in here.iter().filter(|tunnel| tunnel.expires_at <= app.clock().now()) {
        // Its connections end even while the database cannot be reached.
        tunnel.cut.cancel();
    }
    tunnels::expire(app).await?;
    let standing = app.store.read().standing_port_tunnels(&app.home).await?;
    let open: HashSet<&str> = standing.iter().map(|it| it.tunnel.uuid.as_str()).collect();
    for tunnel in here.iter().filter(|tunnel| !open.contains(tunnel.uuid.as_str())) {
        app.tunnels.cut(app, &tunnel.uuid);
    }
    for it in &standing {
        if let Some(reason) = it.standing.verdict() {
            end(app, &it.tunnel, TunnelStatus::Closed, reason).await?;
        }
    }
    for device_id in here.iter().map(|tunnel| tunnel.device_id).collect::<HashSet<_>>() {
        app.carriers.warm(app, device_id);
    }
    Ok(())
}

async fn end(
    app: &App,
    tunnel: &EndingTunnel,
    status: TunnelStatus,
    reason: (&'static str, &'static str),
) -> Result<(), StoreError> {
    app.tunnels.cut(app, &tunnel.uuid);
    let work = app.store.write(|tx| async move {
        if tx.end_port_tunnel(tunnel.device_id, &tunnel.uuid, status, reason).await? {
            tx.audit(&tunnels::ended_by_server(tunnel, status, reason.0)).await?;
        }
        Ok::<_, StoreError>(())
    });
    work.await?;
    app.links.tell(tunnel.device_id, ToDevice::CloseTunnel { tunnel: tunnel.uuid.clone() });
    Ok(())
}

/// Stores what tunnels have moved.
pub async fn count(app: &App) {
    let moved = app.tunnels.take_moved();
    if moved.is_empty() {
        return;
    }
    let moved = moved.as_slice();
    if let Err(error) = app.store.write(|tx| async move { tx.add_moved(moved).await }).await {
        // The figures of a few seconds are lost, nothing else.
        tracing::warn!(%error, "what port tunnels have moved could not be stored");
    }
}

/// Listens again for the tunnels that were open when this server last ended.
pub async fn restore(app: &App) -> Result<(), StoreError> {
    sessions::restore(app).await?;
    let mut lost = HashSet::new();
    for tunnel in app.store.read().port_tunnels_held_by(&app.home).await? {
        let started = match live::bind(app, tunnel.server_port).await {
            Ok(listener) => app.tunnels.start(app, &tunnel, listener).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = started {
            tracing::warn!(error, tunnel = tunnel.uuid, port = tunnel.server_port, "a port tunnel cannot go on");
            lost.insert(tunnel.uuid);
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    let reason = ("port_taken", "The server was restarted, and the tunnel's port was taken.");
    for it in app.store.read().standing_port_tunnels(&app.home).await? {
        if lost.contains(&it.tunnel.uuid) {
            end(app, &it.tunnel, TunnelStatus::Terminated, reason).await?;
        }
    }
    Ok(())
}

/// The name of the server whose data folder that is, made at its first start. It outlives
/// the process, so that the next one knows which tunnels were its own.
pub fn home(data: &Path, rng: &mut StdRng) -> io::Result<String> {
    let path = data.join(HOME_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => {
            let name = format!("h-{:016x}", rng.random::<u64>());
            std::fs::write(&path, &name)?;
            Ok(name)
        }
    }
}
