//! Starts a step's command, or one that an action needs, and sees to it that it ends.

use std::io::{self, PipeReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use muster_core::clock::{Clock, Timestamp};
use muster_core::limits::STEP_KILL_GRACE;
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::dir::StepDir;
use super::output::{Capture, HeadTail};
use super::{StepEnd, StepOutcome};

/// How often the runner looks whether it was asked to stop.
const STOP_POLL: Duration = Duration::from_millis(100);
/// How often it looks whether a process group that it ends is gone.
const GROUP_POLL: Duration = Duration::from_millis(20);
/// How long output may still come after the command's exit, from what it left behind.
const OUTPUT_WAIT: Duration = Duration::from_secs(2);
/// How long a killed process may take to be gone; one that hangs in the kernel never is.
const KILLED_WAIT: Duration = Duration::from_secs(10);
/// The kernel takes no longer argument than 128 KiB.
const ARGUMENT_BYTES_MAX: usize = 128 * 1024 - 1;
/// Variables of the agent that are no business of a step: one may be a pairing token.
const AGENT_ENV_PREFIX: &str = "MUSTER_AGENT_";

/// What a runner waits for.
pub(super) enum Event {
    /// A child of the runner ended.
    Exited(Pid, Exit),
    /// A signal asks the runner to stop.
    Stop,
}

/// With what a process ended.
#[derive(Clone, Copy)]
pub(super) enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A command, and what bounds it.
pub(super) struct Bounded<'a> {
    /// What is run.
    pub(super) command: Command,
    /// How long it may run.
    pub(super) timeout: Duration,
    /// The time limit of its step, of which that is what is left.
    pub(super) limit: Duration,
    /// The step's directory; `None` when no request to stop may end the command.
    pub(super) stopped_by: Option<&'a StepDir>,
    /// Where its latest output is written while it runs; then both outputs are one.
    pub(super) followed_in: Option<PathBuf>,
}

/// Runs the command to its end, whichever comes first: its own, its time limit, or a stop.
pub(super) fn supervise(
    bounded: Bounded<'_>,
    clock: &Clock,
    tx: &Sender<Event>,
    events: &Receiver<Event>,
) -> Supervised {
    let Bounded { mut command, timeout, limit, stopped_by, followed_in } = bounded;
    let started_at = clock.now();
    // What the command leaves behind becomes the runner's child; where that cannot
    // be, ending a group may take a little longer.
    let _ = set_child_subreaper(true);
    let (mut child, joined) = match start(&mut command, followed_in.is_some()) {
        Ok(started) => started,
        Err(error) => {
            let why = format!("the command could not be started: {error}");
            let mut stderr = HeadTail::default();
            stderr.push(format!("[{why}]\n").as_bytes());
            return Supervised {
                end: StepEnd::Interrupted,
                exit: None,
                stdout: HeadTail::default(),
                stderr,
                started_at,
            };
        }
    };
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    // It holds the pipe's other end.
    drop(command);
    let joined = joined.map(|output| Capture::start_followed(output, followed_in));
    let outputs = (joined.or_else(|| child.stdout.take().map(Capture::start)), child.stderr.take().map(Capture::start));
    let reaped = tx.clone();
    thread::spawn(move || reap(&reaped));
    let (end, exit) = wait_for_end(timeout, stopped_by, group, events);
    let stdout = outputs.0.map_or_else(Default::default, |stream| stream.finish(OUTPUT_WAIT));
    let mut stderr = outputs.1.map_or_else(Default::default, |stream| stream.finish(OUTPUT_WAIT));
    note_end(&mut stderr, limit, (end, exit));
    Supervised { end, exit, stdout, stderr, started_at }
}

/// `sh` with `script`, which may be longer than any argument.
pub(super) fn shell(script: &str, dir: &StepDir) -> io::Result<Command> {
    let mut command = Command::new("sh");
    if script.len() < ARGUMENT_BYTES_MAX {
        command.args(["-c", script]);
    } else {
        let file = dir.path().join("script");
        crate::files::write_atomically(&file, script.as_bytes())?;
        command.arg(file);
    }
    command.current_dir("/");
    Ok(command)
}

/// Starts the command; where its outputs are to be one, with the end at which they are read.
fn start(command: &mut Command, is_joined: bool) -> io::Result<(Child, Option<PipeReader>)> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| name.to_string_lossy().starts_with(AGENT_ENV_PREFIX)).for_each(|name| {
        command.env_remove(name);
    });
    command.stdin(Stdio::null()).process_group(0);
    if !is_joined {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        return Ok((child, None));
    }
    let (reader, writer) = io::pipe()?;
    let child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
    Ok((child, Some(reader)))
}

