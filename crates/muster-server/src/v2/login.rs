//! Logging in and out, and what concerns the caller alone. The calls are Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::invalid::Invalid;
use muster_core::limits::{LOGIN_DEFAULT, LOGIN_MAX};
use muster_core::names::{Text, UserName};
use muster_core::token::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::tokens::{MadeTokenV2, TokenV2};
use super::wire::{Error, life, permission_names};
use crate::access::login::{self, Login, OwnFleet};
use crate::access::rate::Source;
use crate::app::App;
use crate::http::{ApiBody, ApiError};

/// Body of the login.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginBody {
    user: String,
    #[schema(value_type = String)]
    password: Secret,
    /// Describes the token.
    description: Option<String>,
    /// By default 30 days, at most 90.
    #[schema(minimum = 1, maximum = 7_776_000)]
    expires_in_seconds: Option<u64>,
}

impl LoginBody {
    fn check(self) -> Result<Login, Invalid> {
        let description = Text::parse(self.description.unwrap_or_else(|| "login".to_owned()));
        Ok(Login {
            user: UserName::parse(self.user).map_err(|refusal| refusal.within("user"))?,
            password: self.password,
            description: description.map_err(|refusal| refusal.within("description"))?,
            life: life(self.expires_in_seconds, LOGIN_MAX)?.unwrap_or(LOGIN_DEFAULT),
        })
    }
}

/// Exchange a password for an access token.
#[utoipa::path(
    post, path = "/api/v2/account/login", operation_id = "LogIn", tag = "Account",
    request_body = LoginBody,
    responses(
        (status = 201, description = "A token, with its secret", body = MadeTokenV2),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 401, description = "The user or the password is wrong", body = Error),
        (status = 429, description = "Too many attempts; `Retry-After` says when to come back", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn log_in(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<LoginBody>,
) -> Result<(StatusCode, Json<MadeTokenV2>), ApiError> {
    let made = login::log_in(&app, &body.check()?, source.address()).await?;
    Ok((StatusCode::CREATED, Json(MadeTokenV2::new(made))))
}

/// Revoke the token that is borne.
#[utoipa::path(
    post, path = "/api/v2/account/logout", operation_id = "LogOut", tag = "Account",
    responses(
        (status = 204, description = "The token is revoked"),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn log_out(State(app): State<App>, bearer: Bearer) -> Result<StatusCode, ApiError> {
    login::log_out(&app, &bearer.account(Operation::LogOut).await?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A fleet that the caller may see.
#[derive(Debug, Serialize, ToSchema)]
pub struct OwnFleetV2 {
    project_key: String,
    name: String,
    /// What the caller may do in it, within the scope of the token.
    permissions: Vec<&'static str>,
    /// What they may do in it only under an access grant; absent where there is nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    needs_grant: Vec<&'static str>,
}

impl From<OwnFleet> for OwnFleetV2 {
    fn from(fleet: OwnFleet) -> Self {
        let (permissions, needs_grant) = (permission_names(&fleet.permissions), permission_names(&fleet.needs_grant));
        Self { permissions, needs_grant, project_key: fleet.project_key, name: fleet.name }
    }
}

/// Who bears the token.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// The user's name.
    user: String,
    /// Whether the user is an administrator of the account. With a scope, the token does not act as one.
    is_admin: bool,
    fleets: Vec<OwnFleetV2>,
    token: TokenV2,
}

/// Who bears the token, and what they may do.
#[utoipa::path(
    get, path = "/api/v2/account/me", operation_id = "GetMe", tag = "Account",
    responses(
        (status = 200, description = "The user, the fleets, the token", body = Me),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn me(State(app): State<App>, bearer: Bearer) -> Result<Json<Me>, ApiError> {
    let permitted = bearer.account(Operation::GetMe).await?;
    let user = permitted.caller().user();
    Ok(Json(Me {
        user: user.name.clone(),
        is_admin: user.is_admin,
        fleets: login::own_fleets(&app, &permitted).await?.into_iter().map(OwnFleetV2::from).collect(),
        token: login::own_token(&app, &permitted).await?.into(),
    }))
}

/// Body of the change of one's own password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordBody {
    #[schema(value_type = String)]
    current_password: Secret,
    /// At least 12 characters.
    #[schema(value_type = String)]
    new_password: Secret,
}

/// Change one's own password.
///
/// Everything else that the user has logged in to ends.
#[utoipa::path(
    put, path = "/api/v2/account/password", operation_id = "ChangePassword", tag = "Account",
    request_body = PasswordBody,
    responses(
        (status = 204, description = "The password is changed"),
        (status = 400, description = "The current password is wrong, or the new one too short", body = Error),
        (status = 429, description = "Too many attempts; `Retry-After` says when to come back", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn change_password(
    State(app): State<App>,
    bearer: Bearer,
    ApiBody(body): ApiBody<PasswordBody>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.account(Operation::ChangePassword).await?;
    login::change_password(&app, &permitted, &body.current_password, &body.new_password).await?;
    Ok(StatusCode::NO_CONTENT)
}
