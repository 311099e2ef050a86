//! How a deployment ended: what failed, for which reasons, and what its steps said.

use serde_json::{Value, json};

use super::failure::Failure;
use super::pages::Pages;
use super::progress::Seen;
use super::session::Session;

/// How many of the devices that did not succeed are shown with their output.
const SHOWN_MAX: u64 = 10;
/// How many lines of a failed step's output are shown, the last ones.
const LINES_MAX: usize = 20;

/// The first devices that did not succeed, each with its reason and its failed steps.
pub(super) async fn failed(session: &Session, deployment: &str, seen: &Seen) -> Result<Vec<Value>, Failure> {
    let fleet = session.fleet()?;
    let mut shown: Vec<Value> = Vec::new();
    for status in ["Failed", "Aborted"] {
        let left = SHOWN_MAX.saturating_sub(shown.len() as u64);
        if left == 0 || seen.counts.of(status) == 0 {
            continue;
        }
        let call = session.http.get(&[fleet, "deployments", deployment, "devices"])?.query("status", status);
        for target in Pages::new(call, "deployment_by_device_uuid", Some(left)).all().await? {
            let device = target["device_uuid"].as_str().unwrap_or_default();
            let call = session.http.get(&[fleet, "deployments", deployment, "devices", device])?;
            shown.push(told(device, &call.query("enrich_info", "true").value().await?));
        }
    }
    Ok(shown)
}

fn told(device: &str, target: &Value) -> Value {
    let steps: Vec<&Value> = target["steps"].as_array().into_iter().flatten().filter(|step| has_failed(step)).collect();
    json!({
        "device_uuid": device, "status": target["status"], "reason_code": target["reason_code"],
        "reason": target["reason"], "failed_steps": steps,
    })
}

fn has_failed(step: &Value) -> bool {
    step["exit_code"].as_i64() != Some(0)
}

/// The last event of a deployment that was followed.
pub(super) fn event(deployment: &str, seen: &Seen, failed: &[Value]) -> Value {
    let counts = seen.counts;
    let result = match (seen.is_over(), counts.succeeded() == counts.total()) {
        (false, _) => "paused",
        (true, true) => "succeeded",
        (true, false) => "failed",
    };
    json!({
        "event": "ended", "deployment_uuid": deployment, "result": result, "devices": seen.devices,
        "rollout": seen.rollout, "failed": failed,
    })
}

/// The same for people: the reasons, then devices with what their failed steps said.
pub(super) fn in_words(seen: &Seen, failed: &[Value]) -> String {
    let mut lines = Vec::new();
    let reasons: Vec<String> = seen.devices["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|reason| format!("  {} {}", reason["count"], word(&reason["reason_code"])))
        .collect();
    if !reasons.is_empty() {
        lines.push("Not succeeded:".to_owned());
        lines.extend(reasons);
    }
    for target in failed {
        lines.push(format!(
            "{}  {}: {}",
            word(&target["device_uuid"]),
            word(&target["status"]),
            word(&target["reason"])
        ));
        for step in target["failed_steps"].as_array().into_iter().flatten() {
            lines.extend(said(step));
        }
    }
    let unseen = (seen.counts.of("Failed") + seen.counts.of("Aborted")).saturating_sub(failed.len() as u64);
    if unseen > 0 {
        lines.push(format!("… and {unseen} more"));
    }
    lines.join("\n")
}

/// A failed step: its name, its exit code, the last of what it said.
fn said(step: &Value) -> Vec<String> {
    let exit = step["exit_code"].as_i64().map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
    let mut lines = vec![format!("    step {}, {exit}", word(&step["name"]))];
    let stream =
        ["stderr", "stdout"].map(|stream| word(&step[stream])).into_iter().find(|text| !text.trim().is_empty());
    let text: Vec<&str> = stream.unwrap_or_default().trim_end().lines().collect();
    let left_out = text.len().saturating_sub(LINES_MAX);
    if left_out > 0 {
        lines.push(format!("      … {left_out} lines before"));
    }
    lines.extend(text[left_out..].iter().map(|line| format!("      {line}")));
    lines
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_failed_steps_said_last() {
        let long: Vec<String> = (1..=30).map(|n| format!("line {n}")).collect();
        let steps = json!([
            { "name": "one", "exit_code": 0, "stdout": "fine", "stderr": "" },
            { "name": "two", "exit_code": 7, "stdout": "not this", "stderr": long.join("\n") },
            { "name": "three", "exit_code": null, "stdout": "out", "stderr": "\n" },
        ]);
        let target = json!({ "status": "Failed", "reason_code": "step_failed", "reason": "It broke.", "steps": steps });
        let seen = Seen::of(&json!({
            "devices": {
                "total": 13, "pending": 0, "in_progress": 0, "succeeded": 1, "failed": 12, "aborted": 0,
                "reasons": [{ "status": "Failed", "reason_code": "step_failed", "count": 12 }],
            },
        }));
        let words = in_words(&seen, &[told("d-1", &target)]);
        let lines: Vec<&str> = words.lines().collect();
        let head = ["Not succeeded:", "  12 step_failed", "d-1  Failed: It broke.", "    step two, exit code 7"];
        assert_eq!(lines[..4], head);
        assert_eq!((lines[4], lines[5], lines[24]), ("      … 10 lines before", "      line 11", "      line 30"));
        assert_eq!(lines[25..], ["    step three, no exit code", "      out", "… and 11 more"]);
    }
}
