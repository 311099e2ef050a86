//! Which tags there are and what bears them, as lists without pages.
//!
//! They are read a thousand rows at a time and handed on as they are read, so that a list
//! of a million takes no more memory than a short one. What is changed meanwhile may be in
//! the list as it was before or as it is after.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use muster_core::ids::RowId;
use muster_core::invalid::Invalid;
use muster_core::limits::{QUERIED_RESOURCES_MAX, STREAMED_ROWS};
use muster_core::resource::DEVICE;
use muster_store::device_tags::{AmongDevices, DeviceRef};
use muster_store::resources::{AmongResources, TaggedResource};
use muster_store::tags::{TagFilter, TagRow};

use crate::access::PermittedAccount;
use crate::app::App;
use crate::error::Result;

/// A list that is read while it is sent. An error after its first item ends it.
pub type Listed<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// What is asked for. Each list narrows; an empty one does not.
#[derive(Clone, Debug, Default)]
pub struct LinkFilter {
    /// Which tags.
    pub tags: TagFilter,
    /// Only in these regions; for devices the keys of their fleets.
    pub regions: Vec<String>,
    /// Only of these kinds.
    pub service_types: Vec<String>,
    /// Only with these ids; for devices their uuids.
    pub resource_ids: Vec<String>,
    /// Whether tags that nothing bears are left out. They are in any case where the
    /// filter asks for certain resources.
    pub only_borne: bool,
}

impl LinkFilter {
    fn texts(&self) -> impl Iterator<Item = &str> {
        let lists = [&self.regions, &self.service_types, &self.resource_ids];
        self.tags.texts().chain(lists.into_iter().flatten().map(String::as_str))
    }
}

/// Some of what bears a tag. The parts of one tag follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPart {
    /// The tag.
    pub tag: TagRow,
    /// What bears it; empty for a tag that nothing bears.
    pub bearers: Vec<Bearer>,
}

/// A resource that bears a tag. A device is `DEVICE`, its fleet's key, and its uuid twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Its kind.
    pub service_type: String,
    /// Where it is.
    pub region: String,
    /// Which of that kind and place.
    pub resource_id: String,
    /// Its second name; may be empty.
    pub resource_uuid: String,
}

/// The tags of the account, oldest first, some at a time.
pub async fn tags(app: &App, permitted: &PermittedAccount, filter: TagFilter) -> Result<Listed<Vec<TagRow>>> {
    if !filter.texts().all(is_storable) {
        return begun(stream::empty()).await;
    }
    let pages = TagPages { app: app.clone(), account_id: permitted.account_id(), filter, after: After::Start };
    begun(stream::unfold(pages, |mut pages| async move { Some((pages.next().await.transpose()?, pages)) })).await
}

/// What bears the tags of the account, of what the caller sees: by tag, oldest first, the
/// devices before other resources. A statement for each thousand rows, and one or two for
/// each tag that anything bears.
pub async fn links(app: &App, permitted: &PermittedAccount, filter: LinkFilter) -> Result<Listed<TagPart>> {
    if !filter.texts().all(is_storable) {
        return begun(stream::empty()).await;
    }
    let walk = Walk::new(app, permitted, filter).await?;
    begun(stream::unfold(walk, |mut walk| async move { Some((walk.next().await.transpose()?, walk)) })).await
}

/// Whether a database may have this text. What it cannot have, nothing matches.
fn is_storable(text: &str) -> bool {
    !text.contains('\0')
}

/// Reads the first item before anything is answered, so that an error is still an error,
/// and ends the list behind one that comes later.
async fn begun<T: Send + 'static>(list: impl Stream<Item = Result<T>> + Send + 'static) -> Result<Listed<T>> {
    let mut list = Box::pin(list.fuse());
    let first = list.next().await.transpose()?;
    let rest = list.scan(false, |has_failed, item| {
        let item = (!*has_failed).then_some(item);
        *has_failed = matches!(item, Some(Err(_)));
        std::future::ready(item)
    });
    Ok(Box::pin(stream::iter(first.map(Ok)).chain(rest)))
}

/// Where a list by key goes on.
#[derive(Clone, Copy)]
enum After {
    Start,
    Row(RowId),
    End,
}

impl After {
    /// The row to go on behind, unless the list has ended.
    fn row(self) -> Option<Option<RowId>> {
        match self {
            Self::Start => Some(None),
            Self::Row(id) => Some(Some(id)),
            Self::End => None,
        }
    }

    fn next(last: Option<RowId>, is_more: bool) -> Self {
        last.filter(|_| is_more).map_or(Self::End, Self::Row)
    }
}

struct TagPages {
    app: App,
    account_id: RowId,
    filter: TagFilter,
    after: After,
}

impl TagPages {
    async fn next(&mut self) -> Result<Option<Vec<TagRow>>> {
        let Some(after) = self.after.row() else { return Ok(None) };
        let store = self.app.store.read();
        let (rows, is_more) = store.tag_rows_page(self.account_id, &self.filter, after, STREAMED_ROWS).await?;
        self.after = After::next(rows.last().map(|row| row.id), is_more);
        Ok((!rows.is_empty()).then_some(rows))
    }
}

