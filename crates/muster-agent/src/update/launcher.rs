//! Starts the copy of the agent that is due, and watches one that is new.
//!
//! The launcher is the program that was installed. With nothing to launch it goes on as
//! the agent. A copy that has proved itself takes its process over. A new one becomes
//! its child, so that one which hangs can be ended, and dies with it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use muster_core::release::ReleaseVersion;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use tokio::process::Child;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use super::home::Home;
use super::slots::{Slots, Start, Trial};
use super::{BUILD_VERSION, LAUNCHER_ENV, RELAUNCH_EXIT_CODE, RELEASE_ENV, WATCHED_ENV};

/// In the environment of a copy: why the launcher says that the agent is degraded, a line each.
pub const DEGRADED_ENV: &str = "MUSTER_AGENT_DEGRADED";
/// How often the launcher looks how a trial stands.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// From asking a copy to end to ending it.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon a copy that ended by itself is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How the launcher's child ends that could not become the copy.
const NOT_STARTED: u8 = 88;

/// What came of launching.
#[derive(Debug)]
pub enum Launched {
    /// This process is the agent; why it is degraded, if it is.
    Here(Vec<String>),
    /// A copy was the agent, and has ended so.
    Ended(ExitCode),
}

/// Launches what is due in the state directory. `program` is the installed program, `args`
/// what it was started with.
pub fn launch(state: &Path, program: &Path, args: &[OsString]) -> Launched {
    let home = Home::new(state);
    if !home.is_used() {
        return Launched::Here(Vec::new());
    }
    let mut launcher =
        Launcher { home, program: program.to_owned(), args: args.to_vec(), degraded: Vec::new(), is_stopping: false };
    launcher.launch()
}

struct Launcher {
    home: Home,
    program: PathBuf,
    args: Vec<OsString>,
    degraded: Vec<String>,
    is_stopping: bool,
}

/// How a watched copy came to its end.
enum End {
    /// Before it reached the server.
    Tried(ExitStatus),
    /// Its trial was given up, and it was ended.
    GivenUp,
    /// After it had reached the server.
    Proved(ExitStatus),
}

