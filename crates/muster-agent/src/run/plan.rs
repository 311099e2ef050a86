//! What a flow does on this device: which command comes next, what restores
//! after a failure, and how the run ends. Nothing here remembers anything.

use muster_core::flow::actions::BuiltIn;
use muster_core::flow::inputs::{InputValues, env_name, fill};
use muster_core::flow::{Action, Flow, Step, Trigger};
use muster_core::invalid::quoted;
use muster_core::limits::{NAME_CHARS_MAX, STEP_TIMEOUT_DEFAULT};
use muster_core::names::StepName;
use muster_core::target::Reason;
use muster_link::Instruction;

use crate::step::{StepEnd, StepSpec, Task, is_supported};

/// The longest part of a step's own words that a reason repeats.
const SAID_CHARS_MAX: usize = 300;

/// What is remembered of a step that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepDone {
    /// How it ended.
    pub end: StepEnd,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl StepDone {
    /// Whether the step did what it should.
    pub fn is_success(&self) -> bool {
        self.end == StepEnd::Exited && self.exit_code == Some(0)
    }

    /// Why a run that stopped at this step failed. `stderr` is what the step said.
    pub fn reason(&self, step: &Step, stderr: &str) -> Reason {
        let name = quoted(step.name.as_str());
        match (self.end, self.exit_code, self.signal) {
            (StepEnd::TimedOut, ..) => {
                let limit = step.timeout_ms / 1_000;
                Reason::new("step_timed_out", format!("Step {name} did not end within its limit of {limit} s."))
            }
            // Stopped without an abort: the device was shutting down.
            (StepEnd::Interrupted | StepEnd::Stopped, ..) => {
                Reason::new("step_interrupted", format!("Step {name} was interrupted; what it did is not known."))
            }
            (StepEnd::Exited, Some(_), _) if matches!(&step.action, Action::Uses { name, .. } if name != "connect/script") =>
            {
                let said = stderr.lines().rev().map(|line| line.trim_matches(['[', ']'])).find(|line| !line.is_empty());
                let said: String = said.unwrap_or("it does not say why").chars().take(SAID_CHARS_MAX).collect();
                Reason::new("step_failed", format!("Step {name} failed: {said}."))
            }
            (StepEnd::Exited, Some(code), _) => {
                Reason::new("step_failed", format!("Step {name} ended with exit code {code}."))
            }
            (StepEnd::Exited, None, signal) => {
                let signal = signal.map_or_else(String::new, |signal| format!(" {signal}"));
                Reason::new("step_failed", format!("Step {name} was ended by signal{signal}."))
            }
        }
    }
}

/// Where and why a run left its flow's steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The step at which it left; the number of steps when all were done.
    pub at: usize,
    /// Whether that step had begun.
    pub is_begun: bool,
    /// Why, for the server.
    pub reason: Reason,
    /// Whether the server asked for it.
    pub is_abort: bool,
}

/// Checks all of a flow before any of it runs: a flow that cannot end well should
/// not begin.
pub fn check(instruction: &Instruction) -> Result<(), Reason> {
    let flow = &instruction.flow;
    let values = input_values(instruction)?;
    for (index, step) in flow.steps.iter().enumerate() {
        let bad = |problem: String| {
            Reason::new("bad_flow", format!("Step {} cannot run: {problem}.", quoted(step.name.as_str())))
        };
        task(instruction, index, step, &values)?;
        let undo = step.on_failure.run.as_ref().map_or(Ok(String::new()), |command| fill(command, &values));
        undo.map_err(bad)?;
    }
    let rollback = flow.rollback.as_ref().map_or(Ok(String::new()), |command| fill(command, &values));
    rollback.map(drop).map_err(|problem| Reason::new("bad_flow", format!("The rollback cannot run: {problem}.")))
}

/// What a step is to do, with its inputs filled in.
fn task(instruction: &Instruction, index: usize, step: &Step, values: &InputValues) -> Result<Task, Reason> {
    let name = quoted(step.name.as_str());
    let bad = |problem: String| Reason::new("bad_flow", format!("Step {name} cannot run: {problem}."));
    let (uses, with) = match &step.action {
        Action::Run(script) => return fill(script, values).map(Task::Run).map_err(bad),
        Action::Uses { name, with } => (name, with),
    };
    if !muster_core::flow::actions::USES.contains(&uses.as_str()) {
        return Err(unsupported(step, uses));
    }
    let action = BuiltIn::filled(uses, with, values).map_err(|refusal| bad(refusal.to_string()))?;
    if !is_supported(&action) {
        return Err(unsupported(step, uses));
    }
    let artifact = instruction.artifact(index).cloned();
    if let (Some(path), None) = (action.artifact(), &artifact) {
        let text = format!(
            "Step {name} needs {} of a registry, and the server did not say where it is: \
             the account has no registry of that name, or it no such thing.",
            quoted(path)
        );
        return Err(Reason::new("artifact_missing", text));
    }
    Ok(Task::BuiltIn { action: Box::new(action), artifact: artifact.map(Box::new) })
}

