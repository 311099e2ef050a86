//! What devices need of the account's registries, fetched for them.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT, ACCEPT_RANGES, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::response::{IntoResponse, Response};
use muster_core::artifact::Grant;
use muster_core::limits::REGISTRY_REQUEST_BYTES_MAX;

use crate::access::rate::Source;
use crate::app::App;
use crate::artifacts::grants;
use crate::artifacts::upstream::{self, Question, Told};
use crate::error::OpError;
use crate::http::{ApiError, ApiPath};
use crate::v2::wire::Error;

/// Which version of its protocol a Git client speaks.
const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");
/// Handed on to the registry.
const ASKED: [HeaderName; 6] = [ACCEPT, RANGE, IF_RANGE, CONTENT_TYPE, CONTENT_ENCODING, GIT_PROTOCOL];
/// Handed on to the device.
const TOLD: [HeaderName; 8] =
    [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_ENCODING, ACCEPT_RANGES, ETAG, LAST_MODIFIED, CACHE_CONTROL];

/// What a device needs of a registry.
///
/// A device gets the address and the grant with its run. `Range` is handed on. Of a repository of Git it answers what a clone asks for.
#[utoipa::path(
    get, path = "/link/v1/registries/{registry}/{*path}", operation_id = "FetchFromRegistry", tag = "Device link",
    params(
        ("registry" = String, Path, description = "The registry"),
        ("path" = String, Path, description = "Where it lies there"),
    ),
    responses(
        (status = 200, description = "What the registry has", content_type = "application/octet-stream", body = String),
        (status = 206, description = "The part that was asked for", content_type = "application/octet-stream", body = String),
        (status = 401, description = "No grant, or it has ended", body = Error),
        (status = 404, description = "The grant is not for that, or the registry does not have it", body = Error),
        (status = 416, description = "Nothing lies in the part that was asked for"),
        (status = 424, description = "The registry refused it", body = Error),
        (status = 502, description = "The registry cannot be reached, or does not do its part", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    _source: Source,
    ApiPath((name, path)): ApiPath<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let grant = granted(&app, &headers)?;
    let question = question(Method::GET, path, &uri, &headers, Body::empty()).await?;
    Ok(answer(upstream::ask(&app, &grant, &name, &question).await?))
}

/// What a clone asks a Git server for.
///
/// The smart protocol over HTTP, for reading alone.
#[utoipa::path(
    post, path = "/link/v1/registries/{registry}/{*path}", operation_id = "CloneFromRegistry", tag = "Device link",
    params(
        ("registry" = String, Path, description = "The registry"),
        ("path" = String, Path, description = "The repository there, and `/git-upload-pack`"),
    ),
    request_body(content = String, content_type = "application/x-git-upload-pack-request"),
    responses(
        (status = 200, description = "What the Git server answers", content_type = "application/x-git-upload-pack-result", body = String),
        (status = 401, description = "No grant, or it has ended", body = Error),
        (status = 404, description = "The grant is not for that, or the registry does not have it", body = Error),
        (status = 413, description = "The body is too large", body = Error),
        (status = 424, description = "The registry refused it", body = Error),
        (status = 502, description = "The registry cannot be reached, or does not do its part", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn post(
    State(app): State<App>,
    _source: Source,
    ApiPath((name, path)): ApiPath<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let grant = granted(&app, &headers)?;
    let question = question(Method::POST, path, &uri, &headers, body).await?;
    Ok(answer(upstream::ask(&app, &grant, &name, &question).await?))
}

fn granted(app: &App, headers: &HeaderMap) -> Result<Grant, OpError> {
    let text = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let refused = || OpError::Unauthenticated("a grant is needed".to_owned());
    let token = token.map(|(_, token)| token.trim()).filter(|token| grants::is_grant(token)).ok_or_else(refused)?;
    grants::open(app, token)
}

async fn question(
    method: Method,
    path: String,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<Question, ApiError> {
    let bytes_max = REGISTRY_REQUEST_BYTES_MAX;
    let body = axum::body::to_bytes(body, bytes_max).await.map_err(|_| ApiError::TooLarge { bytes_max })?;
    let asked = picked(headers, &ASKED);
    Ok(Question { method, path, query: uri.query().map(ToOwned::to_owned), headers: asked, body })
}

fn answer(told: Told) -> Response {
    let (status, mut headers) = (told.status, picked(&told.headers, &TOLD));
    // What a registry has must not run as one of this server's pages.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    (status, headers, Body::from_stream(told.body())).into_response()
}

fn picked(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    names.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect()
}
