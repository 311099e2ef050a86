//! The link's state on the disk, for the `status` command.

use std::path::PathBuf;

use muster_core::clock::{Clock, Timestamp};
use serde::{Deserialize, Serialize};

use crate::files::write_json;

/// `status.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Whether the link was up when this was written.
    pub is_connected: bool,
    /// When it was last known to be up; 0 when it never was.
    pub last_connected_at: Timestamp,
    /// Why it ended, or could not be made, the last time.
    pub last_error: Option<String>,
}

/// Keeps `status.json` in step with the link.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    clock: Clock,
    status: LinkStatus,
}

impl StatusFile {
    /// Begins with a link that is down.
    pub fn new(path: PathBuf, clock: Clock) -> Self {
        let found: Option<LinkStatus> = crate::files::read_json(&path).ok().flatten();
        let mut file = Self { path, clock, status: LinkStatus { is_connected: false, ..found.unwrap_or_default() } };
        file.write();
        file
    }

    /// The link came up.
    pub fn connected(&mut self) {
        let last_connected_at = self.clock.now();
        self.status = LinkStatus { is_connected: true, last_connected_at, last_error: None };
        self.write();
    }

    /// The link ended, or could not be made.
    pub fn disconnected(&mut self, error: Option<String>) {
        let before = self.status.clone();
        if before.is_connected {
            self.status.last_connected_at = self.clock.now();
        }
        self.status.is_connected = false;
        self.status.last_error = error;
        if before != self.status {
            self.write();
        }
    }

    /// A disk that is full must not cost the link.
    fn write(&mut self) {
        if let Err(error) = write_json(&self.path, &self.status) {
            tracing::warn!(%error, "cannot write the status");
        }
    }
}
