//! What changes on one device: `PATCH /devices/{uuid}` of API v2 and
//! `POST /v1/devices_details`, as one list of changes.
//!
//! The operations follow RFC 6902 in spirit: `add`, `replace` and `remove`, with
//! or without a leading slash in `path`.

use serde::Deserialize;
use serde_json::Value;

use crate::invalid::{Invalid, quoted};
use crate::limits::{PATCH_ITEMS_MAX, PATCH_ITEMS_TOTAL_MAX};
use crate::names::{AppName, DeviceName, GroupName, TagName, Text, Version};
use crate::wire::Object;

/// One change of one device. A patch is a list of them, applied in order, all or none.
#[derive(Clone, Debug, PartialEq)]
pub enum DeviceChange {
    /// A new name.
    Name(DeviceName),
    /// A new description; may be empty.
    Description(Text),
    /// A new postal address; may be empty.
    Address(Text),
    /// A new latitude in degrees, or none.
    Lat(Option<f64>),
    /// A new longitude in degrees, or none.
    Lng(Option<f64>),
    /// Into another group of its fleet.
    Group(GroupName),
    /// Set (no new updates) or clear the update trigger.
    UpdateTrigger(bool),
    /// Add these tags; what is missing in the catalogue is created.
    AddTags(Vec<TagName>),
    /// Remove these tags.
    RemoveTags(Vec<TagName>),
    /// Have exactly these tags.
    ReplaceTags(Vec<TagName>),
    /// Set these apps to these versions; each app must exist.
    SetApps(Vec<(AppName, Version)>),
    /// Remove these apps.
    RemoveApps(Vec<AppName>),
    /// Have exactly these apps.
    ReplaceApps(Vec<(AppName, Version)>),
}

/// One operation of a PATCH as it is sent.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WireOperation {
    /// `add`, `replace` or `remove`.
    pub op: String,
    /// What is changed: `tags` or `/tags`.
    pub path: String,
    /// The value; with `remove` only where a list is shortened.
    pub value: Option<Value>,
}

/// The changes that a list of operations asks for.
pub fn from_operations(operations: Vec<WireOperation>) -> Result<Vec<DeviceChange>, Invalid> {
    if operations.is_empty() {
        return Err(Invalid::new("operations", "is empty"));
    }
    bounded("operations", operations.len())?;
    let change = |(i, operation): (usize, WireOperation)| {
        DeviceChange::try_from(operation).map_err(|refusal| refusal.within(&format!("operations[{i}]")))
    };
    let changes: Vec<DeviceChange> = operations.into_iter().enumerate().map(change).collect::<Result<_, _>>()?;
    let items = changes.iter().map(DeviceChange::items).sum::<usize>();
    if items > PATCH_ITEMS_TOTAL_MAX {
        let problem = format!("have {items} tags and apps in all, at most {PATCH_ITEMS_TOTAL_MAX} are allowed");
        return Err(Invalid::new("operations", problem));
    }
    Ok(changes)
}

