//! What the device allows, whatever the fleet's rules say.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use muster_core::file_rules::{FileAccess, FileRule, FileRules};
use muster_core::invalid::Invalid;
use muster_link::capability;

/// What people may do with files of this device at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileLevel {
    /// Nothing
    Off,
    /// List and read
    Read,
    /// Write too
    Write,
}

/// What the device allows.
#[derive(Debug)]
pub struct FilePolicy {
    level: FileLevel,
    /// Where this is, and nowhere else; everywhere where there is nothing in it.
    allowed: FileRules,
    state: PathBuf,
}

impl FilePolicy {
    /// That much, below the paths that match one of `patterns`, or anywhere without one;
    /// but never what lies in `state`, which holds the device's key.
    pub fn new(level: FileLevel, patterns: Vec<String>, state: &Path) -> Result<Self, Invalid> {
        let rule = |path: String| FileRule { path, access: FileAccess::Write };
        let allowed = FileRules::new(patterns.into_iter().map(rule).collect())?;
        let state = state.canonicalize().unwrap_or_else(|_| state.to_owned());
        Ok(Self { level, allowed, state })
    }

    /// What the server is told that the device can do.
    pub fn capabilities(&self) -> Vec<String> {
        let words: &[&str] = if self.level == FileLevel::Off { &[] } else { &[capability::FILES] };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// The directory of the agent's state.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// What may be done with what lies at a path without links.
    pub(super) fn access(&self, path: &[u8]) -> FileAccess {
        let most = match self.level {
            FileLevel::Off => FileAccess::None,
            FileLevel::Read => FileAccess::Read,
            FileLevel::Write => FileAccess::Write,
        };
        let here = if self.allowed.as_slice().is_empty() { most } else { self.allowed.access(path) };
        most.min(here)
    }

    /// The device and number of each thing that is served under no name: the state
    /// directory and the files in it.
    pub(super) fn secrets(&self) -> Vec<(u64, u64)> {
        let files = std::fs::read_dir(&self.state).into_iter().flatten().flatten().map(|entry| entry.path());
        let known = files.chain([self.state.clone()]).filter_map(|path| std::fs::symlink_metadata(path).ok());
        known.map(|known| (known.dev(), known.ino())).collect()
    }
}
