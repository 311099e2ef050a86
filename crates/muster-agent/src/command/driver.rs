//! The thread that owns the desk and the disk of remote commands.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use muster_core::clock::Clock;
use muster_core::command::CommandEvent;
use muster_core::ids::CommandRunUuid;
use muster_core::names::StepName;
use muster_link::CommandOrder;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedSender};

use super::desk::{Desk, Effect, Input};
use super::follow::follow;
use super::policy::{CommandPolicy, reachable};
use super::store::CommandStore;
use crate::run::driver::{Ended, stop, wait_for_outcome};
use crate::set_aside::Degraded;
use crate::step::{StepOutcome, StepSpec, Task};

/// What the driver is told.
#[derive(Debug)]
pub enum Message {
    /// The server wants a command to run.
    Ordered(CommandOrder),
    /// Something for the desk.
    Desk(Input),
    /// A running command has put out more.
    Output(CommandRunUuid, CommandEvent),
    /// The link is up, under that number.
    LinkUp {
        /// The connection's epoch.
        epoch: i64,
    },
    /// The link is down.
    LinkDown,
    /// The agent ends.
    Stop,
}

/// Something for the server.
#[derive(Debug)]
pub struct Report {
    /// The connection that it is meant for.
    pub epoch: i64,
    /// The command.
    pub command: CommandRunUuid,
    /// What happened.
    pub event: CommandEvent,
}

/// What the driver needs to know of its surroundings.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The directory of all commands.
    pub commands: PathBuf,
    /// Starts this program as a step runner; `--dir DIR` is added.
    pub runner: Vec<OsString>,
    /// What the device allows.
    pub policy: CommandPolicy,
    /// Told of what had to be set aside.
    pub degraded: Degraded,
    /// Tells the moment.
    pub clock: Clock,
}

/// Carries out commands until it is told to stop, or the disk fails.
pub fn drive(
    surroundings: Surroundings,
    inbox: Sender<Message>,
    mut messages: Receiver<Message>,
    reports: UnboundedSender<Report>,
) -> io::Result<Ended> {
    let (store, known) = CommandStore::open(surroundings.commands.clone(), &surroundings.degraded)?;
    let mut driver = Driver {
        surroundings,
        store,
        desk: Desk::new(known),
        inbox,
        reports,
        epoch: None,
        is_link_up: Arc::default(),
        own: VecDeque::new(),
    };
    driver.handle(Input::Loaded)?;
    while let Some(message) = messages.blocking_recv() {
        match message {
            Message::Ordered(order) => driver.ordered(order)?,
            Message::Desk(input) => driver.handle(input)?,
            Message::Output(command, event) => driver.tell(command, event),
            Message::LinkUp { epoch } => {
                driver.set_link(Some(epoch));
                driver.handle(Input::LinkUp)?;
            }
            Message::LinkDown => {
                driver.set_link(None);
                driver.handle(Input::LinkDown)?;
            }
            Message::Stop => break,
        }
    }
    Ok(Ended::Stopped)
}

struct Driver {
    surroundings: Surroundings,
    store: CommandStore,
    desk: Desk,
    inbox: Sender<Message>,
    reports: UnboundedSender<Report>,
    epoch: Option<i64>,
    is_link_up: Arc<AtomicBool>,
    /// What came of an effect at once.
    own: VecDeque<Input>,
}

impl Driver {
    fn set_link(&mut self, epoch: Option<i64>) {
        self.epoch = epoch;
        self.is_link_up.store(epoch.is_some(), Ordering::Relaxed);
    }

    fn ordered(&mut self, order: CommandOrder) -> io::Result<()> {
        let user = self.surroundings.policy.user(&order.user).and_then(reachable);
        self.handle(Input::Ordered(order, user))
    }

    fn handle(&mut self, input: Input) -> io::Result<()> {
        self.own.push_back(input);
        while let Some(input) = self.own.pop_front() {
            for effect in self.desk.handle(input, self.surroundings.clock.now()) {
                self.perform(effect)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> io::Result<()> {
        match effect {
            Effect::Create(id, order) => self.store.create(&id, &order),
            Effect::Begin(id) => self.begin(id),
            Effect::Watch(id) => {
                self.watch(id, None);
                Ok(())
            }
            Effect::Stop(id) => stop(&self.store.step(&id)),
            Effect::End(id, result) => {
                tracing::info!(command = %id, end = ?result.end, exit_code = result.exit_code, "command is over");
                self.store.end(&id, &result)
            }
            Effect::SayStarted(id) => {
                self.tell(id, CommandEvent::Started);
                Ok(())
            }
            Effect::SayEnded(id) => {
                let result = self.store.ended(&id)?;
                self.tell(id, CommandEvent::Ended(result));
                Ok(())
            }
            Effect::Settle(id) => self.store.settle(&id),
            Effect::Remove(id) => self.store.remove(&id),
        }
    }

    fn begin(&mut self, id: CommandRunUuid) -> io::Result<()> {
        let Some(spec) = self.desk.order(&id).and_then(|order| {
            let user = Some(order.user.clone()).filter(|user| !user.is_empty());
            let task = Task::Command { script: order.script.clone(), user };
            let name = StepName::parse("command").ok()?;
            Some(StepSpec { index: 0, name, task, env: BTreeMap::new(), timeout_ms: order.timeout_ms })
        }) else {
            return Ok(());
        };
        let prepared = self.store.step(&id).prepare(&spec)?;
        self.store.begin(&id)?;
        tracing::info!(command = %id, "command begins");
        match prepared.launch(&self.surroundings.runner) {
            Ok(child) => self.watch(id, Some(child)),
            Err(error) => {
                let now = self.surroundings.clock.now();
                let why = format!("the command's runner could not be started: {error}");
                let outcome = Some(Box::new(StepOutcome::interrupted(&why, now, now)));
                self.own.push_back(Input::Over { id, outcome, is_stop_requested: false });
            }
        }
        Ok(())
    }

    /// Waits for the command's end in a thread of its own, and tells its output in another.
    /// It is the lock that tells the end, whether the runner is this agent's child or an
    /// earlier one's.
    fn watch(&self, id: CommandRunUuid, child: Option<Child>) {
        self.tell_output(&id);
        let (dir, inbox) = (self.store.step(&id), self.inbox.clone());
        thread::spawn(move || {
            let _ = child.map(|mut child| child.wait());
            let outcome = wait_for_outcome(&dir).map(Box::new);
            let is_stop_requested = dir.is_stop_requested();
            let _ = inbox.blocking_send(Message::Desk(Input::Over { id, outcome, is_stop_requested }));
        });
    }

    fn tell_output(&self, id: &CommandRunUuid) {
        let (dir, inbox, id) = (self.store.step(id), self.inbox.clone(), id.clone());
        let is_link_up = Arc::clone(&self.is_link_up);
        thread::spawn(move || {
            follow(&dir, &is_link_up, |event| {
                let _ = inbox.blocking_send(Message::Output(id.clone(), event));
            });
        });
    }

    fn tell(&self, command: CommandRunUuid, event: CommandEvent) {
        if let Some(epoch) = self.epoch {
            let _ = self.reports.send(Report { epoch, command, event });
        }
    }
}
