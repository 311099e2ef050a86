//! One run: the sum of its journal's entries.

use muster_core::clock::Timestamp;
use muster_core::names::StepName;
use muster_core::target::{Reason, RunOutcome};
use muster_link::Instruction;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::plan::{self, StepDone, Stop};
use crate::step::StepSpec;

/// How many times a step is started whose runner is killed every time: what kills it
/// may be the step.
pub const STARTS_MAX: u32 = 10;

/// Why the device knows of a run: `instruction.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The server asked for it.
    Instruction(Box<Instruction>),
    /// The server asked for its abort before it asked for it. Kept, so that an
    /// instruction that comes late is not carried out.
    Aborted,
    /// The server asked for it in a way that this version cannot read; the problem.
    Unreadable(String),
}

/// A run as its journal tells it. Holds no outputs, and after its end no flow.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// `None` when there is nothing to run, or no longer.
    instruction: Option<Instruction>,
    /// How a run ends that has nothing to run.
    refusal: (RunOutcome, Reason),
    is_accepted: bool,
    done: Vec<StepDone>,
    running: Option<(u32, Timestamp)>,
    /// How many times the running step was started.
    starts: u32,
    is_abort_requested: bool,
    stop: Option<Stop>,
    outcome: Option<RunOutcome>,
    is_reboot_started: bool,
    reports: i64,
    acked: i64,
}

/// What a run does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Begin.
    Accept,
    /// Start this step.
    Step(Box<StepSpec>),
    /// Wait for the step that is running.
    Wait,
    /// End.
    Finish {
        /// How it ended.
        outcome: RunOutcome,
        /// Why, when it did not succeed.
        reason: Reason,
    },
    /// Over, but for the reboot that follows when the server has every report.
    AwaitAck,
    /// Reboot the device.
    Reboot,
    /// Nothing, ever.
    Over,
}

impl Run {
    /// A run of which nothing has been journalled yet.
    pub fn new(origin: Origin) -> Self {
        let (instruction, refusal) = match origin {
            Origin::Instruction(instruction) => (Some(*instruction), (RunOutcome::Aborted, plan::aborted())),
            Origin::Aborted => (None, (RunOutcome::Aborted, plan::aborted())),
            Origin::Unreadable(problem) => (None, (RunOutcome::Failed, plan::unreadable(&problem))),
        };
        Self {
            instruction,
            refusal,
            is_accepted: false,
            done: Vec::new(),
            running: None,
            starts: 0,
            is_abort_requested: false,
            stop: None,
            outcome: None,
            is_reboot_started: false,
            reports: 0,
            acked: 0,
        }
    }

    /// The run after a journal's entry.
    pub fn apply(&mut self, entry: &Entry) {
        self.reports += i64::from(entry.is_reported());
        match entry {
            Entry::Accepted { .. } => self.is_accepted = true,
            Entry::StepStarted { index, at } => (self.running, self.starts) = (Some((*index, *at)), 1),
            Entry::StepStartedAgain { .. } => self.starts += 1,
            Entry::StepFinished { end, signal, result } => {
                let done = StepDone { end: *end, exit_code: result.exit_code, signal: *signal };
                self.step_finished(done, &result.stderr);
            }
            Entry::AbortRequested { .. } => self.abort_requested(),
            Entry::Finished { outcome, .. } => self.outcome = Some(*outcome),
            // A server never acknowledges what it was not told; one that did would silence what is still to come.
            Entry::Acked { seq } => self.acked = self.acked.max((*seq).min(self.reports)),
            Entry::RebootStarted { .. } => self.is_reboot_started = true,
        }
    }

    fn step_finished(&mut self, done: StepDone, stderr: &str) {
        let at = self.done.len();
        self.running = None;
        self.done.push(done);
        if self.stop.is_some() {
            return;
        }
        let step = self.instruction.as_ref().and_then(|instruction| instruction.flow.steps.get(at));
        if self.is_abort_requested {
            self.stop = Some(Stop { at, is_begun: true, reason: plan::aborted(), is_abort: true });
        } else if let Some(step) = step.filter(|step| !done.is_success() && !step.on_failure.is_ignored) {
            self.stop = Some(Stop { at, is_begun: true, reason: done.reason(step, stderr), is_abort: false });
        }
    }

