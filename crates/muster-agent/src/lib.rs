//! The agent that runs on each device.

mod files;
pub mod run;
pub mod server_url;
pub mod state;
pub mod step;
