//! Access grants: what a role holds back is let go by another user, for a while. Connect
//! has nothing like it; the calls are Muster's own.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::access_grant::GrantStatus;
use muster_core::clock::Timestamp;
use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::ACCESS_GRANT_DEVICES_MAX;
use muster_core::names::Text;
use muster_store::access_grants::{AccessGrant, GrantFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo, flag, permission_names, permissions, time};
use crate::access::access_grants::{self, Answer, GrantOrder};
use crate::app::App;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// An access grant.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccessGrantV2 {
    access_grant_id: String,
    /// The name of the user who asked for it.
    user: String,
    #[schema(example = json!(["remote_access"]))]
    permissions: Vec<&'static str>,
    /// The devices that it is for; null for the whole fleet.
    #[schema(required = true)]
    devices: Option<Vec<String>>,
    reason: String,
    /// How long it was to hold.
    duration_seconds: u64,
    /// `pending`, `approved`, `expired`, `revoked`, `denied` or `lapsed`: nobody answered in time.
    #[schema(example = "approved")]
    status: &'static str,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    /// When it lapses unless somebody answers; null once somebody has.
    #[schema(required = true)]
    answer_by_time: Option<String>,
    /// When it was approved or denied.
    #[schema(required = true)]
    answered_time: Option<String>,
    /// Who did.
    #[schema(required = true, example = "user:ada")]
    answered_by: Option<String>,
    /// What they said.
    comment: String,
    /// When it ends by itself; null unless it holds.
    #[schema(required = true)]
    expires_time: Option<String>,
    /// When it was over.
    #[schema(required = true)]
    finished_time: Option<String>,
    /// Who ended it; `server` when its time was over.
    #[schema(required = true)]
    finished_by: Option<String>,
}

impl AccessGrantV2 {
    fn at(now: Timestamp, grant: AccessGrant) -> Self {
        let state = grant.state.at(now);
        let ends_at = |status: GrantStatus| (state.status == status).then(|| state.ends_at.to_rfc3339());
        // Its time may be over without that being noted yet.
        let is_noted = state.status == grant.state.status;
        let (finished_at, finished_by) = match is_noted {
            true => (grant.finished_at, grant.finished_by),
            false => (state.ends_at, "server".to_owned()),
        };
        Self {
            access_grant_id: grant.uuid,
            user: grant.user,
            permissions: permission_names(&grant.permissions),
            devices: grant.devices,
            reason: grant.reason,
            duration_seconds: grant.duration.as_secs(),
            status: state.status.word(),
            created_time: grant.created_at.to_rfc3339(),
            answer_by_time: ends_at(GrantStatus::Pending),
            answered_time: time(grant.answered_at),
            answered_by: Some(grant.answered_by).filter(|by| !by.is_empty()),
            comment: grant.comment,
            expires_time: ends_at(GrantStatus::Approved),
            finished_time: time(finished_at),
            finished_by: Some(finished_by).filter(|by| !by.is_empty()),
        }
    }
}

/// A page of access grants.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccessGrantPage {
    access_grants: Vec<AccessGrantV2>,
    pagination_info: PaginationInfo,
}

/// Body of a request for an access grant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRequestBody {
    /// Permissions that a role of the caller holds back.
    #[schema(example = json!(["remote_access"]))]
    permissions: Vec<String>,
    /// The devices that it is to be for, at most 100; left out: the whole fleet.
    devices: Option<Vec<String>>,
    /// Why, for whoever answers.
    reason: String,
    /// 5 to the fleet's `access_grant_max_seconds`.
    #[schema(minimum = 5)]
    duration_seconds: u64,
}

impl AccessRequestBody {
    fn checked(self) -> Result<GrantOrder, Invalid> {
        let permissions = permissions(&self.permissions, "permissions")?;
        if permissions.is_empty() {
            return Err(Invalid::new("permissions", "names none"));
        }
        match self.devices.as_ref().map(Vec::len) {
            Some(0) => return Err(Invalid::new("devices", "names none; leave it out for the whole fleet")),
            Some(count) if count > ACCESS_GRANT_DEVICES_MAX => {
                let problem = format!("{count} devices are more than {ACCESS_GRANT_DEVICES_MAX}");
                return Err(Invalid::new("devices", problem));
            }
            _ => {}
        }
        if self.reason.trim().is_empty() {
            return Err(Invalid::new("reason", format!("{} is empty", quoted(&self.reason))));
        }
        let reason = Text::parse(self.reason).map_err(|refusal| refusal.within("reason"))?;
        let duration = Duration::from_secs(self.duration_seconds);
        Ok(GrantOrder { permissions, devices: self.devices, reason, duration })
    }
}

/// Body of an approval.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveAccessBody {
    /// For whoever asked, and for the log.
    #[serde(default)]
    comment: String,
    /// Shorter than was asked for; left out: as was asked for.
    #[schema(minimum = 5)]
    duration_seconds: Option<u64>,
}

/// Body of a refusal.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DenyAccessBody {
    /// For whoever asked, and for the log.
    #[serde(default)]
    comment: String,
}

fn comment(text: String) -> Result<Text, Invalid> {
    Text::parse(text).map_err(|refusal| refusal.within("comment"))
}

/// Which access grants are listed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantQuery {
    mine: Option<String>,
    status: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

impl GrantQuery {
    fn filter(&self) -> Result<GrantFilter, Invalid> {
        let is_own = self.mine.as_deref().map(|mine| flag("mine", Some(mine))).transpose()?;
        let status = |word: &str| {
            let known = GrantStatus::ALL.map(GrantStatus::word).join(", ");
            let unknown = || Invalid::new("status", format!("{} is no status; those are {known}", quoted(word)));
            GrantStatus::from_word(word).map(GrantStatus::code).ok_or_else(unknown)
        };
        Ok(GrantFilter { is_own, status: self.status.as_deref().map(status).transpose()? })
    }
}

