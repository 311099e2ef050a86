//! The step runner: a process for each step. Plain threads and no runtime, so
//! that it is small and there is little that can go wrong in it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use muster_core::clock::Clock;
use nix::sys::signal::{SigSet, Signal};

use super::StepOutcome;
use super::context::{Context, Supervisor};
use super::dir::StepDir;
use super::perform::perform;
use super::supervise::Event;
use crate::trust::Trust;

/// How often, and how many times, a full disk is asked again to take the result.
const SAVE_AGAIN_AFTER: Duration = Duration::from_secs(5);
const SAVES_MAX: u32 = 24;

/// Runs the step that `dir` describes and leaves its result there.
///
/// `docker_socket` is where the container engine listens, when that was set.
pub fn run(dir: &Path, docker_socket: Option<PathBuf>, clock: &Clock, trust: &Trust) -> io::Result<()> {
    let dir = StepDir::new(dir);
    check_lock(&dir)?;
    let spec = dir.spec()?;
    let (tx, events) = mpsc::channel();
    forward_signals(tx.clone())?;
    let mut context = Context::new(spec, dir.clone(), clock.clone(), trust.clone(), Supervisor { tx, events });
    context.docker_socket = docker_socket;
    save(&dir, &perform(&context))
}

/// Refuses to run unless standard input is the step's lock, and locked: a runner
/// that anyone else starts could run a step a second time.
fn check_lock(dir: &StepDir) -> io::Result<()> {
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?).metadata()?;
    let lock = File::open(dir.lock_file())?.metadata()?;
    if (stdin.dev(), stdin.ino()) == (lock.dev(), lock.ino()) && dir.is_running() {
        return Ok(());
    }
    Err(io::Error::other("a step runner is started by the agent alone"))
}

/// Turns SIGTERM and SIGINT into [`Event::Stop`]. They are blocked in every thread
/// and taken by one; the command starts with none blocked.
fn forward_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            let _ = events.send(Event::Stop);
        }
    });
    Ok(())
}

/// A disk may be full because of what the step did. The outputs are given up
/// before the result is, and the result only after a while.
fn save(dir: &StepDir, outcome: &StepOutcome) -> io::Result<()> {
    let Err(error) = dir.save_outcome(outcome) else { return Ok(()) };
    let stderr = format!("[the output could not be written: {error}]\n");
    let bare = StepOutcome { stdout: String::new(), stderr, ..outcome.clone() };
    let mut last = error;
    for _ in 0..SAVES_MAX {
        match dir.save_outcome(&bare) {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
        thread::sleep(SAVE_AGAIN_AFTER);
    }
    Err(last)
}
