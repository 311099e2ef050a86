//! Pairing tokens of a fleet. Connect keeps these in its web console; the calls are Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::invalid::Invalid;
use muster_core::limits::{PAIRING_USES_MAX, TOKEN_LIFE_MAX};
use muster_core::names::{GroupName, Text};
use muster_core::token::Secret;
use muster_store::pairing::{PairingToken, Rotation};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo, life, time};
use crate::app::App;
use crate::fleet::pairing_tokens::{self, PairingOrder, RotationEnd};
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// A pairing token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct PairingTokenV2 {
    #[schema(example = "t-1a2b3c4d5e6f7a8b")]
    token_id: String,
    description: String,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    /// Null: never.
    #[schema(required = true)]
    expires_time: Option<String>,
    /// How many devices it has made.
    uses: i64,
    /// How many it may make; null for any number.
    #[schema(required = true)]
    uses_max: Option<i64>,
    /// Where its devices land that name no group; null for Production.
    #[schema(required = true)]
    group_name: Option<String>,
    /// Null: it was not revoked.
    #[schema(required = true)]
    revoked_time: Option<String>,
    /// Null: it is not being replaced.
    #[schema(required = true)]
    rotation: Option<RotationV2>,
}

/// A rotation under way: the old token and the new one both work.
#[derive(Debug, Serialize, ToSchema)]
pub struct RotationV2 {
    started_time: String,
    new_token_id: String,
}

impl From<Rotation> for RotationV2 {
    fn from(rotation: Rotation) -> Self {
        Self { started_time: rotation.started_at.to_rfc3339(), new_token_id: rotation.successor_uuid }
    }
}

impl From<PairingToken> for PairingTokenV2 {
    fn from(token: PairingToken) -> Self {
        Self {
            token_id: token.uuid,
            description: token.description,
            created_time: token.created_at.to_rfc3339(),
            expires_time: time(token.expires_at),
            uses: token.uses,
            uses_max: token.uses_max,
            group_name: token.group_name,
            revoked_time: time(token.revoked_at),
            rotation: token.rotation.map(RotationV2::from),
        }
    }
}

/// A pairing token that was just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadePairingToken {
    #[serde(flatten)]
    about: PairingTokenV2,
    /// The secret itself; it is shown this once.
    #[schema(value_type = String)]
    token: Secret,
}

fn made((token, secret): (PairingToken, Secret)) -> (StatusCode, Json<MadePairingToken>) {
    (StatusCode::CREATED, Json(MadePairingToken { about: token.into(), token: secret }))
}

/// A page of pairing tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct PairingTokenPage {
    pairing_tokens: Vec<PairingTokenV2>,
    pagination_info: PaginationInfo,
}

/// Body of the making of a pairing token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPairingTokenBody {
    /// For people.
    description: String,
    /// By default it has no end.
    #[schema(minimum = 1, maximum = 316_224_000)]
    expires_in_seconds: Option<u64>,
    /// How many devices it may make; by default any number.
    #[schema(minimum = 1, maximum = 10_000_000)]
    uses_max: Option<u32>,
    /// Where its devices land that name no group; by default Production.
    group_name: Option<String>,
}

impl NewPairingTokenBody {
    fn check(self) -> Result<PairingOrder, Invalid> {
        if let Some(uses) = self.uses_max.filter(|uses| !(1..=PAIRING_USES_MAX).contains(uses)) {
            return Err(Invalid::new("uses_max", format!("{uses} is not a number from 1 to {PAIRING_USES_MAX}")));
        }
        let group = self.group_name.map(GroupName::parse).transpose();
        Ok(PairingOrder {
            description: Text::parse(self.description).map_err(|refusal| refusal.within("description"))?,
            life: life(self.expires_in_seconds, TOKEN_LIFE_MAX)?,
            uses_max: self.uses_max,
            group: group.map_err(|refusal| refusal.within("group_name"))?,
        })
    }
}

/// A fleet's pairing tokens, oldest first.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/pairing-tokens", operation_id = "ListPairingTokens", tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of pairing tokens", body = PairingTokenPage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<PairingTokenPage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListPairingTokens, &key).await?;
    let (page, store, fleet_id) = (query.page()?, app.store.read(), permitted.fleet().id);
    let (found, is_more) = store.pairing_tokens_page(fleet_id, page.after, page.limit).await?;
    let after = page.next(found.last().map(|token| token.id), is_more);
    let total = store.pairing_tokens_count(fleet_id).await?;
    let pairing_tokens = found.into_iter().map(PairingTokenV2::from).collect();
    Ok(Json(PairingTokenPage { pairing_tokens, pagination_info: PaginationInfo { after, total } }))
}

