//! A step's directory, from the agent's side: made before the step starts,
//! waited for, removed when its result is in the journal.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{StepOutcome, StepSpec};
use crate::files::{make_private_dir, private_file, read_json, remove_dir, sync_parent, write_json};

/// `step-N` of a run.
#[derive(Clone, Debug)]
pub struct StepDir(PathBuf);

/// A step whose directory is written and locked, but which has not started.
#[derive(Debug)]
pub struct PreparedStep {
    dir: StepDir,
    lock: File,
}

impl StepDir {
    /// The directory at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the step numbered `index` of the same run keeps what it saved.
    pub fn saved(&self, index: u32) -> PathBuf {
        self.0.with_file_name(format!("{SAVED}{index}"))
    }

    /// What a runner's standard input must be.
    pub fn lock_file(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Writes down what the step is to do, and takes its lock.
    pub fn prepare(&self, spec: &StepSpec) -> io::Result<PreparedStep> {
        // Left by an agent that died before it wrote `step_started`: nothing ran.
        remove_dir(&self.0)?;
        make_private_dir(&self.0)?;
        let lock = self.open_lock()?;
        lock.try_lock()?;
        write_json(&self.0.join("step.json"), spec)?;
        sync_parent(&self.0)?;
        Ok(PreparedStep { dir: self.clone(), lock })
    }

    /// What the step is to do.
    pub fn spec(&self) -> io::Result<StepSpec> {
        let spec = read_json(&self.0.join("step.json"))?;
        spec.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "step.json is missing"))
    }

    /// Waits until no runner lives, and reads what it left: `None` when nothing.
    pub fn wait(&self) -> io::Result<Option<StepOutcome>> {
        if !self.0.exists() {
            return Ok(None);
        }
        self.open_lock()?.lock()?;
        read_json(&self.result_file())
    }

    /// Whether a runner lives at this moment.
    pub fn is_running(&self) -> bool {
        File::open(self.lock_file()).is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Asks the runner to end the step. A file, not a signal: it needs no process
    /// id that might have become another's, and it reaches a runner that has only
    /// just started.
    pub fn request_stop(&self) -> io::Result<()> {
        private_file().truncate(false).open(self.stop_file()).map(drop)
    }

    /// Whether the step was asked to end.
    pub fn is_stop_requested(&self) -> bool {
        self.stop_file().exists()
    }

    /// Leaves the step's result for the agent.
    pub fn save_outcome(&self, outcome: &StepOutcome) -> io::Result<()> {
        write_json(&self.result_file(), outcome)
    }

    /// Where the runner of a remote command writes its latest output.
    pub fn output_file(&self) -> PathBuf {
        self.0.join("output")
    }

    /// Removes the directory.
    pub fn remove(&self) -> io::Result<()> {
        remove_dir(&self.0)
    }

    fn open_lock(&self) -> io::Result<File> {
        private_file().truncate(false).open(self.lock_file())
    }

    fn stop_file(&self) -> PathBuf {
        self.0.join("stop")
    }

    fn result_file(&self) -> PathBuf {
        self.0.join("result.json")
    }
}

impl PreparedStep {
    /// Starts the runner, with the lock in its hand.
    pub fn launch(self, runner: &[OsString]) -> io::Result<Child> {
        let (program, args) = runner.split_first().ok_or_else(|| io::Error::other("no runner"))?;
        Command::new(program)
            .args(args)
            .arg("--dir")
            .arg(&self.dir.0)
            .stdin(Stdio::from(self.lock))
            .stdout(Stdio::null())
            // A group of its own: what ends the agent's group does not reach it.
            .process_group(0)
            .spawn()
    }
}

/// Begins the name of a directory in which a step keeps what it saved.
const SAVED: &str = "saved-";

/// Removes every step directory of a run.
pub fn remove_all(run: &Path) -> io::Result<()> {
    named(run, "step-")?.iter().try_for_each(|dir| remove_dir(dir))
}

/// Where the steps of a run saved what they changed.
pub fn all_saved(run: &Path) -> io::Result<Vec<PathBuf>> {
    named(run, SAVED)
}

fn named(run: &Path, begin: &str) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(run)?.map(|entry| entry.map(|entry| entry.path()));
    let is_named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begin));
    paths.filter(|path| path.as_ref().is_ok_and(is_named)).collect()
}
