//! `DELETE /v1/device_apps`.

use axum::Json;
use axum::extract::State;
use muster_core::access::Operation;
use muster_core::names::AppName;
use muster_core::token::Secret;
use muster_core::wire::object;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Asker;
use super::wire::{DeviceFilterV1, ErrorV1, SUCCESS, Success};
use crate::access::rate::Source;
use crate::app::App;
use crate::fleet::apps;
use crate::http::{ApiBody, ApiError};

/// Body of `DELETE /v1/device_apps`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct DeleteDeviceApps {
    #[schema(value_type = String)]
    user_token: Secret,
    /// The app; it must exist.
    app_name: String,
    /// `devices_filter` is understood too.
    #[serde(alias = "devices_filter", deserialize_with = "object")]
    device_filter: DeviceFilterV1,
}

/// Take an app off devices.
///
/// Takes the app off every device that the filter matches, in one transaction.
/// The app itself stays.
#[utoipa::path(
    delete, path = "/v1/device_apps", operation_id = "DeleteDeviceApps", tag = "API v1",
    request_body = DeleteDeviceApps,
    responses(
        (status = 200, description = "The app is off every matching device", body = Success),
        (status = 400, description = "A field is wrong; nothing was changed", body = ErrorV1),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn delete(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<DeleteDeviceApps>,
) -> Result<Json<Success>, ApiError> {
    let name = AppName::parse(body.app_name).map_err(|refusal| refusal.within("app_name"))?;
    let asker = Asker::new(&app, source);
    let operation = Operation::DeleteDeviceApps;
    let (permitted, filter) = asker.caller_and_filter(operation, &body.user_token, body.device_filter).await?;
    apps::remove(&app, &permitted, &name, &filter).await?;
    Ok(Json(SUCCESS))
}
