//! The device filter: which devices of a fleet are meant.
//!
//! Groups are a union, filters are ANDed, both may be empty. The wire shape is
//! the `device_filter` of both APIs; a face parses it into [`DeviceFilter`], the
//! store looks the names up and makes one `WHERE` of it.

use serde::{Deserialize, Serialize};

use crate::ids::{DeploymentUuid, DeviceUuid};
use crate::invalid::{Invalid, quoted};
use crate::limits::FILTER_ITEMS_MAX;
use crate::names::{AppName, GroupName, TagName, Version};
use crate::target::TargetStatus;
use crate::wire::objects;

/// Which devices of one fleet are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// Devices in any of these groups; empty for the whole fleet.
    pub groups: Vec<GroupName>,
    /// What each device must also satisfy.
    pub filters: Vec<Filter>,
}

impl DeviceFilter {
    /// The whole fleet.
    pub fn everything() -> Self {
        Self::default()
    }

    /// One device.
    pub fn device(uuid: DeviceUuid) -> Self {
        Self { groups: Vec::new(), filters: vec![Filter { not: false, rule: Rule::Device(uuid) }] }
    }
}

/// One condition of a device filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// True for `is_not`: the device must not satisfy the rule.
    pub not: bool,
    /// What is asked of a device.
    pub rule: Rule,
}

/// What one filter asks of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `specific_device`: it is this one.
    Device(DeviceUuid),
    /// `tag`: it bears the tag.
    Tag(TagName),
    /// `app`: it has the app, in the given version if there is one.
    App {
        /// The app.
        name: AppName,
        /// `app_version`.
        version: Option<Version>,
    },
    /// `device_state`: its link is up, or it was heard of lately.
    Online(bool),
    /// `update_status`: its newest update stands so.
    UpdateStatus(TargetStatus),
    /// `deployment`: it is a target of the deployment, and stands so there.
    Deployment {
        /// `deployment_id`.
        uuid: DeploymentUuid,
        /// `None` for `any`.
        status: Option<TargetStatus>,
    },
}

/// A device filter as both APIs send it, apart from v1's `project`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WireDeviceFilter {
    /// `[{"name": …}]`.
    #[serde(default, deserialize_with = "objects")]
    pub groups: Vec<WireName>,
    /// The conditions.
    #[serde(default, deserialize_with = "objects")]
    pub filters: Vec<WireFilter>,
}

/// An object whose only key is a name.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WireName {
    /// The name.
    pub name: String,
}

/// One condition as both APIs send it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WireFilter {
    /// `specific_device`, `tag`, `app`, `device_state`, `update_status` or `deployment`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `is` or `is_not`.
    pub operand: String,
    /// What is compared with.
    pub value: String,
    /// Only with `app`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_version: Option<String>,
    /// Only with `deployment`, and required there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
}

impl TryFrom<WireDeviceFilter> for DeviceFilter {
    type Error = Invalid;

    fn try_from(wire: WireDeviceFilter) -> Result<Self, Invalid> {
        at_most("groups", wire.groups.len())?;
        at_most("filters", wire.filters.len())?;
        let groups = wire.groups.into_iter().enumerate().map(|(i, group)| {
            GroupName::parse(group.name).map_err(|e| e.within("name").within(&format!("groups[{i}]")))
        });
        let filters = wire.filters.into_iter().enumerate();
        let filters =
            filters.map(|(i, filter)| Filter::try_from(filter).map_err(|e| e.within(&format!("filters[{i}]"))));
        Ok(Self { groups: groups.collect::<Result<_, _>>()?, filters: filters.collect::<Result<_, _>>()? })
    }
}

fn at_most(field: &str, items: usize) -> Result<(), Invalid> {
    if items <= FILTER_ITEMS_MAX {
        return Ok(());
    }
    Err(Invalid::new(field, format!("has {items} items, at most {FILTER_ITEMS_MAX} are allowed")))
}

impl TryFrom<WireFilter> for Filter {
    type Error = Invalid;

