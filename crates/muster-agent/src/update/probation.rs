//! A new copy says that it reached the server.

use super::home::Home;
use super::own_version;

/// Tells the launcher, once, that this process is an agent that works.
#[derive(Debug)]
pub struct Probation {
    home: Home,
    is_over: bool,
}

impl Probation {
    /// Of the agent of that home.
    pub fn new(home: Home) -> Self {
        let is_over = !home.is_used();
        Self { home, is_over }
    }

    /// The server has welcomed this agent and answered behind its first keepalive.
    pub fn passed(&mut self) {
        if self.is_over {
            return;
        }
        match self.home.change(|slots| slots.prove(&own_version())) {
            Ok(was_tried) => {
                self.is_over = true;
                if was_tried {
                    tracing::info!(version = own_version(), "the new agent works and stays");
                }
            }
            Err(error) => tracing::warn!(%error, "cannot write down that this agent works; trying again"),
        }
    }
}