impl DeviceChange {
    /// How many tags or apps it names.
    fn items(&self) -> usize {
        match self {
            Self::AddTags(names) | Self::RemoveTags(names) | Self::ReplaceTags(names) => names.len(),
            Self::SetApps(apps) | Self::ReplaceApps(apps) => apps.len(),
            Self::RemoveApps(names) => names.len(),
            _ => 0,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Add,
    Replace,
    Remove,
}

impl TryFrom<WireOperation> for DeviceChange {
    type Error = Invalid;

    fn try_from(operation: WireOperation) -> Result<Self, Invalid> {
        let op = match operation.op.as_str() {
            "add" => Op::Add,
            "replace" => Op::Replace,
            "remove" => Op::Remove,
            other => {
                let problem = format!("{} is none of \"add\", \"replace\", \"remove\"", quoted(other));
                return Err(Invalid::new("op", problem));
            }
        };
        let path = operation.path.strip_prefix('/').unwrap_or(&operation.path);
        match path {
            "tags" => tags(op, operation.value),
            "apps" => apps(op, operation.value),
            _ if op == Op::Remove => cleared(path),
            _ => replaced(path, operation.value.ok_or_else(|| Invalid::missing("value"))?),
        }
    }
}

fn replaced(path: &str, value: Value) -> Result<DeviceChange, Invalid> {
    Ok(match path {
        "device_name" => DeviceChange::Name(DeviceName::parse(string(value)?).map_err(in_value)?),
        "group_name" => DeviceChange::Group(GroupName::parse(string(value)?).map_err(in_value)?),
        "description" => DeviceChange::Description(text(value)?),
        "address" => DeviceChange::Address(text(value)?),
        "lat" => DeviceChange::Lat(Some(degrees(&value, LAT_MAX)?)),
        "lng" => DeviceChange::Lng(Some(degrees(&value, LNG_MAX)?)),
        "is_update_trigger_set" => match value {
            Value::Bool(is_set) => DeviceChange::UpdateTrigger(is_set),
            other => return Err(expected("true or false", &other)),
        },
        _ => return Err(unknown_path(path)),
    })
}

fn cleared(path: &str) -> Result<DeviceChange, Invalid> {
    let empty = || Text::parse("").map_err(in_value);
    Ok(match path {
        "description" => DeviceChange::Description(empty()?),
        "address" => DeviceChange::Address(empty()?),
        "lat" => DeviceChange::Lat(None),
        "lng" => DeviceChange::Lng(None),
        "is_update_trigger_set" => DeviceChange::UpdateTrigger(false),
        "device_name" | "group_name" => {
            return Err(Invalid::new(
                "op",
                format!("\"remove\" does not go with {}: a device always has one", quoted(path)),
            ));
        }
        _ => return Err(unknown_path(path)),
    })
}

fn unknown_path(path: &str) -> Invalid {
    let known = "device_name, description, group_name, address, lat, lng, is_update_trigger_set, tags, apps";
    Invalid::new("path", format!("{} is none of {known}", quoted(path)))
}

/// The largest latitude, in degrees.
pub const LAT_MAX: f64 = 90.0;
/// The largest longitude, in degrees.
pub const LNG_MAX: f64 = 180.0;

/// A coordinate: a number, or a string that holds one, of at most `max` degrees either way.
pub fn degrees(value: &Value, max: f64) -> Result<f64, Invalid> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|degrees| degrees.abs() <= max)
        .ok_or_else(|| expected(&format!("a number from -{max} to {max}"), value))
}

fn tags(op: Op, value: Option<Value>) -> Result<DeviceChange, Invalid> {
    let Some(value) = value else { return without_value(op, DeviceChange::ReplaceTags(Vec::new())) };
    let items = list("tags", value)?.into_iter().enumerate();
    let names = items
        .map(|(i, item)| string(item).and_then(|name| TagName::parse(name).map_err(in_value)).map_err(|e| at(i, e)));
    let names = names.collect::<Result<_, _>>()?;
    Ok(match op {
        Op::Add => DeviceChange::AddTags(names),
        Op::Remove => DeviceChange::RemoveTags(names),
        Op::Replace => DeviceChange::ReplaceTags(names),
    })
}

fn apps(op: Op, value: Option<Value>) -> Result<DeviceChange, Invalid> {
    let Some(value) = value else { return without_value(op, DeviceChange::ReplaceApps(Vec::new())) };
    let items = list("apps", value)?.into_iter().enumerate();
    if op == Op::Remove {
        let names = items.map(|(i, item)| app_name(item).map_err(|e| at(i, e)));
        return Ok(DeviceChange::RemoveApps(names.collect::<Result<_, _>>()?));
    }
    let apps = items.map(|(i, item)| app(item).map_err(|e| at(i, e))).collect::<Result<_, _>>()?;
    Ok(if op == Op::Add { DeviceChange::SetApps(apps) } else { DeviceChange::ReplaceApps(apps) })
}

