//! Devices: listed, looked at, changed, moved.

use axum::Json;
use axum::extract::{RawQuery, State};
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::filter::DeviceFilter;
use muster_core::invalid::Invalid;
use muster_core::limits::{FILTER_ITEMS_MAX, LISTED_TAGS_MAX};
use muster_core::names::{GroupName, TagName};
use muster_core::patch::{WireOperation, from_operations};
use muster_store::devices::Device;
use muster_store::updates::UpdateView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, Message, PaginationInfo, flag};
use crate::access::Permitted;
use crate::app::App;
use crate::error::OpError;
use crate::fleet::devices::{self, DeviceDetails};
use crate::http::body::without_type_names;
use crate::http::cursor::PageRequest;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};
use crate::v1::wire::{AppUpdated, AppV1, apps_updated};

/// A device as v2's list prints it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListedDevice {
    #[serde(flatten)]
    device: DeviceV2,
    /// Only with `enrich_info`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<ListedTags>,
}

/// The tags of a listed device.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListedTags {
    /// Says so when there are more tags than are listed.
    message: String,
    /// The first tags, at most 100.
    names: Vec<String>,
}

/// What the list and the single device have in common.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceV2 {
    address: String,
    agent_version: String,
    /// Per cent.
    cpu_usage: Option<f64>,
    /// Megabytes.
    current_disk_usage: i64,
    description: String,
    device_ip: Option<String>,
    device_name: String,
    /// `online` or `offline`.
    device_status: &'static str,
    device_uuid: String,
    /// Megabytes.
    disk_size: i64,
    group_name: String,
    is_update_trigger_set: bool,
    last_keepalive: String,
    lat: Option<f64>,
    lng: Option<f64>,
    project: String,
    /// Per cent.
    ram_usage: Option<f64>,
    registered_date: String,
}

impl DeviceV2 {
    /// `print` is the one of the API's three forms of a moment that the call uses.
    fn new(device: Device, now: Timestamp, print: impl Fn(Timestamp) -> String) -> Self {
        Self {
            device_status: if device.is_online(now) { "online" } else { "offline" },
            address: device.address,
            agent_version: device.agent_version,
            cpu_usage: device.cpu_percent.map(one_decimal),
            current_disk_usage: megabytes(device.disk_used_bytes),
            description: device.description,
            device_ip: device.device_ip,
            device_name: device.name,
            device_uuid: device.uuid,
            disk_size: megabytes(device.disk_size_bytes),
            group_name: device.group_name,
            is_update_trigger_set: device.is_update_trigger_set,
            last_keepalive: print(device.last_keepalive_at),
            lat: device.lat,
            lng: device.lng,
            project: device.fleet_name,
            ram_usage: device.ram_percent.map(one_decimal),
            registered_date: print(device.registered_at),
        }
    }
}

fn one_decimal(share: f64) -> f64 {
    (share * 10.0).round() / 10.0
}

fn megabytes(bytes: Option<i64>) -> i64 {
    const BYTES_PER_MEGABYTE: i64 = 1_000_000;
    bytes.unwrap_or(0) / BYTES_PER_MEGABYTE
}

/// A page of devices.
#[derive(Debug, Serialize, ToSchema)]
pub struct DevicePage {
    devices: Vec<ListedDevice>,
    pagination_info: PaginationInfo,
}

/// What the address of the list asks for.
#[derive(Debug, Default)]
struct ListQuery {
    group_name: Option<String>,
    tags: Vec<String>,
    after: Option<String>,
    limit: Option<String>,
    enrich_info: Option<String>,
}

impl ListQuery {
    /// `tags` may be repeated, which no derived reader of addresses understands.
    fn parse(query: &str) -> Result<Self, Invalid> {
        let mut parsed = Self::default();
        for (key, value) in url_pairs(query) {
            match key.as_str() {
                "group_name" => parsed.group_name = Some(value),
                "tags" => parsed.tags.push(value),
                "after" => parsed.after = Some(value),
                "limit" => parsed.limit = Some(value),
                "enrich_info" => parsed.enrich_info = Some(value),
                _ => {}
            }
        }
        if parsed.tags.len() > FILTER_ITEMS_MAX {
            let problem = format!("has {} items, at most {FILTER_ITEMS_MAX} are allowed", parsed.tags.len());
            return Err(Invalid::new("tags", problem));
        }
        Ok(parsed)
    }

    fn filter(&self) -> Result<DeviceFilter, Invalid> {
        let group = self.group_name.as_ref().map(|name| GroupName::parse(name.as_str()));
        let group = group.transpose().map_err(|refusal| refusal.within("group_name"))?;
        Ok(DeviceFilter { groups: group.into_iter().collect(), filters: Vec::new() })
    }

    fn tags(&self) -> Result<Vec<TagName>, Invalid> {
        let tag = |name: &String| TagName::parse(name.as_str()).map_err(|refusal| refusal.within("tags"));
        self.tags.iter().map(tag).collect()
    }
}

