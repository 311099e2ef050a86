//! Deployments: created, listed, followed, aborted.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::filter::{DeviceFilter, WireDeviceFilter};
use muster_core::invalid::Invalid;
use muster_core::target::TargetStatus;
use muster_core::wire::object;
use muster_store::deployments::Deployment;
use muster_store::rollouts::Rollout;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::devices::EnrichQuery;
use super::rollouts::RolloutBody;
use super::wire::{Error, Message, PageQuery, PaginationInfo, flag};
use crate::app::App;
use crate::deploy::deployments::{self, Order};
use crate::http::keyed::Keyed;
use crate::http::order::{Configuration, FlowFields};
use crate::http::{ApiError, ApiPath, ApiQuery};

/// Body of the creation of a deployment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    /// To which devices; `devices_filter` is understood too.
    #[serde(alias = "devices_filter", deserialize_with = "object")]
    device_filter: WireDeviceFilter,
    /// What is deployed.
    #[serde(default, deserialize_with = "object")]
    deployment_configuration: Configuration,
    /// Understood here, as well as in the configuration.
    #[serde(alias = "flow_id")]
    flow_uuid: Option<String>,
}

/// How API v2 names the flow.
pub(super) const FLOW_FIELDS: FlowFields = FlowFields {
    configuration: "deployment_configuration",
    inner: "deployment_configuration.flow_uuid",
    outer: "flow_uuid",
};

impl CreateBody {
    fn order(self) -> Result<Order, Invalid> {
        let filter = DeviceFilter::try_from(self.device_filter).map_err(|refusal| refusal.within("device_filter"))?;
        self.deployment_configuration.order(self.flow_uuid.as_deref(), FLOW_FIELDS, filter)
    }
}

/// Answer of the creation of a deployment.
#[derive(Debug, Serialize, ToSchema)]
pub struct Created {
    #[schema(example = "dp-22be-13ba")]
    deployment_uuid: String,
}

/// Deploy an update flow.
///
/// To every device of the fleet that the filter matches now. Muster's own: a request that
/// bears an `Idempotency-Key` may be sent again, and makes nothing more.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/deployments", operation_id = "CreateDeployment", tag = "Deployments",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("Idempotency-Key" = Option<String>, Header, description = "Made by the sender, one of its kind in the fleet"),
    ),
    request_body = CreateBody,
    responses(
        (status = 201, description = "The deployment has begun, now or by an earlier request of that key", body = Created),
        (status = 400, description = "A field is wrong; nothing was deployed", body = Error),
        (status = 404, description = "No such fleet", body = Error),
        (status = 409, description = "The key was sent before with another body", body = Error),
    ),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    Keyed(body, request): Keyed<CreateBody>,
) -> Result<(StatusCode, Json<Created>), ApiError> {
    let permitted = bearer.fleet(Operation::CreateDeployment, &key).await?;
    let uuid = deployments::create(&app, &permitted, &body.order()?, request.as_ref()).await?;
    Ok((StatusCode::CREATED, Json(Created { deployment_uuid: uuid.into() })))
}

/// A deployment. The four counts stand beside `cve_severity`, as the documents print them.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeploymentBody {
    comment: String,
    #[schema(example = "2023-01-09 12:03:28")]
    created_time: String,
    /// Null: nothing has been scanned.
    #[schema(required = true)]
    cve_severity: Option<String>,
    #[serde(rename = "Critical")]
    critical: u64,
    #[serde(rename = "High")]
    high: u64,
    #[serde(rename = "Low")]
    low: u64,
    #[serde(rename = "Medium")]
    medium: u64,
    deployment_uuid: String,
    /// `manual` or `api-deployment`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Muster's own: how it goes over its devices; absent where it went to all of them at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<RolloutBody>,
    /// Muster's own: how its devices stand; only with `enrich_info`.
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<DeviceCounts>,
}

/// How the devices of a deployment stand.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct DeviceCounts {
    /// All of them.
    total: u64,
    pending: u64,
    in_progress: u64,
    succeeded: u64,
    failed: u64,
    aborted: u64,
    /// Why those ended that did not succeed, the most frequent first.
    reasons: Vec<EndCount>,
}

/// Devices that ended alike.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndCount {
    /// `Failed` or `Aborted`.
    #[schema(example = "Failed")]
    status: &'static str,
    /// A stable word for programs.
    #[schema(example = "step_failed")]
    reason_code: String,
    count: u64,
}

