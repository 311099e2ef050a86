//! Files that a device has sent. Connect shows them in its web console; the calls are Muster's own.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use muster_core::access::Operation;
use muster_store::device_files as store;
use serde::Serialize;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo};
use crate::app::App;
use crate::fleet::devices;
use crate::http::{ApiError, ApiPath, ApiQuery, attachment};
use crate::telemetry::device_files;

/// A file that a device has sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceFile {
    name: String,
    /// Bytes.
    size: i64,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
}

impl From<store::DeviceFile> for DeviceFile {
    fn from(file: store::DeviceFile) -> Self {
        Self { name: file.name, size: file.size, created_time: file.created_at.to_rfc3339() }
    }
}

/// A page of files.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceFilePage {
    /// Newest first.
    files: Vec<DeviceFile>,
    pagination_info: PaginationInfo,
}

/// The files that a device has sent, newest first: names and sizes.
///
/// There are at most 30.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/devices/{device_uuid}/files", operation_id = "ListDeviceFiles", tag = "Devices",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of files", body = DeviceFilePage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet or device", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<DeviceFilePage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListDeviceFiles, &key).await?;
    let (page, store) = (query.page()?, app.store.read());
    let device = devices::find(store, &permitted, &uuid).await?;
    let (rows, is_more) = store.device_files_page(device.id, page.after, page.limit).await?;
    let after = page.next(rows.last().map(|file| file.id), is_more);
    let total = store.device_files_count(device.id).await?;
    let files = rows.into_iter().map(DeviceFile::from).collect();
    Ok(Json(DeviceFilePage { files, pagination_info: PaginationInfo { after, total } }))
}

/// A file that a device has sent.
///
/// Needs `remote_access`, and is noted in the audit log: what a log holds is as sensitive
/// as what a terminal shows.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/devices/{device_uuid}/files/{file_name}", operation_id = "GetDeviceFile",
    tag = "Devices",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
        ("file_name" = String, Path, description = "The file's name"),
    ),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream", body = String),
        (status = 404, description = "No such fleet, device or file", body = Error),
        (status = 409, description = "Another server of the same database has the file", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid, name)): ApiPath<(String, String, String)>,
) -> Result<Response, ApiError> {
    let permitted = bearer.fleet(Operation::GetDeviceFile, &key).await?;
    let (file, content) = device_files::open(&app, &permitted, &uuid, &name).await?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, file.size.to_string()),
        (CONTENT_DISPOSITION, attachment(&file.name)),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(pieces(content))).into_response())
}

/// Delete a file that a device has sent.
#[utoipa::path(
    delete, path = "/api/v2/{project_key}/devices/{device_uuid}/files/{file_name}", operation_id = "DeleteDeviceFile",
    tag = "Devices",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
        ("file_name" = String, Path, description = "The file's name"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such fleet, device or file", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid, name)): ApiPath<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.fleet(Operation::DeleteDeviceFile, &key).await?;
    device_files::delete(&app, &permitted, &uuid, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read from the disk at once.
const PIECE_BYTES: usize = 64 * 1024;

pub(super) fn pieces(content: File) -> impl Stream<Item = std::io::Result<Bytes>> {
    stream::try_unfold(content, |mut content| async move {
        let mut piece = vec![0; PIECE_BYTES];
        let read = content.read(&mut piece).await?;
        piece.truncate(read);
        Ok((read > 0).then(|| (Bytes::from(piece), content)))
    })
}