/// An app and its version as both APIs send it.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WireApp {
    /// The app.
    pub app_name: String,
    /// The version that the device has of it.
    pub version: String,
}

impl TryFrom<WireApp> for (AppName, Version) {
    type Error = Invalid;

    fn try_from(wire: WireApp) -> Result<Self, Invalid> {
        let name = AppName::parse(wire.app_name).map_err(|refusal| refusal.within("app_name"))?;
        let version = Version::parse(wire.version).map_err(|refusal| refusal.within("version"))?;
        Ok((name, version))
    }
}

fn app(item: Value) -> Result<(AppName, Version), Invalid> {
    let shown = item.to_string();
    let Object(wire): Object<WireApp> =
        serde_json::from_value(item).map_err(|error| Invalid::new("value", format!("{}: {error}", quoted(&shown))))?;
    <(AppName, Version)>::try_from(wire).map_err(|refusal| refusal.within("value"))
}

fn app_name(item: Value) -> Result<AppName, Invalid> {
    let name = match item {
        Value::Object(mut app) => app.remove("app_name").unwrap_or_default(),
        other => other,
    };
    AppName::parse(string(name)?).map_err(in_value)
}

fn without_value(op: Op, cleared: DeviceChange) -> Result<DeviceChange, Invalid> {
    if op == Op::Remove { Ok(cleared) } else { Err(Invalid::missing("value")) }
}

fn list(what: &str, value: Value) -> Result<Vec<Value>, Invalid> {
    let items = match value {
        Value::Array(items) => items,
        single @ (Value::String(_) | Value::Object(_)) => vec![single],
        other => return Err(expected(&format!("a list of {what}"), &other)),
    };
    bounded("value", items.len())?;
    Ok(items)
}

fn bounded(field: &str, items: usize) -> Result<(), Invalid> {
    if items <= PATCH_ITEMS_MAX {
        return Ok(());
    }
    Err(Invalid::new(field, format!("has {items} items, at most {PATCH_ITEMS_MAX} are allowed")))
}

fn string(value: Value) -> Result<String, Invalid> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(expected("a string", &other)),
    }
}

fn text(value: Value) -> Result<Text, Invalid> {
    Text::parse(string(value)?).map_err(in_value)
}

fn expected(what: &str, value: &Value) -> Invalid {
    Invalid::new("value", format!("expected {what}, not {}", quoted(&value.to_string())))
}

fn in_value(refusal: Invalid) -> Invalid {
    refusal.within("value")
}

