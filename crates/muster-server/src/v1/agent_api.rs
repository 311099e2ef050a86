//! The Agent API of Connect: for devices on which no agent runs, and which report
//! by themselves. Its statuses are its own: 350 for a device that was deleted, and
//! 301, which is no redirect, for parameters that a device must fetch again.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use muster_core::access::Operation;
use muster_core::identifiers::DeviceIdentifiers;
use muster_core::invalid::{Invalid, quoted};
use muster_core::names::{DeviceName, FleetName, GroupName, Version};
use muster_core::token::Secret;
use muster_link::Metrics;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Asker;
use super::wire::{SUCCESS, Success};
use crate::access::device::DeviceCaller;
use crate::access::rate::Source;
use crate::app::App;
use crate::error::whole_seconds;
use crate::fleet::registration::{self, Registration};
use crate::http::{ApiBody, ApiError};
use crate::telemetry::status;

/// The answer to every mistake: the same text twice.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentError {
    error_message: String,
    message: String,
}

/// Body of `POST /v1/agent/register_device`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RegisterDevice {
    #[schema(value_type = String)]
    user_token: Secret,
    /// What identifies the device, mostly its hardware addresses.
    device_identifier: Vec<String>,
    project_name: String,
    /// "Agent API" by default.
    device_os: Option<String>,
    /// Begins with `AgentAPI-`; `AgentAPI-v1` by default.
    upswift_version: Option<String>,
    device_name: Option<String>,
    /// It must exist; by default "Production", or the oldest group where that was renamed or deleted.
    device_group: Option<String>,
    /// Sets the version of the app `default_app`.
    software_version: Option<String>,
}

const CLIENT_PREFIX: &str = "AgentAPI-";
const CLIENT_DEFAULT: &str = "AgentAPI-v1";
const OS_DEFAULT: &str = "Agent API";
const NAME_DEFAULT: &str = "New Device";

impl RegisterDevice {
    fn check(self) -> Result<Registration, Invalid> {
        let identifiers = DeviceIdentifiers::parse(self.device_identifier);
        let name = DeviceName::parse(self.device_name.unwrap_or_else(|| NAME_DEFAULT.to_owned()));
        let group = self.device_group.map(GroupName::parse).transpose();
        let version = self.software_version.filter(|version| !version.is_empty()).map(Version::parse).transpose();
        let os = DeviceName::parse(self.device_os.unwrap_or_else(|| OS_DEFAULT.to_owned()));
        Ok(Registration {
            identifiers: identifiers.map_err(|refusal| refusal.within("device_identifier"))?,
            os: os.map_err(|refusal| refusal.within("device_os"))?.into_string(),
            client_version: client_version(self.upswift_version)?,
            name: name.map_err(|refusal| refusal.within("device_name"))?,
            group: group.map_err(|refusal| refusal.within("device_group"))?,
            software_version: version.map_err(|refusal| refusal.within("software_version"))?,
        })
    }
}

fn client_version(version: Option<String>) -> Result<String, Invalid> {
    let version = Version::parse(version.unwrap_or_else(|| CLIENT_DEFAULT.to_owned()));
    let version = version.map_err(|refusal| refusal.within("upswift_version"))?;
    if version.as_str().starts_with(CLIENT_PREFIX) {
        return Ok(version.into_string());
    }
    let problem = format!("{} does not begin with {CLIENT_PREFIX}", quoted(version.as_str()));
    Err(Invalid::new("upswift_version", problem))
}

/// Answer of `POST /v1/agent/register_device`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Registered {
    message: RegisteredMessage,
}

#[derive(Debug, Serialize, ToSchema)]
struct RegisteredMessage {
    /// Names the device from now on; every older one ends.
    #[schema(value_type = String)]
    device_token: Secret,
}

/// Register a device that has no agent.
///
/// The same identifiers are the same device, which gets a new token.
#[utoipa::path(
    post, path = "/v1/agent/register_device", operation_id = "RegisterDevice", tag = "Agent API",
    request_body = RegisterDevice,
    responses(
        (status = 200, description = "The device is registered", body = Registered),
        (status = 350, description = "The device was deleted: stop registering", body = AgentError),
        (status = 400, description = "A field is wrong; nothing was changed", body = AgentError),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn register(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<RegisterDevice>,
) -> Result<Json<Registered>, ApiError> {
    let asker = Asker::new(&app, source);
    let caller = asker.caller(&body.user_token).await?;
    let project = FleetName::parse(body.project_name.as_str());
    let project = project.map_err(|refusal| refusal.within("project_name"))?;
    let permitted = asker.project(&caller, Operation::RegisterDevice, &project, "project_name").await?;
    let device_token = registration::register(&app, &permitted, &body.check()?).await?;
    Ok(Json(Registered { message: RegisteredMessage { device_token } }))
}

/// Body of `GET /v1/agent/project_parameters`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct GetProjectParameters {
    #[schema(value_type = String)]
    device_token: Secret,
}

