//! What is known of artifacts and folders.

use axum::Json;
use axum::extract::State;
use muster_core::access::Operation;

use super::Asker;
use super::wire::{ArtifactoryErrors, FileInfo, FolderInfo, ItemInfo};
use crate::app::App;
use crate::artifacts::reading::{self, Found};
use crate::http::{ApiError, ApiPath};

/// What is known of a repository: what lies in it.
#[utoipa::path(
    get, path = "/artifactory/api/storage/{repository}", operation_id = "GetRepositoryInfo", tag = "Artifacts",
    params(("repository" = String, Path, description = "The repository")),
    responses(
        (status = 200, description = "The folder that all others lie in", body = ItemInfo),
        (status = 401, description = "No valid access token", body = ArtifactoryErrors),
        (status = 403, description = "The permission is missing", body = ArtifactoryErrors),
        (status = 404, description = "No such repository", body = ArtifactoryErrors),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn repository(
    State(app): State<App>,
    asker: Asker,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<ItemInfo>, ApiError> {
    info(&app, &asker, Operation::GetRepositoryInfo, &name, "").await
}

/// What is known of an artifact or a folder.
#[utoipa::path(
    get, path = "/artifactory/api/storage/{repository}/{*path}", operation_id = "GetArtifactInfo", tag = "Artifacts",
    params(
        ("repository" = String, Path, description = "The repository"),
        ("path" = String, Path, description = "Where it lies in it"),
    ),
    responses(
        (status = 200, description = "The artifact, or the folder with what lies in it", body = ItemInfo),
        (status = 401, description = "No valid access token", body = ArtifactoryErrors),
        (status = 403, description = "The permission is missing", body = ArtifactoryErrors),
        (status = 404, description = "No such repository, artifact or folder", body = ArtifactoryErrors),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn item(
    State(app): State<App>,
    asker: Asker,
    ApiPath((name, path)): ApiPath<(String, String)>,
) -> Result<Json<ItemInfo>, ApiError> {
    info(&app, &asker, Operation::GetArtifactInfo, &name, &path).await
}

async fn info(
    app: &App,
    asker: &Asker,
    operation: Operation,
    name: &str,
    path: &str,
) -> Result<Json<ItemInfo>, ApiError> {
    let permitted = asker.repository(operation, name, path).await?;
    let (base, repository) = (asker.base(), permitted.repository().name.as_str());
    Ok(Json(match reading::find(app, &permitted, path).await? {
        Found::Artifact(artifact) => ItemInfo::File(Box::new(FileInfo::new(base, repository, &artifact))),
        Found::Folder(folder, children) => {
            ItemInfo::Folder(Box::new(FolderInfo::new(base, repository, &folder, &children)))
        }
    }))
}

/// Whether the artifact repositories can be used.
#[utoipa::path(
    get, path = "/artifactory/api/system/ping", operation_id = "PingArtifactory", tag = "Artifacts",
    responses((status = 200, description = "They can", content_type = "text/plain; charset=utf-8", body = String, example = "OK")),
    extensions(("x-muster" = json!(true))),
)]
pub async fn ping() -> &'static str {
    "OK"
}
