//! The bytes of files of devices. Muster's own.

use std::io;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH,
    IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::DEVICE_WRITE_BYTES_MAX;
use muster_link::files::{FileAnswer, FileInfo, FileOperation};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Bearer;
use super::device_paths::{DeviceEntry, PathQuery, no_answer};
use super::wire::Error;
use crate::app::App;
use crate::error::OpError;
use crate::http::{ApiError, ApiPath, ApiQuery, attachment};
use crate::remote::files;

const SHA256: HeaderName = HeaderName::from_static("x-checksum-sha256");
/// RFC 9530: whether a digest of the whole is wanted, and the digest.
const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// Mode and time of a file that is written.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ModeQuery {
    /// Permissions of the file, as octal digits; those of the file before it, or 0644, otherwise
    #[param(value_type = String, required = false, example = "0644")]
    mode: Option<String>,
    /// When the file is said to have been changed, as RFC 3339; now, otherwise
    #[param(value_type = String, required = false, example = "2025-06-09T14:10:44Z")]
    modified_time: Option<String>,
}

/// A file that was written.
#[derive(Debug, Serialize, ToSchema)]
pub struct WrittenFile {
    file: DeviceEntry,
    /// Of its content, in lower-case hex
    sha256: String,
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

fn unquoted(tag: &str) -> String {
    tag.trim_matches('"').to_owned()
}

/// Where the only range that is asked for begins, and how long it is; nothing for what is
/// no range, or several, as RFC 9110 lets a server.
fn range(headers: &HeaderMap) -> Option<(i64, u64)> {
    let (from, to) = text(headers, &RANGE)?.strip_prefix("bytes=")?.split_once('-')?;
    if from.is_empty() {
        let last: i64 = to.parse().ok().filter(|last| *last > 0)?;
        return Some((-last, u64::MAX));
    }
    let from: i64 = from.parse().ok().filter(|from| *from >= 0)?;
    if to.is_empty() {
        return Some((from, u64::MAX));
    }
    let to: i64 = to.parse().ok().filter(|to| *to >= from)?;
    Some((from, (to - from).unsigned_abs() + 1))
}

fn headers_of(file: &FileInfo, length: u64) -> [(HeaderName, String); 6] {
    let name = file.name.rsplit('/').next().unwrap_or_default();
    [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, length.to_string()),
        (CONTENT_DISPOSITION, attachment(name)),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (ETAG, format!("\"{}\"", file.tag)),
    ]
}

/// The bytes of a file of a device, or a part of them.
///
/// `Range` with one range and `If-Range` are as in RFC 9110. What breaks off before its
/// `Content-Length` can be gone on with by them.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/devices/{device_uuid}/file_system/content", operation_id = "ReadDeviceFile",
    tag = "Remote sessions",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
        PathQuery,
    ),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream", body = String),
        (status = 206, description = "The part that was asked for", content_type = "application/octet-stream", body = String),
        (status = 400, description = "The path is wrong", body = Error),
        (status = 404, description = "No such fleet, device or file", body = Error),
        (status = 409, description = "It is no file, or the device cannot do that, or is offline", body = Error),
        (status = 416, description = "Nothing lies in the part that was asked for"),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn read(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, device)): ApiPath<(String, String)>,
    ApiQuery(place): ApiQuery<PathQuery>,
    asked: HeaderMap,
) -> Result<Response, ApiError> {
    let permitted = bearer.fleet(Operation::ReadDeviceFile, &key).await?;
    let (path, part) = (place.check()?, range(&asked));
    let (from, length) = part.unwrap_or((0, u64::MAX));
    let if_tag = text(&asked, &IF_RANGE).filter(|_| part.is_some()).map(unquoted);
    let read = FileOperation::Read { path: path.clone(), from, length, if_tag: if_tag.clone() };
    let begun = files::begin(&app, &permitted, &device, &path, read).await;
    let (exchange, answer) = match bearer.told(Operation::ReadDeviceFile, begun).await {
        Err(OpError::NotNow { code: "out_of_range", .. }) => {
            return Ok(StatusCode::RANGE_NOT_SATISFIABLE.into_response());
        }
        begun => begun?,
    };
    let FileAnswer::Done { file: Some(file), from, length: Some(length), .. } = answer else {
        return Err(no_answer().into());
    };
    let is_part = part.is_some() && if_tag.is_none_or(|tag| tag == file.tag);
    let mut response = (headers_of(&file, length), Body::from_stream(exchange.content())).into_response();
    if is_part && length > 0 {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {from}-{}/{}", from + length - 1, file.size);
        let range = range.parse().map_err(|_| OpError::Internal("a range that is no header".to_owned()))?;
        response.headers_mut().insert(CONTENT_RANGE, range);
    }
    Ok(response)
}

