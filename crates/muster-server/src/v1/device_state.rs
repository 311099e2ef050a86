//! `GET /v1/get_device_state` and `GET /v1/get_devices_state`.

use axum::Json;
use axum::extract::State;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::ids::DeviceUuid;
use muster_core::invalid::Invalid;
use muster_core::token::Secret;
use muster_store::devices::Device;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

use super::Asker;
use super::devices_details::{Listing, limit, uuid_offset};
use super::wire::ErrorV1;
use crate::access::Caller;
use crate::access::rate::Source;
use crate::app::App;
use crate::error::OpError;
use crate::http::{ApiBody, ApiError};

/// Body of `GET /v1/get_device_state`: one of the last two names the device.
#[derive(Debug, Deserialize, ToSchema)]
pub struct GetDeviceState {
    #[schema(value_type = String)]
    user_token: Secret,
    #[schema(value_type = Option<String>)]
    device_token: Option<Secret>,
    /// The device's uuid, or its number as a string or a number.
    #[schema(schema_with = text_or_number)]
    device_id: Option<WireDeviceId>,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "serde_json::Value")]
struct WireDeviceId(String);

fn text_or_number() -> Schema {
    let types = [Type::String, Type::Number, Type::Null];
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types)).into()
}

impl TryFrom<serde_json::Value> for WireDeviceId {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        match value {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) => Ok(Self(number.to_string())),
            other => Err(format!("{other} is neither a device's uuid nor its number")),
        }
    }
}

/// Answer of `GET /v1/get_device_state`.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeviceState {
    message: DeviceStateMessage,
}

#[derive(Debug, Serialize, ToSchema)]
struct DeviceStateMessage {
    /// `online` or `offline`.
    device_status: &'static str,
    /// The device's uuid.
    device_id: String,
}

/// Whether a device is online.
#[utoipa::path(
    get, path = "/v1/get_device_state", operation_id = "GetDeviceState", tag = "API v1",
    request_body = GetDeviceState,
    responses(
        (status = 200, description = "The device's state", body = DeviceState),
        (status = 400, description = "A field is wrong", body = ErrorV1),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn one(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<GetDeviceState>,
) -> Result<Json<DeviceState>, ApiError> {
    let asker = Asker::new(&app, source);
    let device = match (&body.device_token, &body.device_id) {
        (Some(token), _) => asker.caller_and_device(Operation::GetDeviceState, &body.user_token, token).await?.1,
        (None, Some(id)) => {
            let caller = asker.caller(&body.user_token).await?;
            by_id(&app, &caller, id).await?
        }
        (None, None) => return Err(Invalid::new("device_id", "this or device_token is required").into()),
    };
    let device_status = status(&device, app.clock().now());
    Ok(Json(DeviceState { message: DeviceStateMessage { device_status, device_id: device.uuid } }))
}

/// `online` or `offline`.
fn status(device: &Device, now: Timestamp) -> &'static str {
    if device.is_online(now) { "online" } else { "offline" }
}

/// The device that `device_id` names: by its uuid, or by its number.
async fn by_id(app: &App, caller: &Caller, WireDeviceId(text): &WireDeviceId) -> Result<Device, OpError> {
    let store = app.store.read();
    let device = match (text.parse::<DeviceUuid>(), text.parse::<i64>()) {
        (Ok(uuid), _) => store.find_device_of_account(caller.account_id(), &uuid).await?,
        (_, Ok(number)) => store.find_device_by_id(caller.account_id(), number).await?,
        _ => None,
    };
    let unknown = || OpError::from(Invalid::unknown("device_id", "device", text));
    let device = device.ok_or_else(unknown)?;
    match caller.fleet_of_device(store, Operation::GetDeviceState, device.fleet_id).await {
        Ok(_) => Ok(device),
        Err(OpError::NotFound { .. }) => Err(unknown()),
        Err(other) => Err(other),
    }
}

/// Body of `GET /v1/get_devices_state`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct GetDevicesState {
    #[schema(value_type = String)]
    user_token: Secret,
    project_name: Option<String>,
    /// Only with `project_name`.
    group_name: Option<String>,
    /// 20 by default, at most 50.
    #[schema(value_type = Option<u64>)]
    limit: Option<serde_json::Value>,
    /// The last `device_uuid` of the page before.
    #[schema(value_type = Option<String>)]
    offset: Option<serde_json::Value>,
}

/// Answer of `GET /v1/get_devices_state`.
#[derive(Debug, Serialize, ToSchema)]
pub struct DevicesState {
    message: Vec<DevicesStateItem>,
}

#[derive(Debug, Serialize, ToSchema)]
struct DevicesStateItem {
    device_status: &'static str,
    device_uuid: String,
    device_name: String,
}

/// Which devices are online.
#[utoipa::path(
    get, path = "/v1/get_devices_state", operation_id = "GetDevicesState", tag = "API v1",
    request_body = GetDevicesState,
    responses(
        (status = 200, description = "A page of devices with their states", body = DevicesState),
        (status = 400, description = "A field is wrong", body = ErrorV1),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn many(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<GetDevicesState>,
) -> Result<Json<DevicesState>, ApiError> {
    let asker = Asker::new(&app, source);
    let caller = asker.caller(&body.user_token).await?;
    let listing = Listing {
        operation: Operation::GetDevicesState,
        project_name: body.project_name,
        group_name: body.group_name,
        device_name: None,
    };
    let matching = listing.matching(&asker, &caller).await?;
    let after = uuid_offset(&app, &caller, body.offset.as_ref()).await?;
    let (devices, _) = app.store.read().devices_page(&matching, after, limit(body.limit.as_ref())?).await?;
    let now = app.clock().now();
    let items = devices.into_iter().map(|device| DevicesStateItem {
        device_status: status(&device, now),
        device_uuid: device.uuid,
        device_name: device.name,
    });
    Ok(Json(DevicesState { message: items.collect() }))
}
