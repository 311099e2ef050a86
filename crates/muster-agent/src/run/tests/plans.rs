//! Which commands a flow runs, for every way in which it can go.

use muster_core::target::RunOutcome::{Aborted, Failed, Succeeded};
use muster_core::target::{Reason, RunOutcome};

use super::*;
use crate::run::entry::Entry;
use crate::run::machine::{Next, Origin, Run};
use crate::run::plan;

/// What happens to a step while it runs.
#[derive(Clone, Copy)]
enum Fate {
    Ok,
    Fails,
    Ends(StepEnd),
    /// The abort comes while it runs, and stops it.
    Aborted,
    /// The abort comes while it runs, and too late: it succeeds.
    AbortedLate,
    /// The abort comes before it starts.
    AbortedBefore,
}

/// Names of what ran, and the end, of a run whose steps meet `fates` in turn, and
/// succeed after those.
fn play(instruction: Instruction, fates: &[Fate]) -> (Vec<String>, RunOutcome, Reason) {
    let mut run = Run::new(Origin::Instruction(Box::new(instruction)));
    let (mut names, mut fates) = (Vec::new(), fates.iter().copied());
    loop {
        match run.next() {
            Next::Accept => run.apply(&Entry::Accepted { at: NOW }),
            Next::Finish { outcome, reason } => return (names, outcome, reason),
            Next::Step(spec) => {
                let fate = fates.next().unwrap_or(Fate::Ok);
                if matches!(fate, Fate::AbortedBefore) {
                    run.apply(&Entry::AbortRequested { at: NOW });
                    continue;
                }
                names.push(spec.name.to_string());
                run.apply(&Entry::StepStarted { index: spec.index, at: NOW });
                let outcome = meet(&mut run, fate);
                let (end, signal) = (outcome.end, outcome.signal);
                let result = outcome.into_result(spec.index, spec.name);
                run.apply(&Entry::StepFinished { end, signal, result });
            }
            other => panic!("{other:?}"),
        }
    }
}

fn meet(run: &mut Run, fate: Fate) -> StepOutcome {
    if matches!(fate, Fate::Aborted | Fate::AbortedLate) {
        run.apply(&Entry::AbortRequested { at: NOW });
    }
    match fate {
        Fate::Ok | Fate::AbortedLate | Fate::AbortedBefore => exited(0),
        Fate::Fails => exited(1),
        Fate::Ends(end) => ended(end),
        Fate::Aborted => ended(StepEnd::Stopped),
    }
}

/// Three steps: `a` is put back by any failure, `b` by its own, `c` has no way back.
fn flow() -> Instruction {
    let mut steps = [step("a"), step("b"), step("c")];
    steps[0]["on_failure"] = json!({"run": "true", "trigger": "any-step-failure"});
    steps[1]["on_failure"] = json!({"run": "true"});
    instruction(1, &json!(steps), Some("true"))
}

#[test]
fn each_way_that_a_flow_can_go() {
    const UNDO_A: &str = "a (on failure)";
    const UNDO_B: &str = "b (on failure)";
    let cases: &[(&[Fate], &[&str], RunOutcome, &str)] = &[
        (&[], &["a", "b", "c"], Succeeded, ""),
        (&[Fate::Fails], &["a", UNDO_A, "rollback"], Failed, "step_failed"),
        (&[Fate::Ok, Fate::Fails], &["a", "b", UNDO_A, UNDO_B, "rollback"], Failed, "step_failed"),
        (&[Fate::Ok, Fate::Ok, Fate::Fails], &["a", "b", "c", UNDO_A, "rollback"], Failed, "step_failed"),
        (&[Fate::Ends(StepEnd::TimedOut)], &["a", UNDO_A, "rollback"], Failed, "step_timed_out"),
        (&[Fate::Ends(StepEnd::Interrupted)], &["a", UNDO_A, "rollback"], Failed, "step_interrupted"),
        (&[Fate::Ends(StepEnd::Stopped)], &["a", UNDO_A, "rollback"], Failed, "step_interrupted"),
        (&[Fate::Fails, Fate::Fails, Fate::Fails], &["a", UNDO_A, "rollback"], Failed, "step_failed"),
        (&[Fate::Ok, Fate::Aborted], &["a", "b", UNDO_A, UNDO_B, "rollback"], Aborted, "aborted"),
        (&[Fate::Ok, Fate::Ok, Fate::AbortedLate], &["a", "b", "c", UNDO_A, "rollback"], Aborted, "aborted"),
        (&[Fate::AbortedBefore], &[], Aborted, "aborted"),
        (&[Fate::Ok, Fate::AbortedBefore], &["a", UNDO_A, "rollback"], Aborted, "aborted"),
        // An abort that comes while a failure is being put right changes nothing.
        (&[Fate::Fails, Fate::Aborted], &["a", UNDO_A, "rollback"], Failed, "step_failed"),
        (&[Fate::Fails, Fate::Ok, Fate::AbortedBefore], &["a", UNDO_A, "rollback"], Failed, "step_failed"),
    ];
    for (i, (fates, names, outcome, code)) in cases.iter().enumerate() {
        let (ran, ended, reason) = play(flow(), fates);
        assert_eq!(ran, *names, "{i}");
        assert_eq!((ended, reason.code.as_str()), (*outcome, *code), "{i}");
    }
}

