//! Rollouts: advanced by the engine; paused, resumed and tried again by people.

use muster_core::access::Operation;
use muster_core::invalid::Invalid;
use muster_core::rollout::plan::Phase;
use muster_store::audit::NewAuditEvent;
use muster_store::deployments::Deployment;
use muster_store::rollouts::{Advanced, Rollout};
use muster_store::{StoreError, Tx};
use serde_json::{Value, json};

use super::deployments::find;
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// One round over every rollout that is not over. Whether any device may start since.
pub async fn advance_all(app: &App) -> Result<bool, StoreError> {
    let mut is_any_released = false;
    for rollout in app.store.read().open_rollouts().await? {
        match advance_if_due(app, &rollout).await {
            Ok(is_released) => is_any_released |= is_released,
            Err(error) => {
                let deployment = rollout.deployment_uuid.as_str();
                tracing::error!(%error, deployment, "a rollout could not go on; trying again soon");
            }
        }
    }
    Ok(is_any_released)
}

/// A look first: most rounds find nothing, and a write would hold up others.
async fn advance_if_due(app: &App, rollout: &Rollout) -> Result<bool, StoreError> {
    if app.store.read().is_rollout_due(rollout, &app.server_id).await? {
        advance(app, rollout).await
    } else {
        Ok(false)
    }
}

async fn advance(app: &App, rollout: &Rollout) -> Result<bool, StoreError> {
    let (id, uuid) = (rollout.deployment_id, rollout.deployment_uuid.as_str());
    let advanced = app.store.write(|tx| async move {
        let advanced = tx.advance_rollout(id, &app.server_id).await?;
        if let Some(advanced) = &advanced {
            tell(&tx, rollout, advanced).await?;
        }
        Ok::<_, StoreError>(advanced)
    });
    let Some(advanced) = advanced.await? else { return Ok(false) };
    let Advanced { after, followed, released, .. } = advanced;
    tracing::debug!(deployment = uuid, phase = ?after.phase, wave = after.wave, followed, released, "a rollout's round");
    Ok(released > 0)
}

/// That the engine has paused a deployment stands in the log as if a person had.
async fn tell(tx: &Tx, rollout: &Rollout, advanced: &Advanced) -> Result<(), StoreError> {
    if advanced.after.phase != Phase::OverBudget || advanced.before.phase == Phase::OverBudget {
        return Ok(());
    }
    let failures = rollout.progress.failures();
    let detail = json!({
        "before": { "rollout": status(advanced.before.phase) },
        "after": { "rollout": status(advanced.after.phase) },
        "failed": failures,
    });
    let event = NewAuditEvent {
        account_id: rollout.account_id,
        fleet_id: Some(rollout.fleet_id),
        actor: "server".to_owned(),
        action: Operation::PauseDeployment,
        subject: format!("deployment:{}", rollout.deployment_uuid),
        source_ip: String::new(),
        detail,
    };
    tx.audit(&event).await
}

/// How a rollout stands, in a word of the wire.
pub fn status(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Paused => "paused",
        Phase::OverBudget => "failure_budget_spent",
        Phase::Finished => "finished",
    }
}

/// Pauses a deployment, whether or not it has a rollout: what has not been told to
/// begin does not. Doing it again changes nothing.
pub async fn pause(app: &App, permitted: &Permitted, uuid: &str) -> Result<(Deployment, Rollout)> {
    let work = app.store.write(|tx| async move {
        let deployment = find(&tx, permitted, uuid).await?;
        let before = tx.find_rollout(deployment.id).await?;
        let over = || not_now("deployment_finished", "every device of the deployment has ended");
        let after = tx.pause_rollout(deployment.id).await?.ok_or_else(over)?;
        note(&tx, permitted, &deployment, before.as_ref(), &after).await?;
        Ok::<_, WorkError>((deployment, after))
    });
    Ok(work.await?)
}

/// Lets a paused deployment go on; the failures until now are forgiven.
pub async fn resume(app: &App, permitted: &Permitted, uuid: &str) -> Result<(Deployment, Rollout)> {
    let work = app.store.write(|tx| async move {
        let deployment = find(&tx, permitted, uuid).await?;
        let before = tx.find_rollout(deployment.id).await?;
        let on = || not_now("deployment_not_paused", "the deployment is not paused");
        let after = tx.resume_rollout(deployment.id).await?.ok_or_else(on)?;
        note(&tx, permitted, &deployment, before.as_ref(), &after).await?;
        Ok::<_, WorkError>((deployment, after))
    });
    let resumed = work.await?;
    app.wake.everything();
    Ok(resumed)
}

/// Makes a new attempt for every device on which a deployment failed, and says for how many.
pub async fn retry_failed(app: &App, permitted: &Permitted, uuid: &str) -> Result<u64> {
    let work = app.store.write(|tx| async move {
        let deployment = find(&tx, permitted, uuid).await?;
        let retried = tx.retry_failed(deployment.id).await?;
        let detail = json!({ "before": { "failed": retried }, "after": { "pending": retried } });
        tx.audit(&permitted.event(format!("deployment:{}", deployment.uuid), detail)).await?;
        Ok::<_, WorkError>(retried)
    });
    let retried = work.await?;
    app.wake.everything();
    Ok(retried)
}

fn not_now(code: &'static str, problem: &str) -> OpError {
    OpError::NotNow { code, problem: Invalid::new("", problem) }
}

async fn note(
    tx: &Tx,
    permitted: &Permitted,
    deployment: &Deployment,
    before: Option<&Rollout>,
    after: &Rollout,
) -> Result<(), StoreError> {
    let word = |rollout: &Rollout| Value::from(status(rollout.progress.state.phase));
    let before = before.map_or(Value::Null, word);
    let detail = json!({ "before": { "rollout": before }, "after": { "rollout": word(after) } });
    tx.audit(&permitted.event(format!("deployment:{}", deployment.uuid), detail)).await
}
