//! Remote commands of a fleet that have a name.

use std::time::Duration;

use muster_core::invalid::Invalid;
use muster_core::limits::SAVED_COMMANDS_MAX;
use muster_core::names::{CommandName, DeviceUser, Script, Text};
use muster_store::saved_commands::{NewSavedCommand, SavedCommand};
use muster_store::{ConnectionTrait, Db, Tx};
use serde_json::{Value, json};

use super::command_runs::audited_script;
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// What is to change about a saved command.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// Another name.
    pub name: Option<CommandName>,
    /// What a person says of it.
    pub description: Option<Text>,
    /// What it runs.
    pub script: Option<Script>,
    /// The user of the device who runs it; `Some(None)` for the one that the device chooses.
    pub user: Option<Option<DeviceUser>>,
    /// How long it may run.
    pub timeout: Option<Duration>,
}

/// Saves a command.
pub async fn create(app: &App, permitted: &Permitted, new: &NewSavedCommand) -> Result<SavedCommand> {
    let work = app.store.write(|tx| async move {
        let fleet_id = permitted.fleet().id;
        check_name_is_free(&tx, permitted, &new.name).await?;
        if tx.saved_commands_count(fleet_id).await? >= SAVED_COMMANDS_MAX {
            let problem = Invalid::new("name", format!("a fleet has at most {SAVED_COMMANDS_MAX} saved commands"));
            return Err(OpError::Conflict(problem).into());
        }
        let made = tx.insert_saved_command(fleet_id, new).await?;
        tx.audit(&permitted.event(subject(&made), json!({ "after": described(&made) }))).await?;
        Ok::<_, WorkError>(made)
    });
    Ok(work.await?)
}

/// The saved command of a fleet with that name, as a caller wrote it.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &Permitted, name: &str) -> Result<SavedCommand> {
    let found = match CommandName::parse(name) {
        Ok(name) => db.find_saved_command(permitted.fleet().id, &name).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| OpError::not_found("saved command", name))
}

/// Changes a saved command.
pub async fn change(app: &App, permitted: &Permitted, name: &str, patch: &Patch) -> Result<SavedCommand> {
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, name).await?;
        let new = patched(&before, patch)?;
        if new.name.as_str() != before.name {
            check_name_is_free(&tx, permitted, &new.name).await?;
        }
        tx.replace_saved_command(before.id, &new).await?;
        let after = find(&tx, permitted, new.name.as_str()).await?;
        let detail = json!({ "before": described(&before), "after": described(&after) });
        tx.audit(&permitted.event(subject(&before), detail)).await?;
        Ok::<_, WorkError>(after)
    });
    Ok(work.await?)
}

/// Deletes a saved command. Its runs stay.
pub async fn delete(app: &App, permitted: &Permitted, name: &str) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, name).await?;
        tx.delete_saved_command(before.id).await?;
        tx.audit(&permitted.event(subject(&before), json!({ "before": described(&before) }))).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// The whole command after the change.
fn patched(before: &SavedCommand, patch: &Patch) -> Result<NewSavedCommand, WorkError> {
    let lost = |_| WorkError::lost("saved_commands");
    let user = match &patch.user {
        Some(user) => user.clone(),
        None if before.user.is_empty() => None,
        None => Some(DeviceUser::parse(before.user.clone()).map_err(lost)?),
    };
    Ok(NewSavedCommand {
        name: patch.name.clone().map_or_else(|| CommandName::parse(before.name.clone()), Ok).map_err(lost)?,
        description: patch
            .description
            .clone()
            .map_or_else(|| Text::parse(before.description.clone()), Ok)
            .map_err(lost)?,
        script: patch.script.clone().map_or_else(|| Script::parse(before.script.clone()), Ok).map_err(lost)?,
        user,
        timeout: patch.timeout.unwrap_or(before.timeout),
    })
}

async fn check_name_is_free(tx: &Tx, permitted: &Permitted, name: &CommandName) -> Result<(), WorkError> {
    match tx.find_saved_command(permitted.fleet().id, name).await? {
        Some(_) => Err(OpError::taken("name", "saved command", name.as_str()).into()),
        None => Ok(()),
    }
}

fn subject(command: &SavedCommand) -> String {
    format!("remote_command:{}", command.name)
}

/// A saved command as the audit log tells it.
fn described(command: &SavedCommand) -> Value {
    json!({
        "name": command.name,
        "description": command.description,
        "script": audited_script(&command.script),
        "user": command.user,
        "timeout_seconds": command.timeout.as_secs(),
    })
}