#[test]
fn an_ignored_failure_lets_the_flow_go_on() {
    let mut steps = [step("a"), step("b")];
    steps[0]["on_failure"] = json!({"is_ignored": true});
    for fate in [Fate::Fails, Fate::Ends(StepEnd::TimedOut)] {
        let (ran, outcome, _) = play(instruction(1, &json!(steps), None), &[fate]);
        assert_eq!((ran.len(), outcome), (2, Succeeded));
    }
}

#[test]
fn a_reason_names_the_step_and_what_befell_it() {
    let (_, _, reason) = play(flow(), &[Fate::Ok, Fate::Fails]);
    assert_eq!(reason.text, "Step \"b\" ended with exit code 1.");
    let (_, _, reason) = play(flow(), &[Fate::Ends(StepEnd::TimedOut)]);
    assert_eq!(reason.text, "Step \"a\" did not end within its limit of 1 s.");
}

#[test]
fn a_flow_is_checked_before_it_begins() {
    let uses = json!({"name": "b", "uses": {"name": "connect/docker", "with": {"registry": "r", "image-path": "p", "image-tag": "t"}}, "timeout_ms": 1});
    let later = json!({"name": "b", "uses": {"name": "connect/later", "with": {}}, "timeout_ms": 1});
    let mut broken_undo = step("b");
    broken_undo["on_failure"] = json!({"run": "${{ inputs.x }}"});
    let cases = [
        (instruction(1, &json!([step("a"), uses]), None), "artifact_missing"),
        (instruction(1, &json!([step("a"), later]), None), "unsupported_step"),
        (instruction(1, &json!([step("a"), broken_undo]), None), "bad_flow"),
        (instruction(1, &json!([step("a")]), Some("${{ inputs.x }}")), "bad_flow"),
    ];
    for (instruction, code) in cases {
        let (ran, outcome, reason) = play(instruction, &[]);
        assert_eq!((ran.len(), outcome, reason.code.as_str()), (0, Failed, code));
    }
    let mut stray = instruction(1, &json!([step("a")]), None);
    stray.inputs.insert("x".to_owned(), "1".to_owned());
    assert_eq!(plan::check(&stray).unwrap_err().code, "bad_flow");
}

fn file(name: &str, trigger: &str) -> Value {
    let with = json!({"device-path": "/etc/x", "content": "${{ inputs.missing }}"});
    let on_failure = json!({"is_revert_all_files": true, "trigger": trigger, "run": "true"});
    json!({"name": name, "uses": {"name": "connect/file", "with": with}, "timeout_ms": 1, "on_failure": on_failure})
}

#[test]
fn files_are_put_back_before_a_step_s_own_command_and_the_first_saving_has_the_last_word() {
    let mut steps =
        [file("a", "any-step-failure"), file("b", "this-step-failure"), file("c", "any-step-failure"), step("d")];
    for step in &mut steps[..3] {
        step["uses"]["with"]["content"] = json!("x");
    }
    let instruction = instruction(1, &json!(steps), None);
    let stop = plan::Stop { at: 3, is_begun: true, reason: Reason::default(), is_abort: false };
    let found = plan::restoration(&instruction.flow, &stop);
    let expected = [
        ("a (revert)", plan::Undo::Restore(vec![0])),
        ("a (on failure)", plan::Undo::Run("true")),
        ("c (revert)", plan::Undo::Restore(vec![2, 0])),
        ("c (on failure)", plan::Undo::Run("true")),
    ];
    let found: Vec<_> = found.iter().map(|(name, undo)| (name.as_str(), undo.clone())).collect();
    assert_eq!(found, expected);
}

#[test]
fn an_action_is_checked_before_anything_runs() {
    let (ran, outcome, reason) = play(instruction(1, &json!([step("a"), file("b", "any-step-failure")]), None), &[]);
    assert_eq!((ran.len(), outcome, reason.code.as_str()), (0, Failed, "bad_flow"));
    let with = json!({"registry": "r", "artifactory-path": "p/q", "device-path": "/tmp"});
    let fetches = json!({"name": "b", "uses": {"name": "connect/download-artifact", "with": with}, "timeout_ms": 1});
    let (ran, outcome, reason) = play(instruction(1, &json!([step("a"), fetches]), None), &[]);
    assert_eq!((ran.len(), outcome, reason.code.as_str()), (0, Failed, "artifact_missing"));
}

#[test]
fn a_step_that_may_be_repeated_is_started_again_but_not_for_ever() {
    let mut only = file("a", "this-step-failure");
    only["uses"]["with"]["content"] = json!("x");
    let mut run = Run::new(Origin::Instruction(Box::new(instruction(1, &json!([only, step("b")]), None))));
    run.apply(&Entry::Accepted { at: NOW });
    run.apply(&Entry::StepStarted { index: 0, at: NOW });
    for _ in 1..crate::run::machine::STARTS_MAX {
        assert!(run.to_start_again().is_some());
        run.apply(&Entry::StepStartedAgain { index: 0, at: NOW });
    }
    assert!(run.to_start_again().is_none());
    let mut run = Run::new(Origin::Instruction(Box::new(flow())));
    run.apply(&Entry::Accepted { at: NOW });
    run.apply(&Entry::StepStarted { index: 0, at: NOW });
    assert!(run.to_start_again().is_none(), "a command is never run twice");
}

#[test]
fn a_long_name_stays_a_name() {
    let name = "n".repeat(255);
    let mut only = step(&name);
    only["on_failure"] = json!({"run": "true"});
    let (ran, ..) = play(instruction(1, &json!([only]), None), &[Fate::Fails]);
    assert!(ran[1].ends_with("n (on failure)") && ran[1].len() == 255);
}
