//! Registries of the account. Connect keeps these in its web console; the calls are Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::invalid::{Invalid, quoted};
use muster_core::names::{RegistryName, Text};
use muster_core::registry::{RegistryKind, RegistrySecret, check_url};
use muster_core::token::Secret;
use muster_store::registries::Registry;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo, given};
use crate::access::registries::{self, RegistryChange, RegistryOrder};
use crate::app::App;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// A registry, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegistryV2 {
    name: String,
    /// `docker`, `artifactory`, `git` or `generic`.
    kind: &'static str,
    url: String,
    username: String,
    has_secret: bool,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
}

impl From<Registry> for RegistryV2 {
    fn from(registry: Registry) -> Self {
        Self {
            kind: registry.kind.as_str(),
            has_secret: !registry.sealed_secret.is_empty(),
            created_time: registry.created_at.to_rfc3339(),
            name: registry.name,
            url: registry.url,
            username: registry.username,
        }
    }
}

/// A page of registries.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegistryPage {
    registries: Vec<RegistryV2>,
    pagination_info: PaginationInfo,
}

/// Body of the making of a registry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRegistryBody {
    name: String,
    /// `docker`, `artifactory`, `git` or `generic`.
    kind: String,
    url: String,
    /// By default nobody.
    username: Option<String>,
    /// A password or a token. It is stored sealed and never shown again.
    #[schema(value_type = Option<String>)]
    secret: Option<Secret>,
}

/// Body of the change of a registry; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryChangeBody {
    kind: Option<String>,
    url: Option<String>,
    username: Option<String>,
    /// Null takes the secret away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    secret: Option<Option<Secret>>,
}

fn kind(name: &str) -> Result<RegistryKind, Invalid> {
    let unknown = || format!("{} is none of {}", quoted(name), RegistryKind::ALL.map(RegistryKind::as_str).join(", "));
    RegistryKind::from_name(name).ok_or_else(|| Invalid::new("kind", unknown()))
}

fn url(url: String) -> Result<String, Invalid> {
    check_url(&url).map_err(|refusal| refusal.within("url"))?;
    Ok(url)
}

fn username(name: String) -> Result<String, Invalid> {
    Ok(Text::parse(name).map_err(|refusal| refusal.within("username"))?.into_string())
}

fn secret(secret: &Secret) -> Result<RegistrySecret, Invalid> {
    RegistrySecret::parse(secret.expose().to_owned()).map_err(|refusal| refusal.within("secret"))
}

/// The account's registries, in the order they were made.
#[utoipa::path(
    get, path = "/api/v2/account/registries", operation_id = "ListRegistries", tag = "Account",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of registries", body = RegistryPage),
        (status = 400, description = "A parameter is wrong", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<RegistryPage>, ApiError> {
    let permitted = bearer.account(Operation::ListRegistries).await?;
    let (page, store) = (query.page()?, app.store.read());
    let (found, is_more) = store.registries_page(permitted.account_id(), page.after, page.limit).await?;
    let after = page.next(found.last().map(|registry| registry.id), is_more);
    let total = store.registries_count(permitted.account_id()).await?;
    let registries = found.into_iter().map(RegistryV2::from).collect();
    Ok(Json(RegistryPage { registries, pagination_info: PaginationInfo { after, total } }))
}

/// Store where updates come from, with the secret for it.
#[utoipa::path(
    post, path = "/api/v2/account/registries", operation_id = "CreateRegistry", tag = "Account",
    request_body = NewRegistryBody,
    responses(
        (status = 201, description = "The registry", body = RegistryV2),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiBody(body): ApiBody<NewRegistryBody>,
) -> Result<(StatusCode, Json<RegistryV2>), ApiError> {
    let permitted = bearer.account(Operation::CreateRegistry).await?;
    let order = RegistryOrder {
        name: RegistryName::parse(body.name).map_err(|refusal| refusal.within("name"))?,
        kind: kind(&body.kind)?,
        url: url(body.url)?,
        username: username(body.username.unwrap_or_default())?,
        secret: body.secret.as_ref().map(secret).transpose()?,
    };
    Ok((StatusCode::CREATED, Json(registries::create(&app, &permitted, &order).await?.into())))
}

/// One registry, without its secret.
#[utoipa::path(
    get, path = "/api/v2/account/registries/{name}", operation_id = "GetRegistry", tag = "Account",
    params(("name" = String, Path, description = "The registry")),
    responses(
        (status = 200, description = "The registry", body = RegistryV2),
        (status = 404, description = "No such registry", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<RegistryV2>, ApiError> {
    let permitted = bearer.account(Operation::GetRegistry).await?;
    Ok(Json(registries::find(app.store.read(), &permitted, &name).await?.into()))
}

/// Change a registry.
#[utoipa::path(
    patch, path = "/api/v2/account/registries/{name}", operation_id = "PatchRegistry", tag = "Account",
    params(("name" = String, Path, description = "The registry")),
    request_body = RegistryChangeBody,
    responses(
        (status = 200, description = "The whole registry as it is now", body = RegistryV2),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 404, description = "No such registry", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn patch(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
    ApiBody(body): ApiBody<RegistryChangeBody>,
) -> Result<Json<RegistryV2>, ApiError> {
    let permitted = bearer.account(Operation::PatchRegistry).await?;
    let change = RegistryChange {
        kind: body.kind.as_deref().map(kind).transpose()?,
        url: body.url.map(url).transpose()?,
        username: body.username.map(username).transpose()?,
        secret: body.secret.map(|given| given.as_ref().map(secret).transpose()).transpose()?,
    };
    Ok(Json(registries::change(&app, &permitted, &name, &change).await?.into()))
}

/// Delete a registry with its secret.
#[utoipa::path(
    delete, path = "/api/v2/account/registries/{name}", operation_id = "DeleteRegistry", tag = "Account",
    params(("name" = String, Path, description = "The registry")),
    responses(
        (status = 204, description = "The registry is deleted"),
        (status = 404, description = "No such registry", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    registries::delete(&app, &bearer.account(Operation::DeleteRegistry).await?, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
