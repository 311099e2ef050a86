//! What this agent can do, as it is told to the server when a link opens: so that a
//! deployment's preview knows which devices could not carry it out.

use std::os::unix::net::UnixStream;
use std::path::Path;

use muster_link::capability::{ACTION_PREFIX, DOCKER_ENGINE, UPLOAD_FILES};

use crate::step::{CARRIED_OUT, docker_socket};

/// The words of the protocol for what this agent can do. `socket` is where the container
/// engine listens, when that was set.
pub fn capabilities(socket: Option<&Path>) -> Vec<String> {
    let actions = CARRIED_OUT.iter().map(|action| format!("{ACTION_PREFIX}{action}"));
    let is_there = docker_socket(socket).is_some_and(|path| UnixStream::connect(path).is_ok());
    actions.chain(is_there.then(|| DOCKER_ENGINE.to_owned())).chain([UPLOAD_FILES.to_owned()]).collect()
}
