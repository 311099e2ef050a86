//! `GET` and `POST /v1/devices_details`.

use axum::Json;
use axum::extract::State;
use muster_core::access::Operation;
use muster_core::filter::DeviceFilter;
use muster_core::ids::{DeviceUuid, RowId};
use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::{PATCH_ITEMS_MAX, V1_PAGE_DEFAULT, V1_PAGE_MAX};
use muster_core::names::{AppName, DeviceName, FleetName, GroupName, TagName, Text, Version};
use muster_core::patch::{DeviceChange, LAT_MAX, LNG_MAX, WireApp, degrees};
use muster_core::token::Secret;
use muster_store::devices::Device;
use muster_store::filter::Matching;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Asker;
use super::wire::{DeviceV1, ErrorV1, SUCCESS, Success};
use crate::access::Caller;
use crate::access::rate::Source;
use crate::app::App;
use crate::error::{OpError, Result};
use crate::fleet::devices;
use crate::http::{ApiBody, ApiError};

/// Body of `GET /v1/devices_details`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct GetDevicesDetails {
    #[schema(value_type = String)]
    user_token: Secret,
    /// One device; everything else is then ignored.
    #[schema(value_type = Option<String>)]
    device_token: Option<Secret>,
    project_name: Option<String>,
    /// Only with `project_name`.
    group_name: Option<String>,
    /// Exactly this name.
    device_name: Option<String>,
    /// 20 by default, at most 50.
    #[schema(value_type = Option<u64>)]
    limit: Option<Value>,
    /// The last `device_id` of the page before.
    #[schema(value_type = Option<i64>)]
    offset: Option<Value>,
}

/// Answer of `GET /v1/devices_details`.
#[derive(Debug, Serialize, ToSchema)]
pub struct DevicesDetails {
    /// Whether there are more devices behind this page.
    more: bool,
    message: Vec<DeviceV1>,
}

/// Details of one or many devices.
#[utoipa::path(
    get, path = "/v1/devices_details", operation_id = "GetDevicesDetails", tag = "API v1",
    request_body = GetDevicesDetails,
    responses(
        (status = 200, description = "A page of devices", body = DevicesDetails),
        (status = 400, description = "A field is wrong", body = ErrorV1),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn get(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<GetDevicesDetails>,
) -> Result<Json<DevicesDetails>, ApiError> {
    let asker = Asker::new(&app, source);
    let store = app.store.read();
    let operation = Operation::GetDevicesDetails;
    let (page, more) = match &body.device_token {
        Some(token) => {
            let (_, device) = asker.caller_and_device(operation, &body.user_token, token).await?;
            (vec![device], false)
        }
        None => {
            let caller = asker.caller(&body.user_token).await?;
            let after = offset(&app, &caller, body.offset.as_ref()).await?;
            let limit = limit(body.limit.as_ref())?;
            let listing = Listing {
                operation,
                project_name: body.project_name,
                group_name: body.group_name,
                device_name: body.device_name,
            };
            store.devices_page(&listing.matching(&asker, &caller).await?, after, limit).await?
        }
    };
    let details = devices::with_details(store, page).await?;
    Ok(Json(DevicesDetails { more, message: details.into_iter().map(DeviceV1::from).collect() }))
}

/// Which devices a list of API v1 shows.
pub(crate) struct Listing {
    pub(crate) operation: Operation,
    pub(crate) project_name: Option<String>,
    pub(crate) group_name: Option<String>,
    pub(crate) device_name: Option<String>,
}

impl Listing {
    /// The devices of the project, or of every project that the caller may see.
    pub(crate) async fn matching(self, asker: &Asker<'_>, caller: &Caller) -> Result<Matching> {
        let store = asker.app.store.read();
        let matching = match (self.project_name, self.group_name) {
            (Some(project), group) => {
                let project = FleetName::parse(project).map_err(|refusal| refusal.within("project_name"))?;
                let permitted = asker.project(caller, self.operation, &project, "project_name").await?;
                let groups = group.map(GroupName::parse).transpose().map_err(|refusal| refusal.within("group_name"))?;
                let filter = DeviceFilter { groups: groups.into_iter().collect(), filters: Vec::new() };
                store.resolve(permitted.fleet(), &filter).await.map_err(in_group_name)?
            }
            (None, Some(_)) => return Err(Invalid::new("group_name", "works only with project_name").into()),
            (None, None) => {
                let fleets = caller.visible_fleets(store).await?;
                store.everything_in(fleets.iter().map(|fleet| fleet.id).collect())
            }
        };
        let name = self.device_name.map(DeviceName::parse).transpose();
        let name = name.map_err(|refusal| refusal.within("device_name"))?;
        Ok(match name {
            Some(name) => matching.named(&name),
            None => matching,
        })
    }
}

fn in_group_name(error: muster_store::StoreError) -> OpError {
    match error {
        muster_store::StoreError::Invalid(invalid) => Invalid::new("group_name", invalid.problem).into(),
        other => other.into(),
    }
}

/// `limit`: a number, or a string that holds one.
pub(crate) fn limit(value: Option<&Value>) -> Result<u64, Invalid> {
    let Some(value) = value else { return Ok(V1_PAGE_DEFAULT) };
    let limit = whole_number(value).and_then(|number| u64::try_from(number).ok());
    limit.filter(|limit| (1..=V1_PAGE_MAX).contains(limit)).ok_or_else(|| {
        let problem = format!("{} is not a number from 1 to {V1_PAGE_MAX}", shown(value));
        Invalid::new("limit", problem)
    })
}

fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A value as a refusal shows it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string().chars().take(80).collect(),
    }
}

