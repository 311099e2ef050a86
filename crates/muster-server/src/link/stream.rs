//! Carriers of streams: WebSockets that devices dial beside their control links.

use std::future::Future;
use std::io;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;
use muster_core::limits::CARRIER_TIMEOUT;
use muster_core::token::Secret;
use muster_link::stream::{CarrierError, StreamMessage};
use tokio::time::timeout;

use crate::app::App;
use crate::error::OpError;
use crate::http::websocket::ServerCarrier;
use crate::http::{ApiError, Handshake};

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
pub async fn open(
    State(app): State<App>,
    headers: HeaderMap,
    handshake: Result<Handshake, ApiError>,
) -> Result<Response, ApiError> {
    let unknown = || OpError::Unauthenticated("the secret of the carrier is not valid, or used up".to_owned());
    let secret = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let secret = secret.map(Secret::received).filter(|secret| app.carriers.is_asked(secret)).ok_or_else(unknown)?;
    let (response, upgraded) = handshake?.accept()?;
    let link = app.carriers.claim(&secret).ok_or_else(unknown)?;
    let tasks = app.tunnels.tasks.clone();
    tasks.spawn(async move {
        let carrier = timeout(CARRIER_TIMEOUT, begin(upgraded)).await;
        if let Ok(Err(error)) = &carrier {
            tracing::debug!(%error, device_id = link.device_id, "a carrier did not come to be");
        }
        app.carriers.arrived(&app, link, carrier.ok().and_then(Result::ok));
    });
    Ok(response)
}

/// The carrier, once the connection has changed its protocol and the device is ready.
async fn begin(upgraded: impl Future<Output = io::Result<ServerCarrier>>) -> Result<ServerCarrier, CarrierError> {
    let mut carrier = upgraded.await?;
    match carrier.receive().await? {
        StreamMessage::Ready => Ok(carrier),
        _ => Err(CarrierError::OutOfPlace),
    }
}
