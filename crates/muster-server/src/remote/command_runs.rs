//! Runs of remote commands: made, looked up, aborted, sent to devices, forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::access::Permission;
use muster_core::clock::Timestamp;
use muster_core::filter::DeviceFilter;
use muster_core::ids::{CommandRunUuid, DeviceUuid, RowId};
use muster_core::invalid::Invalid;
use muster_core::limits::{AUDITED_SCRIPT_CHARS_MAX, COMMAND_EXPIRY_DEFAULT, COMMAND_TIMEOUT_DEFAULT};
use muster_core::names::{CommandName, DeviceUser, Script};
use muster_link::{CommandOrder, ToDevice, capability};
use muster_store::command_dispatch::{CommandTold, DueCommand};
use muster_store::command_runs::{CommandRun, NewCommandRun};
use muster_store::command_targets::CommandTargetView;
use muster_store::{ConnectionTrait, Db, StoreError, Tx};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};
use crate::fleet::tags::in_filter;
use crate::link::dispatch::{self, Over};

/// Devices of one transaction.
const BATCH_MAX: u64 = 500;

/// What is to be run.
#[derive(Clone, Debug)]
pub enum What {
    /// A saved command.
    Saved(CommandName),
    /// A script of its own.
    Script(Script),
}

/// What is asked of a run.
#[derive(Clone, Debug)]
pub struct Order {
    /// What is to be run.
    pub what: What,
    /// As which user of the device; `None` as the saved command says.
    pub user: Option<DeviceUser>,
    /// For how long; `None` as the saved command says.
    pub timeout: Option<Duration>,
    /// On which devices.
    pub filter: DeviceFilter,
    /// The same, in the caller's words.
    pub filter_words: Value,
    /// How long a device may take to begin.
    pub expires_after: Option<Duration>,
}

/// Makes a run. Its devices are fixed from now on.
pub async fn create(app: &App, permitted: &Permitted, order: &Order) -> Result<CommandRun> {
    // Whoever may run saved commands alone runs them as they were saved.
    let is_own = matches!(order.what, What::Script(_)) || order.user.is_some() || order.timeout.is_some();
    let also: &[Permission] = if is_own { &[Permission::EditRemoteCommands] } else { &[] };
    permitted.check_held(also)?;
    let work = app.store.write(|tx| async move {
        let new = new_run(&tx, permitted, order).await?;
        let matching = tx.resolve(permitted.fleet(), &order.filter).await.map_err(in_filter)?;
        permitted.check_devices(&tx, &matching, also).await?;
        let run = tx.insert_command_run(&new, &matching).await?;
        tx.audit(&permitted.event(format!("command_run:{}", run.uuid), described(&run))).await?;
        Ok::<_, WorkError>(run)
    });
    let run = work.await?;
    app.wake.everything();
    Ok(run)
}

async fn new_run(tx: &Tx, permitted: &Permitted, order: &Order) -> Result<NewCommandRun, WorkError> {
    let saved = match &order.what {
        What::Saved(name) => {
            let found = tx.find_saved_command(permitted.fleet().id, name).await?;
            Some(found.ok_or_else(|| Invalid::unknown("command", "saved command", name.as_str()))?)
        }
        What::Script(_) => None,
    };
    let user = order.user.as_ref().map(|user| user.as_str().to_owned());
    let (command_name, script, saved_user, saved_timeout) = match (&order.what, saved) {
        (_, Some(saved)) => (saved.name, saved.script, saved.user, saved.timeout),
        (What::Script(script), None) => {
            (String::new(), script.as_str().to_owned(), String::new(), COMMAND_TIMEOUT_DEFAULT)
        }
        (What::Saved(name), None) => return Err(Invalid::unknown("command", "saved command", name.as_str()).into()),
    };
    Ok(NewCommandRun {
        fleet_id: permitted.fleet().id,
        command_name,
        script,
        user: user.unwrap_or(saved_user),
        timeout: order.timeout.unwrap_or(saved_timeout),
        device_filter: order.filter_words.clone(),
        created_by: permitted.actor(),
        expires_at: tx.now().after(order.expires_after.unwrap_or(COMMAND_EXPIRY_DEFAULT)),
    })
}

/// A run as the audit log tells it.
fn described(run: &CommandRun) -> Value {
    json!({
        "command": run.command_name,
        "script": audited_script(&run.script),
        "user": run.user,
        "timeout_seconds": run.timeout.as_secs(),
        "device_filter": run.device_filter,
        "devices": run.device_count,
        "expires": run.expires_at.to_rfc3339(),
    })
}

/// A script as the audit log tells it: all of a short one; of a long one its beginning, and
/// what tells it from others.
pub(super) fn audited_script(script: &str) -> Value {
    match script.char_indices().nth(AUDITED_SCRIPT_CHARS_MAX) {
        None => json!(script),
        Some((end, _)) => {
            let sha256: String = Sha256::digest(script.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "begins": &script[..end], "sha256": sha256, "bytes": script.len() })
        }
    }
}

