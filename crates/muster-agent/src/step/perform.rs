//! Carries out a step: checks, stages, saves, changes, verifies; and undoes all of
//! it when that fails. How far it has come is on the disk before it goes further,
//! so that a runner that takes over from a killed one knows.

use muster_core::flow::actions::BuiltIn;

use super::actions::{Work, work};
use super::context::{Context, Failure};
use super::saved::{Phase, Saved};
use super::supervise::shell;
use super::{StepEnd, StepOutcome, Task};

/// Carries out the step of `cx` to its end.
pub(super) fn perform(cx: &Context) -> StepOutcome {
    let started_at = cx.clock.now();
    let ended = match &cx.spec.task {
        Task::Run(script) => run(cx, script),
        Task::BuiltIn { action, .. } => built_in(cx, action),
        Task::Restore(steps) => restore(cx, steps),
    };
    let failure = ended.err();
    if let Some(failure) = failure.as_ref().filter(|failure| !failure.why.is_empty()) {
        cx.note(&failure.why);
    }
    let (stdout, stderr) = cx.outputs();
    let (end, exit_code, signal) =
        failure.map_or((StepEnd::Exited, Some(0), None), |failure| (failure.end, failure.exit_code, failure.signal));
    StepOutcome { end, exit_code, signal, stdout, stderr, started_at, finished_at: cx.clock.now() }
}

fn run(cx: &Context, script: &str) -> Result<(), Failure> {
    check_begin(cx)?;
    let mut command = shell(script, &cx.dir)?;
    command.envs(&cx.spec.env);
    cx.run(command)
}

fn check_begin(cx: &Context) -> Result<(), Failure> {
    match cx.check_time() {
        Err(failure) if failure.end == StepEnd::Stopped => {
            Err(Failure { why: "the step was stopped before it began".to_owned(), ..failure })
        }
        _ => Ok(()),
    }
}

fn built_in(cx: &Context, action: &BuiltIn) -> Result<(), Failure> {
    let Some(work) = work(action) else {
        return Err(Failure::because("this version of the agent cannot carry out the action"));
    };
    match cx.saved.phase()? {
        None | Some(Phase::Staging) => {}
        Some(Phase::Done) => return Ok(()),
        // Its runner was killed in the middle: put back, and from the beginning.
        Some(Phase::Changing) => undo(cx, work)?,
        Some(Phase::Undoing(failure)) => return Err(undone(cx, work, failure)),
    }
    forward(cx, work).map_err(|failure| {
        if !work.is_all_or_nothing() {
            return failure;
        }
        if let Err(error) = cx.saved.set_phase(&Phase::Undoing(failure.clone())) {
            cx.note(&format!("cannot write down how far the step came: {error}"));
        }
        undone(cx, work, failure)
    })
}

fn forward(cx: &Context, work: &dyn Work) -> Result<(), Failure> {
    check_begin(cx)?;
    cx.saved.begin(&cx.spec)?;
    let plan = work.check(cx)?;
    plan.check_space(cx.saved.path())?;
    work.stage(cx)?;
    cx.check_time()?;
    cx.saved.save(&plan.paths)?;
    cx.saved.set_phase(&Phase::Changing)?;
    work.change(cx)?;
    work.verify(cx)?;
    work.tidy(cx);
    Ok(cx.saved.set_phase(&Phase::Done)?)
}

/// The failure, once what the step changed is put back.
fn undone(cx: &Context, work: &dyn Work, failure: Failure) -> Failure {
    match undo(cx, work) {
        Ok(()) => failure,
        Err(error) => Failure {
            why: format!("{}; and what it changed could not be put back: {}", failure.why, error.why),
            ..failure
        },
    }
}

fn undo(cx: &Context, work: &dyn Work) -> Result<(), Failure> {
    cx.begin_undoing();
    work.undo(cx, &cx.saved)?;
    cx.saved.restore()?;
    work.tidy(cx);
    Ok(())
}

/// Puts back what earlier steps of the run changed.
fn restore(cx: &Context, steps: &[u32]) -> Result<(), Failure> {
    for index in steps {
        let saved = Saved::new(cx.dir.saved(*index));
        let Some(spec) = saved.spec()? else { continue };
        if let Task::BuiltIn { action, .. } = &spec.task
            && let Some(work) = work(action)
            && saved.is_changed()?
        {
            work.undo(cx, &saved)?;
            for path in saved.restore()? {
                cx.say(&format!("{} is as it was before step \"{}\"", path.display(), spec.name));
            }
        }
    }
    Ok(())
}