impl Launcher {
    fn launch(&mut self) -> Launched {
        let Ok(installed) = ReleaseVersion::parse(BUILD_VERSION) else { return self.here() };
        loop {
            let slots = self.home.read_or_set_aside(&mut self.degraded);
            let start = slots.choose(&installed, |copy| self.home.is_good(copy));
            self.note_damage(&slots, &start, &installed);
            let done = match start {
                Start::Installed => return self.here(),
                Start::Copy(copy) => {
                    let error = self.copy_command(copy.version.as_str(), false).exec();
                    self.degraded.push(format!("the agent {} cannot be started: {error}", copy.version));
                    return self.here();
                }
                Start::GiveUp(why) => {
                    tracing::error!(why, "the new agent is given up");
                    self.home.change(|slots| slots.give_up(why))
                }
                Start::Trial(trial) => match self.home.change(Slots::started).and_then(|()| self.watch(&trial)) {
                    Ok(Some(code)) => return Launched::Ended(code),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = done {
                // A disk that takes nothing: the agent that is known to work goes on.
                self.degraded.push(format!("the update of the agent cannot go on: {error}"));
                return self.here();
            }
        }
    }

    fn here(&mut self) -> Launched {
        Launched::Here(std::mem::take(&mut self.degraded))
    }

    fn note_damage(&mut self, slots: &Slots, start: &Start, installed: &ReleaseVersion) {
        let Some(current) = slots.current.as_ref().filter(|_| slots.trial.is_none()) else { return };
        let is_it = matches!(start, Start::Copy(copy) if copy == current);
        if !is_it && !current.version.is_older_than(installed) {
            self.degraded.push(format!("the agent {} on the disk is damaged; another one runs", current.version));
        }
    }

    /// The copy as a command; a watched one by way of this program, which ties it to this process.
    fn copy_command(&self, version: &str, is_watched: bool) -> Command {
        let copy = self.home.program(version);
        let mut command = if is_watched {
            let mut command = Command::new(&self.program);
            command.arg("become-copy").arg(std::process::id().to_string()).arg(copy).env(WATCHED_ENV, "1");
            command
        } else {
            Command::new(copy)
        };
        command.args(&self.args).env(LAUNCHER_ENV, &self.program).env(RELEASE_ENV, version);
        if !self.degraded.is_empty() {
            command.env(DEGRADED_ENV, self.degraded.join("\n"));
        }
        command
    }

    /// Runs a copy on trial to its end: the code to end with, or `None` to look again what is due.
    fn watch(&mut self, trial: &Trial) -> io::Result<Option<ExitCode>> {
        let version = &trial.copy.version;
        tracing::info!(%version, start = trial.starts + 1, "the new agent is tried");
        // One thread: a child dies with the thread that started it.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let end = runtime.block_on(self.run_trial(trial))?;
        match end {
            _ if self.is_stopping => Ok(Some(ExitCode::SUCCESS)),
            End::GivenUp => Ok(None),
            End::Tried(status) => {
                let why = ended_so(status);
                tracing::warn!(%version, why, "the new agent ended before it reached the server");
                self.home.change(|slots| {
                    if let Some(trial) = &mut slots.trial {
                        trial.last_end = Some(why);
                    }
                })?;
                std::thread::sleep(AGAIN_AFTER);
                Ok(None)
            }
            End::Proved(status) if status.code() == Some(i32::from(RELAUNCH_EXIT_CODE)) => Ok(None),
            End::Proved(status) => Ok(Some(code_of(status))),
        }
    }

    async fn run_trial(&mut self, trial: &Trial) -> io::Result<End> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let command = self.copy_command(trial.copy.version.as_str(), true);
        let mut child = tokio::process::Command::from(command).spawn()?;
        let deadline = Instant::now() + Duration::from_secs(trial.window_s);
        let mut is_tried = true;
        loop {
            tokio::select! {
                status = child.wait() => {
                    let status = status?;
                    // It may have proved itself in its last moment.
                    let is_tried = is_tried && self.trial_of(trial).is_some();
                    return Ok(if is_tried { End::Tried(status) } else { End::Proved(status) });
                }
                _ = terminate.recv() => self.stop(&child),
                _ = interrupt.recv() => self.stop(&child),
                () = sleep(LOOK_EVERY), if is_tried && !self.is_stopping => match self.trial_of(trial) {
                    None => is_tried = false,
                    Some(now) => {
                        let late = (Instant::now() >= deadline).then(|| self.too_late(trial));
                        if let Some(why) = now.cancelled.or(late) {
                            return self.give_up(&mut child, trial, why).await;
                        }
                    }
                },
            }
        }
    }

    /// Gives the trial up first and ends the copy then: in between it cannot prove itself
    /// any more. One that proved itself in the last moment stays.
    async fn give_up(&self, child: &mut Child, trial: &Trial, why: String) -> io::Result<End> {
        tracing::error!(why, "the new agent is given up");
        let is_given_up = self.home.change(|slots| {
            let is_it = slots.trial.as_ref().is_some_and(|now| now.by == trial.by);
            if is_it {
                slots.give_up(why);
            }
            is_it
        })?;
        if !is_given_up {
            return Ok(End::Proved(child.wait().await?));
        }
        send(child, Signal::SIGTERM);
        if timeout(END_TIMEOUT, child.wait()).await.is_err() {
            child.kill().await?;
        }
        Ok(End::GivenUp)
    }

    fn too_late(&self, trial: &Trial) -> String {
        format!("it did not reach the server within {} s", trial.window_s)
    }

    /// The trial, while it lasts. A file that cannot be read at the moment ends none.
    fn trial_of(&self, trial: &Trial) -> Option<Trial> {
        match self.home.read() {
            Ok(slots) => slots.trial.filter(|now| now.by == trial.by),
            Err(_) => Some(trial.clone()),
        }
    }

    fn stop(&mut self, child: &Child) {
        self.is_stopping = true;
        send(child, Signal::SIGTERM);
    }
}

fn send(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn ended_so(status: ExitStatus) -> String {
    if status.code() == Some(i32::from(NOT_STARTED)) {
        return "it could not be started: the system cannot run its program".to_owned();
    }
    format!("it ended by itself with {status}")
}

fn code_of(status: ExitStatus) -> ExitCode {
    const SIGNALLED: i32 = 128;
    let code = status.code().unwrap_or_else(|| SIGNALLED + status.signal().unwrap_or(0));
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Turns this process, a child of the launcher, into the copy `program`. It dies with its
/// launcher, also when it hangs: two agents at a time would be worse than none.
pub fn become_copy(launcher: i32, program: &Path, args: &[OsString]) -> ExitCode {
    let tied = set_pdeathsig(Signal::SIGKILL);
    if tied.is_err() || getppid() != Pid::from_raw(launcher) {
        return ExitCode::from(NOT_STARTED);
    }
    let error = Command::new(program).args(args).exec();
    // The log of the launcher says what it means.
    eprintln!("{}: {error}", program.display());
    ExitCode::from(NOT_STARTED)
}

/// Gives this process back to the launcher. Returns only what went wrong.
pub fn relaunch(launcher: &Path, args: &[OsString]) -> io::Error {
    let mut command = Command::new(launcher);
    for name in [LAUNCHER_ENV, RELEASE_ENV, WATCHED_ENV, DEGRADED_ENV] {
        command.env_remove(name);
    }
    command.args(args).exec()
}
