//! Reaching into devices: tunnels and streams to their ports, commands on them, files of theirs.
//!
//! [`tunnels`] are the operations. What a tunnel is made of while it is open: [`live`] has
//! its listener, [`visitor`] one connection through it, [`carriers`] what takes that to the
//! device; [`keeper`] looks whether it may go on.
//!
//! [`sessions`] is what every session of a person shares; [`streams`], [`terminals`] and
//! [`files`] are its kinds. [`asciicast`] writes down what a terminal shows, [`recordings`]
//! keeps it. [`retention`] forgets what is long over.

pub mod asciicast;
pub mod capabilities;
pub mod carriers;
pub mod command_runs;
pub mod files;
pub mod keeper;
pub mod live;
pub mod logs;
pub mod recordings;
pub mod retention;
pub mod saved_commands;
pub mod sessions;
pub mod streams;
pub mod terminals;
pub mod tunnels;
mod visitor;
