//! The link's state on the disk, for the `status` command.

use std::path::PathBuf;

use muster_core::clock::{Clock, Timestamp};
use serde::{Deserialize, Serialize};

use crate::files::write_json;
use crate::set_aside::{Degraded, set_aside};

/// `status.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Whether the link was up when this was written.
    pub is_connected: bool,
    /// When it was last known to be up; 0 when it never was.
    pub last_connected_at: Timestamp,
    /// Why it ended, or could not be made, the last time.
    pub last_error: Option<String>,
    /// Why the agent is degraded, if it is.
    #[serde(default)]
    pub degraded: Vec<String>,
}

/// Keeps `status.json` in step with the link.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    clock: Clock,
    degraded: Degraded,
    status: LinkStatus,
}

impl StatusFile {
    /// Begins with a link that is down.
    pub fn new(path: PathBuf, clock: Clock, degraded: Degraded) -> Self {
        let found: Option<LinkStatus> = crate::files::read_json(&path).unwrap_or_else(|error| {
            degraded.add(set_aside(&path, &error));
            None
        });
        let mut file =
            Self { path, clock, degraded, status: LinkStatus { is_connected: false, ..found.unwrap_or_default() } };
        file.write();
        file
    }

    /// The link came up.
    pub fn connected(&mut self) {
        let last_connected_at = self.clock.now();
        let degraded = self.degraded.reasons();
        self.status = LinkStatus { is_connected: true, last_connected_at, last_error: None, degraded };
        self.write();
    }

    /// The link ended, or could not be made; without an error when the agent ends.
    pub fn disconnected(&mut self, error: Option<String>) {
        let before = self.status.clone();
        if before.is_connected {
            self.status.last_connected_at = self.clock.now();
        }
        self.status.is_connected = false;
        self.status.degraded = self.degraded.reasons();
        self.status.last_error = error.or(self.status.last_error.take());
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::files::read_json;

    #[test]
    fn remembers_when_the_link_was_last_up_and_writes_only_news() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        let clock = Clock::manual(Timestamp::from_millis(1_000));
        let mut file = StatusFile::new(path.clone(), clock.clone(), Degraded::default());
        file.connected();
        clock.advance(Duration::from_secs(5));
        file.disconnected(Some("gone".to_owned()));
        let down: LinkStatus = read_json(&path).unwrap().unwrap();
        assert_eq!((down.is_connected, down.last_connected_at), (false, Timestamp::from_millis(6_000)));
        std::fs::remove_file(&path).unwrap();
        file.disconnected(Some("gone".to_owned()));
        assert!(!path.exists(), "the same failure again is no news");
        file.disconnected(Some("far gone".to_owned()));
        let later = StatusFile::new(path, clock, Degraded::default());
        assert_eq!(later.status.last_connected_at, Timestamp::from_millis(6_000), "kept over a restart");
    }
}