/// Ask for an access grant.
///
/// For permissions that a role of the caller holds back. Another user answers, who has them
/// without needing a grant; it lapses after a day in which nobody did.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/access_grants", operation_id = "RequestAccess", tag = "Access grants",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = AccessRequestBody,
    responses(
        (status = 201, description = "It waits for an answer", body = AccessGrantV2),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
        (status = 409, description = "The caller has the permission at any time, or too many requests wait", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn request(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<AccessRequestBody>,
) -> Result<(StatusCode, Json<AccessGrantV2>), ApiError> {
    let permitted = bearer.fleet(Operation::RequestAccess, &key).await?;
    let made = access_grants::request(&app, &permitted, &body.checked()?).await;
    let made = bearer.told_in(&key, Operation::RequestAccess, made).await?;
    Ok((StatusCode::CREATED, Json(AccessGrantV2::at(app.clock().now(), made))))
}

/// The access grants that the caller asked for or may answer.
///
/// In the order in which they were asked for.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/access_grants", operation_id = "ListAccessGrants", tag = "Access grants",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("mine" = Option<bool>, Query, description = "`true`: what the caller asked for; `false`: what others did"),
        ("status" = Option<String>, Query, description = "Only those that stand so"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of access grants", body = AccessGrantPage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiQuery(query): ApiQuery<GrantQuery>,
) -> Result<Json<AccessGrantPage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListAccessGrants, &key).await?;
    let filter = query.filter()?;
    let page = PageQuery::new(query.after, query.limit).page()?;
    let (rows, is_more, total) = access_grants::list(&app, &permitted, filter, page.after, page.limit).await?;
    let after = page.next(rows.last().map(|grant| grant.id), is_more);
    let now = app.clock().now();
    let access_grants = rows.into_iter().map(|grant| AccessGrantV2::at(now, grant)).collect();
    Ok(Json(AccessGrantPage { access_grants, pagination_info: PaginationInfo { after, total } }))
}

/// One access grant.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/access_grants/{access_grant_id}", operation_id = "GetAccessGrant",
    tag = "Access grants",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("access_grant_id" = String, Path, description = "The access grant"),
    ),
    responses(
        (status = 200, description = "The access grant", body = AccessGrantV2),
        (status = 404, description = "No such fleet, or no such access grant of the caller or for them to answer", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<Json<AccessGrantV2>, ApiError> {
    let permitted = bearer.fleet(Operation::GetAccessGrant, &key).await?;
    let grant = access_grants::find(app.store.read(), &permitted, &uuid).await?;
    Ok(Json(AccessGrantV2::at(app.clock().now(), grant)))
}

/// Approve an access grant that another user asked for.
///
/// It holds from now on, and ends by itself.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/access_grants/{access_grant_id}/approve", operation_id = "ApproveAccess",
    tag = "Access grants",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("access_grant_id" = String, Path, description = "The access grant"),
    ),
    request_body = ApproveAccessBody,
    responses(
        (status = 200, description = "The whole access grant as it is now", body = AccessGrantV2),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 404, description = "No such fleet, or no such access grant for the caller to answer", body = Error),
        (status = 409, description = "It does not wait for an answer any more", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn approve(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    ApiBody(body): ApiBody<ApproveAccessBody>,
) -> Result<Json<AccessGrantV2>, ApiError> {
    let permitted = bearer.fleet(Operation::ApproveAccess, &key).await?;
    let answer = Answer::Approve(body.duration_seconds.map(Duration::from_secs));
    let grant = access_grants::answer(&app, &permitted, &uuid, &answer, &comment(body.comment)?).await;
    let grant = bearer.told_in(&key, Operation::ApproveAccess, grant).await?;
    Ok(Json(AccessGrantV2::at(app.clock().now(), grant)))
}

/// Refuse an access grant that another user asked for.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/access_grants/{access_grant_id}/deny", operation_id = "DenyAccess",
    tag = "Access grants",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("access_grant_id" = String, Path, description = "The access grant"),
    ),
    request_body = DenyAccessBody,
    responses(
        (status = 200, description = "The whole access grant as it is now", body = AccessGrantV2),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 404, description = "No such fleet, or no such access grant for the caller to answer", body = Error),
        (status = 409, description = "It does not wait for an answer any more", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn deny(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    ApiBody(body): ApiBody<DenyAccessBody>,
) -> Result<Json<AccessGrantV2>, ApiError> {
    let permitted = bearer.fleet(Operation::DenyAccess, &key).await?;
    let grant = access_grants::answer(&app, &permitted, &uuid, &Answer::Deny, &comment(body.comment)?).await;
    let grant = bearer.told_in(&key, Operation::DenyAccess, grant).await?;
    Ok(Json(AccessGrantV2::at(app.clock().now(), grant)))
}

/// Take an access grant back, or what one has asked for.
///
/// What was opened under it ends within a second.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/access_grants/{access_grant_id}/revoke", operation_id = "RevokeAccess",
    tag = "Access grants",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("access_grant_id" = String, Path, description = "The access grant"),
    ),
    responses(
        (status = 200, description = "The whole access grant as it is now", body = AccessGrantV2),
        (status = 404, description = "No such fleet, or no such access grant of the caller or for them to answer", body = Error),
        (status = 409, description = "It is over already", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn revoke(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<Json<AccessGrantV2>, ApiError> {
    let permitted = bearer.fleet(Operation::RevokeAccess, &key).await?;
    let grant = access_grants::revoke(&app, &permitted, &uuid).await?;
    Ok(Json(AccessGrantV2::at(app.clock().now(), grant)))
}