    fn try_from(wire: WireFilter) -> Result<Self, Invalid> {
        let rule = rule(&wire)?;
        let not = match (wire.operand.as_str(), &rule) {
            ("is", _) => false,
            ("is_not", Rule::Online(_) | Rule::Deployment { .. }) => {
                return Err(Invalid::new(
                    "operand",
                    format!("\"is_not\" does not go with type {}", quoted(&wire.kind)),
                ));
            }
            ("is_not", _) => true,
            (other, _) => {
                return Err(Invalid::new("operand", format!("{} is neither \"is\" nor \"is_not\"", quoted(other))));
            }
        };
        extra_only_with("app", "app_version", wire.app_version.as_ref(), &wire.kind)?;
        extra_only_with("deployment", "deployment_id", wire.deployment_id.as_ref(), &wire.kind)?;
        Ok(Self { not, rule })
    }
}

fn extra_only_with(kind: &str, field: &str, value: Option<&String>, actual: &str) -> Result<(), Invalid> {
    match value {
        Some(_) if kind != actual => {
            Err(Invalid::new(field, format!("goes with type \"{kind}\" only, not with {}", quoted(actual))))
        }
        _ => Ok(()),
    }
}

fn rule(wire: &WireFilter) -> Result<Rule, Invalid> {
    let value = || wire.value.clone();
    let in_value = |refusal: Invalid| refusal.within("value");
    match wire.kind.as_str() {
        "specific_device" => Ok(Rule::Device(wire.value.parse().map_err(in_value)?)),
        "tag" => Ok(Rule::Tag(TagName::parse(value()).map_err(in_value)?)),
        "app" => Ok(Rule::App {
            name: AppName::parse(value()).map_err(in_value)?,
            version: wire.app_version.clone().map(Version::parse).transpose().map_err(|e| e.within("app_version"))?,
        }),
        "device_state" => match wire.value.as_str() {
            "online" => Ok(Rule::Online(true)),
            "offline" => Ok(Rule::Online(false)),
            other => Err(Invalid::new("value", format!("{} is neither \"online\" nor \"offline\"", quoted(other)))),
        },
        "update_status" => Ok(Rule::UpdateStatus(status(&wire.value)?)),
        "deployment" => deployment_rule(wire),
        other => Err(Invalid::new(
            "type",
            format!(
                "{} is none of \"specific_device\", \"tag\", \"app\", \"device_state\", \"update_status\", \"deployment\"",
                quoted(other)
            ),
        )),
    }
}

fn deployment_rule(wire: &WireFilter) -> Result<Rule, Invalid> {
    let id = wire.deployment_id.as_ref();
    let id = id.ok_or_else(|| Invalid::new("deployment_id", "is required with type \"deployment\""))?;
    Ok(Rule::Deployment {
        uuid: id.parse().map_err(|e: Invalid| e.within("deployment_id"))?,
        status: if wire.value == "any" { None } else { Some(status(&wire.value)?) },
    })
}

