//! The real agent, a process of its own, against a scripted server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say why")]

mod actions;
mod artifacts;
mod commands;
mod device;
mod enrolment;
mod interruptions;
mod packages;
mod runner;
mod runs;
mod server;
mod streams;