/// Make a pairing token for a fleet.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/pairing-tokens", operation_id = "CreatePairingToken", tag = "Fleets",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = NewPairingTokenBody,
    responses(
        (status = 201, description = "The pairing token, with its secret", body = MadePairingToken),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<NewPairingTokenBody>,
) -> Result<(StatusCode, Json<MadePairingToken>), ApiError> {
    let permitted = bearer.fleet(Operation::CreatePairingToken, &key).await?;
    Ok(made(pairing_tokens::create(&app, &permitted, &body.check()?).await?))
}

/// One pairing token of a fleet, without its secret.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/pairing-tokens/{token_id}", operation_id = "GetPairingToken", tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("token_id" = String, Path, description = "The pairing token"),
    ),
    responses(
        (status = 200, description = "The pairing token", body = PairingTokenV2),
        (status = 404, description = "No such fleet or pairing token", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<Json<PairingTokenV2>, ApiError> {
    let permitted = bearer.fleet(Operation::GetPairingToken, &key).await?;
    Ok(Json(pairing_tokens::find(app.store.read(), &permitted, &uuid).await?.into()))
}

/// Revoke a pairing token. Doing it again changes nothing; its devices stay.
#[utoipa::path(
    delete, path = "/api/v2/{project_key}/pairing-tokens/{token_id}", operation_id = "RevokePairingToken",
    tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("token_id" = String, Path, description = "The pairing token"),
    ),
    responses(
        (status = 204, description = "It is revoked"),
        (status = 404, description = "No such fleet or pairing token", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn revoke(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.fleet(Operation::RevokePairingToken, &key).await?;
    pairing_tokens::revoke(&app, &permitted, &uuid).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a successor of a pairing token.
///
/// It has the same description, group, end and limit. Both work until the rotation is
/// completed, which revokes the old one, or aborted, which revokes the new one.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/pairing-tokens/{token_id}/rotate", operation_id = "RotatePairingToken",
    tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("token_id" = String, Path, description = "The pairing token"),
    ),
    responses(
        (status = 201, description = "The new pairing token, with its secret", body = MadePairingToken),
        (status = 404, description = "No such fleet or pairing token", body = Error),
        (status = 409, description = "It is revoked, or being rotated already", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn rotate(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<(StatusCode, Json<MadePairingToken>), ApiError> {
    let permitted = bearer.fleet(Operation::RotatePairingToken, &key).await?;
    Ok(made(pairing_tokens::rotate(&app, &permitted, &uuid).await?))
}

/// End a rotation: the old pairing token is revoked.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/pairing-tokens/{token_id}/complete-rotation",
    operation_id = "CompletePairingTokenRotation", tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("token_id" = String, Path, description = "The old pairing token"),
    ),
    responses(
        (status = 200, description = "The old pairing token as it is now", body = PairingTokenV2),
        (status = 404, description = "No such fleet or pairing token", body = Error),
        (status = 409, description = "It is not being rotated", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn complete_rotation(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<Json<PairingTokenV2>, ApiError> {
    let permitted = bearer.fleet(Operation::CompletePairingTokenRotation, &key).await?;
    Ok(Json(pairing_tokens::end_rotation(&app, &permitted, &uuid, RotationEnd::Complete).await?.into()))
}

/// Take a rotation back: the new pairing token is revoked.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/pairing-tokens/{token_id}/abort-rotation",
    operation_id = "AbortPairingTokenRotation", tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("token_id" = String, Path, description = "The old pairing token"),
    ),
    responses(
        (status = 200, description = "The old pairing token as it is now", body = PairingTokenV2),
        (status = 404, description = "No such fleet or pairing token", body = Error),
        (status = 409, description = "It is not being rotated", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn abort_rotation(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<Json<PairingTokenV2>, ApiError> {
    let permitted = bearer.fleet(Operation::AbortPairingTokenRotation, &key).await?;
    Ok(Json(pairing_tokens::end_rotation(&app, &permitted, &uuid, RotationEnd::Abort).await?.into()))
}
