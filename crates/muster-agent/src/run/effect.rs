//! What goes into the book, and what comes out of it.

use muster_link::{Instruction, RunId};

use super::entry::Entry;
use super::machine::Origin;
use crate::step::{StepOutcome, StepSpec};

/// What can happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The book was made from the disk.
    Loaded,
    /// The server wants a run.
    Instructed(Box<Instruction>),
    /// The server wants a run that this version cannot read; the problem.
    Unreadable(RunId, String),
    /// The server wants a run to end.
    Aborted(RunId),
    /// The server has stored the run's reports up to a number.
    Acked(RunId, i64),
    /// No runner of the step lives any more; what it left, if anything.
    StepOver {
        /// The run.
        run: RunId,
        /// Which step.
        index: u32,
        /// What it left.
        outcome: Option<Box<StepOutcome>>,
    },
    /// The link is up. Whatever was sent over an older one may be lost.
    LinkUp,
    /// The link is down.
    LinkDown,
    /// The reboot did not come.
    RebootOver,
}

/// What the driver must do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make the run's directory.
    Create {
        /// The run.
        run: RunId,
        /// Its place among all runs.
        arrival: u64,
        /// What is known of it.
        origin: Origin,
    },
    /// Write an entry into the run's journal, to the disk.
    Append {
        /// The run.
        run: RunId,
        /// The entry.
        entry: Entry,
    },
    /// Write down what the step is to do.
    Prepare {
        /// The run.
        run: RunId,
        /// The step.
        spec: Box<StepSpec>,
    },
    /// Start the runner of the prepared step, and wait for its end.
    Launch {
        /// The run.
        run: RunId,
        /// Which step.
        index: u32,
    },
    /// Wait for the end of a step that an earlier agent started.
    Watch {
        /// The run.
        run: RunId,
        /// Which step.
        index: u32,
    },
    /// Tell the step's runner to end it.
    StopStep {
        /// The run.
        run: RunId,
        /// Which step.
        index: u32,
    },
    /// Remove the step's directory; its result is in the journal.
    ForgetStep {
        /// The run.
        run: RunId,
        /// Which step.
        index: u32,
    },
    /// Tell the server the run's report of that number.
    Report {
        /// The run.
        run: RunId,
        /// The number.
        seq: i64,
    },
    /// Reboot the device.
    Reboot {
        /// The run.
        run: RunId,
    },
    /// Remove all that is known of the run.
    Remove {
        /// The run.
        run: RunId,
    },
}
