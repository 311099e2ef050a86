//! Tags put on resources of every kind, devices among them, and taken off again.
//!
//! A device is found only in fleets that the caller sees, and changed only where it may
//! modify devices. To put a tag on what is not there is a mistake; to take one off is not.

use std::collections::{BTreeMap, HashMap};

use muster_core::access::Permission;
use muster_core::ids::{DeviceUuid, RowId};
use muster_core::invalid::Invalid;
use muster_core::limits::{ASSIGNED_TAGS_MAX, LISTED_TAGS_MAX, RESOURCES_AT_ONCE_MAX, TAGS_AT_ONCE_MAX};
use muster_core::names::{ResourceUuid, Tag, TagName};
use muster_core::resource::{Assignment, Resource};
use muster_store::resources::ResourceTag;
use muster_store::{ConnectionTrait, Db, Tx};
use serde_json::{Value, json};

use super::tags::{Quota, ensure, named};
use crate::access::{Caller, PermittedAccount};
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// Puts one tag on resources; it is made where it is missing, within the quota.
pub async fn bind(app: &App, permitted: &PermittedAccount, tag: &Tag, resources: &[Resource]) -> Result<()> {
    check_count("resources", resources.len(), RESOURCES_AT_ONCE_MAX)?;
    let name = &named(tag, "tagKey")?;
    let work = app.store.write(|tx| async move {
        let found = Found::of(&tx, permitted.caller(), resources, Missing::Refused).await?;
        let tag_ids = ensure(&tx, permitted, Quota::of(app), std::slice::from_ref(name)).await?;
        let tag_id = tag_ids.id(name)?;
        let uuids = found.known_uuids(&tx, permitted).await?;
        let links: Vec<ResourceTag> = found.others.iter().map(|resource| link(resource, &uuids, tag_id)).collect();
        let pairs: Vec<(RowId, RowId)> = found.devices.iter().map(|(_, id)| (*id, tag_id)).collect();
        let new = tx.tag_devices(&pairs).await? + tx.tag_resources(permitted.account_id(), &links).await?;
        let detail = json!({ "after": { "resources": listed(resources) }, "new": new });
        tx.audit(&permitted.event(format!("tag:{name}"), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// Takes one tag off resources. What does not bear it, or is not there, is skipped.
pub async fn unbind(app: &App, permitted: &PermittedAccount, tag: &Tag, resources: &[Resource]) -> Result<()> {
    check_count("resources", resources.len(), RESOURCES_AT_ONCE_MAX)?;
    let Some(name) = &tag.name() else { return Ok(()) };
    let work = app.store.write(|tx| async move {
        let found = Found::of(&tx, permitted.caller(), resources, Missing::Skipped).await?;
        let Some(tag_id) = tx.find_tag(permitted.account_id(), name).await? else { return Ok(()) };
        let removed = tx.untag_devices(tag_id, &found.device_ids()).await?
            + tx.untag_resources(permitted.account_id(), tag_id, &found.others).await?;
        let detail = json!({ "before": { "resources": listed(resources) }, "removed": removed });
        tx.audit(&permitted.event(format!("tag:{name}"), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// Takes every tag off one resource. Nothing happens where it is not there.
pub async fn clear(app: &App, permitted: &PermittedAccount, resource: &Resource) -> Result<()> {
    let resources = std::slice::from_ref(resource);
    let work = app.store.write(|tx| async move {
        let found = Found::of(&tx, permitted.caller(), resources, Missing::Skipped).await?;
        let before = found.tags(&tx, permitted).await?;
        found.clear(&tx, permitted).await?;
        let before = before.get(resource).cloned().unwrap_or_default();
        let detail = json!({ "before": { "tags": before }, "after": { "tags": [] } });
        tx.audit(&permitted.event(format!("resource:{resource}"), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// Lets each resource bear exactly these tags; those that are missing are made, within
/// the quota. Of two assignments of one resource the later counts.
pub async fn assign(app: &App, permitted: &PermittedAccount, assignments: &[Assignment]) -> Result<()> {
    check_assignments(assignments)?;
    let wanted = &Wanted::of(assignments)?;
    let work = app.store.write(|tx| async move {
        // Of two that replace the tags of one resource at once, each would leave the other's.
        tx.claim_account(permitted.account_id()).await?;
        let found = Found::of(&tx, permitted.caller(), &wanted.resources(), Missing::Refused).await?;
        let tag_ids = ensure(&tx, permitted, Quota::of(app), &wanted.names).await?;
        let before = found.tags(&tx, permitted).await?;
        let mut uuids = found.known_uuids(&tx, permitted).await?;
        uuids.extend(wanted.uuids());
        found.clear(&tx, permitted).await?;
        let mut pairs = Vec::new();
        for (resource, device_id) in &found.devices {
            for name in wanted.names_of(resource) {
                pairs.push((*device_id, tag_ids.id(name)?));
            }
        }
        let mut links = Vec::new();
        for resource in &found.others {
            for name in wanted.names_of(resource) {
                links.push(link(resource, &uuids, tag_ids.id(name)?));
            }
        }
        tx.tag_devices(&pairs).await?;
        tx.tag_resources(permitted.account_id(), &links).await?;
        tx.audit(&permitted.event(wanted.subject(), wanted.detail(&before))).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

fn link(resource: &Resource, uuids: &HashMap<Resource, ResourceUuid>, tag_id: RowId) -> ResourceTag {
    let uuid = uuids.get(resource).cloned().unwrap_or_default();
    ResourceTag { resource: resource.clone(), uuid, tag_id }
}

fn listed(resources: &[Resource]) -> Vec<String> {
    resources.iter().map(ToString::to_string).collect()
}

fn check_count(field: &str, count: usize, max: usize) -> Result<(), Invalid> {
    if count <= max {
        Ok(())
    } else {
        Err(Invalid::new(field, format!("has {count} items, at most {max} are allowed")))
    }
}

fn check_assignments(assignments: &[Assignment]) -> Result<(), Invalid> {
    check_count("resources", assignments.len(), RESOURCES_AT_ONCE_MAX)?;
    for (i, assignment) in assignments.iter().enumerate() {
        check_count(&format!("resources[{i}].tags"), assignment.tags.len(), TAGS_AT_ONCE_MAX)?;
    }
    let all = assignments.iter().map(|assignment| assignment.tags.len()).sum();
    check_count("resources", all, ASSIGNED_TAGS_MAX).map_err(|_| {
        Invalid::new("resources", format!("hold {all} tags together, at most {ASSIGNED_TAGS_MAX} are allowed"))
    })
}

/// The tags that resources are to bear.
struct Wanted<'a> {
    of: BTreeMap<&'a Resource, (&'a ResourceUuid, Vec<TagName>)>,
    names: Vec<TagName>,
}

impl<'a> Wanted<'a> {
    fn of(assignments: &'a [Assignment]) -> Result<Self> {
        let mut of = BTreeMap::new();
        for (i, Assignment { resource, uuid, tags }) in assignments.iter().enumerate() {
            let names = tags.iter().enumerate().map(|(j, tag)| named(tag, &format!("resources[{i}].tags[{j}]")));
            of.insert(resource, (uuid, names.collect::<Result<Vec<_>, _>>()?));
        }
        let names = of.values().flat_map(|(_, names)| names.clone()).collect();
        Ok(Self { of, names })
    }

    fn resources(&self) -> Vec<Resource> {
        self.of.keys().map(|resource| (*resource).clone()).collect()
    }

    fn names_of(&self, resource: &Resource) -> &[TagName] {
        self.of.get(resource).map_or(&[], |(_, names)| names)
    }

    fn uuids(&self) -> impl Iterator<Item = (Resource, ResourceUuid)> {
        let given = self.of.iter().filter(|(_, (uuid, _))| !uuid.as_str().is_empty());
        given.map(|(resource, (uuid, _))| ((*resource).clone(), (*uuid).clone()))
    }

    fn subject(&self) -> String {
        match self.of.keys().next() {
            Some(only) if self.of.len() == 1 => format!("resource:{only}"),
            _ => "resources".to_owned(),
        }
    }

    fn detail(&self, before: &HashMap<Resource, Vec<String>>) -> Value {
        let tags = |tags: Vec<String>| json!({ "tags": tags });
        let was = |resource: &Resource| tags(before.get(resource).cloned().unwrap_or_default());
        let is = |resource: &Resource| tags(self.names_of(resource).iter().map(ToString::to_string).collect());
        let each = |of: &dyn Fn(&Resource) -> Value| -> Value {
            self.of
                .keys()
                .map(|resource| (resource.to_string(), of(resource)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        json!({ "before": each(&was), "after": each(&is) })
    }
}

/// What becomes of a device that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Refused,
    Skipped,
}

/// The resources of a request: devices by their rows, others as they are named.
struct Found {
    devices: Vec<(Resource, RowId)>,
    others: Vec<Resource>,
}

impl Found {
    async fn of(tx: &Tx, caller: &Caller, resources: &[Resource], missing: Missing) -> Result<Self, WorkError> {
        let others = resources.iter().filter(|resource| !resource.is_device()).cloned().collect();
        let mut found = Self { devices: Vec::new(), others };
        if resources.iter().all(|resource| !resource.is_device()) {
            return Ok(found);
        }
        let known = Devices::of(tx, caller, resources).await?;
        for (i, resource) in resources.iter().enumerate().filter(|(_, resource)| resource.is_device()) {
            match known.get(resource) {
                Some((id, true)) => found.devices.push((resource.clone(), id)),
                Some((_, false)) => return Err(OpError::Forbidden(Permission::ModifyDevices).into()),
                None if missing == Missing::Skipped => {}
                None => {
                    let field = format!("resources[{i}].resourceId");
                    return Err(Invalid::unknown(field, "device of that region", resource.id.as_str()).into());
                }
            }
        }
        Ok(found)
    }

    fn device_ids(&self) -> Vec<RowId> {
        self.devices.iter().map(|(_, id)| *id).collect()
    }

    /// The names of the tags that each bears; of a device no more than a list shows.
    async fn tags(&self, tx: &Tx, permitted: &PermittedAccount) -> Result<HashMap<Resource, Vec<String>>, WorkError> {
        let mut all: HashMap<Resource, Vec<String>> = HashMap::new();
        let of: HashMap<RowId, &Resource> = self.devices.iter().map(|(resource, id)| (*id, resource)).collect();
        for (device_id, name) in tx.tags_of(&self.device_ids(), LISTED_TAGS_MAX).await? {
            if let Some(resource) = of.get(&device_id) {
                all.entry((*resource).clone()).or_default().push(name);
            }
        }
        for (resource, name) in tx.tags_of_resources(permitted.account_id(), &self.others).await? {
            all.entry(resource).or_default().push(name);
        }
        Ok(all)
    }

    async fn known_uuids(
        &self,
        tx: &Tx,
        permitted: &PermittedAccount,
    ) -> Result<HashMap<Resource, ResourceUuid>, WorkError> {
        Ok(tx.uuids_of_resources(permitted.account_id(), &self.others).await?.into_iter().collect())
    }

    async fn clear(&self, tx: &Tx, permitted: &PermittedAccount) -> Result<(), WorkError> {
        // As whoever replaces the tags of a device through Connect's API.
        tx.claim_devices(&self.device_ids()).await?;
        tx.clear_tags_of_devices(&self.device_ids()).await?;
        tx.clear_tags_of_resources(permitted.account_id(), &self.others).await?;
        Ok(())
    }
}

/// Devices that the caller sees, by region and uuid, each with whether it may modify them.
struct Devices(HashMap<(String, String), (RowId, bool)>);

impl Devices {
    async fn of<C: ConnectionTrait>(db: &Db<C>, caller: &Caller, resources: &[Resource]) -> Result<Self, WorkError> {
        let fleets: HashMap<RowId, (String, bool)> = caller
            .visible_fleets_with(db, Permission::ModifyDevices)
            .await?
            .into_iter()
            .map(|(fleet, may_modify)| (fleet.id, (fleet.project_key, may_modify)))
            .collect();
        let devices = resources.iter().filter(|resource| resource.is_device());
        let uuids: Vec<DeviceUuid> = devices.filter_map(|device| device.id.as_str().parse().ok()).collect();
        let known = db.device_refs(caller.account_id(), &uuids).await?.into_iter().filter_map(|device| {
            let (key, may_modify) = fleets.get(&device.fleet_id)?;
            Some(((key.clone(), device.uuid), (device.id, *may_modify)))
        });
        Ok(Self(known.collect()))
    }

    fn get(&self, resource: &Resource) -> Option<(RowId, bool)> {
        self.0.get(&(resource.region.as_str().to_owned(), resource.id.as_str().to_owned())).copied()
    }
}