/// Puts an item's number behind the word `value` of a refusal.
fn at(index: usize, refusal: Invalid) -> Invalid {
    let below = refusal.field.strip_prefix("value").unwrap_or_default();
    Invalid { field: format!("value[{index}]{below}"), ..refusal }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(operations: Value) -> Result<Vec<DeviceChange>, String> {
        let wire: Vec<WireOperation> = serde_json::from_value(operations).map_err(|e| e.to_string())?;
        from_operations(wire).map_err(|e| e.to_string())
    }

    fn tag(name: &str) -> TagName {
        TagName::parse(name).unwrap()
    }

    #[test]
    fn reads_the_documented_request() {
        let changes = parse(json!([{"op":"add","path":"tags","value":["tag1","tag 2"]}]));
        assert_eq!(changes.unwrap(), [DeviceChange::AddTags(vec![tag("tag1"), tag("tag 2")])]);
    }

    #[test]
    fn reads_every_path_with_and_without_slash() {
        let app = || (AppName::parse("a").unwrap(), Version::parse("1").unwrap());
        let cases = [
            (
                json!({"op":"replace","path":"/device_name","value":"n"}),
                DeviceChange::Name(DeviceName::parse("n").unwrap()),
            ),
            (json!({"op":"add","path":"description","value":""}), DeviceChange::Description(Text::parse("").unwrap())),
            (
                json!({"op":"replace","path":"group_name","value":"g"}),
                DeviceChange::Group(GroupName::parse("g").unwrap()),
            ),
            (json!({"op":"remove","path":"/address"}), DeviceChange::Address(Text::parse("").unwrap())),
            (json!({"op":"replace","path":"lat","value":"32.5"}), DeviceChange::Lat(Some(32.5))),
            (json!({"op":"replace","path":"lng","value":-179}), DeviceChange::Lng(Some(-179.0))),
            (json!({"op":"remove","path":"lng"}), DeviceChange::Lng(None)),
            (json!({"op":"replace","path":"is_update_trigger_set","value":true}), DeviceChange::UpdateTrigger(true)),
            (json!({"op":"remove","path":"tags","value":["x"]}), DeviceChange::RemoveTags(vec![tag("x")])),
            (json!({"op":"remove","path":"tags"}), DeviceChange::ReplaceTags(vec![])),
            (
                json!({"op":"add","path":"tags","value":"one, and only"}),
                DeviceChange::AddTags(vec![tag("one, and only")]),
            ),
            (
                json!({"op":"add","path":"apps","value":[{"app_name":"a","version":"1"}]}),
                DeviceChange::SetApps(vec![app()]),
            ),
            (json!({"op":"replace","path":"apps","value":[]}), DeviceChange::ReplaceApps(vec![])),
            (json!({"op":"remove","path":"apps","value":["a"]}), DeviceChange::RemoveApps(vec![app().0])),
            (json!({"op":"remove","path":"apps","value":[{"app_name":"a"}]}), DeviceChange::RemoveApps(vec![app().0])),
        ];
        for (wire, change) in cases {
            assert_eq!(parse(json!([wire])), Ok(vec![change]), "{wire}");
        }
    }

    #[test]
    fn bounds_what_all_operations_hold_together() {
        let operation = |tags: usize| json!({ "op": "add", "path": "tags", "value": vec!["a"; tags] });
        assert!(parse(json!([operation(1_000), operation(1_000)])).is_ok());
        let refusal = parse(json!([operation(1_000), operation(1_000), operation(1)])).unwrap_err();
        assert_eq!(refusal, "operations: have 2001 tags and apps in all, at most 2000 are allowed");
        let refusal = parse(json!([operation(1_001)])).unwrap_err();
        assert_eq!(refusal, "operations[0].value: has 1001 items, at most 1000 are allowed");
    }

    #[test]
    fn refuses_with_the_place_and_the_value() {
        let cases = [
            (json!([]), "operations: is empty"),
            (json!([{"op":"test","path":"tags","value":[]}]), "operations[0].op: \"test\""),
            (json!([{"op":"move","from":"a","path":"tags"}]), "unknown field `from`"),
            (json!([{"op":"add","path":"device_uuid","value":"x"}]), "operations[0].path: \"device_uuid\""),
            (json!([{"op":"add","path":"tags"}]), "operations[0].value: is required"),
            (
                json!([{"op":"add","path":"tags","value":["a", 5]}]),
                "operations[0].value[1]: expected a string, not \"5\"",
            ),
            (json!([{"op":"add","path":"tags","value":["a\u{0}"]}]), "value[0]: \"a\\0\" holds"),
            (json!([{"op":"add","path":"tags","value":7}]), "expected a list of tags"),
            (json!([{"op":"replace","path":"lat","value":91}]), "a number from -90 to 90"),
            (json!([{"op":"replace","path":"lat","value":"NaN"}]), "a number from -90 to 90"),
            (json!([{"op":"replace","path":"device_name","value":""}]), "value: \"\" is empty"),
            (json!([{"op":"remove","path":"device_name"}]), "a device always has one"),
            (json!([{"op":"replace","path":"is_update_trigger_set","value":"true"}]), "true or false"),
            (json!([{"op":"add","path":"apps","value":[{"app_name":"a"}]}]), "missing field `version`"),
            (json!([{"op":"add","path":"apps","value":[["a", "1"]]}]), "expected an object"),
        ];
        for (wire, expected) in cases {
            let refusal = parse(wire.clone()).unwrap_err();
            assert!(refusal.contains(expected), "{wire} gave {refusal}");
        }
    }
}