async fn visible_device(app: &App, caller: &Caller, uuid: &DeviceUuid) -> Result<Option<Device>> {
    let store = app.store.read();
    let Some(device) = store.find_device_of_account(caller.account_id(), uuid).await? else { return Ok(None) };
    match caller.fleet_of_device(store, Operation::GetDevicesState, device.fleet_id).await {
        Ok(_) => Ok(Some(device)),
        Err(OpError::NotFound { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// `offset` of the details: the last device of the page before, by its number, or by its uuid.
async fn offset(app: &App, caller: &Caller, value: Option<&Value>) -> Result<Option<RowId>> {
    match value.and_then(whole_number) {
        Some(number) => Ok(Some(number)),
        None => uuid_offset(app, caller, value).await,
    }
}

/// `offset` of the states: the last device of the page before, by its uuid.
pub(crate) async fn uuid_offset(app: &App, caller: &Caller, value: Option<&Value>) -> Result<Option<RowId>> {
    let Some(value) = value else { return Ok(None) };
    let uuid = value.as_str().and_then(|text| text.parse::<DeviceUuid>().ok());
    let device = match uuid {
        Some(uuid) => visible_device(app, caller, &uuid).await?,
        None => None,
    };
    let unknown = || Invalid::new("offset", format!("{} is no device of an earlier page", shown(value)));
    Ok(Some(device.ok_or_else(unknown)?.id))
}

/// Body of `POST /v1/devices_details`: what is given is changed.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChangeDevicesDetails {
    #[schema(value_type = String)]
    user_token: Secret,
    #[schema(value_type = String)]
    device_token: Secret,
    device_name: Option<String>,
    /// A group of the device's fleet; it must exist.
    group: Option<String>,
    /// Deprecated: sets the version of the app `default_app`.
    software_version: Option<String>,
    address: Option<String>,
    /// Degrees; only with `lng`.
    #[schema(value_type = Option<String>)]
    lat: Option<Value>,
    /// Degrees; only with `lat`.
    #[schema(value_type = Option<String>)]
    lng: Option<Value>,
    description: Option<String>,
    /// Apps with their versions; each app must exist.
    apps: Option<Vec<WireApp>>,
    /// One tag to add.
    tag: Option<String>,
}

/// Change the details of a device.
///
/// Changes everything that is given, or, when any of it is wrong, nothing.
#[utoipa::path(
    post, path = "/v1/devices_details", operation_id = "ChangeDevicesDetails", tag = "API v1",
    request_body = ChangeDevicesDetails,
    responses(
        (status = 200, description = "Everything is changed", body = Success),
        (status = 400, description = "A field is wrong; nothing was changed", body = ErrorV1),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn change(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<ChangeDevicesDetails>,
) -> Result<Json<Success>, ApiError> {
    let (user_token, device_token) = (body.user_token.clone(), body.device_token.clone());
    let changes = body.changes()?;
    let asker = Asker::new(&app, source);
    let operation = Operation::ChangeDevicesDetails;
    let (permitted, device) = asker.caller_and_device(operation, &user_token, &device_token).await?;
    let (fields, changes): (Vec<&str>, Vec<DeviceChange>) = changes.into_iter().unzip();
    devices::change(&app, &permitted, device.id, &changes, |i| fields[i].to_owned()).await?;
    Ok(Json(SUCCESS))
}

impl ChangeDevicesDetails {
    /// The changes, each with the field that asks for it.
    fn changes(self) -> Result<Vec<(&'static str, DeviceChange)>, Invalid> {
        let place = place(self.lat.as_ref(), self.lng.as_ref())?;
        let apps = apps(self.apps)?;
        let changes = [
            ("device_name", name(self.device_name, "device_name", DeviceName::parse)?.map(DeviceChange::Name)),
            ("group", name(self.group, "group", GroupName::parse)?.map(DeviceChange::Group)),
            ("address", name(self.address, "address", Text::parse)?.map(DeviceChange::Address)),
            ("description", name(self.description, "description", Text::parse)?.map(DeviceChange::Description)),
            ("tag", name(self.tag, "tag", TagName::parse)?.map(|tag| DeviceChange::AddTags(vec![tag]))),
            ("software_version", software_version(self.software_version)?),
            ("apps", apps),
        ];
        let given = changes.into_iter().filter_map(|(field, change)| Some((field, change?)));
        Ok(given.chain(place).collect())
    }
}

fn name<T>(
    given: Option<String>,
    field: &str,
    parse: impl Fn(String) -> Result<T, Invalid>,
) -> Result<Option<T>, Invalid> {
    given.map(parse).transpose().map_err(|refusal| refusal.within(field))
}

fn place(lat: Option<&Value>, lng: Option<&Value>) -> Result<Vec<(&'static str, DeviceChange)>, Invalid> {
    let named = |name: &'static str| move |refusal: Invalid| Invalid { field: name.to_owned(), ..refusal };
    match (lat, lng) {
        (None, None) => Ok(Vec::new()),
        (Some(lat), Some(lng)) => Ok(vec![
            ("lat", DeviceChange::Lat(Some(degrees(lat, LAT_MAX).map_err(named("lat"))?))),
            ("lng", DeviceChange::Lng(Some(degrees(lng, LNG_MAX).map_err(named("lng"))?))),
        ]),
        (Some(_), None) => Err(Invalid::new("lng", "is required together with lat")),
        (None, Some(_)) => Err(Invalid::new("lat", "is required together with lng")),
    }
}

/// The deprecated `software_version` is the version of the app that every account has.
fn software_version(version: Option<String>) -> Result<Option<DeviceChange>, Invalid> {
    let Some(version) = name(version, "software_version", Version::parse)? else { return Ok(None) };
    Ok(Some(DeviceChange::SetApps(vec![(AppName::parse(muster_store::apps::DEFAULT_APP)?, version)])))
}

fn apps(apps: Option<Vec<WireApp>>) -> Result<Option<DeviceChange>, Invalid> {
    let Some(apps) = apps else { return Ok(None) };
    if apps.len() > PATCH_ITEMS_MAX {
        let problem = format!("has {} items, at most {PATCH_ITEMS_MAX} are allowed", apps.len());
        return Err(Invalid::new("apps", problem));
    }
    let app = |(i, app): (usize, WireApp)| app.try_into().map_err(|e: Invalid| e.within(&format!("apps[{i}]")));
    Ok(Some(DeviceChange::SetApps(apps.into_iter().enumerate().map(app).collect::<Result<_, _>>()?)))
}
