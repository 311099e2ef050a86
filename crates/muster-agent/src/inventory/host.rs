//! Asks the system. What it does not tell stays empty: a fact that is missing
//! must not cost the link.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrIn6;
use nix::sys::statvfs::statvfs;
use nix::sys::utsname::uname;

use super::proc::{self, CpuTimes};

/// Name and kind of the machine.
#[derive(Debug, Default)]
pub(super) struct System {
    pub(super) hostname: String,
    pub(super) os: String,
    pub(super) arch: String,
}

/// Use of a file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    pub(super) used_bytes: i64,
    pub(super) size_bytes: i64,
}

/// Addresses of the network interfaces, without loopback.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    pub(super) ips: Vec<IpAddr>,
    pub(super) macs: Vec<String>,
}

/// A look at the processors.
pub(super) fn cpu_times() -> Option<CpuTimes> {
    CpuTimes::parse(&fs::read_to_string("/proc/stat").ok()?)
}

/// Share of the memory in use.
pub(super) fn ram_percent() -> Option<f64> {
    proc::ram_percent(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// Use of the file system that holds `path`.
pub(super) fn disk(path: &Path) -> Option<Disk> {
    let stat = statvfs(path).ok()?;
    // The field types differ between architectures.
    let (blocks, free, unit) = (stat.blocks() as u64, stat.blocks_free() as u64, stat.fragment_size() as u64);
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(unit)).ok();
    Some(Disk { used_bytes: bytes(blocks.saturating_sub(free))?, size_bytes: bytes(blocks)? })
}

/// Name and kind of the machine.
pub(super) fn system() -> System {
    let os_release = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| fs::read_to_string(path).ok());
    let Ok(uname) = uname() else { return System::default() };
    let kernel = || format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy());
    System {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        os: os_release.as_deref().and_then(proc::pretty_name).unwrap_or_else(kernel),
        arch: uname.machine().to_string_lossy().into_owned(),
    }
}

/// The time zone's IANA name: where `/etc/localtime` leads to, or what `/etc/timezone` says.
pub(super) fn time_zone() -> String {
    let linked = fs::read_link("/etc/localtime").ok();
    let named = linked.as_deref().and_then(Path::to_str).and_then(|path| path.split_once("zoneinfo/"));
    match named {
        Some((_, name)) => name.to_owned(),
        None => fs::read_to_string("/etc/timezone").unwrap_or_default().trim().to_owned(),
    }
}

/// Addresses of the network interfaces.
pub(super) fn addresses() -> Addresses {
    let Ok(interfaces) = getifaddrs() else { return Addresses::default() };
    let mut macs = BTreeSet::new();
    let mut ips = Vec::new();
    for interface in interfaces.filter(|interface| !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)) {
        macs.extend(mac(&interface));
        ips.extend(ip(&interface));
    }
    Addresses { ips, macs: macs.into_iter().collect() }
}

fn mac(interface: &InterfaceAddress) -> Option<String> {
    let bytes = interface.address?.as_link_addr()?.addr()?;
    let text = bytes.map(|byte| format!("{byte:02x}")).join(":");
    bytes.iter().any(|byte| *byte != 0).then_some(text)
}

fn ip(interface: &InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address?;
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    let v6 = address.as_sockaddr_in6().map(SockaddrIn6::ip);
    // A link-local address means nothing beyond its cable.
    v4.or_else(|| v6.filter(|ip| !ip.is_unicast_link_local()).map(IpAddr::V6))
}