impl DeviceCounts {
    fn new(statuses: &[(TargetStatus, u64)], reasons: Vec<(TargetStatus, String, u64)>) -> Self {
        let of = |wanted| statuses.iter().filter(|(status, _)| *status == wanted).map(|(_, count)| count).sum();
        let reason = |(status, reason_code, count): (TargetStatus, String, u64)| EndCount {
            status: status.v2_word(),
            reason_code,
            count,
        };
        Self {
            total: statuses.iter().map(|(_, count)| count).sum(),
            pending: of(TargetStatus::Pending),
            in_progress: of(TargetStatus::InProgress),
            succeeded: of(TargetStatus::Succeeded),
            failed: of(TargetStatus::Failed),
            aborted: of(TargetStatus::Aborted),
            reasons: reasons.into_iter().map(reason).collect(),
        }
    }
}

impl DeploymentBody {
    /// The same with its rollout.
    pub(super) fn with(self, rollout: Option<Rollout>) -> Self {
        Self { rollout: rollout.map(RolloutBody::from), ..self }
    }
}

impl From<Deployment> for DeploymentBody {
    fn from(deployment: Deployment) -> Self {
        Self {
            comment: deployment.comment,
            created_time: Timestamp::to_spaced(deployment.created_at),
            cve_severity: None,
            critical: 0,
            high: 0,
            low: 0,
            medium: 0,
            deployment_uuid: deployment.uuid,
            kind: deployment.kind.as_str(),
            rollout: None,
            devices: None,
        }
    }
}

/// A page of deployments.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeploymentPage {
    deployments: Vec<DeploymentBody>,
    pagination_info: PaginationInfo,
}

/// A fleet's deployments, newest first.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/deployments", operation_id = "ListDeployments", tag = "Deployments",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of deployments", body = DeploymentPage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<DeploymentPage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListDeployments, &key).await?;
    let (page, store) = (query.page()?, app.store.read());
    let (rows, is_more) = store.deployments_page(permitted.fleet().id, page.after, page.limit).await?;
    let after = page.next(rows.last().map(|deployment| deployment.id), is_more);
    let total = store.deployments_count(permitted.fleet().id).await?;
    let ids: Vec<_> = rows.iter().map(|deployment| deployment.id).collect();
    let mut rollouts = store.rollouts_of(&ids).await?;
    let mut body = |deployment: Deployment| {
        let place = rollouts.iter().position(|rollout| rollout.deployment_id == deployment.id);
        DeploymentBody::from(deployment).with(place.map(|place| rollouts.swap_remove(place)))
    };
    Ok(Json(DeploymentPage {
        deployments: rows.into_iter().map(&mut body).collect(),
        pagination_info: PaginationInfo { after, total },
    }))
}

/// One deployment.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/deployments/{deployment_uuid}", operation_id = "GetDeployment",
    tag = "Deployments",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("deployment_uuid" = String, Path, description = "The deployment"),
        ("enrich_info" = Option<bool>, Query, description = "Muster's own: add how its devices stand"),
    ),
    responses(
        (status = 200, description = "The deployment", body = DeploymentBody),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet or deployment", body = Error),
    ),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    ApiQuery(query): ApiQuery<EnrichQuery>,
) -> Result<Json<DeploymentBody>, ApiError> {
    let permitted = bearer.fleet(Operation::GetDeployment, &key).await?;
    let enrich = flag("enrich_info", query.enrich_info.as_deref())?;
    let store = app.store.read();
    let deployment = deployments::find(store, &permitted, &uuid).await?;
    let rollout = store.find_rollout(deployment.id).await?;
    let devices = match enrich {
        true => Some(DeviceCounts::new(
            &store.target_statuses(deployment.id).await?,
            store.target_reasons(deployment.id).await?,
        )),
        false => None,
    };
    Ok(Json(DeploymentBody { devices, ..DeploymentBody::from(deployment).with(rollout) }))
}

/// Abort a deployment.
///
/// Pending devices are aborted at once, those in progress when they confirm;
/// what has ended is left as it is. Aborting again changes nothing.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/deployments/{deployment_uuid}/abort", operation_id = "AbortDeployment",
    tag = "Deployments",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("deployment_uuid" = String, Path, description = "The deployment"),
    ),
    responses(
        (status = 201, description = "The abort is on its way", body = Message),
        (status = 404, description = "No such fleet or deployment", body = Error),
    ),
)]
pub async fn abort(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<(StatusCode, Json<Message>), ApiError> {
    let permitted = bearer.fleet(Operation::AbortDeployment, &key).await?;
    deployments::abort(&app, &permitted, &uuid, None).await?;
    Ok((StatusCode::CREATED, Json(Message { message: "Deployment aborted successfully" })))
}
