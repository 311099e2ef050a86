//! The thread that owns the book and the disk. A thread and not a task: it waits
//! for disks, and the link must not wait with it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use muster_core::clock::Clock;
use muster_core::target::RunEvent;
use muster_link::{Instruction, RunId};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedSender};

use super::book::Book;
use super::effect::{Effect, Input};
use super::entry::Entry;
use super::store::RunStore;
use crate::set_aside::Degraded;
use crate::step::StepOutcome;
use crate::step::dir::{PreparedStep, StepDir};
use crate::update::home::Home;
use crate::update::own_version;
use crate::veto;

/// How long nothing new begins after the reboot was asked for. A device that has
/// not gone down by then is not going to.
const REBOOT_WAIT: Duration = Duration::from_secs(10 * 60);
/// How soon a step's directory that cannot be read is tried again.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often the agent looks whether an update of itself is to be tried, while one runs.
const LOOK_FOR_TRIAL_EVERY: Duration = Duration::from_secs(1);

/// What the driver is told.
#[derive(Debug)]
pub enum Message {
    /// Something for the book.
    Book(Input),
    /// What the device's hook says of a run: why it must not begin now, if it must not.
    Asked(Box<Instruction>, Option<String>),
    /// The link is up, under that number.
    LinkUp {
        /// The connection's epoch.
        epoch: i64,
    },
    /// The link is down.
    LinkDown,
    /// A new agent is to take over.
    Relaunch,
    /// The agent ends.
    Stop,
}

/// Why the driver ended, when the disk did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// A new agent is to take over.
    Relaunch,
}

/// A report on its way to the server.
#[derive(Debug)]
pub struct Report {
    /// The connection that it is meant for.
    pub epoch: i64,
    /// The run.
    pub run: RunId,
    /// What is told.
    pub said: Said,
}

/// What the server is told of a run.
#[derive(Debug)]
pub enum Said {
    /// A report.
    Happened {
        /// Its number in the run.
        seq: i64,
        /// What happened.
        event: RunEvent,
    },
    /// The run has not begun, and will not now.
    NotNow {
        /// Why.
        reason: String,
    },
}

/// What the driver needs to know of its surroundings.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The directory of all runs.
    pub runs: PathBuf,
    /// Starts this program as a step runner; `--dir DIR` is added.
    pub runner: Vec<OsString>,
    /// The command, for `sh -c`, that reboots the device.
    pub reboot_command: String,
    /// The hook that may say "not now", where there is one.
    pub veto_hook: PathBuf,
    /// The copies of the agent.
    pub home: Home,
    /// Told of what had to be set aside.
    pub degraded: Degraded,
    /// Tells the moment.
    pub clock: Clock,
}

/// Carries out runs until it is told to stop, or the disk fails.
///
/// `inbox` is the other end of `messages`, for what waits for steps. `reports` need
/// no bound of its own: the book sends no more than a few ahead of the server.
pub fn drive(
    surroundings: Surroundings,
    inbox: Sender<Message>,
    mut messages: Receiver<Message>,
    reports: UnboundedSender<Report>,
) -> io::Result<Ended> {
    let (store, known) = RunStore::open(surroundings.runs.clone(), &surroundings.degraded)?;
    let book = Book::new(known);
    let mut driver =
        Driver { surroundings, store, book, inbox, reports, epoch: None, prepared: None, own: VecDeque::new() };
    driver.handle(Input::Loaded)?;
    while let Some(message) = messages.blocking_recv() {
        match message {
            Message::Book(Input::Instructed(instruction)) => driver.instructed(instruction)?,
            Message::Book(input) => driver.handle(input)?,
            Message::Asked(instruction, veto) => driver.asked(instruction, veto)?,
            Message::LinkUp { epoch } => {
                driver.epoch = Some(epoch);
                driver.handle(Input::LinkUp)?;
            }
            Message::LinkDown => {
                driver.epoch = None;
                driver.handle(Input::LinkDown)?;
            }
            Message::Relaunch => return Ok(Ended::Relaunch),
            Message::Stop => break,
        }
    }
    Ok(Ended::Stopped)
}

struct Driver {
    surroundings: Surroundings,
    store: RunStore,
    book: Book,
    inbox: Sender<Message>,
    reports: UnboundedSender<Report>,
    epoch: Option<i64>,
    /// Between [`Effect::Prepare`] and [`Effect::Launch`].
    prepared: Option<PreparedStep>,
    /// What came of an effect at once.
    own: VecDeque<Input>,
}

impl Driver {
    /// The hook is asked before a run begins, in a thread of its own; never of one that
    /// the device has taken already.
    fn instructed(&mut self, instruction: Box<Instruction>) -> io::Result<()> {
        if self.book.find(&instruction.run).is_some() || !self.surroundings.veto_hook.exists() {
            return self.handle(Input::Instructed(instruction));
        }
        let (hook, inbox) = (self.surroundings.veto_hook.clone(), self.inbox.clone());
        thread::spawn(move || {
            let veto = veto::ask(&hook, &instruction.run);
            let _ = inbox.blocking_send(Message::Asked(instruction, veto));
        });
        Ok(())
    }

    fn asked(&mut self, instruction: Box<Instruction>, veto: Option<String>) -> io::Result<()> {
        let Some(reason) = veto.filter(|_| self.book.find(&instruction.run).is_none()) else {
            return self.handle(Input::Instructed(instruction));
        };
        tracing::info!(run = %instruction.run, reason, "the device's hook says not now");
        // Without a link the server tells it again over the next one.
        if let Some(epoch) = self.epoch {
            let _ = self.reports.send(Report { epoch, run: instruction.run, said: Said::NotNow { reason } });
        }
        Ok(())
    }