/// Answer of `GET /v1/agent/project_parameters`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProjectParameters {
    message: ProjectParametersMessage,
}

#[derive(Debug, Serialize, ToSchema)]
struct ProjectParametersMessage {
    /// Seconds between two calls of `device_status`.
    status_timeout: u64,
}

/// How often a device must report.
#[utoipa::path(
    get, path = "/v1/agent/project_parameters", operation_id = "GetProjectParameters", tag = "Agent API",
    request_body = GetProjectParameters,
    responses(
        (status = 200, description = "The parameters", body = ProjectParameters),
        (status = 350, description = "The device was deleted: stop reporting", body = AgentError),
        (status = 400, description = "A field is wrong", body = AgentError),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn parameters(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<GetProjectParameters>,
) -> Result<Json<ProjectParameters>, ApiError> {
    let caller = DeviceCaller::from_token(&app, &source, &body.device_token).await?;
    let heartbeat: Duration = status::heartbeat(&app, &caller).await?;
    Ok(Json(ProjectParameters { message: ProjectParametersMessage { status_timeout: whole_seconds(heartbeat) } }))
}

/// Body of `POST /v1/agent/device_status`. A figure may be a string, and may be missing.
#[derive(Debug, Deserialize, ToSchema)]
pub struct DeviceStatus {
    #[schema(value_type = String)]
    device_token: Secret,
    /// Per cent in use.
    #[schema(value_type = Option<f64>)]
    ram: Option<Value>,
    /// Per cent in use.
    #[schema(value_type = Option<f64>)]
    cpu: Option<Value>,
    /// Megabytes.
    #[schema(value_type = Option<f64>)]
    disk_usage_total: Option<Value>,
    /// Megabytes in use; `disk_usage_curr` is understood too.
    #[serde(alias = "disk_usage_curr")]
    #[schema(value_type = Option<f64>)]
    disk_usage_current: Option<Value>,
}

impl DeviceStatus {
    fn metrics(&self) -> Result<Metrics, Invalid> {
        Ok(Metrics {
            cpu_percent: figure("cpu", self.cpu.as_ref())?,
            ram_percent: figure("ram", self.ram.as_ref())?,
            disk_used_bytes: bytes(figure("disk_usage_current", self.disk_usage_current.as_ref())?),
            disk_size_bytes: bytes(figure("disk_usage_total", self.disk_usage_total.as_ref())?),
        })
    }
}

fn figure(field: &str, value: Option<&Value>) -> Result<Option<f64>, Invalid> {
    let figure = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok().filter(|figure: &f64| figure.is_finite()),
        Some(_) => None,
    };
    let refused = || Invalid::new(field, format!("{} is not a number", value.unwrap_or(&Value::Null)));
    figure.map(Some).ok_or_else(refused)
}

#[expect(clippy::cast_possible_truncation, reason = "a cast from float to integer saturates")]
fn bytes(megabytes: Option<f64>) -> Option<i64> {
    const BYTES_PER_MEGABYTE: f64 = 1_000_000.0;
    megabytes.map(|megabytes| (megabytes * BYTES_PER_MEGABYTE) as i64)
}

/// A device lives, and says how it is.
///
/// It is online for three times the `status_timeout` of its project.
#[utoipa::path(
    post, path = "/v1/agent/device_status", operation_id = "SendDeviceStatus", tag = "Agent API",
    request_body = DeviceStatus,
    responses(
        (status = 200, description = "It is noted", body = Success),
        (status = 301, description = "It is noted, but the project's parameters have changed: fetch them again", body = AgentError),
        (status = 350, description = "The device was deleted: stop reporting", body = AgentError),
        (status = 400, description = "A field is wrong", body = AgentError),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn status(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<DeviceStatus>,
) -> Result<Json<Success>, ApiError> {
    let caller = DeviceCaller::from_token(&app, &source, &body.device_token).await?;
    status::keep(&app, &caller, body.metrics()?, source.address().to_string())?;
    Ok(Json(SUCCESS))
}
