//! The running agent: the link and the runs, side by side, until a signal.

use std::ffi::OsString;
use std::io;
use std::thread;
use std::time::Duration;

use muster_core::clock::Clock;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::inventory::Inventory;
use crate::link::keeper::Keeper;
use crate::link::status::StatusFile;
use crate::net::{ConnectError, Dialer};
use crate::remote::{Carriers, TunnelPolicy, allow_open_files};
use crate::run::driver::{Message, Surroundings, drive};
use crate::state::{Enrolment, StateDir, StateError};
use crate::trust::Trust;

/// What a link may send ahead of the disk.
const INBOX_MESSAGES_MAX: usize = 64;
/// How soon the agent starts anew after the disk failed.
const START_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long the disk may take to finish what it is at when the agent ends.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// What tunnels may reach.
    pub tunnels: TunnelPolicy,
    /// By what servers are recognised, the device's own aside.
    pub trust: Trust,
    /// Tells the moment.
    pub clock: Clock,
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// A step that is running then goes on: its runner is a process of its own, and
/// the next agent takes it up again.
pub async fn run(settings: &Settings, rng: &mut StdRng) -> Result<(), AgentError> {
    let mut stop = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let enrolment = settings.state.enrolment()?;
    let _lock = settings.state.lock()?;
    tracing::info!(device = %enrolment.device_uuid, server = %enrolment.server, "agent starts");
    allow_open_files();
    let trust = settings.trust.clone().pinning(&enrolment.server, enrolment.server_pin);
    let dialer = Dialer::new(enrolment.server, &trust)?;
    loop {
        let life = Life::begin(settings, dialer.clone(), rng)?;
        let Some(error) = life.live(&mut stop).await else { break };
        // The journal is the truth and memory is thrown away: as after a restart.
        tracing::error!(%error, "the disk failed; starting anew");
        tokio::select! {
            () = sleep(START_AGAIN_AFTER) => {}
            () = asked_to_stop(&mut stop) => break,
        }
    }
    tracing::info!("agent ends");
    Ok(())
}

/// The command of a step runner. What it fetches of the device's own server, it fetches of
/// the one that was enrolled with.
fn runner(settings: &Settings, enrolment: &Enrolment) -> Vec<OsString> {
    let mut runner = settings.runner.clone();
    if let Some(pin) = enrolment.server_pin {
        runner.extend(["--server".into(), enrolment.server.to_string().into()]);
        runner.extend(["--server-pin".into(), pin.to_string().into()]);
    }
    runner
}

/// The agent from reading the disk to its end, or until the disk fails.
struct Life {
    keeper: Keeper<StdRng>,
    to_runs: mpsc::Sender<Message>,
    runs_ended: oneshot::Receiver<io::Result<()>>,
}

impl Life {
    fn begin(settings: &Settings, dialer: Dialer, rng: &mut StdRng) -> Result<Self, AgentError> {
        let state = &settings.state;
        let (to_runs, messages) = mpsc::channel(INBOX_MESSAGES_MAX);
        let (to_link, reports) = mpsc::unbounded_channel();
        let (ended, runs_ended) = oneshot::channel();
        let surroundings = Surroundings {
            runs: state.runs(),
            runner: runner(settings, &state.enrolment()?),
            reboot_command: settings.reboot_command.clone(),
            veto_hook: state.veto_hook(),
            clock: settings.clock.clone(),
        };
        let inbox = to_runs.clone();
        thread::spawn(move || ended.send(drive(surroundings, inbox, messages, to_link)));
        let keeper = Keeper {
            carriers: Carriers::new(dialer.clone(), settings.tunnels, StdRng::from_seed(rng.random())),
            dialer,
            device: state.enrolment()?.device_uuid,
            secret: state.identity()?.to_secret_bytes(),
            inventory: Inventory::new(state.path().to_owned()),
            status: StatusFile::new(state.status_file(), settings.clock.clone()),
            rng: StdRng::from_seed(rng.random()),
            to_runs: to_runs.clone(),
            reports,
            logged: None,
        };
        Ok(Self { keeper, to_runs, runs_ended })
    }

    /// Lives until a signal (`None`) or until the disk fails.
    async fn live(mut self, stop: &mut (Signal, Signal)) -> Option<io::Error> {
        let error = tokio::select! {
            never = self.keeper.keep() => match never {},
            ended = &mut self.runs_ended => {
                Some(ended.map_or_else(io::Error::other, |ended| ended.err().unwrap_or_else(|| io::ErrorKind::Other.into())))
            }
            () = asked_to_stop(stop) => None,
        };
        self.keeper.status.disconnected(error.as_ref().map(ToString::to_string));
        if error.is_none() {
            let _ = self.to_runs.send(Message::Stop).await;
            let _ = timeout(STOP_TIMEOUT, self.runs_ended).await;
        }
        error
    }
}

async fn asked_to_stop(stop: &mut (Signal, Signal)) {
    tokio::select! {
        _ = stop.0.recv() => {}
        _ = stop.1.recv() => {}
    }
}
