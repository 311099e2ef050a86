//! The running agent: the link and the runs, side by side, until a signal.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use muster_core::clock::Clock;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::command;
use crate::command::policy::CommandPolicy;
use crate::inventory::Inventory;
use crate::link::keeper::Keeper;
use crate::link::status::StatusFile;
use crate::net::{ConnectError, Dialer};
use crate::remote::{Carriers, FilePolicy, Policy, Terminals, TunnelPolicy, allow_open_files, clean_up};
use crate::run::driver::{Ended, Message, Surroundings, drive};
use crate::set_aside::Degraded;
use crate::state::{Enrolment, StateDir, StateError, StateLock};
use crate::trust::Trust;
use crate::update::home::Home;
use crate::update::probation::Probation;
use crate::upload::Uploads;

/// What a link may send ahead of the disk.
const INBOX_MESSAGES_MAX: usize = 64;
/// How soon the agent starts anew after the disk failed.
const START_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long the disk may take to finish what it is at when the agent ends.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often, and how many times, a directory is asked for that another agent has.
const LOCK_AGAIN_AFTER: Duration = Duration::from_millis(100);
const LOCK_TRIES: u32 = 20;

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The state directory is of no use.
    #[error(transparent)]
    State(#[from] StateError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How an agent is to run.
pub struct Settings {
    /// Its state directory.
    pub state: StateDir,
    /// Starts this program as a step runner; `--dir DIR` is added.
    pub runner: Vec<OsString>,
    /// The command, for `sh -c`, that reboots the device.
    pub reboot_command: String,
    /// Where the container engine listens, when that was set.
    pub docker_socket: Option<PathBuf>,
    /// Why the agent is degraded, as far as is known before it starts.
    pub degraded: Degraded,
    /// What tunnels may reach.
    pub tunnels: TunnelPolicy,
    /// What people may do with files.
    pub files: Arc<FilePolicy>,
    /// What remote commands may be run.
    pub commands: CommandPolicy,
    /// Whose terminals may be opened.
    pub terminals: Terminals,
    /// By what servers are recognised, the device's own aside.
    pub trust: Trust,
    /// Tells the moment.
    pub clock: Clock,
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// A step that is running then goes on: its runner is a process of its own, and
/// the next agent takes it up again.
pub async fn run(settings: &Settings, rng: &mut StdRng) -> Result<Ended, AgentError> {
    let mut stop = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let enrolment = settings.state.enrolment()?;
    let _lock = lock(&settings.state).await?;
    tracing::info!(device = %enrolment.device_uuid, server = %enrolment.server, "agent starts");
    allow_open_files();
    clean_up(settings.state.path());
    let trust = settings.trust.clone().pinning(&enrolment.server, enrolment.server_pin);
    let dialer = Dialer::new(enrolment.server, &trust)?;
    loop {
        let life = Life::begin(settings, dialer.clone(), &trust, rng)?;
        let error = match life.live(&mut stop).await {
            Ok(ended) => {
                tracing::info!(?ended, "agent ends");
                return Ok(ended);
            }
            Err(error) => error,
        };
        // The journal is the truth and memory is thrown away: as after a restart.
        tracing::error!(%error, "the disk failed; starting anew");
        tokio::select! {
            () = sleep(START_AGAIN_AFTER) => {}
            () = asked_to_stop(&mut stop) => return Ok(Ended::Stopped),
        }
    }
}

/// Takes the directory. An agent whose launcher was killed needs a moment to die.
async fn lock(state: &StateDir) -> Result<StateLock, StateError> {
    for _ in 0..LOCK_TRIES {
        match state.lock() {
            Err(StateError::InUse(_)) => sleep(LOCK_AGAIN_AFTER).await,
            locked => return locked,
        }
    }
    state.lock()
}

/// The command of a step runner. What it fetches of the device's own server, it fetches of
/// the one that was enrolled with.
fn runner(settings: &Settings, enrolment: &Enrolment) -> Vec<OsString> {
    let mut runner = settings.runner.clone();
    if let Some(pin) = enrolment.server_pin {
        runner.extend(["--server".into(), enrolment.server.to_string().into()]);
        runner.extend(["--server-pin".into(), pin.to_string().into()]);
    }
    if let Some(socket) = &settings.docker_socket {
        runner.extend(["--docker-socket".into(), socket.into()]);
    }
    runner
}

/// The agent from reading the disk to its end, or until the disk fails.
struct Life {
    keeper: Keeper<StdRng>,
    to_runs: mpsc::Sender<Message>,
    runs_ended: oneshot::Receiver<io::Result<Ended>>,
    to_commands: mpsc::Sender<command::driver::Message>,
    commands_ended: oneshot::Receiver<io::Result<Ended>>,
}

impl Life {
    fn begin(settings: &Settings, dialer: Dialer, trust: &Trust, rng: &mut StdRng) -> Result<Self, AgentError> {
        let state = &settings.state;
        let (to_runs, messages) = mpsc::channel(INBOX_MESSAGES_MAX);
        let (to_link, reports) = mpsc::unbounded_channel();
        let (ended, runs_ended) = oneshot::channel();
        let surroundings = Surroundings {
            runs: state.runs(),
            runner: runner(settings, &state.enrolment()?),
            reboot_command: settings.reboot_command.clone(),
            veto_hook: state.veto_hook(),
            home: Home::new(state.path()),
            degraded: settings.degraded.clone(),
            clock: settings.clock.clone(),
        };
        let inbox = to_runs.clone();
        thread::spawn(move || ended.send(drive(surroundings, inbox, messages, to_link)));
        let (to_commands, command_reports, commands_ended) = begin_commands(settings)?;
        let policy = Policy {
            tunnels: settings.tunnels,
            terminals: settings.terminals.clone(),
            files: Arc::clone(&settings.files),
        };
        let keeper = Keeper {
            carriers: Carriers::new(dialer.clone(), policy, StdRng::from_seed(rng.random())),
            commands: settings.commands.clone(),
            to_commands: to_commands.clone(),
            command_reports,
            dialer,
            device: state.enrolment()?.device_uuid,
            secret: state.identity()?.to_secret_bytes(),
            docker_socket: settings.docker_socket.clone(),
            inventory: Inventory::new(state.path().to_owned(), settings.degraded.clone()),
            probation: Probation::new(Home::new(state.path())),
            status: StatusFile::new(state.status_file(), settings.clock.clone(), settings.degraded.clone()),
            rng: StdRng::from_seed(rng.random()),
            to_runs: to_runs.clone(),
            reports,
            uploads: Uploads::new(state.path().to_owned(), trust.clone()),
            logged: None,
        };
        Ok(Self { keeper, to_runs, runs_ended, to_commands, commands_ended })
    }

    /// Lives until a signal, until another agent is to take over, or until the disk fails.
    async fn live(mut self, stop: &mut (Signal, Signal)) -> Result<Ended, io::Error> {
        let ended = tokio::select! {
            never = self.keeper.keep() => match never {},
            ended = &mut self.runs_ended => {
                ended.unwrap_or_else(|gone| Err(io::Error::other(gone)))
            }
            ended = &mut self.commands_ended => {
                ended.unwrap_or_else(|gone| Err(io::Error::other(gone)))
            }
            () = asked_to_stop(stop) => Ok(Ended::Stopped),
        };
        self.keeper.status.disconnected(ended.as_ref().err().map(ToString::to_string));
        // Where one of the two has failed, the other must not go on beside the next life.
        let _ = self.to_runs.send(Message::Stop).await;
        let _ = self.to_commands.send(command::driver::Message::Stop).await;
        for part in [self.runs_ended, self.commands_ended].into_iter().filter(|part| !part.is_terminated()) {
            let _ = timeout(STOP_TIMEOUT, part).await;
        }
        ended
    }
}

/// Both ends of the part that carries out remote commands, and what tells its end.
type Commands = (
    mpsc::Sender<command::driver::Message>,
    mpsc::UnboundedReceiver<command::driver::Report>,
    oneshot::Receiver<io::Result<Ended>>,
);

fn begin_commands(settings: &Settings) -> Result<Commands, AgentError> {
    let (to_commands, messages) = mpsc::channel(INBOX_MESSAGES_MAX);
    let (to_link, reports) = mpsc::unbounded_channel();
    let (ended, commands_ended) = oneshot::channel();
    let surroundings = command::driver::Surroundings {
        commands: settings.state.commands(),
        runner: runner(settings, &settings.state.enrolment()?),
        policy: settings.commands.clone(),
        degraded: settings.degraded.clone(),
        clock: settings.clock.clone(),
    };
    let inbox = to_commands.clone();
    thread::spawn(move || ended.send(command::driver::drive(surroundings, inbox, messages, to_link)));
    Ok((to_commands, reports, commands_ended))
}

async fn asked_to_stop(stop: &mut (Signal, Signal)) {
    tokio::select! {
        _ = stop.0.recv() => {}
        _ = stop.1.recv() => {}
    }
}
