//! What this agent can do, as it is told to the server when a link opens: so that a
//! deployment's preview knows which devices could not carry it out.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use muster_link::capability::{ACTION_PREFIX, DOCKER_ENGINE};

use crate::step::CARRIED_OUT;

/// Where an engine listens unless `DOCKER_HOST` says otherwise.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// The words of the protocol for what this agent can do.
pub fn capabilities() -> Vec<String> {
    let actions = CARRIED_OUT.iter().map(|action| format!("{ACTION_PREFIX}{action}"));
    let engine = UnixStream::connect(docker_socket()).is_ok().then(|| DOCKER_ENGINE.to_owned());
    actions.chain(engine).collect()
}

fn docker_socket() -> PathBuf {
    let named = std::env::var("DOCKER_HOST").ok();
    let path = named.as_deref().and_then(|address| address.strip_prefix("unix://")).unwrap_or(DOCKER_SOCKET);
    PathBuf::from(path)
}
