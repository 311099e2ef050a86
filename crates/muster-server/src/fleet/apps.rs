//! Apps: made in the account, taken off many devices at once.

use muster_core::filter::DeviceFilter;
use muster_core::invalid::Invalid;
use muster_core::names::AppName;
use serde_json::json;

use super::tags::in_filter;
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// Makes an app.
pub async fn create(app: &App, permitted: &Permitted, name: &AppName) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let account_id = permitted.fleet().account_id;
        if tx.find_app(account_id, name).await?.is_some() {
            return Err(taken("app", name.as_str()).into());
        }
        tx.insert_app(account_id, name).await?;
        tx.audit(&permitted.event(format!("app:{name}"), json!({}))).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// Takes an app off every device that matches, in one transaction, and says off
/// how many. The app stays in the catalogue.
pub async fn remove(app: &App, permitted: &Permitted, name: &AppName, filter: &DeviceFilter) -> Result<u64> {
    let work = app.store.write(|tx| async move {
        let fleet = permitted.fleet();
        let app_id = tx.find_app(fleet.account_id, name).await?;
        let app_id = app_id.ok_or_else(|| Invalid::unknown("app_name", "app", name.as_str()))?;
        let matching = tx.resolve(fleet, filter).await.map_err(in_filter)?;
        let removed = tx.remove_app_matching(app_id, &matching).await?;
        tx.audit(&permitted.event(format!("app:{name}"), json!({ "devices": removed }))).await?;
        Ok::<_, WorkError>(removed)
    });
    Ok(work.await?)
}

/// The name is taken.
pub(crate) fn taken(what: &str, name: &str) -> OpError {
    let problem = format!("{what} {} exists already", muster_core::invalid::quoted(name));
    OpError::Conflict(Invalid::new("name", problem))
}