/// The flow's step number `index`, ready to run; `None` after the last.
pub fn forward(instruction: &Instruction, index: usize) -> Option<Result<StepSpec, Reason>> {
    let step = instruction.flow.steps.get(index)?;
    Some(input_values(instruction).and_then(|values| {
        let task = task(instruction, index, step, &values)?;
        Ok(spec(index, step.name.clone(), task, values, step.timeout_ms))
    }))
}

/// A step of a restoration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo<'a> {
    /// Puts back what these steps changed, in this order.
    Restore(Vec<u32>),
    /// Runs a command, before its inputs are filled in.
    Run(&'a str),
}

/// What restores the device after `stop`, in the order of the flow's steps and then
/// the flow's own rollback: the name of each step, and what it does.
pub fn restoration<'a>(flow: &'a Flow, stop: &Stop) -> Vec<(StepName, Undo<'a>)> {
    let is_set_off = |(i, step): &(usize, &Step)| {
        (*i == stop.at && stop.is_begun) || (*i < stop.at && step.on_failure.trigger == Trigger::AnyStepFailure)
    };
    let (mut found, mut restored) = (Vec::new(), Vec::new());
    for (i, step) in flow.steps.iter().enumerate().filter(is_set_off) {
        if step.is_revertible() {
            // The first of two steps that changed the same knows how it was before, so
            // it has the last word.
            restored.insert(0, u32::try_from(i).unwrap_or(u32::MAX));
            found.push((suffixed(&step.name, " (revert)"), Undo::Restore(restored.clone())));
        }
        if let Some(command) = &step.on_failure.run {
            found.push((suffixed(&step.name, " (on failure)"), Undo::Run(command)));
        }
    }
    let is_any_begun = stop.is_begun || stop.at > 0;
    if let (Some(command), Some(name), true) = (&flow.rollback, StepName::parse("rollback").ok(), is_any_begun) {
        found.push((name, Undo::Run(command)));
    }
    found
}

/// The step of a restoration at place `index` of the run.
pub fn restoring(instruction: &Instruction, index: usize, name: StepName, undo: &Undo<'_>) -> Result<StepSpec, Reason> {
    let timeout_ms = u64::try_from(STEP_TIMEOUT_DEFAULT.as_millis()).unwrap_or(u64::MAX);
    let values = input_values(instruction)?;
    let task = match undo {
        Undo::Restore(steps) => Task::Restore(steps.clone()),
        Undo::Run(command) => {
            Task::Run(fill(command, &values).map_err(|problem| Reason::new("bad_flow", format!("{problem}.")))?)
        }
    };
    Ok(spec(index, name, task, values, timeout_ms))
}

/// The reason of a run that the server aborted.
pub fn aborted() -> Reason {
    Reason::new("aborted", "The deployment was aborted.")
}

/// The reason of a run whose instruction cannot be read.
pub fn unreadable(problem: &str) -> Reason {
    Reason::new("bad_flow", format!("This version of the agent cannot read the flow: {problem}."))
}

fn unsupported(step: &Step, uses: &str) -> Reason {
    let (step, uses) = (quoted(step.name.as_str()), quoted(uses));
    Reason::new(
        "unsupported_step",
        format!("Step {step} uses {uses}, which this version of the agent cannot carry out."),
    )
}

fn input_values(instruction: &Instruction) -> Result<InputValues, Reason> {
    let values = instruction.flow.input_values(&instruction.inputs);
    values.map_err(|problem| Reason::new("bad_flow", format!("The flow's inputs do not fit: {problem}.")))
}

fn spec(index: usize, name: StepName, task: Task, values: InputValues, timeout_ms: u64) -> StepSpec {
    let env = values.into_iter().map(|(name, value)| (env_name(&name), value)).collect();
    StepSpec { index: u32::try_from(index).unwrap_or(u32::MAX), name, task, env, timeout_ms }
}

/// `name` with `suffix`, cut so that it stays a name.
fn suffixed(name: &StepName, suffix: &str) -> StepName {
    let room = NAME_CHARS_MAX - suffix.chars().count();
    let cut: String = name.as_str().chars().take(room).collect();
    StepName::parse(format!("{cut}{suffix}")).unwrap_or_else(|_| name.clone())
}
