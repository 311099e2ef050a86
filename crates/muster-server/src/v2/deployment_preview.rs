//! What a deployment would do, before it is made. Muster's own.

use axum::Json;
use axum::extract::State;
use muster_core::access::Operation;
use muster_core::filter::{DeviceFilter, WireDeviceFilter};
use muster_core::flow::restores::Restore;
use muster_core::flow::{Flow, yaml};
use muster_core::invalid::{Invalid, quoted};
use muster_core::rollout::policy::{Policy, Share as PolicyShare};
use muster_core::target::Reason;
use muster_core::wire::object;
use muster_store::prospects::ProspectDevice;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Bearer;
use super::deployments::FLOW_FIELDS;
use super::wire::{Error, PageQuery, PaginationInfo};
use crate::app::App;
use crate::deploy::preview::{self, Plan, Preview, Share};
use crate::http::order::Configuration;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// What is looked at: the body of the creation of a deployment, whose flow need not have
/// been made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewBody {
    /// To which devices; `devices_filter` is understood too.
    #[serde(alias = "devices_filter", deserialize_with = "object")]
    device_filter: WireDeviceFilter,
    /// What is deployed.
    #[serde(default, deserialize_with = "object")]
    deployment_configuration: Configuration,
    /// Understood here, as well as in the configuration.
    #[serde(alias = "flow_id")]
    flow_uuid: Option<String>,
    /// A flow that has not been made, as the YAML that makes it, instead of a `flow_uuid`.
    flow_document: Option<String>,
    /// Which flow of the document, where it holds several.
    flow_name: Option<String>,
}

impl PreviewBody {
    fn plan(self) -> Result<Plan, Invalid> {
        let filter = DeviceFilter::try_from(self.device_filter).map_err(|refusal| refusal.within("device_filter"))?;
        let configuration = self.deployment_configuration;
        let Some(document) = self.flow_document else {
            if self.flow_name.is_some() {
                return Err(Invalid::new("flow_name", "goes with flow_document"));
            }
            return Ok(Plan::Stored(configuration.order(self.flow_uuid.as_deref(), FLOW_FIELDS, filter)?));
        };
        if self.flow_uuid.is_some() || configuration.names_flow() {
            return Err(Invalid::new("flow_document", "does not go with a flow_uuid"));
        }
        let flows = yaml::parse(&document).map_err(|refusal| refusal.within("flow_document"))?;
        let flow = chosen(flows, self.flow_name.as_deref())?;
        Ok(Plan::Given(Box::new(flow), configuration.terms(FLOW_FIELDS, filter)?))
    }
}

/// The flow of a document that is meant.
fn chosen(mut flows: Vec<Flow>, name: Option<&str>) -> Result<Flow, Invalid> {
    let names: Vec<String> = flows.iter().map(|flow| quoted(flow.name.as_str())).collect();
    match name {
        None if flows.len() == 1 => Ok(flows.swap_remove(0)),
        None => Err(Invalid::new("flow_name", format!("the document holds several flows: {}", names.join(", ")))),
        Some(name) => {
            let place = flows.iter().position(|flow| flow.name.as_str() == name);
            let unknown = || {
                Invalid::new("flow_name", format!("{} is none of the document's: {}", quoted(name), names.join(", ")))
            };
            place.map(|place| flows.swap_remove(place)).ok_or_else(unknown)
        }
    }
}

/// One device.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewDevice {
    device_uuid: String,
    device_name: String,
    agent_version: String,
}

impl From<ProspectDevice> for PreviewDevice {
    fn from(device: ProspectDevice) -> Self {
        Self { device_uuid: device.uuid, device_name: device.name, agent_version: device.agent_version }
    }
}

/// Devices that share a reason.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewReason {
    /// A stable word for programs.
    #[schema(example = "device_offline")]
    reason_code: String,
    /// The same for people, of one device.
    reason: String,
    /// How many devices.
    count: u64,
    /// The first of them, at most 10.
    devices: Vec<PreviewDevice>,
}

