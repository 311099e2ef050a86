//! The pure part of runs: plans by tables, the book by a world that crashes.

mod crashes;
mod plans;
mod reports;

use muster_core::clock::Timestamp;
use muster_core::target::{RunEvent, RunOutcome};
use muster_link::{Instruction, RunId};
use serde_json::{Value, json};

use crate::step::{StepEnd, StepOutcome};

const NOW: Timestamp = Timestamp::from_millis(1_000);

fn run_id(attempt: u32) -> RunId {
    format!("dp-1a2b-3c4d.{attempt}").parse().unwrap()
}

fn instruction(attempt: u32, steps: &Value, rollback: Option<&str>) -> Instruction {
    let flow = json!({"name": "flow", "steps": steps, "rollback": rollback});
    serde_json::from_value(json!({"run": run_id(attempt), "flow": flow})).unwrap()
}

fn step(name: &str) -> Value {
    json!({"name": name, "run": "true", "timeout_ms": 1_000})
}

fn exited(exit_code: i32) -> StepOutcome {
    StepOutcome {
        end: StepEnd::Exited,
        exit_code: Some(exit_code),
        signal: None,
        stdout: String::new(),
        stderr: String::new(),
        left_out_bytes: 0,
        started_at: NOW,
        finished_at: NOW,
    }
}

fn ended(end: StepEnd) -> StepOutcome {
    StepOutcome { end, exit_code: None, ..exited(0) }
}

fn finish(event: &RunEvent) -> Option<(RunOutcome, &str)> {
    match event {
        RunEvent::Finished { outcome, reason } => Some((*outcome, reason.code.as_str())),
        _ => None,
    }
}
