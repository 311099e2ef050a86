//! Port tunnels.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::invalid::Invalid;
use muster_core::tunnel::{AllowedIp, TargetHost};
use muster_store::port_tunnels;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::devices::EnrichQuery;
use super::wire::{Error, flag};
use crate::app::App;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};
use crate::remote::tunnels::{self, TunnelOrder};

/// Body of the creation of a tunnel.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TunnelBody {
    /// The device; required.
    device_uuid: Option<String>,
    /// The port of the device, 1 to 65535; required.
    port: Option<u64>,
    /// Another host of the device's network, by its address or name; only where the fleet
    /// and the device allow it. By default the device itself. Not in Connect.
    host: Option<String>,
    /// The one address, or network, that is let through; by default the caller's.
    allowed_ip: Option<String>,
}

impl TunnelBody {
    fn check(self) -> Result<TunnelOrder, Invalid> {
        let device_uuid = self.device_uuid.ok_or_else(|| Invalid::missing("device_uuid"))?;
        let port = self.port.ok_or_else(|| Invalid::missing("port"))?;
        let wrong = || Invalid::new("port", format!("{port} is not a port from 1 to 65535"));
        let number = u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let allowed_ip = self.allowed_ip.as_deref().map(AllowedIp::parse).transpose();
        let allowed_ip = allowed_ip.map_err(|refusal| refusal.within("allowed_ip"))?;
        let host = self.host.as_deref().map(TargetHost::parse).transpose();
        let host = host.map_err(|refusal| refusal.within("host"))?.flatten();
        Ok(TunnelOrder { device_uuid, port: number, host, allowed_ip })
    }
}

/// Answer of the creation of a tunnel.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedTunnel {
    port_tunnel_id: String,
    server_address: String,
    server_port: u16,
}

/// A tunnel.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tunnel {
    #[schema(example = "Mon, 16 Dec 2024 10:17:37 GMT")]
    created_time: String,
    device_id: String,
    /// Null while it is not over.
    #[schema(required = true)]
    finish_time: Option<String>,
    port_tunnel_id: String,
    remote_server_address: String,
    remote_server_port: u16,
    /// `pending`, `opened`, `closed` or `terminated`.
    status: &'static str,
    /// Whom it lets through.
    user_source_ip: String,
    #[serde(flatten)]
    #[schema(value_type = EnrichedTunnel)]
    enriched: Option<EnrichedTunnel>,
}

/// More of a tunnel: only with `enrich_info`.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrichedTunnel {
    /// Where it ends in the device's network; empty for the device itself.
    #[schema(required = false)]
    host: String,
    /// The port there.
    #[schema(required = false)]
    port: u16,
    /// Why it is over; empty while it is not.
    #[schema(required = false)]
    reason: String,
    #[schema(required = false, example = "2025-06-09T16:10:44Z")]
    expires_time: String,
    /// Connections through it so far.
    #[schema(required = false)]
    connections: u64,
    /// Bytes to the device so far.
    #[schema(required = false)]
    bytes_to_device: u64,
    /// Bytes from the device so far.
    #[schema(required = false)]
    bytes_from_device: u64,
}

impl EnrichedTunnel {
    fn of(tunnel: &port_tunnels::PortTunnel) -> Self {
        Self {
            host: tunnel.host.clone(),
            port: tunnel.port,
            reason: tunnel.reason_code.clone(),
            expires_time: tunnel.expires_at.to_rfc3339(),
            connections: tunnel.moved.connections,
            bytes_to_device: tunnel.moved.bytes_to_device,
            bytes_from_device: tunnel.moved.bytes_from_device,
        }
    }
}

impl Tunnel {
    fn enriched(tunnel: port_tunnels::PortTunnel) -> Self {
        Self { enriched: Some(EnrichedTunnel::of(&tunnel)), ..tunnel.into() }
    }
}

impl From<port_tunnels::PortTunnel> for Tunnel {
    fn from(tunnel: port_tunnels::PortTunnel) -> Self {
        Self {
            created_time: tunnel.created_at.to_http_date(),
            device_id: tunnel.device_uuid,
            finish_time: tunnel.finished_at.map(muster_core::clock::Timestamp::to_http_date),
            port_tunnel_id: tunnel.uuid,
            remote_server_address: tunnel.server_address,
            remote_server_port: tunnel.server_port,
            status: tunnel.status.word(),
            user_source_ip: tunnel.allowed_ip,
            enriched: None,
        }
    }
}

/// Open a tunnel to a port of a device.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/port_tunnel", operation_id = "CreatePortTunnel", tag = "Port tunnels",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = TunnelBody,
    responses(
        (status = 201, description = "The device has been asked to open it", body = CreatedTunnel),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
        (status = 409, description = "The device cannot do that, or is offline", body = Error),
    ),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<TunnelBody>,
) -> Result<(StatusCode, Json<CreatedTunnel>), ApiError> {
    let permitted = bearer.fleet(Operation::CreatePortTunnel, &key).await?;
    let tunnel = tunnels::create(&app, &permitted, &body.check()?).await;
    let tunnel = bearer.told_in(&key, Operation::CreatePortTunnel, tunnel).await?;
    let created = CreatedTunnel {
        port_tunnel_id: tunnel.uuid,
        server_address: tunnel.server_address,
        server_port: tunnel.server_port,
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// A fleet's port tunnels.
///
/// The newest thousand, oldest first.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/port_tunnel", operation_id = "ListPortTunnels", tag = "Port tunnels",
    params(("project_key" = String, Path, description = "The fleet's key")),
    responses(
        (status = 200, description = "The tunnels", body = [Tunnel]),
        (status = 404, description = "No such fleet", body = Error),
    ),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
) -> Result<Json<Vec<Tunnel>>, ApiError> {
    let permitted = bearer.fleet(Operation::ListPortTunnels, &key).await?;
    Ok(Json(tunnels::list(&app, &permitted).await?.into_iter().map(Tunnel::from).collect()))
}

/// One port tunnel.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/port_tunnel/{port_tunnel_id}", operation_id = "GetPortTunnel",
    tag = "Port tunnels",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("port_tunnel_id" = String, Path, description = "The tunnel"),
        ("enrich_info" = Option<bool>, Query, description = "Muster's own: add its end, its reason and what it has moved"),
    ),
    responses(
        (status = 200, description = "The tunnel", body = Tunnel),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet or tunnel", body = Error),
    ),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    ApiQuery(query): ApiQuery<EnrichQuery>,
) -> Result<Json<Tunnel>, ApiError> {
    let permitted = bearer.fleet(Operation::GetPortTunnel, &key).await?;
    let is_enriched = flag("enrich_info", query.enrich_info.as_deref())?;
    let tunnel = tunnels::find(&app, &permitted, &uuid).await?;
    Ok(Json(if is_enriched { Tunnel::enriched(tunnel) } else { tunnel.into() }))
}

/// End a port tunnel.
#[utoipa::path(
    delete, path = "/api/v2/{project_key}/port_tunnel/{port_tunnel_id}", operation_id = "DeletePortTunnel",
    tag = "Port tunnels",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("port_tunnel_id" = String, Path, description = "The tunnel"),
    ),
    responses(
        (status = 204, description = "It is over"),
        (status = 404, description = "No such fleet or tunnel", body = Error),
    ),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.fleet(Operation::DeletePortTunnel, &key).await?;
    tunnels::close(&app, &permitted, &uuid).await?;
    Ok(StatusCode::NO_CONTENT)
}
