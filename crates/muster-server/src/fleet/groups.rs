//! Groups of a fleet.

use muster_core::names::GroupName;
use serde_json::json;

use super::apps::taken;
use crate::access::Permitted;
use crate::app::App;
use crate::error::{Result, WorkError};

/// Makes a group.
pub async fn create(app: &App, permitted: &Permitted, name: &GroupName) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let fleet_id = permitted.fleet().id;
        if tx.find_group(fleet_id, name).await?.is_some() {
            return Err(taken("group", name.as_str()).into());
        }
        tx.insert_group(fleet_id, name).await?;
        tx.audit(&permitted.event(format!("group:{name}"), json!({}))).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}
