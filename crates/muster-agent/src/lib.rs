//! The agent that runs on each device.
//!
//! It dials the server, keeps one link open, carries out what it is told and
//! reports what came of it. A run survives whatever happens to the agent, the
//! link or the power: it is written into a journal before it is done.
//!
//! Reading order:
//!
//! * [`cli`]: the commands, for `muster-agent` and for `muster agent`;
//! * [`state`]: what is on the disk;
//! * [`enroll`], with [`net`] and [`http`]: how a device joins a fleet;
//! * [`inventory`]: what it tells of itself;
//! * [`agent`]: the running agent;
//! * [`link`]: what it says to the server;
//! * [`remote`]: connections of callers, carried to ports of the device;
//! * [`run`]: what it is told to do, and the journal;
//! * [`command`]: scripts that somebody runs on it;
//! * [`step`]: one command, under a supervisor of its own;
//! * [`update`]: the agent in another version;
//! * [`set_aside`]: damaged files, which keep no agent from connecting;
//! * [`upload`]: files that somebody asked for.

pub mod agent;
pub mod cli;
pub mod command;
pub mod enroll;
mod files;
pub mod http;
pub mod inventory;
pub mod link;
pub mod net;
pub mod remote;
pub mod run;
pub mod server_url;
pub mod set_aside;
pub mod state;
mod status;
pub mod step;
pub mod trust;
pub mod update;
pub mod upload;
mod veto;
