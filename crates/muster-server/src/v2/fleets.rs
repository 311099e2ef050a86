//! Fleets of the account. Connect keeps these in its web console; the calls are Muster's own.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::deadlines::WireDeadlines;
use muster_core::invalid::Invalid;
use muster_core::limits::{
    ACCESS_GRANT_LIFE_DEFAULT, ACCESS_GRANT_LIFE_MAX, ACCESS_GRANT_LIFE_MIN, HEARTBEAT_MAX, HEARTBEAT_MIN,
};
use muster_core::names::{FleetName, ProjectKey};
use muster_core::window::{self, WireUpdateWindow};
use muster_core::wire::{optional_object, optional_objects};
use muster_store::fleets::{FleetChange, FleetView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo, with_devices};
use crate::app::App;
use crate::fleet::fleets::{self, NewFleet};
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// A fleet.
#[derive(Debug, Serialize, ToSchema)]
pub struct FleetBody {
    #[schema(example = "demo")]
    project_key: String,
    name: String,
    /// Time between two keepalives of its devices.
    heartbeat_seconds: u64,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    device_count: u64,
    group_count: u64,
    /// When its deployments' devices end by themselves; absent where the server's deadlines hold.
    #[serde(skip_serializing_if = "WireDeadlines::is_empty")]
    deadlines: WireDeadlines,
    /// When its devices may begin an update; absent where they may at any time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    update_windows: Vec<WireUpdateWindow>,
    /// True: port tunnels may end at other hosts of a device's network; absent where not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    tunnels_to_network: bool,
    /// How long an access grant holds at most; absent where it is 8 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, required = false)]
    access_grant_max_seconds: Option<u64>,
}

impl From<FleetView> for FleetBody {
    fn from(view: FleetView) -> Self {
        Self {
            project_key: view.fleet.project_key,
            name: view.fleet.name,
            heartbeat_seconds: view.fleet.heartbeat.as_secs(),
            created_time: Timestamp::to_rfc3339(view.created_at),
            device_count: view.device_count,
            group_count: view.group_count,
            deadlines: view.fleet.deadlines,
            update_windows: view.fleet.update_windows,
            tunnels_to_network: view.fleet.tunnels_to_network,
            access_grant_max_seconds: Some(view.fleet.access_grant_max)
                .filter(|max| *max != ACCESS_GRANT_LIFE_DEFAULT)
                .map(|max| max.as_secs()),
        }
    }
}

/// A page of fleets.
#[derive(Debug, Serialize, ToSchema)]
pub struct FleetPage {
    fleets: Vec<FleetBody>,
    pagination_info: PaginationInfo,
}

/// The fleets that the caller sees.
///
/// In the order of their making, page by page: all of the account for an
/// administrator, else those in which the caller has a role.
#[utoipa::path(
    get, path = "/api/v2/account/fleets", operation_id = "ListFleets", tag = "Fleets",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of fleets", body = FleetPage),
        (status = 400, description = "A parameter is wrong", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<FleetPage>, ApiError> {
    let permitted = bearer.account(Operation::ListFleets).await?;
    let (page, store) = (query.page()?, app.store.read());
    let (rows, is_more) = store.fleets_page(permitted.user(), page.after, page.limit).await?;
    let after = page.next(rows.last().map(|view| view.fleet.id), is_more);
    let total = store.fleets_count(permitted.user()).await?;
    let fleets = rows.into_iter().map(FleetBody::from).collect();
    Ok(Json(FleetPage { fleets, pagination_info: PaginationInfo { after, total } }))
}

/// Body of the creation of a fleet.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateFleetBody {
    /// A letter, then lower-case letters and digits, 2 to 32 in all; unique in the account.
    project_key: String,
    /// Unique in the account.
    name: String,
    /// 5 to 3600, by default 25.
    #[schema(minimum = 5, maximum = 3_600)]
    heartbeat_seconds: Option<u64>,
}

impl CreateFleetBody {
    fn checked(self) -> Result<NewFleet, Invalid> {
        Ok(NewFleet {
            key: ProjectKey::parse_new(self.project_key).map_err(|refusal| refusal.within("project_key"))?,
            name: FleetName::parse(self.name).map_err(|refusal| refusal.within("name"))?,
            heartbeat: self.heartbeat_seconds.map(heartbeat).transpose()?,
        })
    }
}

fn heartbeat(seconds: u64) -> Result<Duration, Invalid> {
    let (min, max) = (HEARTBEAT_MIN.as_secs(), HEARTBEAT_MAX.as_secs());
    if (min..=max).contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(Invalid::new("heartbeat_seconds", format!("{seconds} is not a number from {min} to {max}")))
}

