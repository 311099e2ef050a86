//! The device filter as one `WHERE` over `devices`, which any statement can use.
//!
//! First the names are looked up ([`Db::resolve`]), so that a name that does not
//! exist is an error and never "matches nothing"; then [`Matching`] becomes a
//! condition. A rule about another table is a set of device ids: `IN (…)` in
//! statements over the whole set, `EXISTS (…)` in SQLite's pages, where it is
//! many times faster. Only one set of a condition is an `IN`, the one that is
//! likely the smallest: two of them SQLite may go through one inside the other,
//! every member of the first with every member of the second. "Not in the set"
//! is always `NOT EXISTS`: PostgreSQL walks the whole set for each device when a
//! `NOT IN` outgrows its memory.

use std::collections::BTreeSet;

use muster_core::clock::Timestamp;
use muster_core::filter::{DeviceFilter, Filter, Rule};
use muster_core::ids::RowId;
use muster_core::invalid::Invalid;
use muster_core::names::{DeviceName, TagName};
use muster_core::target::TargetStatus;
use sea_orm::sea_query::{Condition, Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};
use serde::{Deserialize, Serialize};

use crate::db::{Db, Result};
use crate::entities::{device_apps, device_presence, device_tags, devices, groups, targets};
use crate::error::StoreError;
use crate::fleets::Fleet;

/// A device filter whose names have been looked up: row ids, of one fleet or of several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matching {
    fleet_ids: Vec<RowId>,
    group_ids: Vec<RowId>,
    conditions: Vec<Resolved>,
    #[serde(skip)]
    behind: Option<RowId>,
    /// By which moment it is asked who is online.
    #[serde(skip)]
    now: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Resolved {
    not: bool,
    rule: ResolvedRule,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum ResolvedRule {
    Device(RowId),
    Name(String),
    AnyTag(Vec<RowId>),
    App { id: RowId, version: Option<String> },
    Online(bool),
    UpdateStatus(TargetStatus),
    Deployment { id: RowId, status: Option<TargetStatus> },
}

impl ResolvedRule {
    /// Orders rules by how few devices they likely mean; `None` for what is no set.
    fn set_rank(&self) -> Option<u8> {
        match self {
            Self::Device(_) | Self::Name(_) => None,
            Self::Deployment { .. } => Some(0),
            Self::AnyTag(_) => Some(1),
            Self::App { .. } => Some(2),
            Self::UpdateStatus(_) => Some(3),
            Self::Online(is_online) => is_online.then_some(4),
        }
    }
}

/// How a set of device ids is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetForm {
    In,
    Exists,
}

/// The pseudo-group that means the whole fleet, unless a group bears its name.
const ALL_GROUPS: &str = "all";

impl<C: ConnectionTrait> Db<C> {
    /// Looks up every name of `filter` in `fleet`.
    ///
    /// Errors name the place in the filter: `filters[2].value: no tag is called "x"`.
    pub async fn resolve(&self, fleet: &Fleet, filter: &DeviceFilter) -> Result<Matching> {
        let mut conditions = Vec::with_capacity(filter.filters.len());
        for (i, Filter { not, rule }) in filter.filters.iter().enumerate() {
            let rule = self.resolve_rule(fleet, rule, &format!("filters[{i}]")).await?;
            conditions.push(Resolved { not: *not, rule });
        }
        let group_ids = self.resolve_groups(fleet, filter).await?;
        Ok(Matching { fleet_ids: vec![fleet.id], group_ids, conditions, behind: None, now: self.now() })
    }

    async fn resolve_groups(&self, fleet: &Fleet, filter: &DeviceFilter) -> Result<Vec<RowId>> {
        if filter.groups.is_empty() {
            return Ok(Vec::new());
        }
        let names = filter.groups.iter().map(muster_core::names::GroupName::as_str);
        let found: Vec<(RowId, String)> = groups::Entity::find()
            .select_only()
            .columns([groups::Column::Id, groups::Column::Name])
            .filter(groups::Column::FleetId.eq(fleet.id))
            .filter(groups::Column::Name.is_in(names))
            .into_tuple()
            .all(&self.conn)
            .await?;
        let mut ids = Vec::with_capacity(found.len());
        for (i, group) in filter.groups.iter().enumerate() {
            match found.iter().find(|(_, name)| name == group.as_str()) {
                Some((id, _)) => ids.push(*id),
                None if group.as_str() == ALL_GROUPS => return Ok(Vec::new()),
                None => {
                    return Err(
                        Invalid::unknown(format!("groups[{i}].name"), "group of the fleet", group.as_str()).into()
                    );
                }
            }
        }
        Ok(ids)
    }

