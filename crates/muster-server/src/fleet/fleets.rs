//! Fleets of an account: made, changed, deleted by its administrators.

use std::time::Duration;

use muster_core::invalid::quoted;
use muster_core::limits::ACCESS_GRANT_LIFE_DEFAULT;
use muster_core::names::{FleetName, ProjectKey};
use muster_store::fleets::{FleetChange, FleetView};
use muster_store::{ConnectionTrait, Db, Tx};
use serde_json::{Value, json};

use super::device_deletion::{delete_matching, end_links};
use crate::access::{Permitted, PermittedAccount};
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// A fleet to be made.
#[derive(Clone, Debug)]
pub struct NewFleet {
    /// Its short name.
    pub key: ProjectKey,
    /// Its name.
    pub name: FleetName,
    /// Time between two keepalives of its devices; the default where there is none.
    pub heartbeat: Option<Duration>,
}

/// Makes a fleet with its first groups.
pub async fn create(app: &App, permitted: &PermittedAccount, new: &NewFleet) -> Result<FleetView> {
    let work = app.store.write(|tx| async move {
        let account_id = permitted.account_id();
        if tx.find_fleet_by_key(account_id, &new.key).await?.is_some() {
            return Err(OpError::taken("project_key", "fleet", new.key.as_str()).into());
        }
        check_name_is_free(&tx, account_id, &new.name).await?;
        let fleet = tx.insert_fleet(account_id, &new.key, &new.name).await?;
        tx.change_fleet(fleet.id, &FleetChange { heartbeat: new.heartbeat, ..FleetChange::default() }).await?;
        let made = tx.fleet_view(fleet.id).await?.ok_or_else(|| WorkError::lost("fleets"))?;
        tx.audit(&permitted.event(format!("fleet:{}", new.key), json!({ "after": described(&made) }))).await?;
        Ok::<_, WorkError>(made)
    });
    Ok(work.await?)
}

/// The fleet that the caller was permitted, as the catalogue shows it.
pub async fn view<C: ConnectionTrait>(db: &Db<C>, permitted: &Permitted) -> Result<FleetView> {
    let fleet = permitted.fleet();
    db.fleet_view(fleet.id).await?.ok_or_else(|| OpError::not_found("fleet", &fleet.project_key))
}

/// Changes the name or the heartbeat of a fleet. Devices take a new heartbeat up when
/// they connect the next time.
pub async fn change(app: &App, permitted: &Permitted, change: &FleetChange) -> Result<FleetView> {
    let work = app.store.write(|tx| async move {
        let before = view(&tx, permitted).await?;
        if let Some(name) = change.name.as_ref().filter(|name| name.as_str() != before.fleet.name) {
            check_name_is_free(&tx, before.fleet.account_id, name).await?;
        }
        tx.change_fleet(before.fleet.id, change).await?;
        let after = view(&tx, permitted).await?;
        let detail = json!({ "before": described(&before), "after": described(&after) });
        tx.audit(&permitted.event(format!("fleet:{}", after.fleet.project_key), detail)).await?;
        Ok::<_, WorkError>(after)
    });
    Ok(work.await?)
}

/// Deletes a fleet with its groups, flows and deployments, and `with_devices` with those;
/// without it there must be none. The last fleet of an account stays.
pub async fn delete(app: &App, permitted: &Permitted, with_devices: bool) -> Result<()> {
    let work = app.store.write(|tx| async move {
        tx.claim_account(permitted.fleet().account_id).await?;
        let before = view(&tx, permitted).await?;
        if before.device_count > 0 && !with_devices {
            return Err(in_use("fleet", &before.fleet.project_key, before.device_count).into());
        }
        if tx.account_fleets_count(before.fleet.account_id).await? <= 1 {
            return Err(OpError::InUse("the last fleet of an account cannot be deleted".to_owned()).into());
        }
        let repositories = tx.repositories_of_fleet(before.fleet.id).await?;
        if !repositories.is_empty() {
            let key = quoted(&before.fleet.project_key.to_string());
            let names = repositories.join(", ");
            return Err(OpError::InUse(format!("the fleet {key} has artifact repositories: {names}")).into());
        }
        let everything = tx.everything_in(vec![before.fleet.id]);
        let (deleted, linked) = delete_matching(&tx, &app.server_id, &everything).await?;
        tx.delete_fleet(before.fleet.id).await?;
        let detail = json!({ "before": described(&before), "devices": deleted });
        tx.audit(&permitted.event(format!("fleet:{}", before.fleet.project_key), detail)).await?;
        Ok::<_, WorkError>(linked)
    });
    end_links(app, work.await?);
    Ok(())
}

/// Devices are in what would be deleted.
pub(crate) fn in_use(what: &str, name: &str, devices: u64) -> OpError {
    OpError::InUse(format!("the {what} {} has {}", quoted(name), counted(devices, "device")))
}

/// A number of things in words.
pub(crate) fn counted(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

async fn check_name_is_free(tx: &Tx, account_id: i64, name: &FleetName) -> Result<(), WorkError> {
    match tx.find_fleet_by_name(account_id, name).await? {
        Some(_) => Err(OpError::taken("name", "fleet", name.as_str()).into()),
        None => Ok(()),
    }
}

/// A fleet as the audit log tells it.
fn described(view: &FleetView) -> Value {
    let mut told = json!({ "name": view.fleet.name, "heartbeat_seconds": view.fleet.heartbeat.as_secs() });
    if !view.fleet.deadlines.is_empty() {
        told["deadlines"] = json!(view.fleet.deadlines);
    }
    if !view.fleet.update_windows.is_empty() {
        told["update_windows"] = json!(view.fleet.update_windows);
    }
    if view.fleet.tunnels_to_network {
        told["tunnels_to_network"] = json!(true);
    }
    if view.fleet.access_grant_max != ACCESS_GRANT_LIFE_DEFAULT {
        told["access_grant_max_seconds"] = json!(view.fleet.access_grant_max.as_secs());
    }
    told
}
