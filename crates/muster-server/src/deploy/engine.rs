//! The engine: brings every deployment to its end.
//!
//! A reconciler. It takes no input but "look again", reads what is due from the
//! store, marks it as sent, and sends it; running twice does no harm. It looks at
//! single devices when something happened to them, and at everything from time to
//! time, so that a lost wake-up only costs time.

use std::collections::HashMap;
use std::time::Duration;

use muster_core::ids::RowId;
use muster_link::{Instruction, RunId, ToDevice};
use muster_store::dispatch::{DeploymentOrder, Due};
use muster_store::{Store, StoreError, Tx};

use super::artifacts::{self, Needed};
use super::rollouts;
use crate::app::App;
use crate::link::dispatch::{self, Over};
use crate::periodic::every;
use crate::remote::command_runs;

/// Most instructions that are sent in one transaction.
const BATCH_MAX: u64 = 500;

/// How often everything is looked at, whether or not something happened.
const PERIOD: Duration = Duration::from_secs(15);
/// The pause between two rounds over the rollouts, which count all of their devices: so
/// what they cost depends on the time that a rollout takes, and not on how many
/// devices end in it one by one.
const ROLLOUT_PAUSE: Duration = Duration::from_secs(1);

/// Runs the engine for ever.
pub async fn run(app: App) {
    let (mut period, mut pause) = (every(PERIOD), every(ROLLOUT_PAUSE));
    let mut are_rollouts_due = false;
    loop {
        tokio::select! {
            devices = app.wake.next() => {
                look(&app, devices.as_deref()).await;
                are_rollouts_due = true;
            }
            _ = period.tick() => {
                look(&app, None).await;
                are_rollouts_due = true;
            }
            _ = pause.tick(), if are_rollouts_due => {
                are_rollouts_due = false;
                if let Err(error) = roll_out(&app).await {
                    tracing::error!(%error, "rollouts could not go on; trying again soon");
                }
            }
        }
    }
}

async fn look(app: &App, devices: Option<&[RowId]>) {
    if devices.is_none()
        && let Err(error) = expire(&app.store).await
    {
        tracing::error!(%error, "overdue targets could not be ended; trying again soon");
    }
    if devices.is_none()
        && let Err(error) = crate::remote::tunnels::expire(app).await
    {
        tracing::error!(%error, "overdue tunnels could not be ended; trying again soon");
    }
    if devices.is_none()
        && let Err(error) = command_runs::expire(app).await
    {
        tracing::error!(%error, "overdue commands could not be ended; trying again soon");
    }
    if let Err(error) = command_runs::send_due(app, devices).await {
        tracing::error!(%error, "commands could not be sent; trying again soon");
    }
    if let Err(error) = crate::remote::logs::send_due(app, devices).await {
        tracing::error!(%error, "requests for files could not be sent; trying again soon");
    }
    if let Err(error) = send_due(app, devices).await {
        tracing::error!(%error, "instructions could not be sent; trying again soon");
    }
}

/// One round over every rollout, and the instructions that are due since.
pub async fn roll_out(app: &App) -> Result<(), StoreError> {
    if rollouts::advance_all(app).await? {
        send_due(app, None).await?;
    }
    Ok(())
}

/// Ends every target whose deadline has passed.
pub async fn expire(store: &Store) -> Result<(), StoreError> {
    while store.write(|tx| async move { tx.expire_targets(BATCH_MAX).await }).await? == BATCH_MAX {}
    Ok(())
}

/// Sends everything that is due to the given devices, or to any.
pub async fn send_due(app: &App, device_ids: Option<&[RowId]>) -> Result<(), StoreError> {
    loop {
        // A look first: most wake-ups find nothing, and a write would hold up others.
        if app.store.read().due(&app.server_id, device_ids, 1).await?.is_empty() {
            return Ok(());
        }
        let (due, orders) = take_due(app, device_ids).await?;
        for due in &due {
            if let Some(message) = orders.get(&due.deployment_id).and_then(|order| message(app, due, order)) {
                app.links.send(due.device_id, due.link_epoch, message);
            }
        }
        if (due.len() as u64) < BATCH_MAX {
            return Ok(());
        }
    }
}

/// What a batch of deployments tells its devices.
type Orders = HashMap<RowId, Order>;

/// What a deployment says, and what its steps need of registries.
struct Order {
    told: DeploymentOrder,
    needed: Vec<Needed>,
}

/// Marks what is due as sent, in the transaction that finds it: so an abort that
/// comes in between repeats the transaction, and is seen. What is to be sent is read
/// there as well: what could not be read must not be marked.
async fn take_due(app: &App, device_ids: Option<&[RowId]>) -> Result<(Vec<Due>, Orders), StoreError> {
    let server_id = app.server_id.as_str();
    let over = |(due, _): &(Vec<Due>, Orders)| due.iter().map(over).collect();
    let taken = dispatch::mark_sent(app, over, |tx| async move {
        let due = tx.due(server_id, device_ids, BATCH_MAX).await?;
        let mut orders = Orders::new();
        for Due { deployment_id, .. } in &due {
            if !orders.contains_key(deployment_id)
                && let Some(order) = order(app, &tx, *deployment_id).await?
            {
                orders.insert(*deployment_id, order);
            }
        }
        tx.mark_sent(&due).await?;
        Ok((due, orders))
    });
    taken.await
}

fn over(due: &Due) -> Over {
    Over { device_id: due.device_id, epoch: due.link_epoch }
}

/// What a deployment tells its devices; `None` for one that nobody can read. Its
/// targets end by their deadlines, and must not keep others from being sent.
async fn order(app: &App, tx: &Tx, deployment_id: RowId) -> Result<Option<Order>, StoreError> {
    match tx.deployment_order(deployment_id).await {
        Ok(told) => {
            let needed = artifacts::resolve(app, tx, &told).await?;
            Ok(Some(Order { told, needed }))
        }
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!(%error, deployment_id, "a deployment cannot be sent");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn message(app: &App, due: &Due, order: &Order) -> Option<ToDevice> {
    let Order { told, needed } = order;
    let run = RunId { deployment: told.uuid.parse().ok()?, attempt: due.attempt.try_into().ok()? };
    if due.is_abort_requested {
        return Some(ToDevice::Abort { run });
    }
    Some(ToDevice::Run(Instruction {
        run,
        flow: told.flow.clone(),
        inputs: told.inputs.clone(),
        artifacts: artifacts::for_device(app, needed, due.device_id),
    }))
}