    async fn resolve_rule(&self, fleet: &Fleet, rule: &Rule, place: &str) -> Result<ResolvedRule> {
        let unknown = |what: &str, name: &str| Invalid::unknown(format!("{place}.value"), what, name);
        Ok(match rule {
            Rule::Device(uuid) => {
                let device = self.device_id(fleet.id, uuid).await?;
                ResolvedRule::Device(device.ok_or_else(|| unknown("device of the fleet", uuid.as_str()))?)
            }
            Rule::Tag(name) => {
                let tag = self.find_tag(fleet.account_id, name).await?;
                ResolvedRule::AnyTag(vec![tag.ok_or_else(|| unknown("tag", name.as_str()))?])
            }
            Rule::App { name, version } => {
                let app = self.find_app(fleet.account_id, name).await?;
                let id = app.ok_or_else(|| unknown("app", name.as_str()))?;
                ResolvedRule::App { id, version: version.clone().map(muster_core::names::Version::into_string) }
            }
            Rule::Online(is_online) => ResolvedRule::Online(*is_online),
            Rule::UpdateStatus(status) => ResolvedRule::UpdateStatus(*status),
            Rule::Deployment { uuid, status } => {
                let id = self.deployment_id(fleet.id, uuid).await?;
                let unknown =
                    || Invalid::unknown(format!("{place}.deployment_id"), "deployment of the fleet", uuid.as_str());
                ResolvedRule::Deployment { id: id.ok_or_else(unknown)?, status: *status }
            }
        })
    }

    /// Every device of these fleets.
    pub fn everything_in(&self, fleet_ids: Vec<RowId>) -> Matching {
        Matching { fleet_ids, group_ids: Vec::new(), conditions: Vec::new(), behind: None, now: self.now() }
    }

    /// Narrows to devices that bear any of `tags`; an empty list narrows nothing.
    pub async fn with_any_tag(&self, fleet: &Fleet, matching: Matching, tags: &[TagName]) -> Result<Matching> {
        if tags.is_empty() {
            return Ok(matching);
        }
        let found = self.find_tags(fleet.account_id, tags).await?;
        if let Some(unknown) = tags.iter().find(|tag| !found.iter().any(|(name, _)| name == tag.as_str())) {
            return Err(Invalid::unknown("tags", "tag", unknown.as_str()).into());
        }
        let ids = found.into_iter().map(|(_, id)| id).collect();
        let mut matching = matching;
        matching.conditions.push(Resolved { not: false, rule: ResolvedRule::AnyTag(ids) });
        Ok(matching)
    }

    /// How the engine likes the sets of a page's condition.
    pub(crate) fn page_form(&self) -> SetForm {
        if self.is_sqlite() { SetForm::Exists } else { SetForm::In }
    }
}

impl Matching {
    /// Narrows to devices with exactly that name.
    #[must_use]
    pub fn named(mut self, name: &DeviceName) -> Self {
        self.conditions.push(Resolved { not: false, rule: ResolvedRule::Name(name.as_str().to_owned()) });
        self
    }

    /// Narrows to one device.
    #[must_use]
    pub fn only(mut self, device_id: RowId) -> Self {
        self.conditions.push(Resolved { not: false, rule: ResolvedRule::Device(device_id) });
        self
    }

    /// Narrows to other devices than these.
    #[must_use]
    pub fn without(mut self, device_ids: &BTreeSet<RowId>) -> Self {
        let others = device_ids.iter().map(|id| Resolved { not: true, rule: ResolvedRule::Device(*id) });
        self.conditions.extend(others);
        self
    }

    /// The same devices, asked for at that moment.
    pub(crate) fn at(&self, now: Timestamp) -> Self {
        Self { now, ..self.clone() }
    }

