//! Apps: the account's catalogue of them, and taken off many devices at once.

use muster_core::filter::DeviceFilter;
use muster_core::invalid::{Invalid, quoted};
use muster_core::names::{AppName, Version};
use muster_store::apps::{AppView, VersionView};
use muster_store::{ConnectionTrait, Db, Tx};
use serde_json::json;

use super::fleets::counted;
use super::tags::{in_filter, in_numbers};
use crate::access::{Permitted, PermittedAccount};
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// Makes an app.
pub async fn create(app: &App, permitted: &PermittedAccount, name: &AppName) -> Result<AppView> {
    let work = app.store.write(|tx| async move {
        check_name_is_free(&tx, permitted, name).await?;
        tx.insert_app(permitted.account_id(), name).await?;
        let made = find(&tx, permitted, name.as_str()).await?;
        tx.audit(&permitted.event(format!("app:{name}"), json!({ "after": { "name": name } }))).await?;
        Ok::<_, WorkError>(made)
    });
    Ok(work.await?)
}

/// The app of the account with that name, as a caller wrote it.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &PermittedAccount, name: &str) -> Result<AppView> {
    let found = match AppName::parse(name) {
        Ok(name) => db.app_view(permitted.user(), &name).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| OpError::not_found("app", name))
}

/// Gives an app another name. Devices and deployments keep it.
pub async fn rename(app: &App, permitted: &PermittedAccount, name: &str, to: &AppName) -> Result<AppView> {
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, name).await?;
        if to.as_str() != before.name {
            check_name_is_free(&tx, permitted, to).await?;
        }
        tx.rename_app(before.id, to).await?;
        let after = find(&tx, permitted, to.as_str()).await?;
        let detail = json!({ "before": { "name": before.name }, "after": { "name": after.name } });
        tx.audit(&permitted.event(format!("app:{}", before.name), detail)).await?;
        Ok::<_, WorkError>(after)
    });
    Ok(work.await?)
}

/// Deletes an app from the catalogue. With `force` it is also taken off devices;
/// deployments keep its name, and set nothing any more.
pub async fn delete(app: &App, permitted: &PermittedAccount, name: &str, force: bool) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, name).await?;
        let deployments = tx.deployments_of_app(before.id, None).await?;
        check_unused("app", &before.name, before.device_count, deployments, force)?;
        let removed = tx.delete_app(before.id, &before.name).await?;
        let detail = json!({ "before": { "name": before.name }, "devices": removed, "deployments": deployments });
        tx.audit(&permitted.event(format!("app:{}", before.name), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// Makes a version of an app known.
pub async fn create_version(
    app: &App,
    permitted: &PermittedAccount,
    name: &str,
    version: &Version,
) -> Result<VersionView> {
    let work = app.store.write(|tx| async move {
        let of = find(&tx, permitted, name).await?;
        if tx.app_version_view(permitted.user(), of.id, version).await?.is_some() {
            return Err(OpError::taken("version", "version", version.as_str()).into());
        }
        tx.ensure_app_version(of.id, version.as_str()).await?;
        let made = tx.app_version_view(permitted.user(), of.id, version).await?;
        tx.audit(&permitted.event(format!("app:{}", of.name), json!({ "after": { "version": version } }))).await?;
        made.ok_or_else(|| WorkError::lost("app_versions"))
    });
    Ok(work.await?)
}

/// Deletes a version of an app from the catalogue. With `force` the app is also taken
/// off the devices that have it in that version. Deployments keep their version: one
/// that still succeeds makes it known again.
pub async fn delete_version(
    app: &App,
    permitted: &PermittedAccount,
    name: &str,
    version: &str,
    force: bool,
) -> Result<()> {
    let unknown = || OpError::not_found("version", version);
    let known = &Version::parse(version).map_err(|_| unknown())?;
    let work = app.store.write(|tx| async move {
        tx.claim_app_versions().await?;
        let of = find(&tx, permitted, name).await?;
        let before = tx.app_version_view(permitted.user(), of.id, known).await?.ok_or_else(unknown)?;
        let deployments = tx.deployments_of_app(of.id, Some(known)).await?;
        check_unused("version", version, before.device_count, deployments, force)?;
        let removed = tx.delete_app_version(of.id, known).await?;
        let detail = json!({ "before": { "version": known }, "devices": removed, "deployments": deployments });
        tx.audit(&permitted.event(format!("app:{}", of.name), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

fn check_unused(what: &str, name: &str, devices: u64, deployments: u64, force: bool) -> Result<()> {
    if force || (devices == 0 && deployments == 0) {
        return Ok(());
    }
    let (devices, deployments) = (counted(devices, "device"), counted(deployments, "deployment"));
    Err(OpError::InUse(format!("{devices} and {deployments} have the {what} {}", quoted(name))))
}

async fn check_name_is_free(tx: &Tx, permitted: &PermittedAccount, name: &AppName) -> Result<(), WorkError> {
    match tx.find_app(permitted.account_id(), name).await? {
        Some(_) => Err(OpError::taken("name", "app", name.as_str()).into()),
        None => Ok(()),
    }
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
        tx.audit(&permitted.event(format!("app:{name}"), in_numbers(removed))).await?;
        Ok::<_, WorkError>(removed)
    });
    Ok(work.await?)
}
