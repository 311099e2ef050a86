//! `POST /v1/set_update_trigger`.

use axum::Json;
use axum::extract::State;
use muster_core::access::Operation;
use muster_core::patch::DeviceChange;
use muster_core::token::Secret;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Asker;
use super::wire::{ErrorV1, SUCCESS, Success};
use crate::access::rate::Source;
use crate::app::App;
use crate::fleet::devices;
use crate::http::{ApiBody, ApiError};

/// Body of `POST /v1/set_update_trigger`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SetUpdateTrigger {
    #[schema(value_type = String)]
    user_token: Secret,
    #[schema(value_type = String)]
    device_token: Secret,
    /// True: the device receives no new updates. False: it does again.
    trigger_set: bool,
}

/// Hold a device's updates back, or let them through.
#[utoipa::path(
    post, path = "/v1/set_update_trigger", operation_id = "SetUpdateTrigger", tag = "API v1",
    request_body = SetUpdateTrigger,
    responses(
        (status = 200, description = "The trigger is as asked", body = Success),
        (status = 400, description = "A field is wrong; nothing was changed", body = ErrorV1),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn set(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<SetUpdateTrigger>,
) -> Result<Json<Success>, ApiError> {
    let asker = Asker::new(&app, source);
    let operation = Operation::SetUpdateTrigger;
    let (permitted, device) = asker.caller_and_device(operation, &body.user_token, &body.device_token).await?;
    let change = [DeviceChange::UpdateTrigger(body.trigger_set)];
    devices::change(&app, &permitted, device.id, &change, |_| "trigger_set".to_owned()).await?;
    Ok(Json(SUCCESS))
}
