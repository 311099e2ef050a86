//! Streams to ports of devices, over the caller's own connection. Muster's own.

use axum::extract::State;
use axum::response::Response;
use muster_core::access::Operation;
use muster_core::invalid::{Invalid, quoted};
use muster_core::tunnel::TargetHost;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Bearer;
use super::wire::Error;
use crate::app::App;
use crate::http::{ApiError, ApiPath, ApiQuery, Handshake};
use crate::remote::streams::{self, StreamOrder};

/// What a stream reaches.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// The port of the device, 1 to 65535
    #[param(value_type = u16)]
    port: Option<String>,
    /// Another host of the device's network, by its address or name; only where the fleet
    /// and the device allow it
    #[param(value_type = String, required = false)]
    host: Option<String>,
}

impl StreamQuery {
    fn check(self, device_uuid: String) -> Result<StreamOrder, Invalid> {
        let port = self.port.ok_or_else(|| Invalid::missing("port"))?;
        let wrong = || Invalid::new("port", format!("{} is not a port from 1 to 65535", quoted(&port)));
        let number: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let host = self.host.as_deref().map(TargetHost::parse).transpose();
        let host = host.map_err(|refusal| refusal.within("host"))?.flatten();
        Ok(StreamOrder { device_uuid, port: number, host })
    }
}

/// Bytes to and from a port of a device.
///
/// A WebSocket: binary messages are the bytes, in both directions, and a text message
/// `{"type":"end"}` says that no more follow from this side. When both sides have said it,
/// the stream is over. Where it must end before, a text message `{"type":"failed"}` has the
/// reason. The answer to the handshake comes when the target has taken the connection.
/// `muster tunnel` and `muster ssh` use it.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/devices/{device_uuid}/stream", operation_id = "OpenDeviceStream",
    tag = "Remote sessions",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
        StreamQuery,
    ),
    responses(
        (status = 101, description = "Switching to the WebSocket protocol"),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet or device", body = Error),
        (status = 409, description = "The device cannot do that, is offline, or could not connect", body = Error),
        (status = 426, description = "Not a WebSocket handshake", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn open(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, device)): ApiPath<(String, String)>,
    ApiQuery(query): ApiQuery<StreamQuery>,
    handshake: Result<Handshake, ApiError>,
) -> Result<Response, ApiError> {
    let permitted = bearer.fleet(Operation::OpenDeviceStream, &key).await?;
    let order = query.check(device)?;
    let (response, upgraded) = handshake?.accept()?;
    let connected = streams::connect(&app, &permitted, &order).await;
    let connected = bearer.told(Operation::OpenDeviceStream, connected).await?;
    let tasks = app.tunnels.tasks.clone();
    tasks.spawn(streams::carry(app, connected, upgraded));
    Ok(response)
}
