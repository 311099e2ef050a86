//! What a step's work may use: its directory, its output, its time, and commands.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use muster_core::clock::Clock;
use muster_core::limits::STEP_TIMEOUT_DEFAULT;
use muster_link::Artifact;
use tokio::time::Instant;

use super::dir::StepDir;
use super::engine;
use super::orphans;
use super::output::HeadTail;
use super::runner::AboutDevice;
use super::saved::Saved;
use super::supervise::{Bounded, Event, supervise};
use super::{StepEnd, StepOutcome, StepSpec, Task};
use crate::trust::Trust;

/// How often a wait looks whether its step was asked to stop.
const STOP_POLL: Duration = Duration::from_millis(100);

/// Why a step's work ends early.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Failure {
    /// How the step ends.
    pub(super) end: StepEnd,
    /// Its exit code, when it ends by itself.
    pub(super) exit_code: Option<i32>,
    /// The signal that ended a command, if one did.
    pub(super) signal: Option<i32>,
    /// For a person; empty when the output says it.
    pub(super) why: String,
}

impl Failure {
    /// The step failed, for that reason.
    pub(super) fn because(why: impl Into<String>) -> Self {
        Self { end: StepEnd::Exited, exit_code: Some(1), signal: None, why: why.into() }
    }

    fn ended(end: StepEnd, why: impl Into<String>) -> Self {
        Self { end, exit_code: None, signal: None, why: why.into() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::because(error.to_string())
    }
}

/// Both ends of what a runner waits for.
pub(super) struct Supervisor {
    pub(super) tx: Sender<Event>,
    pub(super) events: Receiver<Event>,
}

/// The surroundings of a step's work.
pub(super) struct Context {
    pub(super) spec: StepSpec,
    pub(super) dir: StepDir,
    pub(super) saved: Saved,
    pub(super) clock: Clock,
    pub(super) trust: Trust,
    /// What the agent tells about the device.
    pub(super) about: AboutDevice,
    supervisor: Supervisor,
    began: Instant,
    /// Set while the work is undone: nothing may stop that.
    is_undoing: RefCell<bool>,
    stdout: RefCell<HeadTail>,
    stderr: RefCell<HeadTail>,
}

impl Context {
    pub(super) fn new(spec: StepSpec, dir: StepDir, clock: Clock, trust: Trust, supervisor: Supervisor) -> Self {
        let saved = Saved::new(dir.saved(spec.index));
        let (stdout, stderr) = Default::default();
        let is_undoing = RefCell::new(matches!(spec.task, Task::Restore(_)));
        let (about, began) = (AboutDevice::default(), Instant::now());
        Self { spec, dir, saved, clock, trust, about, supervisor, began, is_undoing, stdout, stderr }
    }

    /// What the step needs of a registry.
    pub(super) fn artifact(&self) -> Option<&Artifact> {
        match &self.spec.task {
            Task::BuiltIn { artifact, .. } => artifact.as_deref(),
            Task::Run(_) | Task::Command { .. } | Task::Restore(_) => None,
        }
    }

    /// Where the step may keep what it fetches, when that need not be beside its target.
    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        self.saved.path().join(name)
    }

    /// Where the device's container engine listens.
    pub(super) fn docker_socket(&self) -> Result<PathBuf, Failure> {
        engine::socket(self.about.docker_socket.as_deref(), std::env::var("DOCKER_HOST").ok().as_deref())
    }

