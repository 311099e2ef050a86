//! Parts of the state directory that are damaged, and are no part of who the device is:
//! set aside, so that the agent still connects, and told to the server.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use muster_core::limits::DEGRADED_REASONS_MAX;

use crate::files::{make_private_dir, sync_parent};

/// Why the agent is not what it should be: shared by all its parts.
#[derive(Clone, Debug, Default)]
pub struct Degraded(Arc<Mutex<Vec<String>>>);

impl Degraded {
    /// Adds a reason, once.
    pub fn add(&self, reason: String) {
        let mut reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reasons.len() < DEGRADED_REASONS_MAX && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }

    /// Every reason, in the order in which they were found.
    pub fn reasons(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Moves what stands at `path` beside it, under another name; what is there already from
/// an earlier time is replaced. The reason, for a person.
pub(crate) fn set_aside(path: &Path, error: &io::Error) -> String {
    let aside = aside(path);
    let moved =
        crate::files::remove_dir(&aside).or_else(|_| fs::remove_file(&aside)).and_then(|()| fs::rename(path, &aside));
    let reason = match moved {
        Ok(()) => format!("{} is damaged ({error}) and was set aside as {}", path.display(), aside.display()),
        Err(second) => format!("{} is damaged ({error}) and could not be set aside ({second})", path.display()),
    };
    tracing::error!(reason, "the agent is degraded");
    reason
}

/// Makes the directory of a store at `root`, for the agent alone. What stands there and is
/// none is set aside, with the reason in `degraded`: the device must still connect.
pub(crate) fn open_store(root: &Path, degraded: &Degraded) -> io::Result<()> {
    if let Err(error) = make_private_dir(root) {
        if !is_damage(&error) {
            return Err(error);
        }
        degraded.add(set_aside(root, &error));
        make_private_dir(root)?;
    }
    sync_parent(root)
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".damaged");
    path.with_file_name(name)
}

/// Whether an error says that what is on the disk is not what it should be: a disk that
/// is full or fails may be better in a moment, and nothing is set aside for it.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, InvalidData, IsADirectory, NotADirectory, UnexpectedEof};
    matches!(error.kind(), AlreadyExists | InvalidData | IsADirectory | NotADirectory | UnexpectedEof)
}
