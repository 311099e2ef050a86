//! `POST /v1/send_app_monitor` and `GET /v1/app_monitor_details`.

use axum::Json;
use axum::extract::State;
use muster_core::access::Operation;
use muster_core::token::Secret;
use muster_core::wire::objects;
use muster_store::monitor::AppRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Asker;
use super::wire::{ErrorV1, SUCCESS, Success};
use crate::access::rate::Source;
use crate::app::App;
use crate::http::{ApiBody, ApiError};
use crate::telemetry::monitor::{self, SentValue, ValueFields};

/// Body of `POST /v1/send_app_monitor`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SendAppMonitor {
    #[schema(value_type = String)]
    user_token: Secret,
    #[schema(value_type = String)]
    device_token: Secret,
    #[serde(deserialize_with = "objects")]
    app_parameters: Vec<AppParameterValue>,
}

/// One value.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppParameterValue {
    /// It must exist in the project.
    app_parameter_name: String,
    /// A string, a number, true or false.
    app_parameter_value: Value,
}

const FIELDS: ValueFields = ValueFields { name: "app_parameter_name", value: "app_parameter_value" };

/// Send values of a device to the data monitor.
#[utoipa::path(
    post, path = "/v1/send_app_monitor", operation_id = "SendAppMonitor", tag = "API v1",
    request_body = SendAppMonitor,
    responses(
        (status = 200, description = "The values are stored", body = Success),
        (status = 400, description = "A field is wrong; nothing was stored", body = ErrorV1),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn send(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<SendAppMonitor>,
) -> Result<Json<Success>, ApiError> {
    let asker = Asker::new(&app, source);
    let operation = Operation::SendAppMonitor;
    let (permitted, device) = asker.caller_and_device(operation, &body.user_token, &body.device_token).await?;
    let sent = body.app_parameters.into_iter();
    let sent = sent.map(|sent| SentValue { name: sent.app_parameter_name, value: sent.app_parameter_value });
    monitor::record(&app, &permitted, &device, sent.collect(), FIELDS).await?;
    Ok(Json(SUCCESS))
}

/// Body of `GET /v1/app_monitor_details`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct GetAppMonitorDetails {
    #[schema(value_type = String)]
    user_token: Secret,
    #[schema(value_type = String)]
    device_token: Secret,
    /// If it is given, the device must be in that project.
    project_name: Option<String>,
}

/// Answer of `GET /v1/app_monitor_details`.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppMonitorDetails {
    /// The last 100, newest first.
    message: Vec<AppMonitorRecord>,
}

/// One value as it was sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppMonitorRecord {
    app_parameter_name: String,
    /// A string, a number, true or false.
    app_parameter_value: Value,
    #[schema(example = "2025-06-09 14:10:44")]
    time: String,
}

impl From<AppRecord> for AppMonitorRecord {
    fn from(record: AppRecord) -> Self {
        Self { app_parameter_name: record.name, app_parameter_value: record.value, time: record.at.to_spaced() }
    }
}

/// The last values of a device in the data monitor.
#[utoipa::path(
    get, path = "/v1/app_monitor_details", operation_id = "GetAppMonitorDetails", tag = "API v1",
    request_body = GetAppMonitorDetails,
    responses(
        (status = 200, description = "The values", body = AppMonitorDetails),
        (status = 400, description = "A field is wrong", body = ErrorV1),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn details(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<GetAppMonitorDetails>,
) -> Result<Json<AppMonitorDetails>, ApiError> {
    let asker = Asker::new(&app, source);
    let operation = Operation::GetAppMonitorDetails;
    let (_, device) = asker.caller_and_device(operation, &body.user_token, &body.device_token).await?;
    let records = monitor::last(&app, &device, body.project_name.as_deref()).await?;
    Ok(Json(AppMonitorDetails { message: records.into_iter().map(AppMonitorRecord::from).collect() }))
}
