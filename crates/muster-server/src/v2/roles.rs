//! Roles of the account. Connect keeps these in its web console; the calls are Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::{Operation, RoleRights, is_built_in};
use muster_core::names::RoleName;
use muster_store::roles::Role;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo, given, permission_names, permissions};
use crate::access::roles::{self, RoleChange};
use crate::app::App;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// A role.
#[derive(Debug, Serialize, ToSchema)]
pub struct RoleV2 {
    name: String,
    #[schema(example = json!(["deploy"]))]
    permissions: Vec<&'static str>,
    /// What it permits only under an access grant; absent where there is nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, example = json!(["remote_access"]))]
    needs_grant: Vec<&'static str>,
    /// Every account has it, and nobody can change it.
    is_built_in: bool,
    /// How many users have it in some fleet.
    user_count: u64,
}

impl From<Role> for RoleV2 {
    fn from(role: Role) -> Self {
        Self {
            permissions: permission_names(&role.rights.permissions),
            needs_grant: permission_names(&role.rights.needs_grant),
            is_built_in: is_built_in(&role.name),
            user_count: role.user_count,
            name: role.name,
        }
    }
}

/// A page of roles.
#[derive(Debug, Serialize, ToSchema)]
pub struct RolePage {
    roles: Vec<RoleV2>,
    pagination_info: PaginationInfo,
}

/// Body of the making of a role.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRoleBody {
    name: String,
    /// What it permits at any time.
    permissions: Vec<String>,
    /// What it permits only under an access grant, which another user approves.
    #[serde(default)]
    needs_grant: Vec<String>,
}

/// Body of the change of a role.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleChangeBody {
    /// All that it permits at any time.
    permissions: Vec<String>,
    /// All that it permits only under an access grant; what it was, where this is left out.
    #[serde(default, deserialize_with = "given")]
    needs_grant: Option<Vec<String>>,
}

/// The account's roles, in the order they were made.
#[utoipa::path(
    get, path = "/api/v2/account/roles", operation_id = "ListRoles", tag = "Account",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of roles", body = RolePage),
        (status = 400, description = "A parameter is wrong", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<RolePage>, ApiError> {
    let permitted = bearer.account(Operation::ListRoles).await?;
    let (page, store) = (query.page()?, app.store.read());
    let (found, is_more) = store.roles_page(permitted.account_id(), page.after, page.limit).await?;
    let after = page.next(found.last().map(|role| role.id), is_more);
    let total = store.roles_count(permitted.account_id()).await?;
    let roles = found.into_iter().map(RoleV2::from).collect();
    Ok(Json(RolePage { roles, pagination_info: PaginationInfo { after, total } }))
}

/// Make a role.
#[utoipa::path(
    post, path = "/api/v2/account/roles", operation_id = "CreateRole", tag = "Account",
    request_body = NewRoleBody,
    responses(
        (status = 201, description = "The role", body = RoleV2),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiBody(body): ApiBody<NewRoleBody>,
) -> Result<(StatusCode, Json<RoleV2>), ApiError> {
    let permitted = bearer.account(Operation::CreateRole).await?;
    let name = RoleName::parse(body.name).map_err(|refusal| refusal.within("name"))?;
    let rights = RoleRights {
        permissions: permissions(&body.permissions, "permissions")?.into_iter().collect(),
        needs_grant: permissions(&body.needs_grant, "needs_grant")?.into_iter().collect(),
    };
    Ok((StatusCode::CREATED, Json(roles::create(&app, &permitted, &name, &rights).await?.into())))
}

/// One role.
#[utoipa::path(
    get, path = "/api/v2/account/roles/{name}", operation_id = "GetRole", tag = "Account",
    params(("name" = String, Path, description = "The role")),
    responses(
        (status = 200, description = "The role", body = RoleV2),
        (status = 404, description = "No such role", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<RoleV2>, ApiError> {
    let permitted = bearer.account(Operation::GetRole).await?;
    Ok(Json(roles::find(app.store.read(), &permitted, &name).await?.into()))
}

/// Change what a role permits. It takes effect at once, for everybody who has it.
#[utoipa::path(
    patch, path = "/api/v2/account/roles/{name}", operation_id = "PatchRole", tag = "Account",
    params(("name" = String, Path, description = "The role")),
    request_body = RoleChangeBody,
    responses(
        (status = 200, description = "The whole role as it is now", body = RoleV2),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 404, description = "No such role", body = Error),
        (status = 409, description = "It is built in", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn patch(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
    ApiBody(body): ApiBody<RoleChangeBody>,
) -> Result<Json<RoleV2>, ApiError> {
    let permitted = bearer.account(Operation::PatchRole).await?;
    let needs_grant = body.needs_grant.map(|names| permissions(&names, "needs_grant")).transpose()?;
    let change = RoleChange {
        permissions: Some(permissions(&body.permissions, "permissions")?.into_iter().collect()),
        needs_grant: needs_grant.map(|held| held.into_iter().collect()),
    };
    Ok(Json(roles::change(&app, &permitted, &name, &change).await?.into()))
}

/// Delete a role that nobody has.
#[utoipa::path(
    delete, path = "/api/v2/account/roles/{name}", operation_id = "DeleteRole", tag = "Account",
    params(("name" = String, Path, description = "The role")),
    responses(
        (status = 204, description = "The role is deleted"),
        (status = 404, description = "No such role", body = Error),
        (status = 409, description = "It is built in, or somebody has it", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    roles::delete(&app, &bearer.account(Operation::DeleteRole).await?, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
