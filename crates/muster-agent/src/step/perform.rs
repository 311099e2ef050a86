//! Carries out a step: checks, stages, saves, changes, verifies; and undoes all of
//! it when that fails. How far it has come is on the disk before it goes further,
//! so that a runner that takes over from a killed one knows.

use std::process::Command;

use muster_core::flow::actions::BuiltIn;

use super::actions::{Work, work};
use super::context::{Context, Failure};
use super::orphans;
use super::saved::{Phase, Saved};
use super::supervise::shell;
use super::{StepEnd, StepOutcome, Task};

/// Carries out the step of `cx` to its end.
pub(super) fn perform(cx: &Context) -> StepOutcome {
    let started_at = cx.clock.now();
    if let Task::Command { script, user } = &cx.spec.task {
        return command(cx, script, user.as_deref());
    }
    let ended = match &cx.spec.task {
        Task::Run(script) | Task::Command { script, .. } => run(cx, script),
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
    StepOutcome { end, exit_code, signal, stdout, stderr, left_out_bytes: 0, started_at, finished_at: cx.clock.now() }
}

fn run(cx: &Context, script: &str) -> Result<(), Failure> {
    check_begin(cx)?;
    let mut command = shell(script, &cx.dir)?;
    command.envs(&cx.spec.env);
    cx.run(command)
}

/// A remote command. What ends it before it begins is told as its end.
fn command(cx: &Context, script: &str, user: Option<&str>) -> StepOutcome {
    let now = cx.clock.now();
    if let Err(failure) = check_begin(cx) {
        return StepOutcome { end: failure.end, ..StepOutcome::interrupted(&failure.why, now, now) };
    }
    let prepared = match user {
        Some(user) => as_user(user, script),
        None => shell(script, &cx.dir),
    };
    match prepared {
        Ok(command) => cx.run_followed(command),
        Err(error) => StepOutcome::interrupted(&error.to_string(), now, now),
    }
}

/// `sh` with `script`, by this program as the user whom it becomes first.
fn as_user(user: &str, script: &str) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    // Embedded in another program, the agent's commands stand behind a word of its own.
    let own = std::env::args_os().skip(1).take_while(|word| word != "step-runner");
    command.args(own).args(["become-user", user, "sh", "-c", script]).current_dir("/");
    Ok(command)
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
    let phase = cx.saved.phase()?;
    if phase.is_some() {
        orphans::end(cx.dir.path())?;
    }
    match phase {
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

#[cfg(test)]
#[cfg(feature = "ring")]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::mpsc;

    use muster_core::clock::Clock;
    use muster_core::names::StepName;
    use serde_json::json;

    use super::*;
    use crate::step::StepSpec;
    use crate::step::context::Supervisor;
    use crate::step::dir::StepDir;
    use crate::trust::Trust;

    fn context(run: &Path, index: u32, task: Task) -> Context {
        let dir = StepDir::new(run.join(format!("step-{index}")));
        fs::create_dir_all(dir.path()).unwrap();
        let name = StepName::parse("step").unwrap();
        let spec = StepSpec { index, name, task, env: BTreeMap::new(), timeout_ms: 60_000 };
        let (tx, events) = mpsc::channel();
        let trust = Trust::of_machine(Arc::new(rustls::crypto::ring::default_provider()));
        Context::new(spec, dir, Clock::system(), trust, Supervisor { tx, events })
    }

    /// The names in a folder, and what each file holds.
    fn picture(folder: &Path) -> BTreeMap<String, String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
            .collect()
    }

    /// A folder in which `a` holds "old" and `b` is missing, and the actions that make both "new".
    /// Actions that run commands are killed in the tests of the agent: here, each runner's
    /// waiting for its children would wait for another test's.
    fn scene(root: &Path) -> [BuiltIn; 2] {
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("etc/a"), "old").unwrap();
        ["a", "b"].map(|name| {
            let with = json!({"device-path": root.join("etc").join(name), "content": "new", "mode": "0600"});
            BuiltIn::read("connect/file", with.as_object().unwrap().clone()).unwrap()
        })
    }

    /// Does the first `parts` parts of a step, and is then killed.
    fn do_parts(cx: &Context, work: &dyn Work, parts: usize) {
        let mut plan = None;
        for part in 0..parts {
            match part {
                0 => cx.saved.begin(&cx.spec).unwrap(),
                1 => plan = Some(work.check(cx).unwrap()),
                2 => work.stage(cx).unwrap(),
                3 => cx.saved.save(&plan.as_ref().unwrap().paths).unwrap(),
                4 => cx.saved.set_phase(&Phase::Changing).unwrap(),
                5 => work.change(cx).unwrap(),
                6 => work.verify(cx).unwrap(),
                _ => work.tidy(cx),
            }
        }
    }

    const PARTS: usize = 8;

    fn pictures(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        files.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
    }

    #[test]
    fn a_step_that_is_killed_anywhere_ends_as_if_it_had_not_been() {
        for parts in 0..=PARTS {
            let root = tempfile::tempdir().unwrap();
            let (run, etc) = (root.path().join("run"), root.path().join("etc"));
            for (i, action) in scene(root.path()).into_iter().enumerate() {
                let index = u32::try_from(i).unwrap();
                let task = Task::BuiltIn { action: Box::new(action.clone()), artifact: None };
                let cx = context(&run, index, task.clone());
                do_parts(&cx, work(&action).unwrap(), parts);
                let outcome = perform(&context(&run, index, task));
                assert_eq!((outcome.end, outcome.exit_code), (StepEnd::Exited, Some(0)), "{parts} {outcome:?}");
            }
            assert_eq!(picture(&etc), pictures(&[("a", "new"), ("b", "new")]), "{parts}");
            let outcome = perform(&context(&run, 2, Task::Restore(vec![0, 1])));
            assert_eq!(outcome.exit_code, Some(0), "{outcome:?}");
            assert_eq!(picture(&etc), pictures(&[("a", "old")]), "{parts}");
        }
    }

    #[test]
    fn a_step_that_is_killed_while_it_undoes_still_fails_and_is_undone() {
        for parts in 4..=PARTS {
            let root = tempfile::tempdir().unwrap();
            let (run, etc) = (root.path().join("run"), root.path().join("etc"));
            for (i, action) in scene(root.path()).into_iter().enumerate() {
                let index = u32::try_from(i).unwrap();
                let task = Task::BuiltIn { action: Box::new(action.clone()), artifact: None };
                let cx = context(&run, index, task.clone());
                do_parts(&cx, work(&action).unwrap(), parts);
                cx.saved.set_phase(&Phase::Undoing(Failure::because("no luck"))).unwrap();
                for _ in 0..2 {
                    let outcome = perform(&context(&run, index, task.clone()));
                    assert_eq!((outcome.exit_code, outcome.stderr.as_str()), (Some(1), "[no luck]\n"), "{parts}");
                }
            }
            assert_eq!(picture(&etc), pictures(&[("a", "old")]), "{parts}");
        }
    }
}
