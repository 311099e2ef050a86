//! Tags: the account's catalogue of them, and taken off many devices at once.

use std::collections::{HashMap, HashSet};

use muster_core::filter::DeviceFilter;
use muster_core::ids::RowId;
use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::TAGS_AT_ONCE_MAX;
use muster_core::names::{Tag, TagName};
use muster_core::tag_rules;
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

/// Makes tags, within the quota; those that are there are skipped. Either all that are
/// missing are made or none.
pub async fn create_all(app: &App, permitted: &PermittedAccount, tags: &[Tag]) -> Result<()> {
    check_count(tags.len())?;
    let names = tags.iter().enumerate().map(|(i, tag)| named(tag, &format!("tags[{i}]")));
    let names = &names.collect::<Result<Vec<_>, _>>()?;
    let work = app.store.write(|tx| async move {
        let made = ensure(&tx, permitted, Quota::of(app), names).await?.made;
        tx.audit(&permitted.event(subject(names), json!({ "after": { "tags": made } }))).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// Deletes tags, and takes them off everything that bears them. Those that are missing
/// are skipped, and so is the default tag.
pub async fn delete_all(app: &App, permitted: &PermittedAccount, tags: &[Tag]) -> Result<()> {
    check_count(tags.len())?;
    let names: Vec<TagName> = tags.iter().filter(|tag| !tag.is_default()).filter_map(Tag::name).collect();
    let names = &names;
    let work = app.store.write(|tx| async move {
        let found = tx.find_tags(permitted.account_id(), names).await?;
        let (deleted, ids): (Vec<String>, Vec<RowId>) = found.into_iter().unzip();
        let borne = tx.delete_tags(&ids).await?;
        let detail = json!({ "before": { "tags": deleted }, "devices": borne.devices, "resources": borne.resources });
        tx.audit(&permitted.event(subject(names), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

fn check_count(count: usize) -> Result<(), Invalid> {
    match count {
        0..=TAGS_AT_ONCE_MAX => Ok(()),
        count => Err(Invalid::new("tags", format!("has {count} items, at most {TAGS_AT_ONCE_MAX} are allowed"))),
    }
}

fn subject(names: &[TagName]) -> String {
    match names {
        [only] => format!("tag:{only}"),
        _ => "tags".to_owned(),
    }
}

/// The name of a pair, which stood at `field`.
pub(super) fn named(tag: &Tag, field: &str) -> Result<TagName, Invalid> {
    tag.name().ok_or_else(|| Invalid::new(field, format!("{} is no tag", quoted(&tag.to_string()))))
}

/// How many tags an account may have by calls that ask for a quota.
#[derive(Clone, Copy)]
pub(super) struct Quota(u32);

impl Quota {
    pub(super) fn of(app: &App) -> Self {
        Self(app.config.account_tags_max)
    }
}

/// Tags that are all there by now.
pub(super) struct Ensured {
    ids: HashMap<String, RowId>,
    /// The names of those that were not there before.
    pub(super) made: Vec<String>,
}

impl Ensured {
    pub(super) fn id(&self, name: &TagName) -> Result<RowId, WorkError> {
        self.ids.get(name.as_str()).copied().ok_or_else(|| WorkError::lost("tags"))
    }
}

/// Makes those of these tags that are missing, by the Tag Service's rules. Who makes any
/// claims the account first: of two at once, each would count without the other's.
pub(super) async fn ensure(
    tx: &Tx,
    permitted: &PermittedAccount,
    quota: Quota,
    names: &[TagName],
) -> Result<Ensured, WorkError> {
    let account_id = permitted.account_id();
    let mut ids: HashMap<String, RowId> = tx.find_tags(account_id, names).await?.into_iter().collect();
    let mut seen = HashSet::new();
    let mut missing = Vec::new();
    for name in names {
        if !ids.contains_key(name.as_str()) && seen.insert(name) {
            missing.push(name.clone());
        }
    }
    if missing.is_empty() {
        return Ok(Ensured { ids, made: Vec::new() });
    }
    for name in &missing {
        tag_rules::check_new(&Tag::from(name)).map_err(OpError::TagRule)?;
    }
    tx.claim_account(account_id).await?;
    if tx.tags_count(account_id).await? + missing.len() as u64 > u64::from(quota.0) {
        return Err(OpError::TagQuota { tags_max: quota.0 }.into());
    }
    let new = tx.insert_tags(account_id, &missing).await?;
    let made: Vec<String> = missing.into_iter().map(TagName::into_string).collect();
    ids.extend(made.iter().cloned().zip(new));
    Ok(Ensured { ids, made })
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

/// Deletes a tag from the catalogue, and takes it off everything in the account.
pub async fn delete(app: &App, permitted: &PermittedAccount, name: &str) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, name).await?;
        let borne = tx.delete_tags(&[before.id]).await?;
        let detail =
            json!({ "before": { "name": before.name }, "devices": borne.devices, "resources": borne.resources });
        tx.audit(&permitted.event(format!("tag:{}", before.name), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// Lets everything that bears a tag bear the tag `into`, and deletes the first; answers
/// with the one that stays.
pub async fn merge(app: &App, permitted: &PermittedAccount, name: &str, into: &TagName) -> Result<TagView> {
    let work = app.store.write(|tx| async move {
        let from = find(&tx, permitted, name).await?;
        let into_id = tx.find_tag(permitted.account_id(), into).await?;
        let into_id = into_id.ok_or_else(|| Invalid::unknown("into", "tag", into.as_str()))?;
        if into_id == from.id {
            return Err(Invalid::new("into", format!("{} is the tag itself", quoted(into.as_str()))).into());
        }
        let borne = tx.merge_tags(from.id, into_id).await?;
        let detail = json!({
            "before": { "name": from.name }, "after": { "name": into },
            "devices": borne.devices, "resources": borne.resources,
        });
        tx.audit(&permitted.event(format!("tag:{}", from.name), detail)).await?;
        Ok::<_, WorkError>(find(&tx, permitted, into.as_str()).await?)
    });
    Ok(work.await?)
}

/// Tags with how many devices and other resources each would leave if it were deleted, and
/// the names that no tag has.
pub async fn preview_deletion(
    app: &App,
    permitted: &PermittedAccount,
    names: &[TagName],
) -> Result<(Vec<TagView>, Vec<TagName>)> {
    if names.is_empty() {
        return Err(Invalid::new("tags", "is empty").into());
    }
    check_count(names.len())?;
    let tags = app.store.read().tag_views(permitted.user(), names).await?;
    let known: HashSet<&str> = tags.iter().map(|tag| tag.name.as_str()).collect();
    let missing = names.iter().filter(|name| !known.contains(name.as_str())).cloned().collect();
    Ok((tags, missing))
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
