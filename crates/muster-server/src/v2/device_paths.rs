//! What lies at paths of devices. Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::invalid::Invalid;
use muster_link::files::{FileAnswer, FileInfo, FileOperation};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Bearer;
use super::device_content::mode;
use super::wire::{Error, PageQuery, PaginationInfo};
use crate::app::App;
use crate::error::OpError;
use crate::http::{ApiError, ApiPath, ApiQuery};
use crate::remote::files;

/// Where on the device.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PathQuery {
    /// An absolute path on the device
    #[param(value_type = String, example = "/var/log")]
    path: Option<String>,
}

/// Mode of a folder that is made.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FolderQuery {
    /// Permissions of the folder, as octal digits; 0755 otherwise
    #[param(value_type = String, required = false, example = "0755")]
    mode: Option<String>,
}

impl PathQuery {
    pub(super) fn check(self) -> Result<String, Invalid> {
        self.path.ok_or_else(|| Invalid::missing("path"))
    }
}

/// What lies at a path of a device.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceEntry {
    /// Its name in its folder; of what was asked for, its whole path, without links.
    name: String,
    /// `file`, `folder`, `link`, or `other`
    kind: String,
    size: u64,
    /// Permissions, as octal digits
    #[schema(example = "0644")]
    mode: String,
    uid: u32,
    gid: u32,
    #[schema(example = "2025-06-09T14:10:44Z")]
    modified_time: String,
    /// Where a link points; null for everything else
    link_target: Option<String>,
    /// Another one when it has changed
    etag: String,
}

impl From<FileInfo> for DeviceEntry {
    fn from(file: FileInfo) -> Self {
        Self {
            name: file.name,
            kind: file.kind,
            size: file.size,
            mode: file.mode,
            uid: file.uid,
            gid: file.gid,
            modified_time: Timestamp::from_millis(file.modified_at).to_rfc3339(),
            link_target: file.link_target,
            etag: format!("\"{}\"", file.tag),
        }
    }
}

/// What lies at a path, and a page of what lies in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceFolderPage {
    file: DeviceEntry,
    entries: Vec<DeviceEntry>,
    pagination_info: PaginationInfo,
}

/// What was asked of a device is done, but its answer is none.
pub(super) fn no_answer() -> OpError {
    OpError::NotNow { code: "device_refused", problem: Invalid::new("device_uuid", "the device's answer is none") }
}

/// What lies at a path of a device; of a folder, also what lies in it, by name.
///
/// Links are followed; the rules are held against where they lead.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/devices/{device_uuid}/file_system", operation_id = "GetDevicePath",
    tag = "Remote sessions",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
        PathQuery,
        PageQuery,
    ),
    responses(
        (status = 200, description = "What lies there", body = DeviceFolderPage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet, device or file", body = Error),
        (status = 409, description = "The device cannot do that, or is offline", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, device)): ApiPath<(String, String)>,
    ApiQuery(place): ApiQuery<PathQuery>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<DeviceFolderPage>, ApiError> {
    let permitted = bearer.fleet(Operation::GetDevicePath, &key).await?;
    let (path, page) = (place.check()?, query.page_by::<String>()?);
    let limit = usize::try_from(page.limit).unwrap_or(1);
    let list = FileOperation::List { path: path.clone(), after: page.after.clone().unwrap_or_default(), limit };
    let answer = files::ask(&app, &permitted, &device, &path, list).await;
    let FileAnswer::Listed { file, entries, next, total } = bearer.told(Operation::GetDevicePath, answer).await? else {
        return Err(no_answer().into());
    };
    let is_more = next.is_some();
    let after = page.next(next, is_more);
    let entries = entries.into_iter().map(DeviceEntry::from).collect();
    Ok(Json(DeviceFolderPage { file: file.into(), entries, pagination_info: PaginationInfo { after, total } }))
}

/// Delete a file, a link or an empty folder of a device.
#[utoipa::path(
    delete, path = "/api/v2/{project_key}/devices/{device_uuid}/file_system", operation_id = "DeleteDevicePath",
    tag = "Remote sessions",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
        PathQuery,
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 400, description = "The path is wrong", body = Error),
        (status = 404, description = "No such fleet, device or file", body = Error),
        (status = 409, description = "The device cannot do that, or is offline", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, device)): ApiPath<(String, String)>,
    ApiQuery(place): ApiQuery<PathQuery>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.fleet(Operation::DeleteDevicePath, &key).await?;
    let path = place.check()?;
    let delete = FileOperation::Delete { path: path.clone() };
    let answer = files::ask(&app, &permitted, &device, &path, delete).await;
    bearer.told(Operation::DeleteDevicePath, answer).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a folder on a device, in one that is there.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/devices/{device_uuid}/file_system/folder",
    operation_id = "CreateDeviceFolder", tag = "Remote sessions",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
        PathQuery,
        FolderQuery,
    ),
    responses(
        (status = 201, description = "The folder", body = DeviceEntry),
        (status = 400, description = "The path is wrong", body = Error),
        (status = 404, description = "No such fleet or device, or nothing it could lie in", body = Error),
        (status = 409, description = "Something lies there, or the device cannot do that, or is offline", body = Error),
        (status = 507, description = "The device has no room", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn make_folder(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, device)): ApiPath<(String, String)>,
    ApiQuery(place): ApiQuery<PathQuery>,
    ApiQuery(query): ApiQuery<FolderQuery>,
) -> Result<(StatusCode, Json<DeviceEntry>), ApiError> {
    let permitted = bearer.fleet(Operation::CreateDeviceFolder, &key).await?;
    let path = place.check()?;
    let mode = query.mode.as_deref().map(mode).transpose()?;
    let make = FileOperation::MakeFolder { path: path.clone(), mode };
    let answer = files::ask(&app, &permitted, &device, &path, make).await;
    match bearer.told(Operation::CreateDeviceFolder, answer).await? {
        FileAnswer::Done { file: Some(file), .. } => Ok((StatusCode::CREATED, Json(file.into()))),
        _ => Err(no_answer().into()),
    }
}