/// Waits for the command, and for every process that it leaves behind: the runner
/// is their parent then, so that a dead one is seen to be gone whatever the
/// machine's first process does.
fn reap(events: &Sender<Event>) {
    loop {
        let (pid, exit) = match wait() {
            Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        let _ = events.send(Event::Exited(pid, exit));
    }
}

fn wait_for_end(
    timeout: Duration,
    stopped_by: Option<&StepDir>,
    group: Pid,
    events: &Receiver<Event>,
) -> (StepEnd, Option<Exit>) {
    let began = Instant::now();
    loop {
        let left = timeout.saturating_sub(began.elapsed());
        match events.recv_timeout(left.min(STOP_POLL)) {
            Ok(Event::Exited(pid, exit)) if pid == group => return (StepEnd::Exited, Some(exit)),
            Ok(Event::Stop) if stopped_by.is_some() => return (StepEnd::Stopped, end_group(group, events)),
            Err(_) if stopped_by.is_some_and(StepDir::is_stop_requested) => {
                return (StepEnd::Stopped, end_group(group, events));
            }
            Err(_) if left.is_zero() => return (StepEnd::TimedOut, end_group(group, events)),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            // The thread that waits for the command cannot wait: nothing more will come.
            Err(RecvTimeoutError::Disconnected) => return (StepEnd::Interrupted, end_group(group, events)),
        }
    }
}

/// Asks the whole process group to end, and ends it when it does not.
///
/// The group's number stays taken for as long as any member lives, so the second
/// signal cannot hit a stranger.
fn end_group(group: Pid, events: &Receiver<Event>) -> Option<Exit> {
    let _ = killpg(group, Signal::SIGTERM);
    let mut exit = None;
    if !wait_for_group(group, events, &mut exit, STEP_KILL_GRACE) {
        let _ = killpg(group, Signal::SIGKILL);
        wait_for_group(group, events, &mut exit, KILLED_WAIT);
    }
    exit
}

/// Whether the whole group ended within `limit`; keeps how the command itself did.
fn wait_for_group(group: Pid, events: &Receiver<Event>, exit: &mut Option<Exit>, limit: Duration) -> bool {
    let began = Instant::now();
    while began.elapsed() < limit {
        match events.recv_timeout(GROUP_POLL) {
            Ok(Event::Exited(pid, exited)) if pid == group => *exit = Some(exited),
            _ => {}
        }
        if exit.is_some() && killpg(group, None) == Err(Errno::ESRCH) {
            return true;
        }
    }
    false
}

/// Says why a command ended that did not end by itself, behind what it said last.
fn note_end(stderr: &mut HeadTail, limit: Duration, end: (StepEnd, Option<Exit>)) {
    let note = match end {
        (StepEnd::TimedOut, _) => format!("ended after its time limit of {} s", limit.as_secs_f64()),
        (StepEnd::Stopped, _) => "stopped".to_owned(),
        (_, Some(Exit::Signal(signal))) => format!("ended by signal {signal}"),
        _ => return,
    };
    let line = if stderr.ends_line() { "" } else { "\n" };
    stderr.push(format!("{line}[{note}]\n").as_bytes());
}

/// What became of a command.
pub(super) struct Supervised {
    /// How it ended.
    pub(super) end: StepEnd,
    exit: Option<Exit>,
    /// What is kept of its standard output.
    pub(super) stdout: HeadTail,
    /// What is kept of its standard error.
    pub(super) stderr: HeadTail,
    started_at: Timestamp,
}

impl Supervised {
    /// Its exit code. What a command says with it once it was ended is none of the step.
    pub(super) fn exit_code(&self) -> Option<i32> {
        match self.exit {
            Some(Exit::Code(code)) if self.end == StepEnd::Exited => Some(code),
            _ => None,
        }
    }

    /// The signal that ended it.
    pub(super) fn signal(&self) -> Option<i32> {
        match self.exit {
            Some(Exit::Signal(signal)) => Some(signal),
            _ => None,
        }
    }

    /// It as the outcome of a whole step.
    pub(super) fn outcome(&self, finished_at: Timestamp) -> StepOutcome {
        StepOutcome {
            end: self.end,
            exit_code: self.exit_code(),
            signal: self.signal(),
            stdout: self.stdout.to_text(),
            stderr: self.stderr.to_text(),
            left_out_bytes: self.stdout.left_out_bytes(),
            started_at: self.started_at,
            finished_at,
        }
    }
}
