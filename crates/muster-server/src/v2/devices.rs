//! One device: looked at, changed, moved.

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::invalid::Invalid;
use muster_core::names::GroupName;
use muster_core::patch::{WireOperation, from_operations};
use muster_core::wire::objects;
use muster_store::devices::Device;
use muster_store::updates::UpdateView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::device_wire::DeviceV2;
use super::wire::{Error, Message, flag};
use crate::access::Permitted;
use crate::app::App;
use crate::error::OpError;
use crate::fleet::devices::{self, DeviceDetails};
use crate::http::body::{parse_json, read_body, without_type_names};
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};
use crate::v1::wire::{AppUpdated, AppV1, apps_updated};

/// A single device.
#[derive(Debug, Serialize, ToSchema)]
pub struct SingleDevice {
    #[serde(flatten)]
    device: DeviceV2,
    #[serde(flatten)]
    #[schema(value_type = MoreOfDevice)]
    more: Option<MoreOfDevice>,
}

/// What `enrich_info` adds to a single device.
#[derive(Debug, Serialize, ToSchema)]
pub struct MoreOfDevice {
    #[schema(required = false)]
    apps: Vec<AppV1>,
    /// Muster's own, and only where there is something: why the device's agent is not what it
    /// should be, as a damaged file that it set aside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, extensions(("x-muster" = json!(true))))]
    degraded: Vec<String>,
    #[schema(required = false)]
    mac_address: Vec<String>,
    #[schema(required = false)]
    tags: Vec<String>,
    /// The last five.
    #[schema(required = false)]
    updates: Vec<DeviceUpdate>,
}

/// One of the last updates of a device.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceUpdate {
    apps_updated: Vec<AppUpdated>,
    comment: String,
    deployment_finish_time: String,
    deployment_schedule_time: String,
    deployment_start_time: String,
    /// `pending`, `in_progress`, `success`, `failed` or `aborted`.
    deployment_status: &'static str,
    deployment_type: String,
    flow_name: String,
}

impl From<&UpdateView> for DeviceUpdate {
    fn from(update: &UpdateView) -> Self {
        let time = |at: Option<Timestamp>| at.map(Timestamp::to_spaced).unwrap_or_default();
        Self {
            apps_updated: apps_updated(update),
            comment: update.comment.clone(),
            deployment_finish_time: time(update.finished_at),
            deployment_schedule_time: update.created_at.to_spaced(),
            deployment_start_time: time(update.started_at),
            deployment_status: update.status.filter_word(),
            deployment_type: update.kind.clone(),
            flow_name: update.flow_name.clone(),
        }
    }
}

impl SingleDevice {
    fn plain(device: Device, now: Timestamp) -> Self {
        Self { device: DeviceV2::new(device, now, Timestamp::to_spaced), more: None }
    }

    fn enriched(details: DeviceDetails, now: Timestamp) -> Self {
        let DeviceDetails { mut device, tags, apps, updates } = details;
        let more = MoreOfDevice {
            apps: apps.into_iter().map(|(app_name, version)| AppV1 { app_name, version }).collect(),
            degraded: std::mem::take(&mut device.degraded),
            mac_address: std::mem::take(&mut device.mac_addresses),
            tags,
            updates: updates.iter().map(DeviceUpdate::from).collect(),
        };
        Self { device: DeviceV2::new(device, now, Timestamp::to_spaced), more: Some(more) }
    }
}

/// What the address of a single device asks for.
#[derive(Debug, Deserialize)]
pub struct EnrichQuery {
    pub(crate) enrich_info: Option<String>,
}

/// One device.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/devices/{device_uuid}", operation_id = "GetDevice", tag = "Devices",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
        ("enrich_info" = Option<bool>, Query, description = "Add apps, hardware addresses, tags and the last updates"),
    ),
    responses(
        (status = 200, description = "The device", body = SingleDevice),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet or device", body = Error),
    ),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    ApiQuery(query): ApiQuery<EnrichQuery>,
) -> Result<Json<SingleDevice>, ApiError> {
    let permitted = bearer.fleet(Operation::GetDevice, &key).await?;
    let enrich = flag("enrich_info", query.enrich_info.as_deref())?;
    Ok(Json(single(&app, &permitted, &uuid, enrich).await?))
}