    /// How it is stored: with rows and not with names, which may change.
    pub(crate) fn to_stored(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| not_stored(&error))
    }

    /// What [`Matching::to_stored`] made.
    pub(crate) fn stored(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| not_stored(&error))
    }

    /// Narrows to devices behind that row.
    #[must_use]
    pub(crate) fn behind(mut self, after: Option<RowId>) -> Self {
        self.behind = after;
        self
    }

    /// Whether the answer changes when a deployment is made.
    pub(crate) fn asks_for_newest(&self) -> bool {
        self.conditions.iter().any(|condition| matches!(condition.rule, ResolvedRule::UpdateStatus(_)))
    }

    /// The condition over `devices`.
    pub(crate) fn condition(&self, form: SetForm) -> Condition {
        let mut all = Condition::all().add(one_of(devices::Column::FleetId, &self.fleet_ids));
        if !self.group_ids.is_empty() {
            all = all.add(one_of(devices::Column::GroupId, &self.group_ids));
        }
        if let Some(after) = self.behind {
            all = all.add(column(devices::Column::Id).gt(after));
        }
        let gone_through = if form == SetForm::In { self.smallest_set() } else { None };
        for (i, condition) in self.conditions.iter().enumerate() {
            let form = if gone_through == Some(i) { SetForm::In } else { SetForm::Exists };
            all = all.add(self.rule_condition(condition, form));
        }
        all
    }

    /// The condition whose set is likely the smallest of those that a device must be in.
    fn smallest_set(&self) -> Option<usize> {
        let sets = self.conditions.iter().enumerate().filter(|(_, condition)| !condition.not);
        sets.filter_map(|(i, condition)| Some((condition.rule.set_rank()?, i))).min().map(|(_, i)| i)
    }

    /// The ids of the matching devices.
    pub(crate) fn ids(&self) -> SelectStatement {
        Query::select()
            .column((devices::Entity, devices::Column::Id))
            .from(devices::Entity)
            .cond_where(self.condition(SetForm::In))
            .take()
    }

    fn rule_condition(&self, condition: &Resolved, form: SetForm) -> Expr {
        let set = |id: Expr, set: SelectStatement| in_set(form, condition.not, id.clone(), self.set_behind(id, set));
        match &condition.rule {
            ResolvedRule::Device(id) if condition.not => column(devices::Column::Id).ne(*id),
            ResolvedRule::Device(id) => column(devices::Column::Id).eq(*id),
            ResolvedRule::Name(name) => column(devices::Column::Name).eq(name),
            ResolvedRule::AnyTag(ids) => {
                let tag = Expr::col((device_tags::Entity, device_tags::Column::TagId)).is_in(ids.iter().copied());
                set(tag_device(), select(device_tags::Entity, tag_device()).and_where(tag).take())
            }
            ResolvedRule::App { id, version } => {
                let mut apps = select(device_apps::Entity, app_device());
                apps.and_where(Expr::col((device_apps::Entity, device_apps::Column::AppId)).eq(*id));
                if let Some(version) = version {
                    apps.and_where(Expr::col((device_apps::Entity, device_apps::Column::Version)).eq(version));
                }
                set(app_device(), apps)
            }
            ResolvedRule::Online(is_online) => {
                let online = self.set_behind(presence_device(), self.online());
                in_set(form, condition.not == *is_online, presence_device(), online)
            }
            ResolvedRule::UpdateStatus(status) => set(target_device(), latest_with(*status)),
            ResolvedRule::Deployment { id, status } => {
                let mut targets = select(targets::Entity, target_device());
                targets.and_where(Expr::col((targets::Entity, targets::Column::DeploymentId)).eq(*id));
                if let Some(status) = status {
                    targets.and_where(Expr::col((targets::Entity, targets::Column::Status)).eq(status.code()));
                }
                set(target_device(), targets)
            }
        }
    }

    /// The part of a set that a page can need. The engines do not conclude it from the
    /// bound on `devices.id`: they would read a set from its first row for every page.
    fn set_behind(&self, id: Expr, mut set: SelectStatement) -> SelectStatement {
        if let Some(after) = self.behind {
            set.and_where(id.gt(after));
        }
        set
    }

    fn online(&self) -> SelectStatement {
        let until = Expr::col((device_presence::Entity, device_presence::Column::OnlineUntilAt));
        select(device_presence::Entity, presence_device()).and_where(until.gt(self.now.as_millis())).take()
    }
}

fn not_stored(error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt { table: "rollouts", problem: error.to_string() }
}

/// Devices whose newest target stands so. The bare `is_latest` lets the engines use the partial index.
fn latest_with(status: TargetStatus) -> SelectStatement {
    select(targets::Entity, target_device())
        .and_where(Expr::col((targets::Entity, targets::Column::IsLatest)))
        .and_where(Expr::col((targets::Entity, targets::Column::Status)).eq(status.code()))
        .take()
}

fn in_set(form: SetForm, not: bool, set_id: Expr, mut set: SelectStatement) -> Expr {
    let id = column(devices::Column::Id);
    if form == SetForm::In && !not {
        return id.in_subquery(set);
    }
    let exists = Expr::exists(set.and_where(set_id.eq(id)).take());
    if not { exists.not() } else { exists }
}

fn select(table: impl sea_orm::sea_query::IntoTableRef, id: Expr) -> SelectStatement {
    Query::select().expr(id).from(table).take()
}

fn one_of(name: devices::Column, ids: &[RowId]) -> Expr {
    match ids {
        [one] => column(name).eq(*one),
        _ => column(name).is_in(ids.iter().copied()),
    }
}

pub(crate) fn column(column: devices::Column) -> Expr {
    Expr::col((devices::Entity, column))
}

fn tag_device() -> Expr {
    Expr::col((device_tags::Entity, device_tags::Column::DeviceId))
}

fn app_device() -> Expr {
    Expr::col((device_apps::Entity, device_apps::Column::DeviceId))
}

fn presence_device() -> Expr {
    Expr::col((device_presence::Entity, device_presence::Column::DeviceId))
}

fn target_device() -> Expr {
    Expr::col((targets::Entity, targets::Column::DeviceId))
}
