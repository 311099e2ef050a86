//! Whether a container has come up. Pure, but for the asking.

use std::time::Duration;

use muster_core::flow::actions::values::Count;
use serde_json::Value;

/// How long a container may take to become healthy, unless the flow says it.
const HEALTHY_WITHIN_SECONDS: u32 = 300;
/// How long a container without a health check must run, unless the flow says it.
const STEADY_SECONDS: u32 = 5;

/// When a container counts as up.
#[derive(Clone, Copy)]
pub(in super::super) struct Gate {
    healthy_within: Duration,
    steady: Duration,
}

/// How a container stands.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Verdict {
    Up,
    NotYet,
    /// It will not come up: why.
    Down(String),
}

impl Gate {
    pub(in super::super) fn new(healthy_within: Option<&Count>, steady: Option<&Count>) -> Self {
        let seconds =
            |given: Option<&Count>, other| Duration::from_secs(given.and_then(Count::get).unwrap_or(other).into());
        Self {
            healthy_within: seconds(healthy_within, HEALTHY_WITHIN_SECONDS),
            steady: seconds(steady, STEADY_SECONDS),
        }
    }

    /// How the container stands that was `found` `waited` after its start. A `job` may end
    /// well.
    pub(in super::super) fn judge(&self, found: &Value, waited: Duration, is_job: bool) -> Verdict {
        let state = &found["State"];
        let code = state["ExitCode"].as_i64().unwrap_or(-1);
        if found["RestartCount"].as_i64().unwrap_or(0) > 0 || state["Restarting"] == true {
            return Verdict::Down("the container ended, and was started again".to_owned());
        }
        if state["Running"] != true {
            return match (is_job && code == 0, state["Error"].as_str().filter(|error| !error.is_empty())) {
                (true, _) => Verdict::Up,
                (false, Some(error)) => Verdict::Down(format!("the container ended: {error}")),
                (false, None) => Verdict::Down(format!("the container ended with exit code {code}")),
            };
        }
        match state["Health"]["Status"].as_str() {
            Some("healthy") => Verdict::Up,
            Some("unhealthy") => Verdict::Down(format!("the container is unhealthy{}", last_answer(state))),
            Some("starting") if waited < self.healthy_within => Verdict::NotYet,
            Some("starting") => {
                let limit = self.healthy_within.as_secs();
                Verdict::Down(format!("the container did not become healthy within {limit} s{}", last_answer(state)))
            }
            _ if waited < self.steady => Verdict::NotYet,
            _ => Verdict::Up,
        }
    }
}

/// What the health check said last.
fn last_answer(state: &Value) -> String {
    let answers = state["Health"]["Log"].as_array();
    let last = answers.and_then(|answers| answers.last()).and_then(|answer| answer["Output"].as_str());
    let said: String = last.unwrap_or_default().trim().chars().take(200).collect();
    if said.is_empty() { said } else { format!(": {said}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_is_judged_by_its_state() {
        let gate = Gate { healthy_within: Duration::from_secs(60), steady: Duration::from_secs(5) };
        let judge = |state: Value, restarts: i64, s: u64, is_job| {
            gate.judge(&json!({"State": state, "RestartCount": restarts}), Duration::from_secs(s), is_job)
        };
        let health = |status: &str| json!({"Running": true, "Health": {"Status": status, "Log": [{"Output": "no\n"}]}});
        let down = |why: &str| Verdict::Down(why.to_owned());
        assert_eq!(judge(json!({"Running": true}), 0, 4, false), Verdict::NotYet);
        assert_eq!(judge(json!({"Running": true}), 0, 5, false), Verdict::Up);
        assert_eq!(judge(json!({"Running": true}), 1, 9, false), down("the container ended, and was started again"));
        assert_eq!(
            judge(json!({"Running": false, "ExitCode": 3}), 0, 0, false),
            down("the container ended with exit code 3")
        );
        assert_eq!(
            judge(json!({"Running": false, "ExitCode": 0}), 0, 0, false),
            down("the container ended with exit code 0")
        );
        assert_eq!(judge(json!({"Running": false, "ExitCode": 0}), 0, 0, true), Verdict::Up);
        assert_eq!(judge(health("starting"), 0, 59, false), Verdict::NotYet);
        assert_eq!(
            judge(health("starting"), 0, 60, false),
            down("the container did not become healthy within 60 s: no")
        );
        assert_eq!(judge(health("unhealthy"), 0, 1, false), down("the container is unhealthy: no"));
        assert_eq!(judge(health("healthy"), 0, 0, false), Verdict::Up);
        assert_eq!(judge(json!({"Running": true, "Health": {"Status": "none"}}), 0, 5, false), Verdict::Up);
    }
}
