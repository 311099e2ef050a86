//! Connections of callers, carried to ports of the device and to its files.
//!
//! * [`TunnelPolicy`], [`Terminals`] and [`FilePolicy`]: what the device allows, whatever the
//!   server says;
//! * [`Carriers`]: the connections to the server that carry them;
//! * [`shell`]: the processes of a terminal.

mod carriers;
mod files;
mod pty;
pub mod shell;
mod terminal;

pub use carriers::Carriers;
pub use files::{FileLevel, FilePolicy, clean_up};
pub use terminal::Terminals;

use std::sync::Arc;

use clap::ValueEnum;
use muster_core::limits::CARRIERS_MAX;
use muster_link::capability;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files beside those of streams.
const OTHER_FILES_MAX: u64 = 1_024;

/// What the device allows.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What port tunnels may reach.
    pub tunnels: TunnelPolicy,
    /// Whose terminals may be opened.
    pub terminals: Terminals,
    /// Which files may be reached.
    pub files: Arc<FilePolicy>,
}

/// What port tunnels may reach through this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TunnelPolicy {
    /// Nothing
    Off,
    /// Ports of the device itself
    Local,
    /// Other hosts in its network too
    Network,
}

impl TunnelPolicy {
    /// What the server is told that the device can do.
    pub fn capabilities(self) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Off => &[],
            Self::Local => &[capability::PORT_TUNNEL],
            Self::Network => &[capability::PORT_TUNNEL, capability::TUNNEL_TO_NETWORK],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Whether a tunnel may end at `host`, which is empty for the device itself; else why not.
    pub fn check(self, host: &str) -> Result<(), &'static str> {
        match self {
            Self::Off => Err("the device allows no tunnels"),
            Self::Local if !host.is_empty() => Err("the device allows tunnels to itself only"),
            Self::Local | Self::Network => Ok(()),
        }
    }
}

/// A connection through a tunnel is two open files, and what a process may have by
/// default is little.
pub fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = 2 * CARRIERS_MAX as u64 + OTHER_FILES_MAX;
    let current = limit.maximum.map_or(wanted, |most| most.min(wanted));
    if limit.current.is_some_and(|now| now < current)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit })
    {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
