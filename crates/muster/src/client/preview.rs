//! What a deployment would do, in words.

use serde_json::Value;

/// How many devices of a reason are named.
const NAMED_MAX: usize = 5;

/// What is asked before a deployment is made.
pub(super) fn question(preview: &Value) -> String {
    let (devices, flow) = (number(&preview["matching"]), name(&preview["flow_name"]));
    format!("Deploy {flow} to {}?", counted(devices))
}

/// The preview, for people.
pub(super) fn in_words(preview: &Value) -> String {
    let mut lines =
        vec![format!("Update flow {}, to {}:", name(&preview["flow_name"]), counted(number(&preview["matching"])))];
    lines.push(format!("  {} would begin", number(&preview["would_start"])));
    for reason in items(&preview["would_wait"]) {
        lines.extend(shared("would wait", reason));
    }
    for reason in items(&preview["would_refuse"]) {
        lines.extend(shared("would fail at once", reason));
    }
    lines.extend(rollout(&preview["rollout"]));
    let deadlines = &preview["deadlines"];
    let [pending, run] = ["pending_minutes", "run_minutes"].map(|key| minutes(number(&deadlines[key])));
    lines.push(format!("A device fails that has not begun after {pending}, or not ended {run} after it began."));
    lines.push("When it fails on a device:".to_owned());
    for restore in items(&preview["restores"]) {
        lines.push(format!("  {}: {}", text(&restore["step"]), text(&restore["text"])));
    }
    if let Some(command) = preview["rollback"].as_str() {
        lines.push(format!("  then: {}", command.trim().lines().next().unwrap_or_default()));
    }
    lines.join("\n")
}

/// Devices that share a reason, and some of their names.
fn shared(what: &str, reason: &Value) -> Vec<String> {
    let count = number(&reason["count"]);
    let named: Vec<&str> =
        items(&reason["devices"]).iter().take(NAMED_MAX).map(|device| text(&device["device_uuid"])).collect();
    let left = count.saturating_sub(named.len() as u64);
    let more = if left > 0 { format!(" and {left} more") } else { String::new() };
    vec![
        format!("  {count} {what}: {} ({})", text(&reason["reason"]), text(&reason["reason_code"])),
        format!("      {}{more}", named.join(", ")),
    ]
}

fn rollout(rollout: &Value) -> Vec<String> {
    if rollout.is_null() {
        return vec!["All of them at once.".to_owned()];
    }
    let mut lines = Vec::new();
    let waves: Vec<String> = items(&rollout["waves"]).iter().map(|wave| number(wave).to_string()).collect();
    if waves.len() > 1 {
        let soak = number(&rollout["soak_minutes"]);
        let soak = if soak > 0 { format!(", each watched for {}", minutes(soak)) } else { String::new() };
        lines.push(format!("In {} waves of {} devices{soak}.", waves.len(), waves.join(", ")));
    }
    if let Some(time) = rollout["start_time"].as_str() {
        lines.push(format!("Not before {time}."));
    }
    if let Some(max) = rollout["in_progress_max"].as_u64() {
        lines.push(format!("At most {max} at once."));
    }
    if let Some(max) = rollout["failures_max"].as_u64() {
        lines.push(format!("Pauses when more than {max} failed."));
    }
    let disruption = &rollout["disruption"];
    if !disruption.is_null() {
        let (max, key) = (number(&disruption["in_progress_max"]), text(&disruption["tag_key"]));
        lines.push(format!("At most {max} at once that share a tag {key}."));
    }
    lines
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn name(value: &Value) -> String {
    format!("{:?}", text(value))
}

fn counted(devices: u64) -> String {
    format!("{devices} {}", if devices == 1 { "device" } else { "devices" })
}

/// `90 minutes`, `2 hours`, `30 days`.
fn minutes(minutes: u64) -> String {
    let (number, unit) = match minutes {
        0 => (0, "minute"),
        minutes if minutes.is_multiple_of(1_440) => (minutes / 1_440, "day"),
        minutes if minutes.is_multiple_of(60) => (minutes / 60, "hour"),
        minutes => (minutes, "minute"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_what_would_happen() {
        let devices: Vec<Value> = (0..7).map(|n| json!({ "device_uuid": format!("d-{n}") })).collect();
        let preview = json!({
            "flow_name": "Update", "matching": 20, "would_start": 12,
            "would_wait": [{ "count": 7, "reason": "It is off.", "reason_code": "device_offline", "devices": devices }],
            "would_refuse": [{ "count": 1, "reason": "It cannot.", "reason_code": "no_agent", "devices": [{ "device_uuid": "d-9" }] }],
            "rollout": {
                "waves": [1, 2, 17], "soak_minutes": 90, "start_time": null, "in_progress_max": 5, "failures_max": 2,
                "disruption": { "tag_key": "site", "in_progress_max": 1 },
            },
            "deadlines": { "pending_minutes": 43_200, "run_minutes": 120 },
            "restores": [{ "step": "conf", "text": "/etc/x put back when this step fails" }],
            "rollback": "systemctl restart x\n",
        });
        let expected = [
            "Update flow \"Update\", to 20 devices:",
            "  12 would begin",
            "  7 would wait: It is off. (device_offline)",
            "      d-0, d-1, d-2, d-3, d-4 and 2 more",
            "  1 would fail at once: It cannot. (no_agent)",
            "      d-9",
            "In 3 waves of 1, 2, 17 devices, each watched for 90 minutes.",
            "At most 5 at once.",
            "Pauses when more than 2 failed.",
            "At most 1 at once that share a tag site.",
            "A device fails that has not begun after 30 days, or not ended 2 hours after it began.",
            "When it fails on a device:",
            "  conf: /etc/x put back when this step fails",
            "  then: systemctl restart x",
        ];
        assert_eq!(in_words(&preview).lines().collect::<Vec<_>>(), expected);
        assert_eq!(question(&preview), "Deploy \"Update\" to 20 devices?");
    }
}
