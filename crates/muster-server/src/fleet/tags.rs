//! Tags: the account's catalogue of them, and taken off many devices at once.

use muster_core::filter::DeviceFilter;
use muster_core::invalid::Invalid;
use muster_core::names::TagName;
use muster_store::tags::TagView;
use muster_store::{ConnectionTrait, Db, Tx};
use serde_json::json;

use crate::access::{Permitted, PermittedAccount};
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// Makes a tag.
pub async fn create(app: &App, permitted: &PermittedAccount, name: &TagName) -> Result<TagView> {
    let work = app.store.write(|tx| async move {
        check_name_is_free(&tx, permitted, name).await?;
        tx.ensure_tag(permitted.account_id(), name).await?;
        let made = find(&tx, permitted, name.as_str()).await?;
        tx.audit(&permitted.event(format!("tag:{name}"), json!({ "after": { "name": name } }))).await?;
        Ok::<_, WorkError>(made)
    });
    Ok(work.await?)
}

/// The tag of the account with that name, as a caller wrote it.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &PermittedAccount, name: &str) -> Result<TagView> {
    let found = match TagName::parse(name) {
        Ok(name) => db.tag_view(permitted.user(), &name).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| OpError::not_found("tag", name))
}

/// Gives a tag another name. Devices keep it.
pub async fn rename(app: &App, permitted: &PermittedAccount, name: &str, to: &TagName) -> Result<TagView> {
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, name).await?;
        if to.as_str() != before.name {
            check_name_is_free(&tx, permitted, to).await?;
        }
        tx.rename_tag(before.id, to).await?;
        let after = find(&tx, permitted, to.as_str()).await?;
        let detail = json!({ "before": { "name": before.name }, "after": { "name": after.name } });
        tx.audit(&permitted.event(format!("tag:{}", before.name), detail)).await?;
        Ok::<_, WorkError>(after)
    });
    Ok(work.await?)
}

/// Deletes a tag from the catalogue, and takes it off every device of the account.
pub async fn delete(app: &App, permitted: &PermittedAccount, name: &str) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, name).await?;
        let removed = tx.delete_tag(before.id).await?;
        let detail = json!({ "before": { "name": before.name }, "devices": removed });
        tx.audit(&permitted.event(format!("tag:{}", before.name), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

async fn check_name_is_free(tx: &Tx, permitted: &PermittedAccount, name: &TagName) -> Result<(), WorkError> {
    match tx.find_tag(permitted.account_id(), name).await? {
        Some(_) => Err(OpError::taken("name", "tag", name.as_str()).into()),
        None => Ok(()),
    }
}

/// Takes a tag off every device that matches, in one transaction, and says off
/// how many. The tag stays in the catalogue.
pub async fn untag(app: &App, permitted: &Permitted, tag: &TagName, filter: &DeviceFilter) -> Result<u64> {
    let work = app.store.write(|tx| async move {
        let fleet = permitted.fleet();
        let tag_id = tx.find_tag(fleet.account_id, tag).await?;
        let tag_id = tag_id.ok_or_else(|| Invalid::unknown("tag_name", "tag", tag.as_str()))?;
        let matching = tx.resolve(fleet, filter).await.map_err(in_filter)?;
        let untagged = tx.untag_matching(tag_id, &matching).await?;
        tx.audit(&permitted.event(format!("tag:{tag}"), in_numbers(untagged))).await?;
        Ok::<_, WorkError>(untagged)
    });
    Ok(work.await?)
}

/// How many of the devices that a filter matches had something which was taken off all of them.
pub(crate) fn in_numbers(devices: u64) -> serde_json::Value {
    json!({ "before": { "devices": devices }, "after": { "devices": 0 } })
}

/// A refusal of a device filter, with the name that the filter has in requests.
pub(crate) fn in_filter(error: muster_store::StoreError) -> muster_store::StoreError {
    match error {
        muster_store::StoreError::Invalid(invalid) => invalid.within("device_filter").into(),
        other => other,
    }
}
