//! Repositories of artifacts. Connect keeps these in Artifactory; the calls are Muster's own.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::ids::RowId;
use muster_core::invalid::{Invalid, quoted};
use muster_core::names::{RepositoryName, Text};
use muster_store::repositories::Repository;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo};
use crate::app::App;
use crate::artifacts::repositories::{self, RepositoryOrder};
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// A repository of artifacts.
#[derive(Debug, Serialize, ToSchema)]
pub struct RepositoryV2 {
    name: String,
    /// `generic`; or `device_files`, for what devices send when they are asked.
    kind: &'static str,
    /// The one fleet that it is for; null when all fleets of the account share it.
    #[schema(required = true)]
    project_key: Option<String>,
    description: String,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
}

/// The keys of fleets by their rows.
type Keys = HashMap<RowId, String>;

fn shown(repository: Repository, keys: &Keys) -> RepositoryV2 {
    RepositoryV2 {
        kind: repository.kind.as_str(),
        project_key: repository.fleet_id.and_then(|id| keys.get(&id).cloned()),
        created_time: repository.created_at.to_rfc3339(),
        name: repository.name,
        description: repository.description,
    }
}

/// A page of repositories.
#[derive(Debug, Serialize, ToSchema)]
pub struct RepositoryPage {
    repositories: Vec<RepositoryV2>,
    pagination_info: PaginationInfo,
}

/// Body of the making of a repository.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRepositoryBody {
    /// A letter or digit, then letters, digits, `-`, `_` and `.`; at most 64.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", max_length = 64)]
    name: String,
    /// The one fleet that it is for; by default all fleets of the account share it.
    project_key: Option<String>,
    description: Option<String>,
}

/// What the deletion of a repository may do.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeleteQuery {
    /// `delete` for a repository that holds artifacts
    #[param(value_type = String, required = false, pattern = "^delete$")]
    artifacts: Option<String>,
}

impl DeleteQuery {
    fn with_artifacts(&self) -> Result<bool, Invalid> {
        match self.artifacts.as_deref() {
            None => Ok(false),
            Some("delete") => Ok(true),
            Some(other) => Err(Invalid::new("artifacts", format!("{} is not \"delete\"", quoted(other)))),
        }
    }
}

/// The artifact repositories that the caller sees, in the order they were made.
#[utoipa::path(
    get, path = "/api/v2/account/repositories", operation_id = "ListRepositories", tag = "Artifacts",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of repositories", body = RepositoryPage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 403, description = "The token is for some fleets only", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<RepositoryPage>, ApiError> {
    let permitted = bearer.account(Operation::ListRepositories).await?;
    let (page, store) = (query.page()?, app.store.read());
    let seen = permitted.caller().seen_repositories(store).await?;
    let (found, is_more) = store.repositories_page(permitted.account_id(), &seen, page.after, page.limit).await?;
    let after = page.next(found.last().map(|repository| repository.id), is_more);
    let total = store.repositories_count(permitted.account_id(), &seen).await?;
    let fleets = permitted.caller().visible_fleets(store).await?;
    let keys = fleets.into_iter().map(|fleet| (fleet.id, fleet.project_key.to_string())).collect();
    let repositories = found.into_iter().map(|repository| shown(repository, &keys)).collect();
    Ok(Json(RepositoryPage { repositories, pagination_info: PaginationInfo { after, total } }))
}

/// Make an artifact repository, for a fleet or for all.
#[utoipa::path(
    post, path = "/api/v2/account/repositories", operation_id = "CreateRepository", tag = "Artifacts",
    request_body = NewRepositoryBody,
    responses(
        (status = 201, description = "The repository", body = RepositoryV2),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 409, description = "The name is taken, or the account has as many as it may", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiBody(body): ApiBody<NewRepositoryBody>,
) -> Result<(StatusCode, Json<RepositoryV2>), ApiError> {
    let permitted = bearer.account(Operation::CreateRepository).await?;
    let description = Text::parse(body.description.unwrap_or_default());
    let order = RepositoryOrder {
        name: RepositoryName::parse(body.name).map_err(|refusal| refusal.within("name"))?,
        project_key: body.project_key,
        description: description.map_err(|refusal| refusal.within("description"))?,
    };
    let made = repositories::create(&app, &permitted, &order).await?;
    let keys = made.fleet_id.zip(order.project_key).into_iter().collect();
    Ok((StatusCode::CREATED, Json(shown(made, &keys))))
}

/// One artifact repository.
#[utoipa::path(
    get, path = "/api/v2/account/repositories/{name}", operation_id = "GetRepository", tag = "Artifacts",
    params(("name" = String, Path, description = "The repository")),
    responses(
        (status = 200, description = "The repository", body = RepositoryV2),
        (status = 403, description = "The token is for some fleets only", body = Error),
        (status = 404, description = "No such repository", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<RepositoryV2>, ApiError> {
    let repository = bearer.repository(Operation::GetRepository, &name).await?.repository().clone();
    let fleet = match repository.fleet_id {
        Some(id) => app.store.read().find_fleet(repository.account_id, id).await?,
        None => None,
    };
    let keys = fleet.into_iter().map(|fleet| (fleet.id, fleet.project_key.to_string())).collect();
    Ok(Json(shown(repository, &keys)))
}

/// Delete an artifact repository, and its artifacts where that is asked for.
#[utoipa::path(
    delete, path = "/api/v2/account/repositories/{name}", operation_id = "DeleteRepository", tag = "Artifacts",
    params(("name" = String, Path, description = "The repository"), DeleteQuery),
    responses(
        (status = 204, description = "The repository is deleted"),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such repository", body = Error),
        (status = 409, description = "It holds artifacts", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
    ApiQuery(query): ApiQuery<DeleteQuery>,
) -> Result<StatusCode, ApiError> {
    bearer.account(Operation::DeleteRepository).await?;
    let permitted = bearer.repository(Operation::DeleteRepository, &name).await?;
    repositories::delete(&app, &permitted, query.with_artifacts()?).await?;
    Ok(StatusCode::NO_CONTENT)
}
