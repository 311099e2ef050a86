//! Device filters on the command line, in the words of the API.
//!
//! Reading is pure; that a filter means something is decided by `muster-core`, as
//! on the server. Whether what it names exists, the server says.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use muster_core::filter::{DeviceFilter, Filter, WireDeviceFilter, WireFilter};
use serde_json::{Value, json};

use super::failure::Failure;
use super::session::Session;

/// Which devices are meant.
#[derive(Args)]
pub(crate) struct FilterArgs {
    /// Only devices of this group; repeat it for devices of any of several
    #[arg(long, value_name = "GROUP", help_heading = FILTER_HEADING)]
    group: Vec<String>,
    /// A condition, as in the API: 'tag is London', 'app is firmware@1.2', 'device_state is online',
    /// 'update_status is_not failed', 'deployment is failed:dp-xxxx-xxxx', 'specific_device is d-xxxx-xxxx'; of
    /// several, all must hold
    #[arg(long, value_name = "CONDITION", value_parser = condition, help_heading = FILTER_HEADING)]
    filter: Vec<Value>,
    /// A file with exactly the device_filter of the API; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["group", "filter"], help_heading = FILTER_HEADING)]
    filter_json: Option<PathBuf>,
    /// A saved filter of the fleet
    #[arg(long, value_name = "NAME", conflicts_with_all = ["group", "filter", "filter_json"], help_heading = FILTER_HEADING)]
    saved: Option<String>,
}

pub(super) const FILTER_HEADING: &str = "Which devices";

/// What every device of the fleet matches.
pub(super) fn everything() -> Value {
    json!({ "groups": [], "filters": [] })
}

impl FilterArgs {
    /// Whether nothing was said, which means every device.
    pub(super) const fn is_empty(&self) -> bool {
        self.group.is_empty() && self.filter.is_empty() && self.filter_json.is_none() && self.saved.is_none()
    }

    /// The only group, when nothing else is asked.
    pub(super) fn only_group(&self) -> Option<&str> {
        match (self.group.as_slice(), self.filter.is_empty()) {
            ([group], true) => Some(group),
            _ => None,
        }
    }

    /// The `device_filter` of the API.
    pub(super) async fn device_filter(&self, session: &Session) -> Result<Value, Failure> {
        if let Some(name) = &self.saved {
            let mut saved = session.http.get(&[session.fleet()?, "filters", name])?.value().await?;
            return Ok(saved["device_filter"].take());
        }
        match &self.filter_json {
            Some(path) => from_json(&read(path)?),
            None => checked(self.given()),
        }
    }

    /// The `device_filter` of the API; that every device is meant must be said.
    pub(super) async fn chosen(&self, session: &Session, is_all: bool) -> Result<Value, Failure> {
        match (self.is_empty(), is_all) {
            (true, false) => Err(Failure::Usage(
                "which devices? --group, --filter, --filter-json or --saved; for every one, --all".to_owned(),
            )),
            (false, true) => Err(Failure::Usage("--all does not go with a filter".to_owned())),
            (true, true) => Ok(everything()),
            (false, false) => self.device_filter(session).await,
        }
    }

    fn given(&self) -> Value {
        let groups: Vec<Value> = self.group.iter().map(|name| json!({ "name": name })).collect();
        json!({ "groups": groups, "filters": self.filter })
    }
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(text);
    }
    Ok(std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?)
}

/// A `device_filter` written as JSON.
pub(super) fn from_json(text: &str) -> Result<Value, Failure> {
    let filter = serde_json::from_str(text).map_err(|problem| Failure::Usage(format!("--filter-json: {problem}")))?;
    checked(filter)
}

fn checked(filter: Value) -> Result<Value, Failure> {
    let refused = |problem: String| Failure::Usage(format!("the filter: {problem}"));
    let wire: WireDeviceFilter =
        serde_json::from_value(filter.clone()).map_err(|problem| refused(problem.to_string()))?;
    DeviceFilter::try_from(wire).map_err(|problem| refused(problem.to_string()))?;
    Ok(filter)
}

/// One condition: `TYPE OPERAND VALUE`, of which the value may have blanks.
pub(super) fn condition(text: &str) -> Result<Value, String> {
    let form = "a condition is TYPE OPERAND VALUE, like: tag is London";
    let (kind, rest) = word(text).ok_or_else(|| format!("{form}; the type is missing"))?;
    let (operand, value) = word(rest).ok_or_else(|| format!("{form}; the operand is missing after {kind:?}"))?;
    if value.is_empty() {
        return Err(format!("{form}; the value is missing after {operand:?}"));
    }
    let condition = written(kind, operand, value)?;
    let wire: WireFilter = serde_json::from_value(condition.clone()).map_err(|problem| problem.to_string())?;
    Filter::try_from(wire).map_err(|refusal| refusal.to_string())?;
    Ok(condition)
}

