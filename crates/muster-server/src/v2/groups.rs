//! Groups of a fleet. Connect keeps these in its web console; the calls are Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::invalid::Invalid;
use muster_core::names::GroupName;
use muster_store::groups::GroupView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, Named, PageQuery, PaginationInfo, with_devices};
use crate::app::App;
use crate::fleet::groups::{self, Devices};
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// A group.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupBody {
    name: String,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    device_count: u64,
}

impl From<GroupView> for GroupBody {
    fn from(view: GroupView) -> Self {
        Self { name: view.name, created_time: Timestamp::to_rfc3339(view.created_at), device_count: view.device_count }
    }
}

/// A page of groups.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupPage {
    groups: Vec<GroupBody>,
    pagination_info: PaginationInfo,
}

/// A fleet's groups, in the order of their making.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/groups", operation_id = "ListGroups", tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of groups", body = GroupPage),
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
) -> Result<Json<GroupPage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListGroups, &key).await?;
    let (page, store) = (query.page()?, app.store.read());
    let (rows, is_more) = store.groups_page(permitted.fleet().id, page.after, page.limit).await?;
    let after = page.next(rows.last().map(|group| group.id), is_more);
    let total = store.groups_count(permitted.fleet().id).await?;
    let groups = rows.into_iter().map(GroupBody::from).collect();
    Ok(Json(GroupPage { groups, pagination_info: PaginationInfo { after, total } }))
}

/// Create a group in a fleet.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/groups", operation_id = "CreateGroup", tag = "Fleets",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = Named,
    responses(
        (status = 201, description = "The group is there", body = GroupBody),
        (status = 400, description = "The name is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<Named>,
) -> Result<(StatusCode, Json<GroupBody>), ApiError> {
    let permitted = bearer.fleet(Operation::CreateGroup, &key).await?;
    let made = groups::create(&app, &permitted, &body.checked(GroupName::parse)?).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// One group.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/groups/{group_name}", operation_id = "GetGroup", tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("group_name" = String, Path, description = "The group, percent-encoded"),
    ),
    responses(
        (status = 200, description = "The group", body = GroupBody),
        (status = 404, description = "No such fleet or group", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, name)): ApiPath<(String, String)>,
) -> Result<Json<GroupBody>, ApiError> {
    let permitted = bearer.fleet(Operation::GetGroup, &key).await?;
    Ok(Json(groups::find(app.store.read(), &permitted, &name).await?.into()))
}

/// Rename a group.
#[utoipa::path(
    patch, path = "/api/v2/{project_key}/groups/{group_name}", operation_id = "PatchGroup", tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("group_name" = String, Path, description = "The group, percent-encoded"),
    ),
    request_body = Named,
    responses(
        (status = 200, description = "The whole group as it is now", body = GroupBody),
        (status = 400, description = "The name is wrong", body = Error),
        (status = 404, description = "No such fleet or group", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn patch(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, name)): ApiPath<(String, String)>,
    ApiBody(body): ApiBody<Named>,
) -> Result<Json<GroupBody>, ApiError> {
    let permitted = bearer.fleet(Operation::PatchGroup, &key).await?;
    Ok(Json(groups::rename(&app, &permitted, &name, &body.checked(GroupName::parse)?).await?.into()))
}

/// What the address of a deletion asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteQuery {
    move_to: Option<String>,
    devices: Option<String>,
}

impl DeleteQuery {
    fn devices(self) -> Result<Devices, Invalid> {
        let into = self.move_to.map(GroupName::parse).transpose().map_err(|refusal| refusal.within("move_to"))?;
        match (into, with_devices(self.devices.as_deref())?) {
            (Some(_), true) => Err(Invalid::new("devices", "does not go with move_to")),
            (Some(into), false) => Ok(Devices::MoveTo(into)),
            (None, true) => Ok(Devices::Delete),
            (None, false) => Ok(Devices::None),
        }
    }
}

/// Delete a group.
///
/// While it has devices only with `move_to` or `devices=delete`. The last group of a
/// fleet stays.
#[utoipa::path(
    delete, path = "/api/v2/{project_key}/groups/{group_name}", operation_id = "DeleteGroup", tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("group_name" = String, Path, description = "The group, percent-encoded"),
        ("move_to" = Option<String>, Query, description = "Move its devices into this group of the fleet first; needs the permission modify_devices too"),
        ("devices" = Option<String>, Query, description = "`delete`: delete its devices too; needs the permission register_and_move_devices too"),
    ),
    responses(
        (status = 204, description = "The group is gone"),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 403, description = "A permission is missing", body = Error),
        (status = 404, description = "No such fleet or group", body = Error),
        (status = 409, description = "The group has devices, or is the last one", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, name)): ApiPath<(String, String)>,
    ApiQuery(query): ApiQuery<DeleteQuery>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.fleet(Operation::DeleteGroup, &key).await?;
    groups::delete(&app, &permitted, &name, &query.devices()?).await?;
    Ok(StatusCode::NO_CONTENT)
}
