//! Device filters of a fleet that have a name.

use muster_core::filter::DeviceFilter;
use muster_core::names::FilterName;
use muster_store::saved_filters::{NewSavedFilter, SavedFilter};
use muster_store::{ConnectionTrait, Db, Tx};
use serde_json::{Value, json};

use super::tags::in_filter;
use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// A filter to be saved: in its caller's words, and what they mean.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What is stored.
    pub new: NewSavedFilter,
    /// What it means. Every name in it must exist now.
    pub filter: DeviceFilter,
}

/// Saves a filter.
pub async fn create(app: &App, permitted: &Permitted, draft: &Draft) -> Result<SavedFilter> {
    let work = app.store.write(|tx| async move {
        check_name_is_free(&tx, permitted, &draft.new.name).await?;
        tx.resolve(permitted.fleet(), &draft.filter).await.map_err(in_filter)?;
        let made = tx.insert_filter(permitted.fleet().id, &draft.new).await?;
        tx.audit(&permitted.event(format!("filter:{}", made.name), json!({ "after": described(&made) }))).await?;
        Ok::<_, WorkError>(made)
    });
    Ok(work.await?)
}

/// The saved filter of a fleet with that name, as a caller wrote it.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &Permitted, name: &str) -> Result<SavedFilter> {
    let found = match FilterName::parse(name) {
        Ok(name) => db.find_filter(permitted.fleet().id, &name).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| OpError::not_found("saved filter", name))
}

/// Replaces a saved filter, its name included.
pub async fn replace(app: &App, permitted: &Permitted, name: &str, draft: &Draft) -> Result<SavedFilter> {
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, name).await?;
        if draft.new.name.as_str() != before.name {
            check_name_is_free(&tx, permitted, &draft.new.name).await?;
        }
        tx.resolve(permitted.fleet(), &draft.filter).await.map_err(in_filter)?;
        tx.replace_filter(before.id, &draft.new).await?;
        let after = find(&tx, permitted, draft.new.name.as_str()).await?;
        let detail = json!({ "before": described(&before), "after": described(&after) });
        tx.audit(&permitted.event(format!("filter:{}", before.name), detail)).await?;
        Ok::<_, WorkError>(after)
    });
    Ok(work.await?)
}

/// Deletes a saved filter.
pub async fn delete(app: &App, permitted: &Permitted, name: &str) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, name).await?;
        tx.delete_filter(before.id).await?;
        let detail = json!({ "before": described(&before) });
        tx.audit(&permitted.event(format!("filter:{}", before.name), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

async fn check_name_is_free(tx: &Tx, permitted: &Permitted, name: &FilterName) -> Result<(), WorkError> {
    match tx.find_filter(permitted.fleet().id, name).await? {
        Some(_) => Err(OpError::taken("name", "saved filter", name.as_str()).into()),
        None => Ok(()),
    }
}

/// A saved filter as the audit log tells it.
fn described(filter: &SavedFilter) -> Value {
    json!({ "name": filter.name, "description": filter.description, "device_filter": filter.device_filter })
}
