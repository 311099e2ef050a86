//! Words and rules of a device fleet, without I/O.
//!
//! Everything here is pure: values in, values out. The clock and the source of
//! randomness are parameters, so that every rule can be tested at any moment.
//!
//! Reading order:
//!
//! * [`clock`], [`ids`], [`identifiers`], [`names`], [`token`]: the words;
//! * [`invalid`], [`wire`]: how a bad word is refused;
//! * [`limits`]: every bound, named with its unit;
//! * [`filter`], [`patch`]: which devices are meant, and what changes on one;
//! * [`flow`]: what an update does;
//! * [`target`], [`deadlines`]: how one device goes through one deployment, and for how long;
//! * [`command`]: how one device goes through one run of a remote command;
//! * [`rollout`]: how a deployment goes over its devices;
//! * [`access`], [`scope`]: who may do what, and what a token may at most; [`access_grant`]: for a while;
//! * [`access_key`]: what programs sign requests of the Tag Service with;
//! * [`registry`], [`artifact`]: where updates come from; [`release`]: those of the agent;
//! * [`resource`], [`tag_rules`]: what else than a device bears tags, and which the Tag Service makes;
//! * [`monitor`], [`tunnel`], [`file_rules`]: values that devices send, ways to their ports, and to their files.

pub mod access;
pub mod access_grant;
pub mod access_key;
pub mod artifact;
pub mod clock;
pub mod command;
pub mod deadlines;
pub mod file_rules;
pub mod filter;
pub mod flow;
pub mod identifiers;
pub mod ids;
pub mod invalid;
pub mod limits;
pub mod monitor;
pub mod names;
pub mod patch;
pub mod registry;
pub mod release;
pub mod remote_session;
pub mod resource;
pub mod rollout;
pub mod scope;
pub mod tag_rules;
pub mod target;
pub mod token;
pub mod tunnel;
#[cfg(feature = "windows")]
pub mod window;
pub mod wire;
