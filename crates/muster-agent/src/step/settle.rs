//! What stood ready to be put back is removed, once the run is over.
//!
//! Files are removed at once. A container that stands aside is removed by the engine,
//! which may be away: so that is done beside the agent's work, and again by the next
//! agent when this one ends first.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::actions::{docker, docker_compose};
use super::dir;
use super::saved::{Phase, Saved};
use crate::files::remove_dir;

/// From one attempt to the next, at first and at most.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// Begins to remove what the steps of `run` saved.
pub fn begin(run: &Path) -> io::Result<()> {
    for saved in dir::all_saved(run)? {
        if docker::is_to_settle(&saved) || docker_compose::is_to_settle(&saved) {
            thread::spawn(move || settle(&saved));
        } else {
            remove_dir(&saved)?;
        }
    }
    Ok(())
}

fn settle(saved: &Path) {
    let mut pause = AGAIN_AFTER;
    // The run may be forgotten meanwhile.
    while saved.exists() {
        let is_done = matches!(Saved::new(saved).phase(), Ok(Some(Phase::Done)));
        let settled = docker::settle(saved, is_done, &|| Ok(()));
        match settled.and_then(|()| docker_compose::settle(saved, is_done, &|| Ok(()))) {
            Ok(()) => {
                if let Err(error) = remove_dir(saved) {
                    tracing::warn!(%error, "what a step saved cannot be removed");
                }
                return;
            }
            Err(failure) => tracing::warn!(why = failure.why, "what an update left of before is not removed yet"),
        }
        thread::sleep(pause);
        pause = (pause * 2).min(AGAIN_AFTER_MAX);
    }
}