    fn handle(&mut self, input: Input) -> io::Result<()> {
        self.own.push_back(input);
        while let Some(input) = self.own.pop_front() {
            for effect in self.book.handle(input, self.surroundings.clock.now()) {
                self.perform(effect)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> io::Result<()> {
        match effect {
            Effect::Create { run, arrival, origin } => self.store.create(&run, arrival, origin)?,
            Effect::Append { run, entry } => {
                self.store.append(&run, &entry)?;
                log(&run, &entry);
            }
            Effect::Prepare { run, spec } => self.prepared = Some(self.store.step(&run, spec.index).prepare(&spec)?),
            Effect::Launch { run, index } => self.launch(run, index),
            Effect::Watch { run, index } => self.watch(run, index, None),
            Effect::StopStep { run, index } => stop(&self.store.step(&run, index))?,
            Effect::ForgetStep { run, index } => self.store.step(&run, index).remove()?,
            Effect::Report { run, seq } => self.report(run, seq)?,
            Effect::Reboot { run } => self.reboot(&run),
            Effect::Remove { run } => self.store.remove(&run)?,
        }
        Ok(())
    }

    fn launch(&mut self, run: RunId, index: u32) {
        let Some(prepared) = self.prepared.take() else { return };
        match prepared.launch(&self.surroundings.runner) {
            Ok(child) => self.watch(run, index, Some(child)),
            Err(error) => {
                let now = self.surroundings.clock.now();
                let why = format!("the step's runner could not be started: {error}");
                let outcome = Some(Box::new(StepOutcome::interrupted(&why, now, now)));
                self.own.push_back(Input::StepOver { run, index, outcome });
            }
        }
    }

    /// Waits for the step's end in a thread of its own. It is the lock that tells
    /// the end, whether the runner is this agent's child or an earlier one's; a
    /// child is waited for as well, so that it leaves no zombie.
    fn watch(&self, run: RunId, index: u32, child: Option<Child>) {
        let (dir, inbox) = (self.store.step(&run, index), self.inbox.clone());
        if dir.spec().is_ok_and(|spec| spec.task.is_agent_update()) {
            self.watch_for_trial(dir.clone());
        }
        thread::spawn(move || {
            let _ = child.map(|mut child| child.wait());
            let outcome = wait_for_outcome(&dir).map(Box::new);
            let _ = inbox.blocking_send(Message::Book(Input::StepOver { run, index, outcome }));
        });
    }

    /// While the step lasts: once it has put down a trial of another agent than this one,
    /// this one gives way.
    fn watch_for_trial(&self, dir: StepDir) {
        let (home, inbox) = (self.surroundings.home.clone(), self.inbox.clone());
        thread::spawn(move || {
            while dir.path().exists() {
                if is_other_due(&home) {
                    let _ = inbox.blocking_send(Message::Relaunch);
                    return;
                }
                thread::sleep(LOOK_FOR_TRIAL_EVERY);
            }
        });
    }

    fn report(&self, run: RunId, seq: i64) -> io::Result<()> {
        if let Some(epoch) = self.epoch {
            let event = self.store.report(&run, seq)?;
            let _ = self.reports.send(Report { epoch, run, said: Said::Happened { seq, event } });
        }
        Ok(())
    }

    fn reboot(&self, run: &RunId) {
        let (command, inbox) = (self.surroundings.reboot_command.clone(), self.inbox.clone());
        tracing::warn!(%run, command, "rebooting, as the flow wants");
        thread::spawn(move || {
            match Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).stdout(Stdio::null()).status() {
                Ok(status) if status.success() => thread::sleep(REBOOT_WAIT),
                failed => tracing::error!(why = why(failed), "the reboot command failed"),
            }
            let _ = inbox.blocking_send(Message::Book(Input::RebootOver));
        });
    }
}

fn is_other_due(home: &Home) -> bool {
    let trial = home.read().ok().and_then(|slots| slots.trial).filter(|trial| trial.cancelled.is_none());
    trial.is_some_and(|trial| trial.copy.version.as_str() != own_version())
}

fn why(failed: io::Result<ExitStatus>) -> String {
    failed.map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// A step that is over already has no directory.
pub(crate) fn stop(step: &StepDir) -> io::Result<()> {
    match step.request_stop() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What the step left, once no runner of it lives; `None` when nothing.
pub(crate) fn wait_for_outcome(dir: &StepDir) -> Option<StepOutcome> {
    loop {
        match dir.wait() {
            Ok(outcome) => return outcome,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return None,
            // Not knowing whether the runner lives, the next step must not begin.
            Err(error) => tracing::error!(%error, "cannot wait for a step"),
        }
        thread::sleep(READ_AGAIN_AFTER);
    }
}

fn log(run: &RunId, entry: &Entry) {
    match entry {
        Entry::Accepted { .. } => tracing::info!(%run, "run begins"),
        Entry::StepStarted { index, .. } => tracing::info!(%run, index, "step begins"),
        Entry::StepStartedAgain { index, .. } => tracing::warn!(%run, index, "step was interrupted and begins again"),
        Entry::StepFinished { end, result, .. } => {
            let (name, exit_code) = (result.name.as_str(), result.exit_code);
            tracing::info!(%run, index = result.index, name, ?end, exit_code, "step is over");
        }
        Entry::AbortRequested { .. } => tracing::info!(%run, "run is to be aborted"),
        Entry::Finished { outcome, reason } => tracing::info!(%run, ?outcome, code = reason.code, "run is over"),
        Entry::Acked { .. } | Entry::RebootStarted { .. } => {}
    }
}