impl From<Share> for PreviewReason {
    fn from(share: Share) -> Self {
        let Reason { code, text } = share.reason;
        let devices = share.devices.into_iter().map(PreviewDevice::from).collect();
        Self { reason_code: code, reason: text, count: share.count, devices }
    }
}

/// How it would go over its devices.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewRollout {
    /// Before this nothing begins.
    #[schema(required = true, example = "2025-06-09T14:10:44Z")]
    start_time: Option<String>,
    /// How many devices each wave has; the last is what is left.
    waves: Vec<u64>,
    /// For how many minutes each is watched before the next begins.
    soak_minutes: u64,
    /// For how many minutes each may hold up the next.
    wave_minutes_max: u64,
    /// Most devices at it at once.
    #[schema(required = true)]
    in_progress_max: Option<u64>,
    /// How many devices may fail; one more pauses it.
    #[schema(required = true)]
    failures_max: Option<u64>,
    /// Of the devices that share a tag of this key, so many at once.
    #[schema(required = true)]
    disruption: Option<PreviewDisruption>,
}

/// How many devices of a tag may be at it at once.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewDisruption {
    /// The key of the tags.
    tag_key: String,
    /// Most devices of one tag.
    in_progress_max: u64,
}

impl PreviewRollout {
    fn new(policy: Policy, waves: Vec<u64>, preview: &Preview) -> Self {
        let minutes = |duration: std::time::Duration| duration.as_secs() / 60;
        let wave_time = policy.wave_time(preview.deadlines.pending);
        Self {
            start_time: policy.start_at.map(muster_core::clock::Timestamp::to_rfc3339),
            waves,
            soak_minutes: minutes(policy.soak),
            wave_minutes_max: minutes(wave_time),
            in_progress_max: policy.in_progress_max,
            failures_max: policy.failures_max.map(|share: PolicyShare| share.at_most(preview.matching)),
            disruption: policy.disruption.map(|disruption| PreviewDisruption {
                tag_key: disruption.tag_key,
                in_progress_max: disruption.in_progress_max,
            }),
        }
    }
}

/// What becomes of one step when the update fails.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewRestore {
    /// The step.
    step: String,
    /// What is put back as it was.
    puts_back: Vec<String>,
    /// `never`, `this_step_failure`, `later_step_failure` or `any_step_failure`, which is both.
    puts_back_when: &'static str,
    /// The command that runs then; null where there is none.
    #[schema(required = true)]
    command: Option<String>,
    /// When it does.
    command_when: &'static str,
    /// All of it for people.
    text: String,
}

impl From<Restore> for PreviewRestore {
    fn from(restore: Restore) -> Self {
        Self {
            text: restore.in_words(),
            puts_back_when: restore.puts_back_when.as_str(),
            command_when: restore.command_when.as_str(),
            step: restore.step,
            puts_back: restore.puts_back,
            command: restore.command,
        }
    }
}

/// When its devices end by themselves.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewDeadlines {
    pending_minutes: u64,
    run_minutes: u64,
    abort_minutes: u64,
}

/// What a deployment would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewResult {
    /// Null for a flow that has not been made.
    #[schema(required = true)]
    flow_uuid: Option<String>,
    flow_name: String,
    /// Devices that match.
    matching: u64,
    /// Devices that would begin as soon as the rollout lets them.
    would_start: u64,
    /// Devices that would wait first, the most frequent reason first.
    would_wait: Vec<PreviewReason>,
    /// Devices that would fail before their first step.
    would_refuse: Vec<PreviewReason>,
    /// Null where all devices may begin at once.
    #[schema(required = true)]
    rollout: Option<PreviewRollout>,
    deadlines: PreviewDeadlines,
    /// What a failure puts back, of each step in order.
    restores: Vec<PreviewRestore>,
    /// The command that runs after that; null where there is none.
    #[schema(required = true)]
    rollback: Option<String>,
}

