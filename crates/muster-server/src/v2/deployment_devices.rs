//! The devices of a deployment: where each stands, and why; and the abort of one alone.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use indexmap::IndexMap;
use muster_core::access::Operation;
use muster_core::invalid::{Invalid, quoted};
use muster_core::target::{Reason, StepResult, TargetStatus};
use muster_store::targets::TargetView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::devices::EnrichQuery;
use super::wire::{Error, Message, PageQuery, PaginationInfo, flag, spaced};
use crate::app::App;
use crate::deploy::{deployments, standing};
use crate::http::{ApiError, ApiPath, ApiQuery};

/// Where a device stands in a deployment.
#[derive(Debug, Serialize, ToSchema)]
pub struct TargetBody {
    #[schema(example = "2024-03-26 15:09:05", required = true)]
    finished_time: Option<String>,
    #[schema(example = "2024-03-26 15:09:04", required = true)]
    started_time: Option<String>,
    /// `Pending`, `In Progress`, `Succeeded`, `Failed` or `Aborted`.
    #[schema(example = "Failed")]
    status: &'static str,
}

impl From<&TargetView> for TargetBody {
    fn from(target: &TargetView) -> Self {
        Self {
            finished_time: spaced(target.finished_at),
            started_time: spaced(target.started_at),
            status: target.status.v2_word(),
        }
    }
}

/// Which devices of a deployment.
#[derive(Debug, Default, Deserialize)]
pub struct StatusQuery {
    status: Option<String>,
}

impl StatusQuery {
    fn status(&self) -> Result<Option<TargetStatus>, Invalid> {
        let Some(word) = self.status.as_deref() else { return Ok(None) };
        let known = TargetStatus::ALL.into_iter().find(|status| status.v2_word() == word);
        let words = || TargetStatus::ALL.map(|status| quoted(status.v2_word())).join(", ");
        let unknown = || Invalid::new("status", format!("{} is none of {}", quoted(word), words()));
        known.map(Some).ok_or_else(unknown)
    }
}

/// A page of a deployment's devices.
#[derive(Debug, Serialize, ToSchema)]
pub struct TargetPage {
    #[schema(value_type = BTreeMap<String, TargetBody>)]
    deployment_by_device_uuid: IndexMap<String, TargetBody>,
    pagination_info: PaginationInfo,
}

/// Where each device of a deployment stands.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/deployments/{deployment_uuid}/devices", operation_id = "ListDeploymentDevices",
    tag = "Deployments",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("deployment_uuid" = String, Path, description = "The deployment"),
        ("status" = Option<String>, Query, pattern = "^(Pending|In Progress|Succeeded|Failed|Aborted)$", description = "Muster's own: only devices that stand so, `Failed` for instance"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of devices", body = TargetPage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet or deployment", body = Error),
    ),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    ApiQuery(which): ApiQuery<StatusQuery>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<TargetPage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListDeploymentDevices, &key).await?;
    let (page, status, store) = (query.page()?, which.status()?, app.store.read());
    let deployment = deployments::find(store, &permitted, &uuid).await?;
    let (targets, is_more) = store.targets_page(deployment.id, status, page.after, page.limit).await?;
    let after = page.next(targets.last().map(|target| target.device_id), is_more);
    let total = store.targets_count(deployment.id, status).await?;
    let by_uuid = targets.iter().map(|target| (target.device_uuid.clone(), TargetBody::from(target)));
    Ok(Json(TargetPage {
        deployment_by_device_uuid: by_uuid.collect(),
        pagination_info: PaginationInfo { after, total },
    }))
}

/// One step of a deployment on a device.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepBody {
    /// Null when the step was ended by a signal or never ran to its end.
    #[schema(required = true)]
    exit_code: Option<i32>,
    name: String,
    stderr: String,
    stdout: String,
}

impl From<StepResult> for StepBody {
    fn from(step: StepResult) -> Self {
        Self { exit_code: step.exit_code, name: step.name.into_string(), stderr: step.stderr, stdout: step.stdout }
    }
}

