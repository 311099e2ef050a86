//! Groups of a fleet. Connect keeps these in its web console; the call is Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::names::GroupName;

use super::Bearer;
use super::wire::{Error, Named};
use crate::app::App;
use crate::fleet::groups;
use crate::http::{ApiBody, ApiError, ApiPath};

/// Create a group in a fleet.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/groups", operation_id = "CreateGroup", tag = "Fleets",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = Named,
    responses(
        (status = 201, description = "The group is there", body = Named),
        (status = 400, description = "The name is wrong", body = Error),
        (status = 401, description = "No valid access token", body = Error),
        (status = 403, description = "The permission is missing", body = Error),
        (status = 404, description = "No such fleet", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    security(("access_token" = [])), extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<Named>,
) -> Result<(StatusCode, Json<Named>), ApiError> {
    let permitted = bearer.fleet(Operation::CreateGroup, &key).await?;
    let name = GroupName::parse(body.name).map_err(|refusal| refusal.within("name"))?;
    groups::create(&app, &permitted, &name).await?;
    Ok((StatusCode::CREATED, Json(Named { name: name.into_string() })))
}
