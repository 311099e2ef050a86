//! Carriers of streams: WebSockets that devices dial beside their control links.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper_util::rt::TokioIo;
use muster_core::limits::CARRIER_TIMEOUT;
use muster_core::token::Secret;
use muster_link::stream::{Carrier, CarrierError, Side, StreamMessage};
use sha1::{Digest, Sha1};
use tokio::time::timeout;

use crate::app::App;
use crate::error::OpError;
use crate::http::ApiError;
use crate::remote::carriers::ServerCarrier;

/// What RFC 6455 puts behind a client's key before it is hashed.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A carrier of streams.
///
/// A WebSocket for the connections through a device's port tunnels, one after the other.
/// The device bears a secret that it was given over its control link, which is good once
/// and ends soon. The messages are those of `muster-link`.
#[utoipa::path(
    get, path = "/link/v1/stream", operation_id = "OpenStream", tag = "Device link",
    responses(
        (status = 101, description = "Switching to the WebSocket protocol"),
        (status = 401, description = "The secret is not valid, or used up", body = crate::v2::wire::Error),
        (status = 426, description = "Not a WebSocket handshake", body = crate::v2::wire::Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn open(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let unknown = || OpError::Unauthenticated("the secret of the carrier is not valid, or used up".to_owned());
    let secret = text(request.headers(), &AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let secret = secret.map(Secret::received).filter(|secret| app.carriers.is_asked(secret)).ok_or_else(unknown)?;
    let key = websocket_key(request.headers())
        .ok_or_else(|| ApiError::UpgradeRequired("this needs the handshake of a WebSocket, version 13".to_owned()))?;
    let accept = BASE64_STANDARD.encode(Sha1::digest(format!("{key}{KEY_SUFFIX}")));
    let link = app.carriers.claim(&secret).ok_or_else(unknown)?;
    let tasks = app.tunnels.tasks.clone();
    tasks.spawn(async move {
        let carrier = timeout(CARRIER_TIMEOUT, begin(request)).await;
        if let Ok(Err(error)) = &carrier {
            tracing::debug!(%error, device_id = link.device_id, "a carrier did not come to be");
        }
        app.carriers.arrived(&app, link, carrier.ok().and_then(Result::ok));
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, accept)
        .body(Body::empty());
    Ok(response.map_err(|error| OpError::Internal(error.to_string()))?)
}

/// The carrier, once the connection has changed its protocol and the device is ready.
async fn begin(request: Request) -> Result<ServerCarrier, CarrierError> {
    let upgraded = hyper::upgrade::on(request).await.map_err(std::io::Error::other)?;
    let mut carrier = Carrier::new(TokioIo::new(upgraded), Side::Server, 0);
    match carrier.receive().await? {
        StreamMessage::Ready => Ok(carrier),
        _ => Err(CarrierError::OutOfPlace),
    }
}

/// The key of a client's handshake, if that is what it is.
fn websocket_key(headers: &HeaderMap) -> Option<&str> {
    let has = |name: &HeaderName, word: &str| {
        let words = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        words.flat_map(|line| line.split(',')).any(|it| it.trim().eq_ignore_ascii_case(word))
    };
    let is_handshake = has(&CONNECTION, "upgrade") && has(&UPGRADE, "websocket") && has(&SEC_WEBSOCKET_VERSION, "13");
    text(headers, &SEC_WEBSOCKET_KEY).filter(|_| is_handshake)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