/// One device of a deployment, with its steps.
#[derive(Debug, Serialize, ToSchema)]
pub struct TargetWithSteps {
    #[serde(flatten)]
    target: TargetBody,
    steps: Vec<StepBody>,
    #[serde(flatten)]
    #[schema(value_type = Why)]
    why: Option<Why>,
}

/// Which attempt of a device at a deployment.
#[derive(Debug, Default, Deserialize)]
pub struct AttemptQuery {
    attempt: Option<String>,
}

impl AttemptQuery {
    fn attempt(&self) -> Result<Option<u32>, Invalid> {
        let Some(text) = self.attempt.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| *number > 0);
        let refusal = || Invalid::new("attempt", format!("{} is no whole number from 1", quoted(text)));
        number.map(Some).ok_or_else(refusal)
    }
}

/// Why a device stands in a deployment as it does: only with `enrich_info`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Why {
    /// A stable word for programs; null for a success, which needs none.
    reason_code: Option<String>,
    /// One sentence.
    reason: Option<String>,
    /// When the present state ends by itself; null once it is final.
    deadline_time: Option<String>,
    /// Which attempt this is, from 1; those before are shown with `attempt`.
    #[schema(required = false)]
    attempt: u32,
}

impl Why {
    fn new(target: &TargetView, reason: Reason) -> Self {
        let Reason { code, text } = reason;
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            reason_code: some(code),
            reason: some(text),
            deadline_time: (!target.status.is_final()).then(|| target.deadline_at.to_spaced()),
            attempt: target.attempt,
        }
    }
}

/// Where one device of a deployment stands, with its steps.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/deployments/{deployment_uuid}/devices/{device_uuid}",
    operation_id = "GetDeploymentDevice", tag = "Deployments",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("deployment_uuid" = String, Path, description = "The deployment"),
        ("device_uuid" = String, Path, description = "The device"),
        ("enrich_info" = Option<bool>, Query, description = "Muster's own: add the reason, the deadline and the attempt"),
        ("attempt" = Option<u32>, Query, minimum = 1, description = "Muster's own: how an earlier attempt ended; by default the newest"),
    ),
    responses(
        (status = 200, description = "The device and its steps", body = TargetWithSteps),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet, deployment, device or attempt", body = Error),
    ),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid, device)): ApiPath<(String, String, String)>,
    ApiQuery(query): ApiQuery<EnrichQuery>,
    ApiQuery(which): ApiQuery<AttemptQuery>,
) -> Result<Json<TargetWithSteps>, ApiError> {
    let permitted = bearer.fleet(Operation::GetDeploymentDevice, &key).await?;
    let (enrich, attempt) = (flag("enrich_info", query.enrich_info.as_deref())?, which.attempt()?);
    let store = app.store.read();
    let deployment = deployments::find(store, &permitted, &uuid).await?;
    let newest = deployments::find_target(store, &deployment, &device).await?;
    let target = deployments::find_attempt(store, &deployment, &newest, attempt).await?;
    let steps = store.steps_of(deployment.id, target.device_id, target.attempt).await?;
    let why = match enrich {
        true => Some(Why::new(&target, standing::reason(store, deployment.id, &target).await?)),
        false => None,
    };
    Ok(Json(TargetWithSteps {
        steps: steps.into_iter().map(StepBody::from).collect(),
        why,
        target: TargetBody::from(&target),
    }))
}

/// Abort a deployment on one device.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/deployments/{deployment_uuid}/devices/{device_uuid}/abort",
    operation_id = "AbortDeploymentDevice", tag = "Deployments",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("deployment_uuid" = String, Path, description = "The deployment"),
        ("device_uuid" = String, Path, description = "The device"),
    ),
    responses(
        (status = 201, description = "The abort is on its way", body = Message),
        (status = 404, description = "No such fleet, deployment or device", body = Error),
    ),
)]
pub async fn abort(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid, device)): ApiPath<(String, String, String)>,
) -> Result<(StatusCode, Json<Message>), ApiError> {
    let permitted = bearer.fleet(Operation::AbortDeploymentDevice, &key).await?;
    deployments::abort(&app, &permitted, &uuid, Some(&device)).await?;
    Ok((StatusCode::CREATED, Json(Message { message: "Deployment for device aborted successfully" })))
}
