//! One connection through a port tunnel.

use std::sync::Arc;

use muster_core::limits::CARRIER_TIMEOUT;
use muster_link::stream::{Local, StreamError, StreamMessage, pump};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::carriers::Taken;
use super::live::{LiveTunnel, Place};
use crate::app::App;

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
}

/// Carries a caller's connection to the device. It ends with the tunnel, with the link of
/// the device, or when nothing has moved for too long; then it is reset.
pub(super) async fn serve(app: App, tunnel: Arc<LiveTunnel>, stream: TcpStream, place: Place) {
    let carried = async {
        let mut local = Local::new(stream).map_err(StreamError::Local)?;
        carry(&app, &tunnel, &mut local).await?;
        local.over();
        Ok(())
    };
    let ended = tunnel.cut.run_until_cancelled(carried).await.unwrap_or(Err(Ended::Cut));
    if let Err(error) = ended {
        tracing::debug!(tunnel = tunnel.uuid, %error, "a connection ended early");
    }
    drop(place);
}

async fn carry(app: &App, tunnel: &LiveTunnel, local: &mut Local) -> Result<(), Ended> {
    let taken = timeout(CARRIER_TIMEOUT, open(app, tunnel)).await.ok().flatten().ok_or(Ended::NoCarrier)?;
    let Taken { mut carrier, link, link_ends } = taken;
    let pumped = pump(&mut carrier, local, &tunnel.counts, Some(app.config.stream_limits));
    link_ends.run_until_cancelled(pumped).await.ok_or(Ended::LinkGone)??;
    app.carriers.give_back(link, carrier);
    Ok(())
}

/// A carrier that will be told where to, together with the first bytes for it.
async fn open(app: &App, tunnel: &LiveTunnel) -> Option<Taken> {
    let mut taken = app.carriers.take(app, tunnel.device_id).await?;
    taken.carrier.queue(&StreamMessage::Open { host: tunnel.host.clone(), port: tunnel.port }).ok()?;
    Some(taken)
}
