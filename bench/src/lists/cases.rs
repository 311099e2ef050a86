//! What the lists ask for, in Muster's words and as SQL by hand.

use muster_core::filter::{DeviceFilter, Filter, Rule};
use muster_core::names::{AppName, GroupName, TagName, Version};
use muster_core::target::TargetStatus;

use super::crowd::Crowd;

/// Devices that a list asks for.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) filter: DeviceFilter,
    /// Any of them.
    pub(super) tags: Vec<TagName>,
    /// The condition over `devices d`.
    pub(super) by_hand: String,
}

/// The whole fleet.
pub(super) fn fleet(crowd: &Crowd) -> Case {
    let by_hand = format!("d.fleet_id = {}", crowd.home.fleet.id);
    Case { name: "fleet".to_owned(), filter: DeviceFilter::everything(), tags: Vec::new(), by_hand }
}

/// Half of the fleet.
pub(super) fn group(crowd: &Crowd) -> Case {
    let Case { by_hand, .. } = fleet(crowd);
    let groups = vec![crowd.words.group.clone()];
    Case {
        name: "group".to_owned(),
        filter: DeviceFilter { groups, filters: Vec::new() },
        tags: Vec::new(),
        by_hand: format!("{by_hand} AND d.group_id = {}", crowd.group_id),
    }
}

/// Those of the group that bear either of two tags, half of them.
pub(super) fn group_and_tags(crowd: &Crowd) -> Case {
    let Case { by_hand, filter, .. } = group(crowd);
    let ([a, b], [a_id, b_id]) = (&crowd.words.tags, crowd.tag_ids);
    Case {
        name: "group+tags".to_owned(),
        filter,
        tags: vec![a.clone(), b.clone()],
        by_hand: format!("{by_hand} AND d.id IN (SELECT device_id FROM device_tags WHERE tag_id IN ({a_id}, {b_id}))"),
    }
}

/// Every list of the benchmark: the above, and each type of a filter with `is` and, where it may be, `is_not`.
pub(super) fn all(crowd: &Crowd) -> Vec<Case> {
    let mut cases = vec![fleet(crowd), group(crowd), group_and_tags(crowd)];
    for (name, rule, set) in rules(crowd) {
        let may_be_not = !matches!(rule, Rule::Online(_) | Rule::Deployment { .. });
        cases.push(filtered(crowd, name, rule.clone(), false, &set));
        if may_be_not {
            cases.push(filtered(crowd, name, rule, true, &set));
        }
    }
    cases
}

fn filtered(crowd: &Crowd, name: &str, rule: Rule, not: bool, set: &Set) -> Case {
    let Case { by_hand, .. } = fleet(crowd);
    let condition = match (set, not) {
        (Set::One(id), false) => format!("d.id = {id}"),
        (Set::One(id), true) => format!("d.id <> {id}"),
        (Set::Of(table, rows), false) => format!("d.id IN (SELECT device_id FROM {table} WHERE {rows})"),
        (Set::Of(table, rows), true) | (Set::Outside(table, rows), _) => {
            format!("NOT EXISTS (SELECT 1 FROM {table} WHERE device_id = d.id AND {rows})")
        }
    };
    Case {
        name: format!("{name} {}", if not { "is_not" } else { "is" }),
        filter: DeviceFilter { groups: Vec::new(), filters: vec![Filter { not, rule }] },
        tags: Vec::new(),
        by_hand: format!("{by_hand} AND {condition}"),
    }
}

/// How a rule is typed.
enum Set {
    /// This device.
    One(i64),
    /// Those that such a row of that table speaks of.
    Of(&'static str, String),
    /// All others.
    Outside(&'static str, String),
}

fn rules(crowd: &Crowd) -> Vec<(&'static str, Rule, Set)> {
    let words = &crowd.words;
    let app = |version: Option<Version>| Rule::App { name: words.app.clone(), version };
    let deployment = |status| Rule::Deployment { uuid: crowd.deployment_uuid.clone(), status };
    let (tag_id, app_id, deployment_id) = (crowd.tag_ids[0], crowd.app_id, crowd.deployment_id);
    let online = format!("online_until_at > {}", crowd.home.db.clock().now().as_millis());
    let latest = |status: TargetStatus| Set::Of("targets", format!("is_latest AND status = {}", status.code()));
    let status = |status: TargetStatus| format!("deployment_id = {deployment_id} AND status = {}", status.code());
    vec![
        ("specific_device", Rule::Device(crowd.device_uuid.clone()), Set::One(crowd.middle())),
        ("tag", Rule::Tag(words.tags[0].clone()), Set::Of("device_tags", format!("tag_id = {tag_id}"))),
        ("app", app(None), Set::Of("device_apps", format!("app_id = {app_id}"))),
        (
            "app+version",
            app(Some(words.version.clone())),
            Set::Of("device_apps", format!("app_id = {app_id} AND version = '{}'", words.version.as_str())),
        ),
        ("device_state online", Rule::Online(true), Set::Of("device_presence", online.clone())),
        ("device_state offline", Rule::Online(false), Set::Outside("device_presence", online)),
        ("update_status success", Rule::UpdateStatus(TargetStatus::Succeeded), latest(TargetStatus::Succeeded)),
        ("update_status failed", Rule::UpdateStatus(TargetStatus::Failed), latest(TargetStatus::Failed)),
        ("deployment any", deployment(None), Set::Of("targets", format!("deployment_id = {deployment_id}"))),
        ("deployment failed", deployment(Some(TargetStatus::Failed)), Set::Of("targets", status(TargetStatus::Failed))),
    ]
}

/// The names that the filters use.
pub(super) struct Words {
    pub(super) group: GroupName,
    pub(super) tags: [TagName; 2],
    pub(super) app: AppName,
    pub(super) version: Version,
}

impl Words {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            group: GroupName::parse("Production")?,
            tags: [TagName::parse("a")?, TagName::parse("b")?],
            app: AppName::parse("firmware")?,
            version: Version::parse("1.3")?,
        })
    }
}
