//! How a deployment goes over its devices: shown, paused, resumed, tried again.
//! Connect keeps nothing like it; the calls are Muster's own.

use axum::Json;
use axum::extract::State;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::rollout::plan::WaveCounts;
use muster_core::rollout::policy::WireRollout;
use muster_store::rollouts::Rollout;
use serde::Serialize;
use utoipa::ToSchema;

use super::Bearer;
use super::deployments::DeploymentBody;
use super::wire::Error;
use crate::app::App;
use crate::deploy::rollouts::{self, status};
use crate::http::{ApiError, ApiPath};

/// How a deployment goes over its devices.
#[derive(Debug, Serialize, ToSchema)]
pub struct RolloutBody {
    /// `running`, `paused`, `failure_budget_spent` or `finished`.
    #[schema(example = "running")]
    status: &'static str,
    /// The newest wave that has begun, from 1.
    wave: u32,
    /// When the next wave begins; null unless this one is over and watched.
    #[schema(example = "2025-06-09T14:10:44Z", required = true)]
    next_wave_time: Option<String>,
    /// What has become of the devices of each wave.
    waves: Vec<WaveBody>,
    /// What was asked.
    policy: WireRollout,
}

/// What has become of the devices of a wave.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaveBody {
    /// May not begin yet.
    waiting: u64,
    /// Have begun or may begin, and have not ended.
    in_progress: u64,
    succeeded: u64,
    failed: u64,
    /// Aborted, or ended before they might begin.
    ended_otherwise: u64,
}

impl From<&WaveCounts> for WaveBody {
    fn from(counts: &WaveCounts) -> Self {
        let WaveCounts { waiting, in_progress, succeeded, failed, ended_otherwise } = *counts;
        Self { waiting, in_progress, succeeded, failed, ended_otherwise }
    }
}

impl From<Rollout> for RolloutBody {
    fn from(rollout: Rollout) -> Self {
        let state = rollout.progress.state;
        let next_wave_at = Some(state.next_wave_at).filter(|at| *at != Timestamp::NEVER);
        Self {
            status: status(state.phase),
            wave: state.wave + 1,
            next_wave_time: next_wave_at.map(Timestamp::to_rfc3339),
            waves: rollout.progress.waves.iter().map(WaveBody::from).collect(),
            policy: rollout.wire,
        }
    }
}

/// Pause a deployment.
///
/// No further device begins; those that have begun go on. Deadlines count on, so a
/// paused deployment ends as well. Pausing again changes nothing.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/deployments/{deployment_uuid}/pause", operation_id = "PauseDeployment",
    tag = "Deployments",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("deployment_uuid" = String, Path, description = "The deployment"),
    ),
    responses(
        (status = 200, description = "The deployment as it is now", body = DeploymentBody),
        (status = 404, description = "No such fleet or deployment", body = Error),
        (status = 409, description = "Every device has ended", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn pause(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<Json<DeploymentBody>, ApiError> {
    let permitted = bearer.fleet(Operation::PauseDeployment, &key).await?;
    let (deployment, rollout) = rollouts::pause(&app, &permitted, &uuid).await?;
    Ok(Json(DeploymentBody::from(deployment).with(Some(rollout))))
}

/// Resume a deployment.
///
/// Whether a person paused it or its failures did; those are forgiven, and the failure
/// budget counts anew.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/deployments/{deployment_uuid}/resume", operation_id = "ResumeDeployment",
    tag = "Deployments",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("deployment_uuid" = String, Path, description = "The deployment"),
    ),
    responses(
        (status = 200, description = "The deployment as it is now", body = DeploymentBody),
        (status = 404, description = "No such fleet or deployment", body = Error),
        (status = 409, description = "The deployment is not paused", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn resume(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<Json<DeploymentBody>, ApiError> {
    let permitted = bearer.fleet(Operation::ResumeDeployment, &key).await?;
    let (deployment, rollout) = rollouts::resume(&app, &permitted, &uuid).await?;
    Ok(Json(DeploymentBody::from(deployment).with(Some(rollout))))
}

/// Answer of a new attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct Retried {
    /// On how many devices the deployment is tried again.
    retried: u64,
}

/// Try again where a deployment failed.
///
/// Every failed device that has an agent becomes pending once more, with a new
/// deadline, as a new attempt. How the failed attempt ended, and what its steps said, is kept.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/deployments/{deployment_uuid}/retry_failed",
    operation_id = "RetryFailedDeployment", tag = "Deployments",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("deployment_uuid" = String, Path, description = "The deployment"),
    ),
    responses(
        (status = 200, description = "They are tried again", body = Retried),
        (status = 404, description = "No such fleet or deployment", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn retry_failed(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<Json<Retried>, ApiError> {
    let permitted = bearer.fleet(Operation::RetryFailedDeployment, &key).await?;
    let retried = rollouts::retry_failed(&app, &permitted, &uuid).await?;
    Ok(Json(Retried { retried }))
}