async fn single(app: &App, permitted: &Permitted, uuid: &str, enrich: bool) -> Result<SingleDevice, OpError> {
    let (store, now) = (app.store.read(), app.clock().now());
    let device = devices::find(store, permitted, uuid).await?;
    if !enrich {
        return Ok(SingleDevice::plain(device, now));
    }
    let details = devices::with_details(store, vec![device]).await?.pop();
    Ok(SingleDevice::enriched(details.ok_or_else(|| OpError::not_found("device", uuid))?, now))
}

/// Body of the change of a device: the Connect API's object, or a bare list as RFC 6902 has it.
#[derive(Debug, ToSchema)]
pub struct PatchBody {
    operations: Vec<WireOperation>,
}

impl<'de> Deserialize<'de> for PatchBody {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PatchVisitor)
    }
}

impl<S: Send + Sync> FromRequest<S> for PatchBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        Ok(parse_json(&read_body(request).await?)?)
    }
}

struct PatchVisitor;

impl<'de> serde::de::Visitor<'de> for PatchVisitor {
    type Value = PatchBody;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with operations, or a list of operations")
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<PatchBody, A::Error> {
        let operations = objects(serde::de::value::SeqAccessDeserializer::new(seq))?;
        Ok(PatchBody { operations })
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<PatchBody, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Object {
            #[serde(deserialize_with = "objects")]
            operations: Vec<WireOperation>,
        }
        let object = Object::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        Ok(PatchBody { operations: object.operations })
    }
}

/// Change a device.
///
/// `add`, `replace` and `remove` on `device_name`, `description`, `group_name`,
/// `address`, `lat`, `lng`, `is_update_trigger_set`, `tags` and `apps`: all of
/// them, or, when any is wrong, none. Answers with the whole device.
#[utoipa::path(
    patch, path = "/api/v2/{project_key}/devices/{device_uuid}", operation_id = "PatchDevice", tag = "Devices",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
    ),
    request_body(content((PatchBody = "application/json"), (Vec<WireOperation> = "application/json-patch+json"))),
    responses(
        (status = 200, description = "The whole device as it is now", body = SingleDevice),
        (status = 400, description = "An operation is wrong; nothing was changed", body = Error),
        (status = 404, description = "No such fleet or device", body = Error),
    ),
)]
pub async fn patch(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    body: PatchBody,
) -> Result<Json<SingleDevice>, ApiError> {
    let permitted = bearer.fleet(Operation::PatchDevice, &key).await?;
    let device = devices::find(app.store.read(), &permitted, &uuid).await?;
    let in_words_of_json = |refusal: Invalid| Invalid { problem: without_type_names(&refusal.problem), ..refusal };
    let changes = from_operations(body.operations).map_err(in_words_of_json)?;
    devices::change(&app, &permitted, device.id, &changes, |i| format!("operations[{i}].value")).await?;
    Ok(Json(single(&app, &permitted, &uuid, true).await?))
}

/// Body of the move of a device.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveBody {
    destination_project_key: String,
    destination_group_name: String,
}

/// Move a device into another fleet.
///
/// The caller needs the permission in both fleets.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/devices/{device_uuid}/move", operation_id = "MoveDevice", tag = "Devices",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
    ),
    request_body = MoveBody,
    responses(
        (status = 200, description = "The device is there", body = Message),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 403, description = "The permission is missing in one of the fleets", body = Error),
        (status = 404, description = "No such fleet or device", body = Error),
    ),
)]
pub async fn move_to(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    ApiBody(body): ApiBody<MoveBody>,
) -> Result<Json<Message>, ApiError> {
    let from = bearer.fleet(Operation::MoveDevice, &key).await?;
    let group = GroupName::parse(body.destination_group_name);
    let group = group.map_err(|refusal| refusal.within("destination_group_name"))?;
    devices::find(app.store.read(), &from, &uuid).await?;
    let into = bearer.fleet(Operation::MoveDevice, &body.destination_project_key).await;
    let into = into.map_err(|error| match error {
        OpError::NotFound { .. } => {
            Invalid::unknown("destination_project_key", "fleet", &body.destination_project_key).into()
        }
        other => other,
    })?;
    devices::move_to(&app, &from, &uuid, &into, &group).await?;
    Ok(Json(Message { message: "Device moved successfully" }))
}
