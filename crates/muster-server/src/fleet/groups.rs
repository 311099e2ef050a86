//! Groups of a fleet: made, renamed, deleted.

use muster_core::access::Permission;
use muster_core::invalid::Invalid;
use muster_core::names::GroupName;
use muster_store::groups::GroupView;
use muster_store::{ConnectionTrait, Db, Tx};
use serde_json::{Value, json};

use super::fleets::in_use;
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// What becomes of the devices of a group that is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Devices {
    /// There must be none.
    None,
    /// They move into that group of the fleet.
    MoveTo(GroupName),
}

/// Makes a group.
pub async fn create(app: &App, permitted: &Permitted, name: &GroupName) -> Result<GroupView> {
    let work = app.store.write(|tx| async move {
        let fleet_id = permitted.fleet().id;
        check_name_is_free(&tx, fleet_id, name).await?;
        tx.insert_group(fleet_id, name).await?;
        let made = tx.group_view(fleet_id, name).await?.ok_or_else(|| WorkError::lost("groups"))?;
        tx.audit(&permitted.event(format!("group:{name}"), json!({ "after": { "name": name } }))).await?;
        Ok::<_, WorkError>(made)
    });
    Ok(work.await?)
}

/// The group of a fleet with that name, as a caller wrote it.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &Permitted, name: &str) -> Result<GroupView> {
    let group = match GroupName::parse(name) {
        Ok(name) => db.group_view(permitted.fleet().id, &name).await?,
        Err(_) => None,
    };
    group.ok_or_else(|| OpError::not_found("group", name))
}

/// Gives a group another name. Its devices stay in it.
pub async fn rename(app: &App, permitted: &Permitted, name: &str, to: &GroupName) -> Result<GroupView> {
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, name).await?;
        if to.as_str() != before.name {
            check_name_is_free(&tx, permitted.fleet().id, to).await?;
        }
        tx.rename_group(before.id, to).await?;
        let after = find(&tx, permitted, to.as_str()).await?;
        let detail = json!({ "before": { "name": before.name }, "after": { "name": after.name } });
        tx.audit(&permitted.event(format!("group:{}", before.name), detail)).await?;
        Ok::<_, WorkError>(after)
    });
    Ok(work.await?)
}

/// Deletes a group. The last group of a fleet stays.
pub async fn delete(app: &App, permitted: &Permitted, name: &str, devices: &Devices) -> Result<()> {
    match devices {
        Devices::None => {}
        Devices::MoveTo(_) => permitted.also(Permission::ModifyDevices)?,
    }
    let work = app.store.write(|tx| async move {
        tx.claim_fleet(permitted.fleet().id).await?;
        let before = find(&tx, permitted, name).await?;
        if tx.groups_count(permitted.fleet().id).await? <= 1 {
            return Err(OpError::InUse("the last group of a fleet cannot be deleted".to_owned()).into());
        }
        let emptied = empty(&tx, permitted, &before, devices).await?;
        tx.delete_group(before.id).await?;
        let detail = json!({ "before": { "name": before.name, "devices": before.device_count }, "devices": emptied });
        tx.audit(&permitted.event(format!("group:{}", before.name), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// Takes every device out of a group, and answers with what the audit log tells of it.
async fn empty(tx: &Tx, permitted: &Permitted, group: &GroupView, devices: &Devices) -> Result<Value, WorkError> {
    match devices {
        Devices::None if group.device_count > 0 => Err(in_use("group", &group.name, group.device_count).into()),
        Devices::None => Ok(Value::Null),
        Devices::MoveTo(into) => {
            let unknown = || Invalid::unknown("move_to", "other group of the fleet", into.as_str());
            let into_id = tx.find_group(permitted.fleet().id, into).await?.filter(|id| *id != group.id);
            let moved = tx.empty_group_into(group.id, into_id.ok_or_else(unknown)?).await?;
            Ok(json!({ "moved": moved, "to_group": into }))
        }
    }
}

async fn check_name_is_free(tx: &Tx, fleet_id: i64, name: &GroupName) -> Result<(), WorkError> {
    match tx.find_group(fleet_id, name).await? {
        Some(_) => Err(OpError::taken("name", "group", name.as_str()).into()),
        None => Ok(()),
    }
}