fn status(text: &str) -> Result<TargetStatus, Invalid> {
    TargetStatus::from_filter_word(text).ok_or_else(|| {
        let words = TargetStatus::ALL.map(|status| format!("\"{}\"", status.filter_word())).join(", ");
        Invalid::new("value", format!("{} is none of {words}", quoted(text)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(filter: serde_json::Value) -> Result<Filter, String> {
        let wire: WireFilter = serde_json::from_value(filter).map_err(|e| e.to_string())?;
        Filter::try_from(wire).map_err(|e| e.to_string())
    }

    #[test]
    fn reads_each_documented_type() {
        let cases = [
            (
                json!({"type":"specific_device","operand":"is","value":"d-4ec7-1be9"}),
                false,
                Rule::Device("d-4ec7-1be9".parse().unwrap()),
            ),
            (
                json!({"type":"tag","operand":"is_not","value":"Lab Device"}),
                true,
                Rule::Tag(TagName::parse("Lab Device").unwrap()),
            ),
            (
                json!({"type":"app","operand":"is","value":"a"}),
                false,
                Rule::App { name: AppName::parse("a").unwrap(), version: None },
            ),
            (
                json!({"type":"app","app_version":"dp-9yl3-9ch7","operand":"is","value":"failed"}),
                false,
                Rule::App {
                    name: AppName::parse("failed").unwrap(),
                    version: Some(Version::parse("dp-9yl3-9ch7").unwrap()),
                },
            ),
            (json!({"type":"device_state","operand":"is","value":"offline"}), false, Rule::Online(false)),
            (
                json!({"type":"update_status","operand":"is_not","value":"in_progress"}),
                true,
                Rule::UpdateStatus(TargetStatus::InProgress),
            ),
            (
                json!({"type":"deployment","deployment_id":"dp-9yl3-9ch7","operand":"is","value":"failed"}),
                false,
                Rule::Deployment { uuid: "dp-9yl3-9ch7".parse().unwrap(), status: Some(TargetStatus::Failed) },
            ),
            (
                json!({"type":"deployment","deployment_id":"dp-9yl3-9ch7","operand":"is","value":"any"}),
                false,
                Rule::Deployment { uuid: "dp-9yl3-9ch7".parse().unwrap(), status: None },
            ),
        ];
        for (wire, not, rule) in cases {
            assert_eq!(parse(wire.clone()), Ok(Filter { not, rule }), "{wire}");
        }
    }

    #[test]
    fn refuses_with_the_field_and_the_value() {
        let cases = [
            (json!({"type":"tags","operand":"is","value":"x"}), "type: \"tags\" is none of"),
            (json!({"type":"tag","operand":"isnt","value":"x"}), "operand: \"isnt\""),
            (
                json!({"type":"device_state","operand":"is_not","value":"online"}),
                "operand: \"is_not\" does not go with",
            ),
            (
                json!({"type":"deployment","deployment_id":"dp-9yl3-9ch7","operand":"is_not","value":"any"}),
                "operand: \"is_not\"",
            ),
            (json!({"type":"device_state","operand":"is","value":"Online"}), "value: \"Online\""),
            (json!({"type":"update_status","operand":"is","value":"any"}), "value: \"any\" is none of \"pending\""),
            (json!({"type":"deployment","operand":"is","value":"failed"}), "deployment_id: is required"),
            (json!({"type":"deployment","deployment_id":"1","operand":"is","value":"failed"}), "deployment_id: \"1\""),
            (
                json!({"type":"tag","operand":"is","value":"x","app_version":"1"}),
                "app_version: goes with type \"app\" only",
            ),
            (
                json!({"type":"tag","operand":"is","value":"x","deployment_id":"dp-9yl3-9ch7"}),
                "deployment_id: goes with type",
            ),
            (json!({"type":"tag","operand":"is","value":""}), "value: \"\" is empty"),
            (json!({"type":"specific_device","operand":"is","value":"' OR 1=1"}), "value: "),
            (json!({"type":"tag","operand":"is","value":5}), "expected a string"),
            (json!({"type":"tag","operand":"is"}), "missing field `value`"),
            (json!({"type":"tag","operand":"is","value":"x","valeu":"y"}), "unknown field `valeu`"),
        ];
        for (wire, expected) in cases {
            let refusal = parse(wire.clone()).unwrap_err();
            assert!(refusal.contains(expected), "{wire} gave {refusal}");
        }
    }

    #[test]
    fn names_the_place_in_the_whole_filter() {
        let wire = json!({"groups":[{"name":"a"},{"name":""}],"filters":[]});
        let wire: WireDeviceFilter = serde_json::from_value(wire).unwrap();
        assert_eq!(DeviceFilter::try_from(wire).unwrap_err().field, "groups[1].name");
    }

    #[test]
    fn bounds_its_size() {
        let wire =
            WireDeviceFilter { groups: vec![WireName { name: "a".into() }; FILTER_ITEMS_MAX + 1], filters: vec![] };
        assert!(DeviceFilter::try_from(wire).unwrap_err().to_string().contains("101 items"));
    }
}
