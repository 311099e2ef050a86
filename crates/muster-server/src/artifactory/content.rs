//! Artifacts: stored, fetched, deleted.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use muster_core::access::Operation;
use muster_core::artifact::Expected;
use muster_core::invalid::Invalid;
use muster_core::limits::{ARTIFACT_UPLOAD_TIMEOUT, NAME_CHARS_MAX};
use muster_core::names::ArtifactPath;
use muster_store::artifacts::Artifact;

use super::Asker;
use super::headers::{Answer, answer, head as headers_of};
use super::wire::{ArtifactoryErrors, FileInfo};
use crate::access::artifacts::PermittedRepository;
use crate::app::App;
use crate::artifacts::{reading, storing};
use crate::error::OpError;
use crate::http::{ApiError, ApiPath};

/// How long the next piece of an artifact may be on its way.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// An artifact, or a part of it.
///
/// `Range` with one range, `If-Range`, `If-None-Match` and `If-Modified-Since` are as in RFC 9110.
#[utoipa::path(
    get, path = "/artifactory/{repository}/{*path}", operation_id = "GetArtifact", tag = "Artifacts",
    params(
        ("repository" = String, Path, description = "The repository"),
        ("path" = String, Path, description = "Where the artifact lies in it"),
    ),
    responses(
        (status = 200, description = "The artifact", content_type = "application/octet-stream", body = String),
        (status = 206, description = "The part that was asked for", content_type = "application/octet-stream", body = String),
        (status = 304, description = "The caller has it already"),
        (status = 401, description = "No valid access token", body = ArtifactoryErrors),
        (status = 403, description = "The permission is missing", body = ArtifactoryErrors),
        (status = 404, description = "No such repository or artifact", body = ArtifactoryErrors),
        (status = 416, description = "Nothing lies in the part that was asked for"),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    asker: Asker,
    ApiPath((name, path)): ApiPath<(String, String)>,
    asked: HeaderMap,
) -> Result<Response, ApiError> {
    let permitted = asker.repository(Operation::GetArtifact, &name, &path).await?;
    let artifact = reading::artifact(&app, &permitted, &path, asker.grant()).await?;
    let answer = answer(&asked, &artifact);
    let (status, headers) = headers_of(&artifact, answer);
    let Answer::Part(part) = answer else { return Ok((status, headers).into_response()) };
    reading::note_fetch(&app, &permitted, &artifact).await?;
    let size = u64::try_from(artifact.blob.size).unwrap_or_default();
    let content = app.objects.read(artifact.blob.id, part.bounds(size)).await?;
    Ok((status, headers, Body::from_stream(content)).into_response())
}

