//! What the device is and how it fares.
//!
//! * [`proc`]: reads the texts of `/proc` and `/etc`; pure;
//! * [`host`]: asks the system;
//! * [`capabilities`]: what the agent can do.

pub mod capabilities;
pub mod host;
pub mod proc;

use std::net::IpAddr;
use std::path::PathBuf;

use muster_link::{Facts, Metrics};

use proc::CpuTimes;

/// Measures the device. Remembers the last look at the processors, whose use is
/// that between two looks.
#[derive(Clone, Debug)]
pub struct Inventory {
    state_dir: PathBuf,
    cpu: Option<CpuTimes>,
}

impl Inventory {
    /// For a device whose agent keeps its state in `state_dir`.
    pub fn new(state_dir: PathBuf) -> Self {
        Self { state_dir, cpu: host::cpu_times() }
    }

    /// How the device is, since it was last asked.
    pub fn metrics(&mut self) -> Metrics {
        let cpu = host::cpu_times();
        let cpu_percent = cpu.zip(self.cpu).and_then(|(now, before)| now.busy_percent_since(&before));
        self.cpu = cpu;
        let disk = host::disk(&self.state_dir);
        Metrics {
            cpu_percent,
            ram_percent: host::ram_percent(),
            disk_used_bytes: disk.map(|disk| disk.used_bytes),
            disk_size_bytes: disk.map(|disk| disk.size_bytes),
        }
        .plausible()
    }

    /// What the device knows of itself. `local` is its address on the way to the server.
    pub fn facts(&self, local: Option<IpAddr>) -> Facts {
        let system = host::system();
        let addresses = host::addresses();
        let mut ips: Vec<String> = local.iter().map(ToString::to_string).collect();
        ips.extend(addresses.ips.into_iter().filter(|ip| Some(*ip) != local).map(|ip| ip.to_string()));
        Facts {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: system.hostname,
            os: system.os,
            arch: system.arch,
            ip_addresses: ips,
            mac_addresses: addresses.macs,
            time_zone: host::time_zone(),
        }
        .bounded()
    }
}