fn access_grant_max(seconds: u64) -> Result<Duration, Invalid> {
    let (min, max) = (ACCESS_GRANT_LIFE_MIN.as_secs(), ACCESS_GRANT_LIFE_MAX.as_secs());
    if (min..=max).contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(Invalid::new("access_grant_max_seconds", format!("{seconds} is not a number from {min} to {max}")))
}

/// Create a fleet.
///
/// With the groups Test and Production.
#[utoipa::path(
    post, path = "/api/v2/account/fleets", operation_id = "CreateFleet", tag = "Fleets",
    request_body = CreateFleetBody,
    responses(
        (status = 201, description = "The fleet is there", body = FleetBody),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 409, description = "The key or the name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiBody(body): ApiBody<CreateFleetBody>,
) -> Result<(StatusCode, Json<FleetBody>), ApiError> {
    let permitted = bearer.account(Operation::CreateFleet).await?;
    let made = fleets::create(&app, &permitted, &body.checked()?).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// One fleet.
#[utoipa::path(
    get, path = "/api/v2/account/fleets/{project_key}", operation_id = "GetFleet", tag = "Fleets",
    params(("project_key" = String, Path, description = "The fleet's key")),
    responses(
        (status = 200, description = "The fleet", body = FleetBody),
        (status = 404, description = "No such fleet", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
) -> Result<Json<FleetBody>, ApiError> {
    let permitted = bearer.fleet(Operation::GetFleet, &key).await?;
    Ok(Json(fleets::view(app.store.read(), &permitted).await?.into()))
}

/// Body of the change of a fleet; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchFleetBody {
    /// Unique in the account.
    name: Option<String>,
    /// 5 to 3600.
    #[schema(minimum = 5, maximum = 3_600)]
    heartbeat_seconds: Option<u64>,
    /// All of its deadlines; what is left out of them is decided by the server.
    #[serde(default, deserialize_with = "optional_object")]
    deadlines: Option<WireDeadlines>,
    /// All of its update windows; an empty list lets devices begin at any time.
    #[serde(default, deserialize_with = "optional_objects")]
    update_windows: Option<Vec<WireUpdateWindow>>,
    /// Whether port tunnels may end at other hosts of a device's network; open ones that
    /// may not any more are closed.
    tunnels_to_network: Option<bool>,
    /// How long an access grant holds at most: 5 to 2592000 seconds. Those that hold stay.
    #[schema(minimum = 5, maximum = 2_592_000)]
    access_grant_max_seconds: Option<u64>,
}

impl PatchFleetBody {
    fn checked(self) -> Result<FleetChange, Invalid> {
        let name = self.name.map(FleetName::parse).transpose().map_err(|refusal| refusal.within("name"))?;
        let deadlines = self.deadlines.map(WireDeadlines::checked).transpose();
        if let Some(windows) = &self.update_windows {
            window::checked(windows).map_err(|refusal| refusal.within("update_windows"))?;
        }
        Ok(FleetChange {
            name,
            heartbeat: self.heartbeat_seconds.map(heartbeat).transpose()?,
            deadlines: deadlines.map_err(|refusal| refusal.within("deadlines"))?,
            update_windows: self.update_windows,
            tunnels_to_network: self.tunnels_to_network,
            access_grant_max: self.access_grant_max_seconds.map(access_grant_max).transpose()?,
        })
    }
}

/// Change a fleet.
///
/// Its name, or the time between two keepalives of its devices, which they take up
/// when they connect the next time.
#[utoipa::path(
    patch, path = "/api/v2/account/fleets/{project_key}", operation_id = "PatchFleet", tag = "Fleets",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = PatchFleetBody,
    responses(
        (status = 200, description = "The whole fleet as it is now", body = FleetBody),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn patch(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<PatchFleetBody>,
) -> Result<Json<FleetBody>, ApiError> {
    let permitted = bearer.fleet(Operation::PatchFleet, &key).await?;
    Ok(Json(fleets::change(&app, &permitted, &body.checked()?).await?.into()))
}

/// What the address of a deletion asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteFleetQuery {
    devices: Option<String>,
}

/// Delete a fleet.
///
/// With its groups, flows, deployments and pairing tokens. While it has devices only
/// with `devices=delete`, which deletes them too. The last fleet of an account stays.
#[utoipa::path(
    delete, path = "/api/v2/account/fleets/{project_key}", operation_id = "DeleteFleet", tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("devices" = Option<String>, Query, description = "`delete`: delete its devices too"),
    ),
    responses(
        (status = 204, description = "The fleet is gone"),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
        (status = 409, description = "The fleet has devices, or is the last one", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiQuery(query): ApiQuery<DeleteFleetQuery>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.fleet(Operation::DeleteFleet, &key).await?;
    fleets::delete(&app, &permitted, with_devices(query.devices.as_deref())?).await?;
    Ok(StatusCode::NO_CONTENT)
}
