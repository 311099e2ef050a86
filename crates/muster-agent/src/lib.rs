//! The agent that runs on each device.

pub mod enroll;
mod files;
pub mod http;
pub mod inventory;
pub mod link;
pub mod net;
pub mod run;
pub mod server_url;
pub mod state;
pub mod step;