impl From<Preview> for PreviewResult {
    fn from(mut preview: Preview) -> Self {
        let rollout = preview.rollout.take().map(|(policy, waves)| PreviewRollout::new(policy, waves, &preview));
        let minutes = |duration: std::time::Duration| duration.as_secs() / 60;
        Self {
            rollout,
            deadlines: PreviewDeadlines {
                pending_minutes: minutes(preview.deadlines.pending),
                run_minutes: minutes(preview.deadlines.run),
                abort_minutes: minutes(preview.deadlines.abort),
            },
            flow_uuid: preview.flow_uuid,
            flow_name: preview.flow_name,
            matching: preview.matching,
            would_start: preview.would_start,
            would_wait: preview.would_wait.into_iter().map(PreviewReason::from).collect(),
            would_refuse: preview.would_refuse.into_iter().map(PreviewReason::from).collect(),
            restores: preview.restores.into_iter().map(PreviewRestore::from).collect(),
            rollback: preview.rollback,
        }
    }
}

/// Preview a deployment.
///
/// Takes what the creation of a deployment takes, and says what it would do now: which
/// devices would begin, wait or refuse, the waves and budgets, and what a failure would
/// put back. Nothing is written.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/deployments/preview", operation_id = "PreviewDeployment",
    tag = "Deployments",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = PreviewBody,
    responses(
        (status = 200, description = "What the deployment would do", body = PreviewResult),
        (status = 400, description = "A field is wrong: the deployment would be refused as well", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn preview(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<PreviewBody>,
) -> Result<Json<PreviewResult>, ApiError> {
    let permitted = bearer.fleet(Operation::PreviewDeployment, &key).await?;
    Ok(Json(preview::preview(&app, &permitted, &body.plan()?).await?.into()))
}

/// Which devices of a preview.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ReasonQuery {
    /// Only devices with this reason; by default all that match
    #[param(value_type = String, required = false)]
    reason_code: Option<String>,
}

/// A device with what would become of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewedDevice {
    #[serde(flatten)]
    device: PreviewDevice,
    /// Null for one that would begin.
    #[schema(required = true)]
    reason_code: Option<String>,
    /// The same for people.
    #[schema(required = true)]
    reason: Option<String>,
}

/// A page of the devices of a preview.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewDevicePage {
    devices: Vec<PreviewedDevice>,
    pagination_info: PaginationInfo,
}

/// The devices of a preview.
///
/// Every device that matches, or those that one reason would keep from beginning.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/deployments/preview/devices", operation_id = "PreviewDeploymentDevices",
    tag = "Deployments",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ReasonQuery,
        PageQuery,
    ),
    request_body = PreviewBody,
    responses(
        (status = 200, description = "A page of devices", body = PreviewDevicePage),
        (status = 400, description = "A field or a parameter is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn devices(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiQuery(which): ApiQuery<ReasonQuery>,
    ApiQuery(query): ApiQuery<PageQuery>,
    ApiBody(body): ApiBody<PreviewBody>,
) -> Result<Json<PreviewDevicePage>, ApiError> {
    let permitted = bearer.fleet(Operation::PreviewDeploymentDevices, &key).await?;
    let page = query.page()?;
    let plan = body.plan()?;
    let code = which.reason_code.as_deref();
    let found = preview::devices(&app, &permitted, &plan, code, page.after, page.limit).await?;
    let after = page.next(found.devices.last().map(|(device, _)| device.id), found.is_more);
    let told = found.devices.into_iter().map(|(device, reason)| {
        let (reason_code, reason) = reason.map(|reason| (reason.code, reason.text)).unzip();
        PreviewedDevice { device: device.into(), reason_code, reason }
    });
    Ok(Json(PreviewDevicePage {
        devices: told.collect(),
        pagination_info: PaginationInfo { after, total: found.total },
    }))
}