/// The size and the tag of a file of a device, as headers.
///
/// With `Want-Repr-Digest: sha-256=1` also its SHA-256, as `Repr-Digest` of RFC 9530: the
/// device reads the whole file for it. It is left out where that takes more than 45 s, and
/// where the file changes meanwhile.
#[utoipa::path(
    head, path = "/api/v2/{project_key}/devices/{device_uuid}/file_system/content", operation_id = "HeadDeviceFile",
    tag = "Remote sessions",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
        PathQuery,
    ),
    responses(
        (status = 200, description = "The headers that GET would have"),
        (status = 400, description = "The path is wrong"),
        (status = 401, description = "No valid access token"),
        (status = 403, description = "The permission is missing, or the file rules do not allow it"),
        (status = 404, description = "No such fleet, device or file"),
        (status = 409, description = "It is no file, or the device cannot do that, or is offline"),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn head(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, device)): ApiPath<(String, String)>,
    ApiQuery(place): ApiQuery<PathQuery>,
    asked: HeaderMap,
) -> Result<Response, ApiError> {
    let permitted = bearer.fleet(Operation::HeadDeviceFile, &key).await?;
    let path = place.check()?;
    let look = if wants_digest(&asked) {
        FileOperation::Digest { path: path.clone() }
    } else {
        FileOperation::Stat { path: path.clone() }
    };
    let answer = files::ask(&app, &permitted, &device, &path, look).await;
    match bearer.told(Operation::HeadDeviceFile, answer).await? {
        FileAnswer::Done { file: Some(file), sha256, .. } if file.kind == "file" => {
            let digest = sha256.as_deref().and_then(repr_digest).map(|digest| [(REPR_DIGEST, digest)]);
            Ok((headers_of(&file, file.size), digest.map(AppendHeaders), Body::empty()).into_response())
        }
        FileAnswer::Done { .. } => {
            let problem = Invalid::new("path", "it is no file");
            Err(OpError::NotNow { code: "wrong_kind", problem }.into())
        }
        _ => Err(no_answer().into()),
    }
}

/// Write a file on a device, in the place of the one that is there.
///
/// The file takes its place at once, when all of it is on the device's disk: until then, and
/// where anything goes wrong, what lay there stays as it was. `X-Checksum-Sha256` is compared
/// with what arrives. With `If-None-Match: *` nothing may lie there, with `If-Match` the
/// file of that tag. A link is followed; the file keeps mode and owner of the one before it.
#[utoipa::path(
    put, path = "/api/v2/{project_key}/devices/{device_uuid}/file_system/content", operation_id = "WriteDeviceFile",
    tag = "Remote sessions",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
        PathQuery,
        ModeQuery,
    ),
    request_body(content = String, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "The file lies in the place of an earlier one", body = WrittenFile),
        (status = 201, description = "The file is there", body = WrittenFile),
        (status = 400, description = "A parameter or a header is wrong, or other bytes came than they say", body = Error),
        (status = 404, description = "No such fleet, device or folder", body = Error),
        (status = 409, description = "What lies there is not as supposed, or the device cannot do that, or is offline", body = Error),
        (status = 413, description = "The body is too large", body = Error),
        (status = 507, description = "The device has no room", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn write(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, device)): ApiPath<(String, String)>,
    ApiQuery(place): ApiQuery<PathQuery>,
    ApiQuery(query): ApiQuery<ModeQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<WrittenFile>), ApiError> {
    let permitted = bearer.fleet(Operation::WriteDeviceFile, &key).await?;
    let path = place.check()?;
    let order = order(&path, &query, &headers)?;
    let begun = files::begin(&app, &permitted, &device, &path, order).await;
    let (exchange, answer) = bearer.told(Operation::WriteDeviceFile, begun).await?;
    if answer != FileAnswer::Ready {
        return Err(no_answer().into());
    }
    match exchange.send(&path, body.into_data_stream().map_err(io::Error::other)).await? {
        FileAnswer::Done { file: Some(file), sha256: Some(sha256), is_new, .. } => {
            let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, Json(WrittenFile { file: file.into(), sha256 })))
        }
        _ => Err(no_answer().into()),
    }
}

/// Whether a SHA-256 is wanted: a dictionary of algorithms with how much each is, 0 for not at all.
fn wants_digest(headers: &HeaderMap) -> bool {
    let wanted = text(headers, &WANT_REPR_DIGEST).unwrap_or_default().split(',');
    let mut wanted = wanted.map(|item| item.trim().split_once('=').unwrap_or((item.trim(), "1")));
    wanted.any(|(algorithm, how_much)| algorithm == "sha-256" && how_much.parse::<u8>().is_ok_and(|much| much > 0))
}

/// A SHA-256 in hex as RFC 9530 writes it; nothing for what is none.
fn repr_digest(sha256: &str) -> Option<String> {
    let pairs = sha256.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let bytes = pairs.collect::<Option<Vec<u8>>>().filter(|bytes| bytes.len() == 32)?;
    Some(format!("sha-256=:{}:", STANDARD.encode(bytes)))
}

