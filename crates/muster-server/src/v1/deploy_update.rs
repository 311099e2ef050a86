//! `POST /v2/deploy_update`, which belongs to API v1 in spite of its path, and the
//! older `POST /v1/deploy_update`.

use axum::Json;
use axum::extract::State;
use muster_core::access::Operation;
use muster_core::token::Secret;
use muster_core::wire::object;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Asker;
use super::wire::{CREATED, DeviceFilterV1, ErrorV1, Success};
use crate::access::rate::Source;
use crate::app::App;
use crate::deploy::deployments;
use crate::http::order::{Configuration, FlowFields};
use crate::http::{ApiBody, ApiError};

/// Body of both calls. The older one has the flow at the top, `devices_filter`,
/// and `metadata` in place of `deployment_configuration`; either is understood by both.
#[derive(Debug, Deserialize, ToSchema)]
pub struct DeployUpdate {
    #[schema(value_type = String)]
    user_token: Secret,
    /// To which devices; `devices_filter` is understood too.
    #[serde(alias = "devices_filter", deserialize_with = "object")]
    device_filter: DeviceFilterV1,
    /// What is deployed; `metadata` is understood too.
    #[serde(default, alias = "metadata", deserialize_with = "object")]
    deployment_configuration: Configuration,
    /// The update flow, when it does not stand in the configuration.
    #[serde(alias = "flow_uuid")]
    flow_id: Option<String>,
}

/// How API v1 names the flow.
const FLOW_FIELDS: FlowFields = FlowFields {
    configuration: "deployment_configuration",
    inner: "deployment_configuration.flow_id",
    outer: "flow_id",
};

/// Deploy an update flow.
///
/// To every device of the project that the filter matches now.
#[utoipa::path(
    post, path = "/v2/deploy_update", operation_id = "DeployUpdate", tag = "API v1",
    request_body = DeployUpdate,
    responses(
        (status = 200, description = "The deployment has begun", body = Success),
        (status = 400, description = "A field is wrong; nothing was deployed", body = ErrorV1),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn deploy(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<DeployUpdate>,
) -> Result<Json<Success>, ApiError> {
    body.deploy(&app, source, Operation::DeployUpdate).await
}

/// Deploy an update flow, the older way.
#[utoipa::path(
    post, path = "/v1/deploy_update", operation_id = "DeployUpdateV1", tag = "API v1",
    request_body = DeployUpdate,
    responses(
        (status = 200, description = "The deployment has begun", body = Success),
        (status = 400, description = "A field is wrong; nothing was deployed", body = ErrorV1),
        (status = 429, description = "Too many calls", body = Object),
    ),
)]
pub async fn deploy_the_older_way(
    State(app): State<App>,
    source: Source,
    ApiBody(body): ApiBody<DeployUpdate>,
) -> Result<Json<Success>, ApiError> {
    body.deploy(&app, source, Operation::DeployUpdateV1).await
}

impl DeployUpdate {
    async fn deploy(self, app: &App, source: Source, operation: Operation) -> Result<Json<Success>, ApiError> {
        let asker = Asker::new(app, source);
        let (permitted, filter) = asker.caller_and_filter(operation, &self.user_token, self.device_filter).await?;
        let order = self.deployment_configuration.order(self.flow_id.as_deref(), FLOW_FIELDS, filter)?;
        deployments::create(app, &permitted, &order, None).await?;
        Ok(Json(CREATED))
    }
}
