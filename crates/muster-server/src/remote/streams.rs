//! Streams of callers: bytes to and from a port that a device reaches, over the caller's own
//! authenticated connection. Nothing is opened on the server for them.

use std::future::Future;
use std::io;
use std::time::Duration;

use muster_core::invalid::Invalid;
use muster_core::limits::{CARRIER_TIMEOUT, STREAM_CONNECT_TIMEOUT};
use muster_core::remote_session::{EndReason, SessionKind};
use muster_core::tunnel::TargetHost;
use muster_link::capability;
use muster_link::stream::{ByteStream, StreamError, StreamMessage, pump};
use tokio::time::timeout;

use super::carriers::Taken;
use super::sessions::{self, Held, SessionOrder};
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result};
use crate::http::websocket::ServerCarrier;

/// Carriers that are tried when one turns out to be dead.
const TRIES: usize = 3;
/// How long a caller may take to hear why its stream was cut.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// What a caller wants to reach.
#[derive(Clone, Debug)]
pub struct StreamOrder {
    /// The device, as a caller wrote it.
    pub device_uuid: String,
    /// The port of the device, or of `host`.
    pub port: u16,
    /// Where it ends in the device's network, where that is not the device itself.
    pub host: Option<TargetHost>,
}

/// A stream whose target has taken the connection.
pub struct Connected {
    held: Held,
    taken: Taken,
}

/// Begins a session, and has the device connect to the target.
pub async fn connect(app: &App, permitted: &Permitted, order: &StreamOrder) -> Result<Connected> {
    let host = order.host.as_ref().map_or("", TargetHost::as_str);
    let session = SessionOrder {
        device_uuid: order.device_uuid.clone(),
        kind: SessionKind::Stream,
        host: order.host.clone(),
        target: order.port.to_string(),
        capability: if host.is_empty() { capability::PORT_TUNNEL } else { capability::TUNNEL_TO_NETWORK },
    };
    let held = sessions::open(app, permitted, &session).await?;
    let first = StreamMessage::Open { host: host.to_owned(), port: order.port };
    match open_stream(app, held.session().device_id, &first).await {
        Ok(taken) => Ok(Connected { held, taken }),
        Err(problem) => {
            let (reason, error) = problem.told();
            held.finish(reason).await;
            Err(error)
        }
    }
}

/// Why a device did not begin a stream.
#[derive(Debug)]
pub(super) enum NotOpened {
    /// No carrier came, or each broke.
    NoCarrier,
    /// The device said no, and why.
    Refused(String),
}

impl NotOpened {
    /// What the session's row and the caller are told.
    pub(super) fn told(self) -> (EndReason, OpError) {
        let problem = |text: String| Invalid::new("device_uuid", text);
        match self {
            Self::NoCarrier => {
                let problem = problem("the device did not answer in time".to_owned());
                (EndReason::DEVICE_GONE, OpError::NotNow { code: "device_offline", problem })
            }
            Self::Refused(why) => {
                let problem = problem(format!("the device answered: {why}"));
                (EndReason::DEVICE_REFUSED, OpError::NotNow { code: "device_refused", problem })
            }
        }
    }
}

/// A carrier on which the device has said that the stream of `first` is open.
pub(super) async fn open_stream(app: &App, device_id: i64, first: &StreamMessage) -> Result<Taken, NotOpened> {
    let attempt = async {
        for _ in 0..TRIES {
            let mut taken = app.carriers.take(app, device_id).await.ok_or(NotOpened::NoCarrier)?;
            match answer(&mut taken, first).await {
                Some(Ok(())) => return Ok(taken),
                Some(Err(reason)) => return Err(NotOpened::Refused(reason)),
                None => tracing::debug!(device_id, "a carrier was dead"),
            }
        }
        Err(NotOpened::NoCarrier)
    };
    timeout(CARRIER_TIMEOUT + STREAM_CONNECT_TIMEOUT, attempt).await.unwrap_or(Err(NotOpened::NoCarrier))
}

/// What the device says to `first`; nothing where the carrier is dead.
async fn answer(taken: &mut Taken, first: &StreamMessage) -> Option<Result<(), String>> {
    taken.carrier.send(first).await.ok()?;
    loop {
        match taken.link_ends.run_until_cancelled(taken.carrier.receive()).await?.ok()? {
            StreamMessage::Opened => return Some(Ok(())),
            StreamMessage::Failed { reason } => return Some(Err(reason)),
            StreamMessage::Unknown => {}
            _ => return None,
        }
    }
}

/// Carries the stream until both sides have ended, or it must end.
pub async fn carry(app: App, connected: Connected, upgraded: impl Future<Output = io::Result<ServerCarrier>> + Send) {
    let Connected { held, taken } = connected;
    let Ok(Ok(caller)) = timeout(CARRIER_TIMEOUT, upgraded).await else {
        return held.finish(EndReason::CALLER_GONE).await;
    };
    let mut caller = ByteStream::new(caller);
    let Taken { mut carrier, link, link_ends } = taken;
    let session = held.session();
    let pumped = pump(&mut carrier, &mut caller, &session.counts, Some(app.config.stream_limits));
    let carried = async {
        match link_ends.run_until_cancelled(pumped).await {
            None => EndReason::DEVICE_GONE,
            Some(Ok(())) => EndReason::FINISHED,
            Some(Err(StreamError::Idle)) => EndReason::IDLE,
            Some(Err(StreamError::Local(_))) => EndReason::CALLER_GONE,
            Some(Err(StreamError::Refused(_))) => EndReason::DEVICE_REFUSED,
            Some(Err(StreamError::Carrier(_))) => EndReason::DEVICE_GONE,
        }
    };
    let reason = session.while_it_may(carried).await.unwrap_or_else(|cut| cut);
    if reason == EndReason::FINISHED {
        app.carriers.give_back(link, carrier);
    } else {
        // The device's end is reset at once, whatever becomes of the caller's.
        drop(carrier);
        let _ = timeout(FAREWELL_TIMEOUT, caller.fail(reason.text)).await;
    }
    held.finish(reason).await;
}
