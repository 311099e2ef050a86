//! Deleting devices. Connect keeps this in its web console; the calls are Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::filter::{DeviceFilter, WireDeviceFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::Error;
use crate::app::App;
use crate::fleet::device_deletion;
use crate::http::{ApiBody, ApiError, ApiPath};

/// Delete a device.
///
/// With everything that hangs on it: tags, apps, its part in deployments. Its link
/// ends at once, and it is told that it was deleted whenever it asks again.
#[utoipa::path(
    delete, path = "/api/v2/{project_key}/devices/{device_uuid}", operation_id = "DeleteDevice", tag = "Devices",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
    ),
    responses(
        (status = 204, description = "The device is gone"),
        (status = 404, description = "No such fleet or device", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.fleet(Operation::DeleteDevice, &key).await?;
    device_deletion::delete(&app, &permitted, &uuid).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Body of the deletion of many devices.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteDevicesBody {
    /// Which devices; an empty filter is the whole fleet. `devices_filter` is understood too.
    #[serde(alias = "devices_filter")]
    device_filter: WireDeviceFilter,
    /// How many devices that is: with another number nothing is deleted.
    expected_count: u64,
}

/// How many devices were deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedCount {
    deleted: u64,
}

/// Delete every device that a filter matches.
///
/// All of them in one transaction, if they are as many as `expected_count` says.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/devices/delete", operation_id = "DeleteDevices", tag = "Devices",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = DeleteDevicesBody,
    responses(
        (status = 200, description = "The devices are gone", body = DeletedCount),
        (status = 400, description = "A field is wrong; nothing was deleted", body = Error),
        (status = 404, description = "No such fleet", body = Error),
        (status = 409, description = "Another number of devices matches; nothing was deleted", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete_many(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<DeleteDevicesBody>,
) -> Result<Json<DeletedCount>, ApiError> {
    let permitted = bearer.fleet(Operation::DeleteDevices, &key).await?;
    let wire_filter = serde_json::json!(body.device_filter);
    let filter = DeviceFilter::try_from(body.device_filter).map_err(|refusal| refusal.within("device_filter"))?;
    let deleted = device_deletion::delete_many(&app, &permitted, &filter, &wire_filter, body.expected_count).await?;
    Ok(Json(DeletedCount { deleted }))
}
