//! The devices that were deleted from a fleet, and how one may come back.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_store::device_deletion;
use serde::Serialize;
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo};
use crate::app::App;
use crate::http::{ApiError, ApiPath, ApiQuery};

/// A device that was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedDevice {
    device_uuid: String,
    device_name: String,
    /// Its hardware addresses, or what it registered with.
    identifiers: Vec<String>,
    #[schema(example = "2025-06-09T14:10:44Z")]
    deleted_at: String,
}

impl From<device_deletion::DeletedDevice> for DeletedDevice {
    fn from(device: device_deletion::DeletedDevice) -> Self {
        Self {
            device_uuid: device.uuid,
            device_name: device.name,
            identifiers: device.identifiers,
            deleted_at: device.deleted_at.to_rfc3339(),
        }
    }
}

/// A page of deleted devices.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedDevicePage {
    deleted_devices: Vec<DeletedDevice>,
    pagination_info: PaginationInfo,
}

/// The devices that were deleted from a fleet.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/deleted-devices", operation_id = "ListDeletedDevices", tag = "Devices",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of deleted devices", body = DeletedDevicePage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<DeletedDevicePage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListDeletedDevices, &key).await?;
    let (page, store, fleet_id) = (query.page()?, app.store.read(), permitted.fleet().id);
    let (rows, is_more) = store.deleted_devices_page(fleet_id, page.after, page.limit).await?;
    let after = page.next(rows.last().map(|device| device.id), is_more);
    let total = store.deleted_devices_count(fleet_id).await?;
    let deleted_devices = rows.into_iter().map(DeletedDevice::from).collect();
    Ok(Json(DeletedDevicePage { deleted_devices, pagination_info: PaginationInfo { after, total } }))
}

/// Let a deleted device come back.
///
/// Forgets that it was deleted: the same key, or the same identifiers, may
/// register again, as a new device.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/deleted-devices/{device_uuid}/forget", operation_id = "ForgetDeletedDevice",
    tag = "Devices",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device that was deleted"),
    ),
    responses(
        (status = 204, description = "It may register again"),
        (status = 404, description = "No such fleet or deleted device", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn forget(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.fleet(Operation::ForgetDeletedDevice, &key).await?;
    crate::fleet::device_deletion::forget(&app, &permitted, &uuid).await?;
    Ok(StatusCode::NO_CONTENT)
}
