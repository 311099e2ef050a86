//! One connection through a port tunnel.

use std::sync::Arc;

use muster_core::limits::CARRIER_TIMEOUT;
use muster_link::stream::{Limits, Local, StreamError, StreamMessage, pump};
use tokio::net::TcpStream;
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::carriers::Taken;
use super::live::{LiveTunnel, Place};
use crate::app::App;
use crate::http::websocket::ServerCarrier;

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the device did not take it")]
    NoCarrier,
    #[error("the link of the device ended")]
    LinkGone,
    #[error("the tunnel ended")]
    Cut,
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("what moved its bytes failed: {0}")]
    Broken(#[from] JoinError),
}

/// Carries a caller's connection to the device. It ends with the tunnel, with the link of
/// the device, or when nothing has moved for too long; then it is reset.
pub(super) async fn serve(app: App, tunnel: Arc<LiveTunnel>, stream: TcpStream, place: Place) {
    let carried = tunnel.cut.run_until_cancelled(carry(&app, &tunnel, stream)).await;
    if let Err(error) = carried.unwrap_or(Err(Ended::Cut)) {
        tracing::debug!(tunnel = tunnel.uuid, %error, "a connection ended early");
    }
    drop(place);
}

async fn carry(app: &App, tunnel: &Arc<LiveTunnel>, stream: TcpStream) -> Result<(), Ended> {
    let local = Local::new(stream).map_err(StreamError::Local)?;
    let taken = timeout(CARRIER_TIMEOUT, open(app, tunnel)).await.ok().flatten().ok_or(Ended::NoCarrier)?;
    let Taken { carrier, link, link_ends } = taken;
    // A task of its own, which is woken by its bytes alone: here every byte would be a look
    // at who may cut it.
    let moved = app.tunnels.tasks.spawn(move_all(carrier, local, Arc::clone(tunnel), app.config.stream_limits));
    let moved = link_ends.run_until_cancelled(AbortOnDropHandle::new(moved)).await.ok_or(Ended::LinkGone)?;
    app.carriers.give_back(link, moved??);
    Ok(())
}

/// Moves what there is until both sides have ended; then the carrier can serve another.
async fn move_all(
    mut carrier: ServerCarrier,
    mut local: Local,
    tunnel: Arc<LiveTunnel>,
    limits: Limits,
) -> Result<ServerCarrier, StreamError> {
    pump(&mut carrier, &mut local, &tunnel.counts, Some(limits)).await?;
    local.over();
    Ok(carrier)
}

/// A carrier that will be told where to, together with the first bytes for it.
async fn open(app: &App, tunnel: &LiveTunnel) -> Option<Taken> {
    let mut taken = app.carriers.take(app, tunnel.device_id).await?;
    taken.carrier.queue(&StreamMessage::Open { host: tunnel.host.clone(), port: tunnel.port }).ok()?;
    Some(taken)
}
