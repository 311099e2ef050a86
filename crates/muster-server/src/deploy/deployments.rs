//! Deployments: made, looked up, aborted.

use muster_core::deadlines::WireDeadlines;
use muster_core::filter::DeviceFilter;
use muster_core::flow::Flow;
use muster_core::flow::inputs::InputValues;
use muster_core::ids::{DeploymentUuid, FlowUuid};
use muster_core::invalid::Invalid;
use muster_core::names::{AppName, Text, Version};
use muster_core::rollout::policy::{Policy, Wave, WireRollout};
use muster_core::target::Deadlines;
use muster_store::deployments::{Deployment, DeploymentKind, NewDeployment, Request};
use muster_store::flows::StoredFlow;
use muster_store::rollouts::{NewRollout, NewWave};
use muster_store::targets::TargetView;
use muster_store::{ConnectionTrait, Db, StoreError, Tx};
use serde_json::json;

use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};
use crate::fleet::tags::in_filter;

/// What is asked of a new deployment.
#[derive(Clone, Debug)]
pub struct Order {
    /// What is deployed.
    pub flow: FlowUuid,
    /// The field that named the flow, for refusals.
    pub flow_field: &'static str,
    /// The rest.
    pub terms: Terms,
}

/// What is asked of a deployment beside its flow.
#[derive(Clone, Debug)]
pub struct Terms {
    /// To which devices.
    pub filter: DeviceFilter,
    /// The field that held the rest, for refusals.
    pub configuration_field: &'static str,
    /// For people.
    pub comment: Text,
    /// The app and version that a device has once it succeeded.
    pub app: Option<(AppName, Version)>,
    /// What the flow's inputs stand for.
    pub inputs: InputValues,
    /// When its devices end by themselves, where it says so.
    pub deadlines: WireDeadlines,
    /// How it goes over its devices; `None` for all of them at once.
    pub rollout: Option<RolloutOrder>,
}

/// The terms of a deployment with everything in them but the filter looked up.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The app's row, and the version.
    pub app: Option<(i64, String)>,
    /// Every input's value.
    pub inputs: InputValues,
    /// When its devices end by themselves.
    pub deadlines: Deadlines,
    /// How it goes over its devices.
    pub rollout: Option<NewRollout>,
}

/// What is asked of a rollout: as it was asked, and checked.
#[derive(Clone, Debug)]
pub struct RolloutOrder {
    wire: WireRollout,
    policy: Policy,
}

impl TryFrom<WireRollout> for RolloutOrder {
    type Error = Invalid;

    fn try_from(wire: WireRollout) -> Result<Self, Invalid> {
        Ok(Self { policy: Policy::try_from(wire.clone())?, wire })
    }
}

/// Makes a deployment. Its devices are fixed from now on. A request that was sent before
/// makes nothing more, and answers the same.
pub async fn create(
    app: &App,
    permitted: &Permitted,
    order: &Order,
    request: Option<&Request>,
) -> Result<DeploymentUuid> {
    let work = app.store.write(|tx| async move {
        if let Some(made) = made_before(&tx, permitted, request).await? {
            return Ok(made);
        }
        let new = NewDeployment { request: request.cloned(), ..new_deployment(app, &tx, permitted, order).await? };
        let matching = tx.resolve(permitted.fleet(), &order.terms.filter).await.map_err(in_filter)?;
        let created = tx.insert_deployment(&new, &matching).await?;
        let detail = json!({ "flow": order.flow.as_str(), "devices": created.target_count });
        tx.audit(&permitted.event(format!("deployment:{}", created.uuid), detail)).await?;
        Ok::<_, WorkError>(created.uuid)
    });
    let uuid = work.await?;
    app.wake.everything();
    Ok(uuid)
}

async fn made_before(
    tx: &Tx,
    permitted: &Permitted,
    request: Option<&Request>,
) -> Result<Option<DeploymentUuid>, WorkError> {
    let Some(request) = request else { return Ok(None) };
    match tx.find_requested(permitted.fleet().id, &request.key).await? {
        Some((uuid, hash)) if hash == request.hash => {
            Ok(Some(uuid.parse().map_err(|_| WorkError::lost("deployments"))?))
        }
        Some(_) => {
            let problem = Invalid::new("Idempotency-Key", "was sent before with another body");
            Err(OpError::NotNow { code: "idempotency_key_reused", problem }.into())
        }
        None => Ok(None),
    }
}

/// The deployment that an order asks for, once everything in it but its filter has been looked up.
pub(super) async fn new_deployment<C: ConnectionTrait>(
    app: &App,
    db: &Db<C>,
    permitted: &Permitted,
    order: &Order,
) -> Result<NewDeployment, WorkError> {
    let stored = stored_flow(db, permitted, order).await?;
    let settled = settle(app, db, permitted, &stored.flow, &order.terms).await?;
    Ok(NewDeployment {
        fleet_id: permitted.fleet().id,
        flow_id: stored.id,
        kind: DeploymentKind::Api,
        comment: order.terms.comment.as_str().to_owned(),
        app: settled.app,
        inputs: settled.inputs,
        deadlines: settled.deadlines,
        rollout: settled.rollout,
        request: None,
        created_by: permitted.actor(),
    })
}

/// The flow that an order names.
pub(super) async fn stored_flow<C: ConnectionTrait>(
    db: &Db<C>,
    permitted: &Permitted,
    order: &Order,
) -> Result<StoredFlow, WorkError> {
    let flow = db.find_flow(permitted.fleet().id, &order.flow).await?;
    let unknown = || Invalid::unknown(order.flow_field, "update flow of the fleet", order.flow.as_str());
    Ok(flow.ok_or_else(unknown)?)
}