/// What an artifact is, without its content.
#[utoipa::path(
    head, path = "/artifactory/{repository}/{*path}", operation_id = "HeadArtifact", tag = "Artifacts",
    params(
        ("repository" = String, Path, description = "The repository"),
        ("path" = String, Path, description = "Where the artifact lies in it"),
    ),
    responses(
        (status = 200, description = "The headers that GET would have"),
        (status = 304, description = "The caller has it already"),
        (status = 401, description = "No valid access token"),
        (status = 403, description = "The permission is missing"),
        (status = 404, description = "No such repository or artifact"),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn head(
    State(app): State<App>,
    asker: Asker,
    ApiPath((name, path)): ApiPath<(String, String)>,
    mut asked: HeaderMap,
) -> Result<Response, ApiError> {
    let permitted = asker.repository(Operation::HeadArtifact, &name, &path).await?;
    let artifact = reading::artifact(&app, &permitted, &path, asker.grant()).await?;
    // A range is for GET alone.
    asked.remove(axum::http::header::RANGE);
    let (status, headers) = headers_of(&artifact, answer(&asked, &artifact));
    Ok((status, headers).into_response())
}

/// Store an artifact, in the place of an earlier one.
///
/// `X-Checksum-Sha256`, `X-Checksum-Sha1` and `X-Checksum-Md5` are compared with what
/// arrives. With `X-Checksum-Deploy: true` there is no body: the artifact gets the content of
/// that SHA-256, which the caller must see in a repository already. What follows a `;` in the
/// path, Artifactory's properties, is not kept.
#[utoipa::path(
    put, path = "/artifactory/{repository}/{*path}", operation_id = "StoreArtifact", tag = "Artifacts",
    params(
        ("repository" = String, Path, description = "The repository"),
        ("path" = String, Path, description = "Where the artifact is to lie in it"),
    ),
    request_body(content = String, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "The artifact is stored", body = FileInfo),
        (status = 400, description = "The path or a header is wrong; nothing was stored", body = ArtifactoryErrors),
        (status = 401, description = "No valid access token", body = ArtifactoryErrors),
        (status = 403, description = "The permission is missing", body = ArtifactoryErrors),
        (status = 404, description = "No such repository, or content for X-Checksum-Deploy", body = ArtifactoryErrors),
        (status = 408, description = "The body came too slowly; nothing was stored", body = ArtifactoryErrors),
        (status = 409, description = "What arrived is not what a checksum says, or a folder is in the way; nothing was stored", body = ArtifactoryErrors),
        (status = 413, description = "The body is too large; nothing was stored", body = ArtifactoryErrors),
        (status = 507, description = "The server has no room, or the account may have no more; nothing was stored", body = ArtifactoryErrors),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn put(
    State(app): State<App>,
    asker: Asker,
    ApiPath((name, path)): ApiPath<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let path = path.split_once(';').map_or(path.as_str(), |(path, _)| path);
    let permitted = asker.repository(Operation::StoreArtifact, &name, path).await?;
    let order = order(&app, path, &headers)?;
    let artifact = if is_set(&headers, "x-checksum-deploy") {
        storing::store_known(&app, &permitted, &order).await?
    } else {
        arrive(&app, &permitted, &order, body).await?
    };
    let info = FileInfo::new(asker.base(), &permitted.repository().name, &artifact);
    let mut response = (StatusCode::CREATED, Json(&info)).into_response();
    if let Ok(place) = HeaderValue::from_str(info.download_uri()) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(response)
}

async fn arrive(
    app: &App,
    permitted: &PermittedRepository,
    order: &storing::StoreOrder,
    body: Body,
) -> Result<Artifact, ApiError> {
    let whole = storing::store(app, permitted, order, Box::pin(pieces(body)));
    tokio::time::timeout(ARTIFACT_UPLOAD_TIMEOUT, whole).await.map_err(|_| ApiError::TooSlow)?
}

/// The body piece by piece, each of which must come in time.
fn pieces(body: Body) -> impl Stream<Item = Result<Bytes, ApiError>> {
    stream::unfold(Some(body.into_data_stream()), |body| async move {
        let mut body = body?;
        match tokio::time::timeout(PIECE_TIMEOUT, body.next()).await {
            Err(_) => Some((Err(ApiError::TooSlow), None)),
            Ok(None) => None,
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(body))),
            Ok(Some(Err(error))) => {
                let broken = Invalid::new("", format!("the body did not arrive whole: {error}"));
                Some((Err(broken.into()), None))
            }
        }
    })
}

fn order(app: &App, path: &str, headers: &HeaderMap) -> Result<storing::StoreOrder, ApiError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bytes_max = app.config.artifact_bytes_max;
    // Said before, so that a client need not send it all to hear it.
    let bytes_said = text(CONTENT_LENGTH.as_str()).and_then(|size| size.parse::<u64>().ok());
    if bytes_said.is_some_and(|size| size > bytes_max) {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        return Err(OpError::TooLarge { field: "body", bytes_max }.into());
    }
    let mime_type = text(CONTENT_TYPE.as_str()).map(str::trim).filter(|kind| !kind.is_empty());
    let mime_type = mime_type.filter(|kind| kind.len() <= NAME_CHARS_MAX).unwrap_or(storing::MIME_TYPE);
    let expected = Expected::parse(text("x-checksum-sha256"), text("x-checksum-sha1"), text("x-checksum-md5"))?;
    Ok(storing::StoreOrder {
        path: ArtifactPath::parse(path).map_err(|refusal| refusal.within("path"))?,
        mime_type: mime_type.to_owned(),
        expected,
        bytes_max,
        bytes_said,
    })
}

fn is_set(headers: &HeaderMap, name: &str) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// Delete an artifact, or a folder with all that lies in it.
#[utoipa::path(
    delete, path = "/artifactory/{repository}/{*path}", operation_id = "DeleteArtifact", tag = "Artifacts",
    params(
        ("repository" = String, Path, description = "The repository"),
        ("path" = String, Path, description = "Where it lies in it"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, description = "No valid access token", body = ArtifactoryErrors),
        (status = 403, description = "The permission is missing", body = ArtifactoryErrors),
        (status = 404, description = "No such repository, artifact or folder", body = ArtifactoryErrors),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    asker: Asker,
    ApiPath((name, path)): ApiPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let permitted = asker.repository(Operation::DeleteArtifact, &name, &path).await?;
    reading::delete(&app, &permitted, &path).await?;
    Ok(StatusCode::NO_CONTENT)
}