fn order(path: &str, query: &ModeQuery, headers: &HeaderMap) -> Result<FileOperation, ApiError> {
    let size = text(headers, &CONTENT_LENGTH).and_then(|size| size.parse::<u64>().ok());
    if size.is_some_and(|size| size > DEVICE_WRITE_BYTES_MAX) {
        let bytes_max = usize::try_from(DEVICE_WRITE_BYTES_MAX).unwrap_or(usize::MAX);
        return Err(OpError::TooLarge { field: "body", bytes_max }.into());
    }
    let sha256 = text(headers, &SHA256).map(str::to_ascii_lowercase);
    if let Some(wrong) = sha256.as_ref().filter(|sum| sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Err(Invalid::new("X-Checksum-Sha256", format!("{} is no SHA-256 in hex", quoted(wrong))).into());
    }
    let if_absent = match text(headers, &IF_NONE_MATCH) {
        None => false,
        Some("*") => true,
        Some(other) => return Err(Invalid::new("If-None-Match", format!("{} is not *", quoted(other))).into()),
    };
    let mode = query.mode.as_deref().map(mode).transpose()?;
    let modified_at = query.modified_time.as_deref().map(moment).transpose()?;
    let if_tag = text(headers, &IF_MATCH).map(unquoted);
    Ok(FileOperation::Write { path: path.to_owned(), size, sha256, mode, modified_at, if_absent, if_tag })
}

fn moment(text: &str) -> Result<i64, Invalid> {
    let moment = Timestamp::from_rfc3339(text).map(Timestamp::as_millis);
    moment.ok_or_else(|| Invalid::new("modified_time", format!("{} is no time of RFC 3339", quoted(text))))
}

pub(super) fn mode(text: &str) -> Result<u32, Invalid> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| Invalid::new("mode", format!("{} is no mode from 0 to 0777", quoted(text))))
}

/// A folder of a device as a tar.
///
/// Links are packed as links, and none is followed. What the rules do not allow, what is
/// neither file, folder nor link, and what lies on another file system is left out, and
/// named in a file `….omitted.txt` beside the folder. A tar that breaks off is not whole.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/devices/{device_uuid}/file_system/archive", operation_id = "GetDeviceArchive",
    tag = "Remote sessions",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
        PathQuery,
    ),
    responses(
        (status = 200, description = "The archive", content_type = "application/x-tar", body = String),
        (status = 400, description = "The path is wrong", body = Error),
        (status = 404, description = "No such fleet, device or folder", body = Error),
        (status = 409, description = "It is no folder, or the device cannot do that, or is offline", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn archive(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, device)): ApiPath<(String, String)>,
    ApiQuery(place): ApiQuery<PathQuery>,
) -> Result<Response, ApiError> {
    let permitted = bearer.fleet(Operation::GetDeviceArchive, &key).await?;
    let path = place.check()?;
    let archive = FileOperation::Archive { path: path.clone() };
    let begun = files::begin(&app, &permitted, &device, &path, archive).await;
    let (exchange, answer) = bearer.told(Operation::GetDeviceArchive, begun).await?;
    let FileAnswer::Done { file: Some(folder), .. } = answer else { return Err(no_answer().into()) };
    let name = folder.name.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("root");
    let headers = [
        (CONTENT_TYPE, "application/x-tar".to_owned()),
        (CONTENT_DISPOSITION, attachment(&format!("{name}.tar"))),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(exchange.content())).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read_and_nothing_else_is() {
        let range = |text: &str| range(&HeaderMap::from_iter([(RANGE, text.parse().unwrap())]));
        assert_eq!(range("bytes=0-0"), Some((0, 1)));
        assert_eq!(range("bytes=5-"), Some((5, u64::MAX)));
        assert_eq!(range("bytes=-7"), Some((-7, u64::MAX)));
        for none in ["bytes=", "bytes=-", "bytes=-0", "bytes=7-5", "bytes=0-1,3-4", "lines=0-1", "bytes=--1"] {
            assert_eq!(range(none), None, "{none}");
        }
        assert_eq!(super::range(&HeaderMap::new()), None);
    }

    #[test]
    fn a_digest_is_wanted_and_told_as_rfc_9530_has_it() {
        let wants = |text: &str| wants_digest(&HeaderMap::from_iter([(WANT_REPR_DIGEST, text.parse().unwrap())]));
        assert!(wants("sha-256=1") && wants("sha-512=3, sha-256=10") && wants("sha-256"));
        assert!(!wants("sha-256=0") && !wants("sha-512=3") && !wants("") && !wants_digest(&HeaderMap::new()));
        let sum = "d435ed04ab1e72d7d9d8a7d4b1ed2a7d8e9fe1dd1c3ab2a9d1a6b5a0f3cb1c4e";
        assert!(repr_digest(sum).unwrap().starts_with("sha-256=:1DXtBKs"));
        assert_eq!((repr_digest("xx"), repr_digest("00")), (None, None));
    }

    #[test]
    fn a_mode_has_no_more_than_permissions() {
        assert_eq!((mode("0640"), mode("777")), (Ok(0o640), Ok(0o777)));
        for wrong in ["", "8", "4755", "-1", "rw"] {
            assert_eq!(mode(wrong).unwrap_err().field, "mode", "{wrong}");
        }
    }
}
