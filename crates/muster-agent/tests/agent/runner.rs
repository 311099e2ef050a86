//! Step runners: real processes, without an agent.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::{Command, Stdio};

use muster_agent::step::dir::StepDir;
use muster_agent::step::{StepEnd, StepOutcome, StepSpec, Task};
use muster_core::limits::STEP_OUTPUT_BYTES_MAX;
use muster_core::names::StepName;
use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use crate::device::{AGENT, pid, until_exists};

fn spec(script: &str, timeout_ms: u64) -> StepSpec {
    let name = StepName::parse("step").unwrap();
    StepSpec { index: 0, name, task: Task::Run(script.to_owned()), env: BTreeMap::new(), timeout_ms }
}

fn fresh() -> (TempDir, StepDir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = StepDir::new(temp.path().join("step-0"));
    (temp, dir)
}

fn launch(dir: &StepDir, spec: &StepSpec) -> std::process::Child {
    let runner: [OsString; 2] = [AGENT.into(), "step-runner".into()];
    dir.prepare(spec).unwrap().launch(&runner).unwrap()
}

fn outcome(script: &str, timeout_ms: u64) -> StepOutcome {
    let (_temp, dir) = fresh();
    let mut runner = launch(&dir, &spec(script, timeout_ms));
    let outcome = dir.wait().unwrap().unwrap();
    assert!(runner.wait().unwrap().success());
    outcome
}

#[test]
fn keeps_the_exit_code_and_both_streams() {
    let outcome = outcome("echo out; echo err >&2; exit 7", 60_000);
    assert_eq!((outcome.end, outcome.exit_code, outcome.signal), (StepEnd::Exited, Some(7), None));
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    assert!(outcome.finished_at >= outcome.started_at);
}

#[test]
fn a_step_has_no_input_and_no_blocked_signals() {
    let outcome = outcome("cat; grep SigBlk /proc/self/status", 60_000);
    assert_eq!(outcome.stdout, "SigBlk:\t0000000000000000\n");
}

#[test]
fn bounds_the_output() {
    let outcome = outcome("echo first; head -c 10000000 /dev/zero | tr '\\0' x; echo; echo last", 60_000);
    assert!(outcome.stdout.len() <= STEP_OUTPUT_BYTES_MAX);
    assert!(outcome.stdout.starts_with("first\n") && outcome.stdout.ends_with("\nlast\n"));
    assert!(outcome.stdout.contains("bytes were left out here"));
}

#[test]
fn ends_the_whole_group_when_the_time_is_over() {
    let outcome =
        outcome("trap 'echo asked' TERM; (trap '' TERM; sleep 1000) & echo $!; while :; do sleep 0.01; done", 300);
    assert_eq!((outcome.end, outcome.exit_code), (StepEnd::TimedOut, None));
    assert!(outcome.stdout.contains("asked") && outcome.stderr.contains("time limit of 0.3 s"), "{outcome:?}");
    let child: u32 = outcome.stdout.lines().next().unwrap().parse().unwrap();
    assert!(is_gone(child));
}

/// Whether the process is gone, or a zombie that nobody waited for.
fn is_gone(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with('Z'))
}

#[test]
fn does_not_wait_for_what_a_step_leaves_behind() {
    let outcome = outcome("sleep 1000 & echo $!", 60_000);
    assert_eq!((outcome.end, outcome.exit_code), (StepEnd::Exited, Some(0)));
    let left: u32 = outcome.stdout.trim().parse().unwrap();
    assert!(!is_gone(left), "a daemon that a step started goes on");
    kill(pid(left), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn stops_when_it_is_asked_to_by_file_or_by_signal() {
    for is_by_file in [true, false] {
        let (temp, dir) = fresh();
        let begun = temp.path().join("begun");
        let mut runner = launch(&dir, &spec(&format!("touch {}; sleep 1000", begun.display()), 60_000));
        until_exists(&begun).await;
        if is_by_file {
            dir.request_stop().unwrap();
        } else {
            kill(pid(runner.id()), Signal::SIGTERM).unwrap();
        }
        let outcome = dir.wait().unwrap().unwrap();
        assert_eq!((outcome.end, outcome.exit_code), (StepEnd::Stopped, None));
        assert!(runner.wait().unwrap().success());
    }
}

#[test]
fn a_step_that_was_stopped_before_it_began_does_not_begin() {
    let (temp, dir) = fresh();
    let prepared = dir.prepare(&spec(&format!("touch {}", temp.path().join("ran").display()), 60_000)).unwrap();
    dir.request_stop().unwrap();
    let mut runner = prepared.launch(&[AGENT.into(), "step-runner".into()]).unwrap();
    assert_eq!(dir.wait().unwrap().unwrap().end, StepEnd::Stopped);
    runner.wait().unwrap();
    assert!(!temp.path().join("ran").exists());
}

#[test]
fn nobody_but_the_agent_starts_a_runner() {
    let (temp, dir) = fresh();
    let prepared = dir.prepare(&spec(&format!("touch {}", temp.path().join("ran").display()), 60_000)).unwrap();
    let mut by_hand = Command::new(AGENT);
    by_hand.arg("step-runner").arg("--dir").arg(dir.path()).stderr(Stdio::null());
    assert!(!by_hand.stdin(Stdio::null()).status().unwrap().success());
    drop(prepared);
    let unlocked = std::fs::File::open(dir.lock_file()).unwrap();
    assert!(!by_hand.stdin(Stdio::from(unlocked)).status().unwrap().success());
    assert!(!temp.path().join("ran").exists());
    assert_eq!(dir.wait().unwrap(), None, "nothing runs, and nothing was left");
}

#[test]
fn runs_a_script_that_no_argument_could_hold() {
    let script = format!("echo begin\n# {}\necho end", "x".repeat(300_000));
    assert_eq!(outcome(&script, 60_000).stdout, "begin\nend\n");
}

#[test]
fn a_command_that_cannot_start_says_so() {
    let outcome = outcome("echo a\0b", 60_000);
    assert_eq!((outcome.end, outcome.exit_code), (StepEnd::Interrupted, None));
    assert!(outcome.stderr.contains("could not be started"), "{}", outcome.stderr);
}