    /// The run's name, as its directory has it.
    pub(super) fn run_name(&self) -> String {
        let run = self.dir.path().parent().and_then(Path::file_name);
        run.unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Adds to what the step has put out, as if it had been a command.
    pub(super) fn keep(&self, is_error: bool, bytes: &[u8]) {
        if is_error { &self.stderr } else { &self.stdout }.borrow_mut().push(bytes);
    }

    /// Adds a line to the step's output.
    pub(super) fn say(&self, line: &str) {
        self.stdout.borrow_mut().push(format!("{line}\n").as_bytes());
    }

    /// Adds a note to the step's errors.
    pub(super) fn note(&self, why: &str) {
        self.stderr.borrow_mut().push(format!("[{why}]\n").as_bytes());
    }

    /// What was put out so far.
    pub(super) fn outputs(&self) -> (String, String) {
        (self.stdout.borrow().to_text(), self.stderr.borrow().to_text())
    }

    /// From here on nothing stops the work, and its time begins anew.
    pub(super) fn begin_undoing(&self) {
        *self.is_undoing.borrow_mut() = true;
    }

    fn left(&self) -> Duration {
        if *self.is_undoing.borrow() {
            STEP_TIMEOUT_DEFAULT
        } else {
            self.spec.timeout().saturating_sub(self.began.elapsed())
        }
    }

    /// Fails when the step was asked to stop, or its time is over.
    pub(super) fn check_time(&self) -> Result<(), Failure> {
        if *self.is_undoing.borrow() {
            return Ok(());
        }
        while let Ok(event) = self.supervisor.events.try_recv() {
            if matches!(event, Event::Stop) {
                return Err(Failure::ended(StepEnd::Stopped, "stopped"));
            }
        }
        if self.dir.is_stop_requested() {
            return Err(Failure::ended(StepEnd::Stopped, "stopped"));
        }
        if self.left().is_zero() {
            let limit = self.spec.timeout().as_secs_f64();
            return Err(Failure::ended(StepEnd::TimedOut, format!("ended after its time limit of {limit} s")));
        }
        Ok(())
    }

    /// Waits. Fails as soon as [`Context::check_time`] does.
    pub(super) fn wait(&self, pause: Duration) -> Result<(), Failure> {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            self.check_time()?;
            std::thread::sleep(STOP_POLL);
        }
        self.check_time()
    }

    /// Runs a command to its end and keeps its output. Fails unless it exits with 0.
    pub(super) fn run(&self, mut command: Command) -> Result<(), Failure> {
        command.env(orphans::MARK, self.dir.path());
        let stopped_by = (!*self.is_undoing.borrow()).then_some(&self.dir);
        let (timeout, limit) = (self.left(), self.spec.timeout());
        let bounded = Bounded { command, timeout, limit, stopped_by, followed_in: None };
        let outcome = supervise(bounded, &self.clock, &self.supervisor.tx, &self.supervisor.events);
        self.stdout.borrow_mut().append(&outcome.stdout);
        self.stderr.borrow_mut().append(&outcome.stderr);
        let (end, exit_code, signal) = (outcome.end, outcome.exit_code(), outcome.signal());
        if end == StepEnd::Exited && exit_code == Some(0) {
            return Ok(());
        }
        Err(Failure { end, exit_code, signal, why: String::new() })
    }

    /// Runs a command to its end, with its outputs as one that can be followed.
    pub(super) fn run_followed(&self, mut command: Command) -> StepOutcome {
        command.env(orphans::MARK, self.dir.path());
        let bounded = Bounded {
            command,
            timeout: self.left(),
            limit: self.spec.timeout(),
            stopped_by: Some(&self.dir),
            followed_in: Some(self.dir.output_file()),
        };
        supervise(bounded, &self.clock, &self.supervisor.tx, &self.supervisor.events).outcome(self.clock.now())
    }

    /// Runs a command for its answer: its standard output, when it exits with 0.
    pub(super) fn ask(&self, mut command: Command) -> Option<String> {
        command.env(orphans::MARK, self.dir.path());
        let (timeout, limit) = (self.left(), self.spec.timeout());
        let bounded = Bounded { command, timeout, limit, stopped_by: None, followed_in: None };
        let outcome = supervise(bounded, &self.clock, &self.supervisor.tx, &self.supervisor.events);
        (outcome.exit_code() == Some(0)).then(|| outcome.stdout.to_text())
    }
}
