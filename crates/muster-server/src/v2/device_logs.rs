//! Files that a device is asked for.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use muster_core::access::Operation;
use muster_core::names::DevicePath;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::Error;
use crate::app::App;
use crate::artifactory::base_url;
use crate::fleet::devices;
use crate::http::{ApiBody, ApiError, ApiPath};
use crate::remote::logs;

/// Body of the request for files.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogsBody {
    /// A file or a folder on the device; absolute.
    #[schema(example = "/home/path/to/file")]
    files_path: String,
}

/// Where the files will be once the device has uploaded them.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogsRequested {
    download_url: String,
}

/// Ask a device for files.
///
/// The address is of use to any HTTP client for a week: whoever has it needs nothing else. It
/// answers 404 until the device has sent what it was asked for, and says so; also why, when
/// the device cannot. A file comes as it is, a folder as a tar. A device that is offline is
/// asked when it is back, within a day.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/devices/{device_uuid}/logs", operation_id = "RequestDeviceLogs", tag = "Devices",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
    ),
    request_body = LogsBody,
    responses(
        (status = 200, description = "The device has been asked", body = LogsRequested),
        (status = 400, description = "The path is wrong", body = Error),
        (status = 404, description = "No such fleet or device", body = Error),
        (status = 409, description = "The agent cannot do that, or has many requests to answer; nothing was changed", body = Error),
    ),
)]
pub async fn request(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    headers: HeaderMap,
    ApiBody(body): ApiBody<LogsBody>,
) -> Result<Json<LogsRequested>, ApiError> {
    let permitted = bearer.fleet(Operation::RequestDeviceLogs, &key).await?;
    let device = devices::find(app.store.read(), &permitted, &uuid).await?;
    let path = DevicePath::parse(body.files_path).map_err(|refusal| refusal.within("files_path"))?;
    let base = base_url(&app, &headers);
    let download_url = logs::request(&app, &permitted, &device, &path, &base).await?;
    Ok(Json(LogsRequested { download_url }))
}