/// The run of a fleet with that id, as a caller wrote it. Under an access grant for some
/// devices, one that acts on others as well is not theirs to see.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &Permitted, uuid: &str) -> Result<CommandRun> {
    let run = match uuid.parse::<CommandRunUuid>() {
        Ok(uuid) => db.find_command_run(permitted.fleet().id, &uuid).await?,
        Err(_) => None,
    };
    let run = run.ok_or_else(|| OpError::not_found("command run", uuid))?;
    match db.is_command_run_within(run.id, permitted.reach()).await? {
        true => Ok(run),
        false => Err(permitted.beyond_reach()),
    }
}

/// One device of a run.
pub async fn find_target<C: ConnectionTrait>(db: &Db<C>, run: &CommandRun, device: &str) -> Result<CommandTargetView> {
    let target = match device.parse::<DeviceUuid>() {
        Ok(uuid) => db.find_command_target(run.id, uuid.as_str()).await?,
        Err(_) => None,
    };
    target.ok_or_else(|| OpError::not_found("device of the command run", device))
}

/// Aborts a run. Doing it again changes nothing.
pub async fn abort(app: &App, permitted: &Permitted, uuid: &str) -> Result<CommandRun> {
    let work = app.store.write(|tx| async move {
        let run = find(&tx, permitted, uuid).await?;
        let aborted = tx.abort_command_run(run.id).await?;
        let detail = json!({
            "before": { "open": aborted.ended + aborted.asked },
            "after": { "aborted": aborted.ended, "abort_requested": aborted.asked },
        });
        tx.audit(&permitted.event(format!("command_run:{}", run.uuid), detail)).await?;
        Ok::<_, WorkError>(run)
    });
    let run = work.await?;
    app.wake.everything();
    Ok(run)
}

/// Sends everything that is due to the given devices, or to any.
pub async fn send_due(app: &App, device_ids: Option<&[RowId]>) -> Result<(), StoreError> {
    let server_id = app.server_id.as_str();
    loop {
        // A look first: most wake-ups find nothing, and a write would hold up others.
        if app.store.read().due_commands(server_id, device_ids, 1).await?.is_empty() {
            return Ok(());
        }
        let over = |(due, _): &(Vec<DueCommand>, _)| due.iter().map(over).collect();
        let marked = dispatch::mark_sent(app, over, |tx| async move {
            let due = tx.due_commands(server_id, device_ids, BATCH_MAX).await?;
            let told = mark(&tx, &due).await?;
            Ok((due, told))
        });
        let (due, told) = marked.await?;
        for due in due.iter().filter(|due| is_able(due)) {
            if let Some(told) = told.get(&due.run_id) {
                app.links.send(due.device_id, due.link_epoch, message(due, told, app.clock().now()));
            }
        }
        if (due.len() as u64) < BATCH_MAX {
            return Ok(());
        }
    }
}

fn over(due: &DueCommand) -> Over {
    Over { device_id: due.device_id, epoch: due.link_epoch }
}

/// Marks what is due as sent, in the transaction that finds it, and ends it on devices that
/// cannot carry it out.
async fn mark(tx: &Tx, due: &[DueCommand]) -> Result<BTreeMap<RowId, CommandTold>, StoreError> {
    let mut runs: BTreeMap<RowId, Vec<&DueCommand>> = BTreeMap::new();
    for due in due {
        runs.entry(due.run_id).or_default().push(due);
    }
    let mut told = BTreeMap::new();
    for (run_id, due) in runs {
        let (able, unable): (Vec<_>, Vec<_>) = due.into_iter().partition(|due| is_able(due));
        if !unable.is_empty() {
            let devices: Vec<_> = unable.iter().map(|due| due.device_id).collect();
            tx.commands_unable(run_id, &devices).await?;
        }
        let run = tx.command_told(run_id).await?;
        tx.mark_commands_sent(&able, run.expires_at).await?;
        told.insert(run_id, run);
    }
    Ok(told)
}

/// What was to be aborted has been sent, to an agent that could then.
fn is_able(due: &DueCommand) -> bool {
    due.is_abort_requested || due.capabilities.iter().any(|word| word == capability::REMOTE_COMMANDS)
}

fn message(due: &DueCommand, told: &CommandTold, now: Timestamp) -> ToDevice {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if due.is_abort_requested {
        return ToDevice::AbortCommand { command: told.uuid.clone() };
    }
    ToDevice::RunCommand(CommandOrder {
        command: told.uuid.clone(),
        script: told.script.clone(),
        user: told.user.clone(),
        timeout_ms: millis(told.timeout),
        begin_within_ms: millis(told.expires_at.since(now)),
    })
}

/// Ends every device of a run whose deadline has passed.
pub async fn expire(app: &App) -> Result<(), StoreError> {
    while app.store.write(|tx| async move { tx.expire_command_targets(BATCH_MAX).await }).await? == BATCH_MAX {}
    Ok(())
}
