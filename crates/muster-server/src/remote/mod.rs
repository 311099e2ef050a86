//! Reaching into devices: tunnels to their ports, files of theirs.

pub mod capabilities;
pub mod logs;
pub mod tunnels;
