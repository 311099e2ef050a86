//! How a deployment goes over its devices: in waves, within budgets, until something
//! is wrong.
//!
//! * [`policy`]: what a person asks for;
//! * [`plan`]: from that and from what has become of the devices, what may start now,
//!   and whether the rollout goes on, pauses or is over;
//! * [`choose`]: which devices those are, where not all of them may be away at once.
//!
//! Nothing here remembers anything: the engine asks again after whatever happened.

pub mod choose;
pub mod plan;
pub mod policy;

#[cfg(test)]
mod simulation;