/// The first word, and what follows the blanks behind it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (!word.is_empty()).then_some((word, rest.trim_start()))
}

/// The condition as the API writes it. An app's version follows the last `@`; a
/// deployment follows the status and a colon.
fn written(kind: &str, operand: &str, value: &str) -> Result<Value, String> {
    let plain = |value: &str| json!({ "type": kind, "operand": operand, "value": value });
    Ok(match kind {
        "app" => match value.rsplit_once('@') {
            Some((_, "")) => return Err(format!("the version is missing after {value:?}")),
            Some((app, version)) => with(plain(app), "app_version", version),
            None => plain(value),
        },
        "deployment" => match value.split_once(':') {
            Some((status, deployment)) => with(plain(status), "deployment_id", deployment),
            None => return Err(format!("{value:?} is not STATUS:DEPLOYMENT, like failed:dp-9yl3-9ch7")),
        },
        _ => plain(value),
    })
}

fn with(mut condition: Value, key: &str, value: &str) -> Value {
    condition[key] = Value::from(value);
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_type() {
        let uuid = "d-4ec7-1be9";
        let cases = [
            ("tag is London", json!({"type": "tag", "operand": "is", "value": "London"})),
            ("  tag   is_not  Lab Device ", json!({"type": "tag", "operand": "is_not", "value": "Lab Device"})),
            ("tag is site=London", json!({"type": "tag", "operand": "is", "value": "site=London"})),
            ("app is firmware", json!({"type": "app", "operand": "is", "value": "firmware"})),
            (
                "app is_not firmware@1.2",
                json!({"type": "app", "operand": "is_not", "value": "firmware", "app_version": "1.2"}),
            ),
            (
                "app is @scope/firmware@1.2",
                json!({"type": "app", "operand": "is", "value": "@scope/firmware", "app_version": "1.2"}),
            ),
            ("device_state is online", json!({"type": "device_state", "operand": "is", "value": "online"})),
            ("update_status is_not failed", json!({"type": "update_status", "operand": "is_not", "value": "failed"})),
            (
                "deployment is failed:dp-9yl3-9ch7",
                json!({"type": "deployment", "operand": "is", "value": "failed", "deployment_id": "dp-9yl3-9ch7"}),
            ),
            (
                "deployment is any:dp-9yl3-9ch7",
                json!({"type": "deployment", "operand": "is", "value": "any", "deployment_id": "dp-9yl3-9ch7"}),
            ),
            ("specific_device is d-4ec7-1be9", json!({"type": "specific_device", "operand": "is", "value": uuid})),
        ];
        for (text, expected) in cases {
            assert_eq!(condition(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_and_names_the_word() {
        let cases = [
            ("", "the type is missing"),
            ("tag", "the operand is missing after \"tag\""),
            ("tag is", "the value is missing after \"is\""),
            ("tags is London", "\"tags\" is none of"),
            ("tag equals London", "\"equals\" is neither \"is\" nor \"is_not\""),
            ("device_state is asleep", "\"asleep\" is neither"),
            ("device_state is_not online", "\"is_not\" does not go with type \"device_state\""),
            ("update_status is any", "\"any\" is none of"),
            ("update_status is Succeeded", "\"Succeeded\" is none of"),
            ("deployment is failed", "\"failed\" is not STATUS:DEPLOYMENT"),
            ("deployment is broken:dp-9yl3-9ch7", "\"broken\" is none of"),
            ("deployment is failed:nonsense", "\"nonsense\""),
            ("deployment is_not any:dp-9yl3-9ch7", "\"is_not\" does not go with"),
            ("specific_device is router", "\"router\""),
            ("app is firmware@", "the version is missing after \"firmware@\""),
            ("app is @1.2", "\"\" is empty"),
        ];
        for (text, expected) in cases {
            let problem = condition(text).unwrap_err();
            assert!(problem.contains(expected), "{text:?} gave {problem}");
        }
    }

    #[test]
    fn json_is_taken_as_it_is() {
        let text = r#"{"groups": [{"name": "Lab"}], "filters": [{"type": "tag", "operand": "is", "value": "x"}]}"#;
        assert_eq!(from_json(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        for (text, expected) in [
            ("{", "--filter-json: EOF"),
            (r#"{"group": []}"#, "unknown field `group`"),
            (r#"{"filters": [{"type": "tag", "operand": "is", "value": ""}]}"#, "filters[0].value: \"\" is empty"),
        ] {
            let problem = from_json(text).unwrap_err();
            assert!(problem.to_string().contains(expected), "{text} gave {problem}");
            assert_eq!(problem.exit_code(), 2);
        }
    }
}
