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
//! * [`target`]: how one device goes through one deployment;
//! * [`access`], [`scope`]: who may do what, and what a token may at most;
//! * [`registry`], [`artifact`]: where updates come from;
//! * [`monitor`], [`tunnel`]: values that devices send, ways to their ports.

pub mod access;
pub mod artifact;
pub mod clock;
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
pub mod scope;
pub mod target;
pub mod token;
pub mod tunnel;
pub mod wire;
