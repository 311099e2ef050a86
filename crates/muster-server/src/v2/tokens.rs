//! Access tokens and user tokens. Connect keeps these in its web console; the calls are Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::{SCOPE_FLEETS_MAX, TOKEN_LIFE_MAX};
use muster_core::names::{ProjectKey, Text, UserName};
use muster_core::token::{Secret, TokenKind};
use muster_core::wire::optional_object;
use muster_store::token_list::ListedToken;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo, life, permissions, time};
use crate::access::tokens::{self, TokenOrder, permission_names};
use crate::app::App;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// The most that a token may do, of what its user may.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenScope {
    /// The keys of the only fleets that it reaches; null for all.
    #[serde(default)]
    fleets: Option<Vec<String>>,
    /// The only permissions that it has; null for all.
    #[serde(default)]
    #[schema(example = json!(["deploy"]))]
    permissions: Option<Vec<String>>,
}

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenV2 {
    #[schema(example = "t-1a2b3c4d5e6f7a8b")]
    token_id: String,
    /// `access` for API v2, `user` for API v1.
    kind: &'static str,
    description: String,
    /// The user who acts with it.
    subject: String,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    /// Null: never.
    #[schema(required = true)]
    expires_time: Option<String>,
    /// Null: it was not revoked.
    #[schema(required = true)]
    revoked_time: Option<String>,
    scope: TokenScope,
}

impl From<ListedToken> for TokenV2 {
    fn from(token: ListedToken) -> Self {
        let permissions = permission_names(&token.scope);
        Self {
            scope: TokenScope {
                permissions: permissions.map(|names| names.into_iter().map(str::to_owned).collect()),
                fleets: token.scope.fleets.is_some().then_some(token.scope_fleets),
            },
            token_id: token.uuid,
            kind: token.kind.as_str(),
            description: token.description,
            subject: token.user_name,
            created_time: token.created_at.to_rfc3339(),
            expires_time: time(token.expires_at),
            revoked_time: time(token.revoked_at),
        }
    }
}

/// A token that was just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeTokenV2 {
    #[serde(flatten)]
    about: TokenV2,
    /// The secret itself; it is shown this once.
    #[schema(value_type = String)]
    token: Secret,
}

impl MadeTokenV2 {
    pub(super) fn new((token, secret): (ListedToken, Secret)) -> Self {
        Self { about: token.into(), token: secret }
    }
}

/// A page of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenPage {
    tokens: Vec<TokenV2>,
    pagination_info: PaginationInfo,
}

/// Body of the making of a token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTokenBody {
    /// For people.
    description: String,
    /// Who is to act with it: by default the caller.
    user: Option<String>,
    /// `access`, the default, or `user`.
    kind: Option<String>,
    /// By default it has no end.
    #[schema(minimum = 1, maximum = 316_224_000)]
    expires_in_seconds: Option<u64>,
    /// By default it may do whatever its user may.
    #[serde(default, deserialize_with = "optional_object")]
    scope: Option<TokenScope>,
}

impl NewTokenBody {
    fn check(self) -> Result<TokenOrder, Invalid> {
        let scope = self.scope.unwrap_or_default();
        let user = self.user.map(UserName::parse).transpose().map_err(|refusal| refusal.within("user"))?;
        Ok(TokenOrder {
            description: Text::parse(self.description).map_err(|refusal| refusal.within("description"))?,
            user,
            kind: kind(self.kind.as_deref())?,
            life: life(self.expires_in_seconds, TOKEN_LIFE_MAX)?,
            fleets: scope.fleets.map(|keys| fleets(&keys)).transpose()?,
            permissions: scope.permissions.map(|names| permissions(&names, "scope.permissions")).transpose()?,
        })
    }
}

