//! What a flow does on this device: which command comes next, what restores
//! after a failure, and how the run ends. Nothing here remembers anything.

use muster_core::flow::inputs::{InputValues, env_name, fill};
use muster_core::flow::{Action, Flow, Step, Trigger};
use muster_core::invalid::quoted;
use muster_core::limits::{NAME_CHARS_MAX, STEP_TIMEOUT_DEFAULT};
use muster_core::names::StepName;
use muster_core::target::Reason;
use muster_link::Instruction;

use crate::step::{StepEnd, StepSpec};

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

    /// Why a run that stopped at this step failed.
    pub fn reason(&self, step: &Step) -> Reason {
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
    for step in &flow.steps {
        if let Action::Uses { name, .. } = &step.action {
            return Err(unsupported(step, name));
        }
    }
    let values = input_values(instruction)?;
    for step in &flow.steps {
        let Action::Run(script) = &step.action else { continue };
        let templates = [Some(script), step.on_failure.run.as_ref()];
        for template in templates.into_iter().flatten() {
            fill(template, &values).map_err(|problem| {
                Reason::new("bad_flow", format!("Step {} cannot run: {problem}.", quoted(step.name.as_str())))
            })?;
        }
    }
    let rollback = flow.rollback.as_ref().map_or(Ok(String::new()), |command| fill(command, &values));
    rollback.map(drop).map_err(|problem| Reason::new("bad_flow", format!("The rollback cannot run: {problem}.")))
}

/// The flow's step number `index`, ready to run; `None` after the last.
pub fn forward(instruction: &Instruction, index: usize) -> Option<Result<StepSpec, Reason>> {
    let step = instruction.flow.steps.get(index)?;
    Some(match &step.action {
        Action::Run(script) => spec(instruction, index, step.name.clone(), script, step.timeout_ms),
        Action::Uses { name, .. } => Err(unsupported(step, name)),
    })
}

/// What restores the device after `stop`, in the order of the flow's steps and then
/// the flow's own rollback: the name and template of each command.
pub fn restoration<'a>(flow: &'a Flow, stop: &Stop) -> Vec<(StepName, &'a str)> {
    let is_set_off = |(i, step): &(usize, &Step)| {
        (*i == stop.at && stop.is_begun) || (*i < stop.at && step.on_failure.trigger == Trigger::AnyStepFailure)
    };
    let own = flow.steps.iter().enumerate().filter(is_set_off);
    let mut commands: Vec<_> = own
        .filter_map(|(_, step)| Some((suffixed(&step.name, " (on failure)"), step.on_failure.run.as_deref()?)))
        .collect();
    let is_any_begun = stop.is_begun || stop.at > 0;
    if let (Some(command), Some(name), true) = (&flow.rollback, StepName::parse("rollback").ok(), is_any_begun) {
        commands.push((name, command));
    }
    commands
}

/// The command of a restoration at place `index` of the run.
pub fn restoring(instruction: &Instruction, index: usize, name: StepName, template: &str) -> Result<StepSpec, Reason> {
    let timeout_ms = u64::try_from(STEP_TIMEOUT_DEFAULT.as_millis()).unwrap_or(u64::MAX);
    spec(instruction, index, name, template, timeout_ms)
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

fn spec(
    instruction: &Instruction,
    index: usize,
    name: StepName,
    template: &str,
    timeout_ms: u64,
) -> Result<StepSpec, Reason> {
    let values = input_values(instruction)?;
    let script = fill(template, &values).map_err(|problem| Reason::new("bad_flow", format!("{problem}.")))?;
    let env = values.into_iter().map(|(name, value)| (env_name(&name), value)).collect();
    Ok(StepSpec { index: u32::try_from(index).unwrap_or(u32::MAX), name, script, env, timeout_ms })
}

/// `name` with `suffix`, cut so that it stays a name.
fn suffixed(name: &StepName, suffix: &str) -> StepName {
    let room = NAME_CHARS_MAX - suffix.chars().count();
    let cut: String = name.as_str().chars().take(room).collect();
    StepName::parse(format!("{cut}{suffix}")).unwrap_or_else(|_| name.clone())
}