/// A walk over tags, and over what bears each.
struct Walk {
    pages: TagPages,
    waiting: VecDeque<TagRow>,
    current: Option<Current>,
    /// The keys of the fleets that the caller sees.
    fleets: HashMap<RowId, String>,
    /// `None` where no device can match.
    devices: Option<AmongDevices>,
    others: AmongResources,
    shows_unborne: bool,
}

/// How far the walk is in one tag.
struct Current {
    tag: TagRow,
    devices: After,
    others: After,
    is_shown: bool,
}

impl Walk {
    async fn new(app: &App, permitted: &PermittedAccount, filter: LinkFilter) -> Result<Self> {
        let LinkFilter { tags, regions, service_types, resource_ids, only_borne } = filter;
        let lists = [("regions", &regions), ("serviceTypes", &service_types), ("resourceIds", &resource_ids)];
        for (field, list) in lists {
            if list.len() > QUERIED_RESOURCES_MAX {
                let problem = format!("has {} items, at most {QUERIED_RESOURCES_MAX} are allowed", list.len());
                return Err(Invalid::new(field, problem).into());
            }
        }
        let is_narrow = lists.iter().any(|(_, list)| !list.is_empty());
        let mut fleets = permitted.caller().visible_fleets(app.store.read()).await?;
        fleets.retain(|fleet| regions.is_empty() || regions.contains(&fleet.project_key));
        let sees_all = permitted.caller().is_administrator() && regions.is_empty();
        let may_be_device = service_types.is_empty() || service_types.iter().any(|kind| kind == DEVICE);
        let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
        let resource_ids = some(resource_ids);
        let devices = (may_be_device && !fleets.is_empty()).then(|| AmongDevices {
            fleet_ids: (!sees_all).then(|| fleets.iter().map(|fleet| fleet.id).collect()),
            uuids: resource_ids.clone(),
        });
        Ok(Self {
            pages: TagPages { app: app.clone(), account_id: permitted.account_id(), filter: tags, after: After::Start },
            waiting: VecDeque::new(),
            current: None,
            fleets: fleets.into_iter().map(|fleet| (fleet.id, fleet.project_key)).collect(),
            devices,
            others: AmongResources { service_types: some(service_types), regions: some(regions), resource_ids },
            shows_unborne: !only_borne && !is_narrow,
        })
    }

    async fn next(&mut self) -> Result<Option<TagPart>> {
        loop {
            let Some(mut current) = self.current.take() else {
                if !self.begin_tag().await? {
                    return Ok(None);
                }
                continue;
            };
            let bearers = if let Some(after) = current.devices.row() {
                self.devices_of(&mut current, after).await?
            } else if let Some(after) = current.others.row() {
                self.others_of(&mut current, after).await?
            } else if self.shows_unborne && !current.is_shown {
                return Ok(Some(TagPart { tag: current.tag, bearers: Vec::new() }));
            } else {
                continue;
            };
            current.is_shown |= !bearers.is_empty();
            let part = (!bearers.is_empty()).then(|| TagPart { tag: current.tag.clone(), bearers });
            self.current = Some(current);
            if part.is_some() {
                return Ok(part);
            }
        }
    }

    /// Takes up the next tag, if there is one.
    async fn begin_tag(&mut self) -> Result<bool> {
        if self.waiting.is_empty() {
            self.waiting.extend(self.pages.next().await?.into_iter().flatten());
        }
        self.current = self.waiting.pop_front().map(|tag| Current {
            devices: if tag.is_on_devices { After::Start } else { After::End },
            others: if tag.is_on_resources { After::Start } else { After::End },
            is_shown: false,
            tag,
        });
        Ok(self.current.is_some())
    }

    async fn devices_of(&self, current: &mut Current, after: Option<RowId>) -> Result<Vec<Bearer>> {
        let Some(among) = &self.devices else {
            current.devices = After::End;
            return Ok(Vec::new());
        };
        let store = self.pages.app.store.read();
        let (rows, is_more) = store.tagged_devices_page(current.tag.id, among, after, STREAMED_ROWS).await?;
        current.devices = After::next(rows.last().map(|device| device.id), is_more);
        let bearer = |DeviceRef { uuid, fleet_id, .. }: DeviceRef| {
            let region = self.fleets.get(&fleet_id)?.clone();
            Some(Bearer { service_type: DEVICE.to_owned(), region, resource_id: uuid.clone(), resource_uuid: uuid })
        };
        Ok(rows.into_iter().filter_map(bearer).collect())
    }

    async fn others_of(&self, current: &mut Current, after: Option<RowId>) -> Result<Vec<Bearer>> {
        let store = self.pages.app.store.read();
        let (rows, is_more) = store.tagged_resources_page(current.tag.id, &self.others, after, STREAMED_ROWS).await?;
        current.others = After::next(rows.last().map(|resource| resource.id), is_more);
        Ok(rows.into_iter().map(Bearer::from).collect())
    }
}

impl From<TaggedResource> for Bearer {
    fn from(row: TaggedResource) -> Self {
        let TaggedResource { service_type, region, resource_id, resource_uuid, .. } = row;
        Self { service_type, region, resource_id, resource_uuid }
    }
}
