//! One step on the device: a command under a supervisor that outlives the agent.
//!
//! The agent never runs a command itself. It starts this program again as a step
//! runner, in a process group of its own; the runner starts the command, bounds
//! its output and its time, and leaves a `result.json` behind. If the agent dies,
//! the runner does not notice; the next agent waits for it and reads the result.
//!
//! * [`dir`]: the step's directory, and the agent's side of it;
//! * [`runner`]: the runner's side;
//! * `supervise`: starts the command and ends its process group;
//! * `perform`: carries out what is no plain command: checks, stages, saves, changes,
//!   verifies, and undoes;
//! * `saved`: what a step was about to change, and how it is put back;
//! * `actions`: a file for each ready-made action; `fetch`: artifacts over HTTP;
//!   `engine`: the device's container engine;
//! * [`settle`]: what stood ready to be put back, once the run is over;
//! * [`output`]: what is kept of an output stream.
//!
//! # Why a step never runs twice, and is never lost
//!
//! The agent takes the `flock` of `step-N/lock` *before* it starts the runner and
//! hands the locked file over as the runner's standard input. A lock belongs to
//! the open file, not to the process, so it passes from agent to runner without a
//! gap, and the kernel frees it when the last of them dies, however it dies. The
//! command itself gets `/dev/null` as its standard input, so that nothing that a
//! step leaves running can keep the lock.
//!
//! Hence, when an agent finds `step_started` in its journal and can take the lock,
//! no runner lives, and none can come: a runner exists only with the lock in its
//! hand, and only the agent that wrote `step_started` starts one. If there is a
//! `result.json`, that is the result. If there is none, the runner was killed, the
//! power went, or the agent died between writing and starting: the command may
//! have run in part, so it is reported as interrupted and not run again.
//!
//! A step that may be repeated ([`Task::is_repeatable`]) is started again instead: it
//! finds in `saved-N`, beside its own directory, how far it had come.

mod actions;
mod context;
pub mod dir;
mod engine;
mod fetch;
mod orphans;
pub mod output;
mod perform;
pub mod runner;
mod saved;
pub mod settle;
mod supervise;
mod xattrs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::flow::actions::BuiltIn;
use muster_core::names::StepName;
use muster_core::target::StepResult;
use muster_link::Artifact;
use serde::{Deserialize, Serialize};

/// What a runner is told: `step.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSpec {
    /// Place in the run, from 0; the commands of a rollback count on.
    pub index: u32,
    /// The step's name.
    pub name: StepName,
    /// What is to be done, with its inputs filled in.
    pub task: Task,
    /// Added to the command's environment.
    pub env: BTreeMap<String, String>,
    /// How long the command may run, in milliseconds.
    pub timeout_ms: u64,
}

/// What a step is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A command for `sh -c`.
    Run(String),
    /// A remote command: a script for `sh -c`, whose output can be followed.
    Command {
        /// The script.
        script: String,
        /// The user who runs it, where that is not the agent's own.
        user: Option<String>,
    },
    /// A ready-made action.
    BuiltIn {
        /// The action.
        action: Box<BuiltIn>,
        /// What it needs of a registry.
        artifact: Option<Box<Artifact>>,
    },
    /// Put back what other steps changed, in this order: where two changed the same,
    /// what the last of these saved is what stays.
    Restore(Vec<u32>),
}

impl Task {
    /// Whether it updates the agent.
    pub fn is_agent_update(&self) -> bool {
        matches!(self, Self::BuiltIn { action, .. } if matches!(**action, BuiltIn::AgentUpdate(_)))
    }

    /// Whether it may be started again when its runner was killed: it then ends as if
    /// it had never been interrupted. What a person wrote is never run twice.
    pub fn is_repeatable(&self) -> bool {
        match self {
            Self::Run(_) | Self::Command { .. } => false,
            Self::BuiltIn { action, .. } => !matches!(**action, BuiltIn::Script(_)),
            Self::Restore(_) => true,
        }
    }
}

pub use actions::CARRIED_OUT;

/// Where the device's container engine listens: where it was set, as `DOCKER_HOST` says, or
/// where every engine does. `None` when that is no socket.
pub fn docker_socket(set: Option<&Path>) -> Option<PathBuf> {
    engine::socket(set, std::env::var("DOCKER_HOST").ok().as_deref()).ok()
}

/// Whether this version of the agent can carry out `action`.
pub fn is_supported(action: &BuiltIn) -> bool {
    actions::work(action).is_some()
}

impl StepSpec {
    /// How long the command may run.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// How a step came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepEnd {
    /// The command ended by itself, well or badly.
    Exited,
    /// It was ended because its time was over.
    TimedOut,
    /// It was ended because the runner was asked to.
    Stopped,
    /// It never started, or what became of it is not known.
    Interrupted,
}

/// What became of a step: `result.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOutcome {
    /// How it ended.
    pub end: StepEnd,
    /// The command's exit code, when it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended the command, if one did.
    pub signal: Option<i32>,
    /// Kept standard output.
    pub stdout: String,
    /// Kept standard error; that of a remote command is in its standard output.
    pub stderr: String,
    /// Of a remote command: how many bytes of its output are not kept.
    #[serde(default)]
    pub left_out_bytes: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl StepOutcome {
    /// The outcome of a step of which nothing is known but `why`.
    pub fn interrupted(why: &str, started_at: Timestamp, now: Timestamp) -> Self {
        Self {
            end: StepEnd::Interrupted,
            exit_code: None,
            signal: None,
            stdout: String::new(),
            stderr: format!("[{why}]\n"),
            left_out_bytes: 0,
            started_at,
            finished_at: now,
        }
    }

    /// The outcome as the server is told of it.
    pub fn into_result(self, index: u32, name: StepName) -> StepResult {
        StepResult {
            index,
            name,
            exit_code: self.exit_code,
            stdout: self.stdout,
            stderr: self.stderr,
            started_at: self.started_at,
            finished_at: self.finished_at,
        }
    }
}
