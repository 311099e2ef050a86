//! The agent's own update: two copies, a trial, and the way back.
//!
//! * [`slots`]: which copy is started; pure, and decided by one file on the disk;
//! * [`home`]: that file, and the copies beside it;
//! * [`release`]: whether a file is a release that this device trusts;
//! * [`launcher`]: starts the copy that is due, and watches a new one;
//! * [`probation`]: the new one says that it reached the server.
//!
//! The program that was installed is the launcher and the first copy. A step of a flow
//! (`muster/agent-update`) puts a new copy beside it and writes down its trial. The agent
//! then gives its process to the launcher, which starts the new copy as its child. The
//! new copy ends its trial itself, once it has reached the server. If it does not, the
//! launcher ends it and starts the old one. See `docs/decisions/0009`.

pub mod home;
pub mod launcher;
pub mod probation;
pub mod release;
pub mod slots;

use muster_core::release::ReleaseVersion;

/// In the environment of a copy: the version that its release is signed as.
pub const RELEASE_ENV: &str = "MUSTER_AGENT_RELEASE";
/// In the environment of a copy: the launcher's program.
pub const LAUNCHER_ENV: &str = "MUSTER_AGENT_LAUNCHER";
/// In the environment of a copy that the launcher watches.
pub const WATCHED_ENV: &str = "MUSTER_AGENT_WATCHED";
/// How a watched copy ends when the launcher is to look again at what is due.
pub const RELAUNCH_EXIT_CODE: u8 = 87;

/// The version of the program that was installed, as this build knows it.
pub const BUILD_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version that this process runs as: that of its release, or of its build.
pub fn own_version() -> String {
    let release = std::env::var(RELEASE_ENV).ok().and_then(|text| ReleaseVersion::parse(text).ok());
    release.map_or_else(|| BUILD_VERSION.to_owned(), |version| version.to_string())
}
