//! Users of the account. Connect keeps these in its web console; the calls are Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::invalid::Invalid;
use muster_core::limits::USER_ROLES_MAX;
use muster_core::names::{ProjectKey, RoleName, UserName};
use muster_core::token::Secret;
use muster_core::wire::optional_objects;
use muster_store::users::ListedUser;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo};
use crate::access::users::{self, Roles, UserChange, UserOrder};
use crate::app::App;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// A role that a user has in a fleet.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRole {
    project_key: String,
    #[schema(example = "operator")]
    role: String,
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserV2 {
    name: String,
    is_admin: bool,
    /// Without a password a user cannot log in.
    has_password: bool,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    roles: Vec<UserRole>,
}

impl From<ListedUser> for UserV2 {
    fn from(user: ListedUser) -> Self {
        let role = |(project_key, role)| UserRole { project_key, role };
        Self {
            name: user.name,
            is_admin: user.is_admin,
            has_password: user.has_password,
            created_time: user.created_at.to_rfc3339(),
            roles: user.roles.into_iter().map(role).collect(),
        }
    }
}

/// A page of users.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserPage {
    users: Vec<UserV2>,
    pagination_info: PaginationInfo,
}

/// Body of the making of a user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUserBody {
    name: String,
    /// By default false.
    is_admin: Option<bool>,
    /// At least 12 characters. Without one the user cannot log in until it is set.
    #[schema(value_type = Option<String>)]
    password: Option<Secret>,
    /// By default none.
    #[serde(default, deserialize_with = "optional_objects")]
    roles: Option<Vec<UserRole>>,
}

/// Body of the change of a user; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChangeBody {
    is_admin: Option<bool>,
    /// At least 12 characters. It ends what the user has logged in to.
    #[schema(value_type = Option<String>)]
    password: Option<Secret>,
    /// All of the user's roles.
    #[serde(default, deserialize_with = "optional_objects")]
    roles: Option<Vec<UserRole>>,
}

fn roles(roles: Vec<UserRole>) -> Result<Roles, Invalid> {
    if roles.len() > USER_ROLES_MAX {
        let problem = format!("has {} items, at most {USER_ROLES_MAX} are allowed", roles.len());
        return Err(Invalid::new("roles", problem));
    }
    let read = |(i, role): (usize, UserRole)| {
        let place = |field: &str| format!("roles[{i}].{field}");
        let key = ProjectKey::parse(role.project_key).map_err(|refusal| refusal.within(&place("project_key")))?;
        Ok((key, RoleName::parse(role.role).map_err(|refusal| refusal.within(&place("role")))?))
    };
    roles.into_iter().enumerate().map(read).collect()
}

/// The account's users, in the order they were made.
#[utoipa::path(
    get, path = "/api/v2/account/users", operation_id = "ListUsers", tag = "Account",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of users", body = UserPage),
        (status = 400, description = "A parameter is wrong", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<UserPage>, ApiError> {
    let permitted = bearer.account(Operation::ListUsers).await?;
    let (page, store) = (query.page()?, app.store.read());
    let (found, is_more) = store.users_page(permitted.account_id(), page.after, page.limit).await?;
    let after = page.next(found.last().map(|user| user.id), is_more);
    let total = store.users_count(permitted.account_id()).await?;
    let users = found.into_iter().map(UserV2::from).collect();
    Ok(Json(UserPage { users, pagination_info: PaginationInfo { after, total } }))
}

/// Make a user.
#[utoipa::path(
    post, path = "/api/v2/account/users", operation_id = "CreateUser", tag = "Account",
    request_body = NewUserBody,
    responses(
        (status = 201, description = "The user", body = UserV2),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiBody(body): ApiBody<NewUserBody>,
) -> Result<(StatusCode, Json<UserV2>), ApiError> {
    let permitted = bearer.account(Operation::CreateUser).await?;
    let order = UserOrder {
        name: UserName::parse(body.name).map_err(|refusal| refusal.within("name"))?,
        is_admin: body.is_admin.unwrap_or(false),
        password: body.password,
        roles: roles(body.roles.unwrap_or_default())?,
    };
    Ok((StatusCode::CREATED, Json(users::create(&app, &permitted, &order).await?.into())))
}

/// One user.
#[utoipa::path(
    get, path = "/api/v2/account/users/{name}", operation_id = "GetUser", tag = "Account",
    params(("name" = String, Path, description = "The user")),
    responses(
        (status = 200, description = "The user", body = UserV2),
        (status = 404, description = "No such user", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<UserV2>, ApiError> {
    let permitted = bearer.account(Operation::GetUser).await?;
    Ok(Json(users::find(app.store.read(), &permitted, &name).await?.into()))
}

/// Change a user.
#[utoipa::path(
    patch, path = "/api/v2/account/users/{name}", operation_id = "PatchUser", tag = "Account",
    params(("name" = String, Path, description = "The user")),
    request_body = UserChangeBody,
    responses(
        (status = 200, description = "The whole user as they are now", body = UserV2),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 404, description = "No such user", body = Error),
        (status = 409, description = "It is the account's last administrator", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn patch(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
    ApiBody(body): ApiBody<UserChangeBody>,
) -> Result<Json<UserV2>, ApiError> {
    let permitted = bearer.account(Operation::PatchUser).await?;
    let change =
        UserChange { is_admin: body.is_admin, password: body.password, roles: body.roles.map(roles).transpose()? };
    Ok(Json(users::change(&app, &permitted, &name, &change).await?.into()))
}

/// Delete a user. Their tokens end at once; the audit log keeps their name.
#[utoipa::path(
    delete, path = "/api/v2/account/users/{name}", operation_id = "DeleteUser", tag = "Account",
    params(("name" = String, Path, description = "The user")),
    responses(
        (status = 204, description = "The user is deleted"),
        (status = 404, description = "No such user", body = Error),
        (status = 409, description = "It is the account's last administrator", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    users::delete(&app, &bearer.account(Operation::DeleteUser).await?, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
