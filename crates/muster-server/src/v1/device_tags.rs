//! `DELETE /v1/device_tags`.

use axum::Json;
use axum::extract::State;
use muster_core::access::Operation;
use muster_core::names::TagName;
use muster_core::token::Secret;
use muster_core::wire::object;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Asker;
use super::wire::{DeviceFilterV1, ErrorV1, SUCCESS, Success};
use crate::access::rate::Source;
use crate::app::App;
use crate::fleet::tags;
use crate::http::{ApiBody, ApiError};

/// Body of `DELETE /v1/device_tags`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct DeleteDeviceTags {
    #[schema(value_type = String)]
    user_token: Secret,
    /// The tag; it must exist.
    tag_name: String,
    /// `devices_filter` is understood too.
    #[serde(alias = "devices_filter", deserialize_with = "object")]
    device_filter: DeviceFilterV1,
}

/// Take a tag off devices.
///
/// Takes the tag off every device that the filter matches, in one transaction.
/// The tag itself stays.
#[utoipa::path(
    delete, path = "/v1/device_tags", operation_id = "DeleteDeviceTags", tag = "API v1",
    request_body = DeleteDeviceTags,
    responses(
        (status = 200, description = "The tag is off every matching device", body = Success),
        (status = 400, description = "A field is wrong; nothing was changed", body = ErrorV1),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn delete(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<DeleteDeviceTags>,
) -> Result<Json<Success>, ApiError> {
    let tag = TagName::parse(body.tag_name).map_err(|refusal| refusal.within("tag_name"))?;
    let asker = Asker::new(&app, source);
    let operation = Operation::DeleteDeviceTags;
    let (permitted, filter) = asker.caller_and_filter(operation, &body.user_token, body.device_filter).await?;
    tags::untag(&app, &permitted, &tag, &filter).await?;
    Ok(Json(SUCCESS))
}