fn url_pairs(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

/// A fleet's devices.
///
/// In the order of their enrolment, page by page. Several `tags` mean devices
/// that have any of them.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/devices", operation_id = "ListDevices", tag = "Devices",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("group_name" = Option<String>, Query, description = "Only devices of this group"),
        ("tags" = Option<Vec<String>>, Query, description = "Only devices with any of these tags; repeat the key"),
        ("after" = Option<String>, Query, description = "`pagination_info.after` of the page before"),
        ("limit" = Option<u64>, Query, description = "1 to 1000, by default 100"),
        ("enrich_info" = Option<bool>, Query, description = "Add each device's tags"),
    ),
    responses(
        (status = 200, description = "A page of devices", body = DevicePage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 401, description = "No valid access token", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
    security(("access_token" = [])),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<DevicePage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListDevices, &key).await?;
    let query = ListQuery::parse(query.as_deref().unwrap_or_default())?;
    let page = PageRequest::parse(query.after.as_deref(), query.limit.as_deref())?;
    let enrich = flag("enrich_info", query.enrich_info.as_deref())?;
    let store = app.store.read();
    let matching = store.resolve(permitted.fleet(), &query.filter()?).await.map_err(in_group_name)?;
    let matching = store.with_any_tag(permitted.fleet(), matching, &query.tags()?).await?;
    let total = store.devices_count(&matching).await?;
    let (rows, is_more) = store.devices_page(&matching, page.after, page.limit).await?;
    let after = page.next(rows.last().map(|device| device.id), is_more);
    let devices = listed(&app, rows, enrich).await?;
    Ok(Json(DevicePage { devices, pagination_info: PaginationInfo { after, total } }))
}

fn in_group_name(error: muster_store::StoreError) -> OpError {
    match error {
        muster_store::StoreError::Invalid(invalid) => Invalid::new("group_name", invalid.problem).into(),
        other => other.into(),
    }
}

async fn listed(app: &App, rows: Vec<Device>, enrich: bool) -> Result<Vec<ListedDevice>, OpError> {
    let now = app.clock().now();
    let tags = if enrich { devices::listed_tags(app.store.read(), &rows).await? } else { Vec::new() };
    let mut tags = tags.into_iter().peekable();
    let item = |device: Device| {
        let mut names = Vec::new();
        // Both lists are in the order of the devices.
        while let Some((_, name)) = tags.next_if(|(id, _)| *id == device.id) {
            names.push(name);
        }
        ListedDevice {
            device: DeviceV2::new(device, now, Timestamp::to_rfc3339),
            tags: enrich.then(|| listed_tags(names)),
        }
    };
    Ok(rows.into_iter().map(item).collect())
}

fn listed_tags(mut names: Vec<String>) -> ListedTags {
    let is_more = names.len() > LISTED_TAGS_MAX;
    names.truncate(LISTED_TAGS_MAX);
    let message = if is_more { format!("only the first {LISTED_TAGS_MAX} tags are listed") } else { String::new() };
    ListedTags { message, names }
}

/// A single device.
#[derive(Debug, Serialize, ToSchema)]
pub struct SingleDevice {
    #[serde(flatten)]
    device: DeviceV2,
    #[serde(flatten)]
    more: Option<MoreOfDevice>,
}

/// What `enrich_info` adds to a single device.
#[derive(Debug, Serialize, ToSchema)]
pub struct MoreOfDevice {
    apps: Vec<AppV1>,
    mac_address: Vec<String>,
    tags: Vec<String>,
    /// The last five.
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
        (status = 401, description = "No valid access token", body = Error),
        (status = 404, description = "No such fleet or device", body = Error),
    ),
    security(("access_token" = [])),
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

struct PatchVisitor;

impl<'de> serde::de::Visitor<'de> for PatchVisitor {
    type Value = PatchBody;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with operations, or a list of operations")
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<PatchBody, A::Error> {
        let operations = Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))?;
        Ok(PatchBody { operations })
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<PatchBody, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Object {
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
    request_body(content((PatchBody = "application/json"), (PatchBody = "application/json-patch+json"))),
    responses(
        (status = 200, description = "The whole device as it is now", body = SingleDevice),
        (status = 400, description = "An operation is wrong; nothing was changed", body = Error),
        (status = 401, description = "No valid access token", body = Error),
        (status = 403, description = "The permission is missing", body = Error),
        (status = 404, description = "No such fleet or device", body = Error),
    ),
    security(("access_token" = [])),
)]
pub async fn patch(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    ApiBody(body): ApiBody<PatchBody>,
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
        (status = 401, description = "No valid access token", body = Error),
        (status = 403, description = "The permission is missing in one of the fleets", body = Error),
        (status = 404, description = "No such fleet or device", body = Error),
    ),
    security(("access_token" = [])),
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