/// What a deployment of `flow` would be by these terms.
pub(super) async fn settle<C: ConnectionTrait>(
    app: &App,
    db: &Db<C>,
    permitted: &Permitted,
    flow: &Flow,
    terms: &Terms,
) -> Result<Settled, WorkError> {
    let in_configuration = |refusal: Invalid| refusal.within(terms.configuration_field);
    let deadlines = deadlines(app, permitted, flow, terms);
    let rollout = match &terms.rollout {
        Some(asked) => Some(new_rollout(db, permitted, terms, asked, deadlines).await?),
        None => None,
    };
    Ok(Settled {
        app: known_app(db, permitted.fleet().account_id, terms).await?,
        inputs: flow.input_values(&terms.inputs).map_err(in_configuration)?,
        deadlines,
        rollout,
    })
}

/// The closest word counts: the deployment's, its flow's, its fleet's, the server's.
fn deadlines(app: &App, permitted: &Permitted, flow: &Flow, terms: &Terms) -> Deadlines {
    let server = Deadlines { pending: app.config.pending_deadline, ..Deadlines::new(flow.run_deadline()) };
    terms.deadlines.or(flow.deadlines.or(permitted.fleet().deadlines.or(server)))
}

/// The rollout that an order asks for, with the names in its waves looked up.
async fn new_rollout<C: ConnectionTrait>(
    db: &Db<C>,
    permitted: &Permitted,
    terms: &Terms,
    asked: &RolloutOrder,
    deadlines: Deadlines,
) -> Result<NewRollout, WorkError> {
    let in_rollout = |refusal: Invalid| refusal.within("rollout").within(terms.configuration_field);
    let mut waves = Vec::with_capacity(asked.policy.waves.len());
    for (i, wave) in asked.policy.waves.iter().enumerate() {
        waves.push(match wave {
            Wave::Share(share) => NewWave::Share(*share),
            Wave::Filter(filter) => {
                let place = format!("waves[{i}].device_filter");
                let matching = db.resolve(permitted.fleet(), filter).await;
                NewWave::Matching(matching.map_err(|error| match error {
                    StoreError::Invalid(refusal) => StoreError::Invalid(in_rollout(refusal.within(&place))),
                    error => error,
                })?)
            }
        });
    }
    asked.policy.check_time(db.now(), deadlines.pending).map_err(in_rollout)?;
    Ok(NewRollout { wire: asked.wire.clone(), policy: asked.policy.clone(), waves })
}

async fn known_app<C: ConnectionTrait>(
    db: &Db<C>,
    account_id: i64,
    terms: &Terms,
) -> Result<Option<(i64, String)>, WorkError> {
    let Some((name, version)) = &terms.app else { return Ok(None) };
    let id = db.find_app(account_id, name).await?;
    let unknown = || Invalid::unknown(format!("{}.app.name", terms.configuration_field), "app", name.as_str());
    Ok(Some((id.ok_or_else(unknown)?, version.as_str().to_owned())))
}

/// The deployment of a fleet with that uuid, as a caller wrote it.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &Permitted, uuid: &str) -> Result<Deployment> {
    let deployment = match uuid.parse::<DeploymentUuid>() {
        Ok(uuid) => db.find_deployment(permitted.fleet().id, &uuid).await?,
        Err(_) => None,
    };
    deployment.ok_or_else(|| OpError::not_found("deployment", uuid))
}

/// One device of a deployment.
pub async fn find_target<C: ConnectionTrait>(db: &Db<C>, deployment: &Deployment, device: &str) -> Result<TargetView> {
    // A stranger's text is only compared with the uuids of this deployment's devices once it looks like one.
    let target = match device.parse::<muster_core::ids::DeviceUuid>() {
        Ok(uuid) => db.find_target(deployment.id, uuid.as_str()).await?,
        Err(_) => None,
    };
    target.ok_or_else(|| OpError::not_found("device of the deployment", device))
}

/// An attempt of a device at a deployment; the present one unless another is asked for.
pub async fn find_attempt<C: ConnectionTrait>(
    db: &Db<C>,
    deployment: &Deployment,
    target: &TargetView,
    attempt: Option<u32>,
) -> Result<TargetView> {
    let attempt = attempt.unwrap_or(target.attempt);
    let found = db.find_attempt(deployment.id, target, attempt).await?;
    found.ok_or_else(|| OpError::not_found("attempt of the device", &attempt.to_string()))
}

/// Aborts a deployment, or one device of it. Doing it again changes nothing.
pub async fn abort(app: &App, permitted: &Permitted, uuid: &str, device: Option<&str>) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let deployment = find(&tx, permitted, uuid).await?;
        let device_id = match device {
            Some(device) => Some(find_target(&tx, &deployment, device).await?.device_id),
            None => None,
        };
        let aborted = tx.abort_targets(deployment.id, device_id).await?;
        let detail = json!({
            "device": device,
            "before": { "open": aborted.ended + aborted.asked },
            "after": { "aborted": aborted.ended, "abort_requested": aborted.asked },
        });
        tx.audit(&permitted.event(format!("deployment:{}", deployment.uuid), detail)).await?;
        Ok::<_, WorkError>(())
    });
    work.await?;
    app.wake.everything();
    Ok(())
}
