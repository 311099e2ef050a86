//! Access keys of the Tag Service. The calls are Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::access_key::TagPolicy;
use muster_core::invalid::Invalid;
use muster_core::names::{Text, UserName};
use muster_core::token::Secret;
use muster_store::access_keys::AccessKey;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo, time};
use crate::access::access_keys::{self, KeyOrder};
use crate::access::tokens;
use crate::app::App;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// An access key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccessKeyV2 {
    #[schema(example = "ak-1a2b3c4d5e6f7a8b9c0d1e2f")]
    access_key_id: String,
    description: String,
    /// The user who acts with it.
    subject: String,
    /// The most that it may do, of what its user may.
    #[schema(example = "TAGReadAccessPolicy")]
    policy: &'static str,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    /// Null: it was not revoked.
    #[schema(required = true)]
    revoked_time: Option<String>,
}

impl From<AccessKey> for AccessKeyV2 {
    fn from(key: AccessKey) -> Self {
        Self {
            access_key_id: key.access_key_id,
            description: key.description,
            subject: key.user_name,
            policy: key.policy.as_str(),
            created_time: key.created_at.to_rfc3339(),
            revoked_time: time(key.revoked_at),
        }
    }
}

/// An access key that was just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeAccessKeyV2 {
    #[serde(flatten)]
    about: AccessKeyV2,
    /// The secret itself; it is shown this once.
    #[schema(value_type = String)]
    secret_access_key: Secret,
}

/// A page of access keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccessKeyPage {
    access_keys: Vec<AccessKeyV2>,
    pagination_info: PaginationInfo,
}

/// Body of the making of an access key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccessKeyBody {
    /// For people.
    description: String,
    /// Who is to act with it: by default the caller.
    user: Option<String>,
    /// `TAGFullControlAccessPolicy`, the default, `TAGOperateAccessPolicy` for everything
    /// but the deletion of tags, or `TAGReadAccessPolicy`.
    policy: Option<String>,
}

impl NewAccessKeyBody {
    fn check(self) -> Result<KeyOrder, Invalid> {
        let user = self.user.map(UserName::parse).transpose().map_err(|refusal| refusal.within("user"))?;
        let policy = self.policy.as_deref().map(TagPolicy::parse).transpose();
        Ok(KeyOrder {
            description: Text::parse(self.description).map_err(|refusal| refusal.within("description"))?,
            user,
            policy: policy.map_err(|refusal| refusal.within("policy"))?.unwrap_or(TagPolicy::FullControl),
        })
    }
}

/// One's own access keys, oldest first; an administrator sees those of all users.
#[utoipa::path(
    get, path = "/api/v2/account/access_keys", operation_id = "ListAccessKeys", tag = "Account",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of access keys", body = AccessKeyPage),
        (status = 400, description = "A parameter is wrong", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<AccessKeyPage>, ApiError> {
    let permitted = bearer.account(Operation::ListAccessKeys).await?;
    let (page, store, owner) = (query.page()?, app.store.read(), tokens::owner(&permitted));
    let (found, is_more) = store.access_keys_page(permitted.account_id(), owner, page.after, page.limit).await?;
    let after = page.next(found.last().map(|key| key.id), is_more);
    let total = store.access_keys_count(permitted.account_id(), owner).await?;
    let access_keys = found.into_iter().map(AccessKeyV2::from).collect();
    Ok(Json(AccessKeyPage { access_keys, pagination_info: PaginationInfo { after, total } }))
}

/// Make an access key for oneself, or as an administrator for anybody.
///
/// Requests of the Tag Service are signed with it. What it may do is what its user may,
/// within its policy.
#[utoipa::path(
    post, path = "/api/v2/account/access_keys", operation_id = "CreateAccessKey", tag = "Account",
    request_body = NewAccessKeyBody,
    responses(
        (status = 201, description = "The access key, with its secret", body = MadeAccessKeyV2),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 403, description = "It is for somebody else, or may do more than the caller's token", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiBody(body): ApiBody<NewAccessKeyBody>,
) -> Result<(StatusCode, Json<MadeAccessKeyV2>), ApiError> {
    let permitted = bearer.account(Operation::CreateAccessKey).await?;
    let made = access_keys::create(&app, &permitted, &body.check()?).await;
    let (key, secret_access_key) = bearer.told(Operation::CreateAccessKey, made).await?;
    Ok((StatusCode::CREATED, Json(MadeAccessKeyV2 { about: key.into(), secret_access_key })))
}

/// One access key, without its secret.
#[utoipa::path(
    get, path = "/api/v2/account/access_keys/{access_key_id}", operation_id = "GetAccessKey", tag = "Account",
    params(("access_key_id" = String, Path, description = "The access key")),
    responses(
        (status = 200, description = "The access key", body = AccessKeyV2),
        (status = 404, description = "No such access key, or it is somebody else's", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<AccessKeyV2>, ApiError> {
    let permitted = bearer.account(Operation::GetAccessKey).await?;
    Ok(Json(access_keys::find(app.store.read(), &permitted, &id).await?.into()))
}

/// Revoke an access key. Doing it again changes nothing.
#[utoipa::path(
    delete, path = "/api/v2/account/access_keys/{access_key_id}", operation_id = "RevokeAccessKey", tag = "Account",
    params(("access_key_id" = String, Path, description = "The access key")),
    responses(
        (status = 204, description = "It is revoked"),
        (status = 403, description = "It may do more than the caller's token", body = Error),
        (status = 404, description = "No such access key, or it is somebody else's", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn revoke(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(id): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.account(Operation::RevokeAccessKey).await?;
    let revoked = access_keys::revoke(&app, &permitted, &id).await;
    bearer.told(Operation::RevokeAccessKey, revoked).await?;
    Ok(StatusCode::NO_CONTENT)
}