    /// With a step running, the stop is where that step ends. A run that is
    /// restoring already keeps its first reason, and restores to the end.
    fn abort_requested(&mut self) {
        self.is_abort_requested = true;
        if self.running.is_none() && self.stop.is_none() {
            let at = self.done.len();
            self.stop = Some(Stop { at, is_begun: false, reason: plan::aborted(), is_abort: true });
        }
    }

    /// What the run does next.
    pub fn next(&self) -> Next {
        if let Some(outcome) = self.outcome {
            return self.after_end(outcome);
        }
        if self.running.is_some() {
            return Next::Wait;
        }
        self.due()
    }

    /// What is due once no step runs; the running step itself while one does.
    fn due(&self) -> Next {
        let Some(instruction) = &self.instruction else {
            let (outcome, reason) = self.refusal.clone();
            return Next::Finish { outcome, reason };
        };
        if let Some(stop) = &self.stop {
            return self.restore(instruction, stop);
        }
        if !self.is_accepted {
            return Next::Accept;
        }
        if let Err(reason) = plan::check(instruction) {
            return Next::Finish { outcome: RunOutcome::Failed, reason };
        }
        match plan::forward(instruction, self.done.len()) {
            Some(Ok(spec)) => Next::Step(Box::new(spec)),
            Some(Err(reason)) => Next::Finish { outcome: RunOutcome::Failed, reason },
            None => Next::Finish { outcome: RunOutcome::Succeeded, reason: Reason::default() },
        }
    }

    fn after_end(&self, outcome: RunOutcome) -> Next {
        let flow = self.instruction.as_ref().map(|instruction| &instruction.flow);
        let is_reboot_due = outcome == RunOutcome::Succeeded && flow.is_some_and(|flow| flow.is_reboot_wanted);
        match (is_reboot_due && !self.is_reboot_started, self.is_acked()) {
            (false, _) => Next::Over,
            (true, false) => Next::AwaitAck,
            (true, true) => Next::Reboot,
        }
    }

    fn restore(&self, instruction: &Instruction, stop: &Stop) -> Next {
        let steps = plan::restoration(&instruction.flow, stop);
        let begun = stop.at + usize::from(stop.is_begun);
        let next = steps.get(self.done.len() - begun);
        let outcome = if stop.is_abort { RunOutcome::Aborted } else { RunOutcome::Failed };
        let finish = Next::Finish { outcome, reason: stop.reason.clone() };
        next.map_or(finish, |(name, undo)| match plan::restoring(instruction, self.done.len(), name.clone(), undo) {
            Ok(spec) => Next::Step(Box::new(spec)),
            Err(reason) => Next::Finish { outcome, reason },
        })
    }

    /// The step that is running, and since when.
    pub fn running(&self) -> Option<(u32, Timestamp)> {
        self.running
    }

    /// The running step, when its runner was killed and it is to be started again.
    pub fn to_start_again(&self) -> Option<Box<StepSpec>> {
        match self.due() {
            Next::Step(spec) if spec.task.is_repeatable() && self.starts < STARTS_MAX => Some(spec),
            _ => None,
        }
    }

    /// The name of the step that is due or running.
    pub fn due_name(&self) -> Option<StepName> {
        match self.due() {
            Next::Step(spec) => Some(spec.name),
            // The plan of another version of the agent: its step still needs a name.
            _ => StepName::parse("step").ok(),
        }
    }

    /// Whether the running step is to be stopped: an abort was asked for, and the
    /// step is not one that restores.
    pub fn is_stop_due(&self) -> bool {
        self.is_abort_requested && self.running.is_some() && self.stop.is_none()
    }

    /// Whether an abort would change anything.
    pub fn is_abortable(&self) -> bool {
        self.outcome.is_none() && !self.is_abort_requested
    }

    /// Whether the run is over, but for its reboot.
    pub fn is_finished(&self) -> bool {
        self.outcome.is_some()
    }

    /// How many reports there are.
    pub fn reports(&self) -> i64 {
        self.reports
    }

    /// The last report that the server has stored.
    pub fn acked(&self) -> i64 {
        self.acked
    }

    fn is_acked(&self) -> bool {
        self.acked >= self.reports
    }

    /// Whether nothing is left to do or to tell.
    pub fn is_settled(&self) -> bool {
        self.next() == Next::Over && self.is_acked()
    }

    /// Drops the flow of a settled run.
    pub fn forget_instruction(&mut self) {
        self.instruction = None;
    }
}
