//! The entries of a run's journal.

use muster_core::clock::Timestamp;
use muster_core::target::{Reason, RunEvent, RunOutcome, StepResult};
use serde::{Deserialize, Serialize};

use crate::step::StepEnd;

/// One line of `journal.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// The run's turn has come.
    Accepted {
        /// When.
        at: Timestamp,
    },
    /// A step is about to start. From here on it counts as begun.
    StepStarted {
        /// Place in the run.
        index: u32,
        /// When.
        at: Timestamp,
    },
    /// The running step is about to start again: its runner was killed, and it can be
    /// repeated.
    StepStartedAgain {
        /// Place in the run.
        index: u32,
        /// When.
        at: Timestamp,
    },
    /// A step is over.
    StepFinished {
        /// How it ended.
        end: StepEnd,
        /// The signal that ended it, if one did.
        #[serde(default)]
        signal: Option<i32>,
        /// What the server is told.
        result: StepResult,
    },
    /// The server asked for the abort.
    AbortRequested {
        /// When.
        at: Timestamp,
    },
    /// The run is over.
    Finished {
        /// How it ended.
        outcome: RunOutcome,
        /// Why, when it did not succeed.
        reason: Reason,
    },
    /// The server has stored every report up to this one.
    Acked {
        /// Number of the report.
        seq: i64,
    },
    /// The device is about to be rebooted, as the flow wants.
    RebootStarted {
        /// When.
        at: Timestamp,
    },
}

impl Entry {
    /// What the server is told of the entry, if anything. The run's n-th entry
    /// that has a report is report number n: so numbers need not be kept, and
    /// cannot change.
    pub fn report(&self) -> Option<RunEvent> {
        match self {
            Self::Accepted { .. } => Some(RunEvent::Accepted),
            Self::StepFinished { result, .. } => Some(RunEvent::StepFinished(result.clone())),
            Self::Finished { outcome, reason } => {
                Some(RunEvent::Finished { outcome: *outcome, reason: reason.clone() })
            }
            Self::StepStarted { .. }
            | Self::StepStartedAgain { .. }
            | Self::AbortRequested { .. }
            | Self::Acked { .. }
            | Self::RebootStarted { .. } => None,
        }
    }

    /// Whether the server is told of the entry.
    pub fn is_reported(&self) -> bool {
        matches!(self, Self::Accepted { .. } | Self::StepFinished { .. } | Self::Finished { .. })
    }
}
