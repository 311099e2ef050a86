//! `POST /link/v1/enroll`.

use axum::Json;
use axum::extract::State;
use muster_link::{EnrollRequest, EnrollResponse};

use crate::access::rate::Source;
use crate::app::App;
use crate::fleet::enrolment;
use crate::http::{ApiBody, ApiError};

/// Enrol a device.
///
/// Exchanges a fleet's pairing token for the registration of the device's own
/// public key. The body and the answer are those of `muster-link`.
#[utoipa::path(
    post, path = "/link/v1/enroll", operation_id = "EnrollDevice", tag = "Device link",
    request_body(content = Object, description = "pairing_token, public_key, proof, facts; name and group if wanted"),
    responses(
        (status = 200, description = "device_uuid, device_token, name, group", body = Object),
        (status = 400, description = "A field is wrong", body = crate::v2::wire::Error),
        (status = 401, description = "The pairing token is not valid", body = crate::v2::wire::Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn enroll(
    State(app): State<App>,
    source: Source,
    ApiBody(request): ApiBody<EnrollRequest>,
) -> Result<Json<EnrollResponse>, ApiError> {
    Ok(Json(enrolment::enroll(&app, &request, source.address()).await?))
}