fn kind(name: Option<&str>) -> Result<TokenKind, Invalid> {
    match name {
        None | Some("access") => Ok(TokenKind::Access),
        Some("user") => Ok(TokenKind::User),
        Some(other) => Err(Invalid::new("kind", format!("{} is neither access nor user", quoted(other)))),
    }
}

fn fleets(keys: &[String]) -> Result<Vec<ProjectKey>, Invalid> {
    if keys.len() > SCOPE_FLEETS_MAX {
        let problem = format!("has {} items, at most {SCOPE_FLEETS_MAX} are allowed", keys.len());
        return Err(Invalid::new("scope.fleets", problem));
    }
    let key = |(i, key): (usize, &String)| {
        ProjectKey::parse(key.as_str()).map_err(|refusal| refusal.within(&format!("scope.fleets[{i}]")))
    };
    keys.iter().enumerate().map(key).collect()
}

/// One's own tokens, oldest first; an administrator sees those of all users.
#[utoipa::path(
    get, path = "/api/v2/account/tokens", operation_id = "ListTokens", tag = "Account",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of tokens", body = TokenPage),
        (status = 400, description = "A parameter is wrong", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<TokenPage>, ApiError> {
    let permitted = bearer.account(Operation::ListTokens).await?;
    let (page, store, owner) = (query.page()?, app.store.read(), tokens::owner(&permitted));
    let (found, is_more) = store.tokens_page(permitted.account_id(), owner, page.after, page.limit).await?;
    let after = page.next(found.last().map(|token| token.id), is_more);
    let total = store.tokens_count(permitted.account_id(), owner).await?;
    let tokens = found.into_iter().map(TokenV2::from).collect();
    Ok(Json(TokenPage { tokens, pagination_info: PaginationInfo { after, total } }))
}

/// Make a token for oneself, or as an administrator for anybody.
///
/// What it may do is what its user may, within its scope. A token with a scope does
/// not act as an administrator, and makes no token that may do more than itself.
#[utoipa::path(
    post, path = "/api/v2/account/tokens", operation_id = "CreateToken", tag = "Account",
    request_body = NewTokenBody,
    responses(
        (status = 201, description = "The token, with its secret", body = MadeTokenV2),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 403, description = "It is for somebody else, or may do more than the caller's own", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiBody(body): ApiBody<NewTokenBody>,
) -> Result<(StatusCode, Json<MadeTokenV2>), ApiError> {
    let permitted = bearer.account(Operation::CreateToken).await?;
    let made = tokens::create(&app, &permitted, &body.check()?).await;
    let made = bearer.told(Operation::CreateToken, made).await?;
    Ok((StatusCode::CREATED, Json(MadeTokenV2::new(made))))
}

/// One token, without its secret.
#[utoipa::path(
    get, path = "/api/v2/account/tokens/{token_id}", operation_id = "GetToken", tag = "Account",
    params(("token_id" = String, Path, description = "The token")),
    responses(
        (status = 200, description = "The token", body = TokenV2),
        (status = 404, description = "No such token, or it is somebody else's", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(uuid): ApiPath<String>,
) -> Result<Json<TokenV2>, ApiError> {
    let permitted = bearer.account(Operation::GetToken).await?;
    Ok(Json(tokens::find(app.store.read(), &permitted, &uuid).await?.into()))
}

/// Revoke a token. Doing it again changes nothing.
#[utoipa::path(
    delete, path = "/api/v2/account/tokens/{token_id}", operation_id = "RevokeToken", tag = "Account",
    params(("token_id" = String, Path, description = "The token")),
    responses(
        (status = 204, description = "It is revoked"),
        (status = 403, description = "It may do more than the caller's own", body = Error),
        (status = 404, description = "No such token, or it is somebody else's", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn revoke(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(uuid): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.account(Operation::RevokeToken).await?;
    let revoked = tokens::revoke(&app, &permitted, &uuid).await;
    bearer.told(Operation::RevokeToken, revoked).await?;
    Ok(StatusCode::NO_CONTENT)
}
