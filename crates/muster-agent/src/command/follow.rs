//! What a running command puts out, told while it runs: not all of it, and not often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use muster_core::command::CommandEvent;
use muster_core::limits::COMMAND_OUTPUT_PERIOD;

use crate::step::dir::StepDir;
use crate::step::output::latest;

/// By how much longer each pause is than the one before, and the longest: a command that
/// runs for hours is not told of every second.
const LONGER: Duration = Duration::from_millis(250);
const PERIOD_MAX: Duration = Duration::from_secs(5);

/// Tells what the command in `dir` puts out until its runner is gone. While the link is
/// down nothing is told, and not all of it later.
pub fn follow(dir: &StepDir, is_link_up: &Arc<AtomicBool>, tell: impl Fn(CommandEvent)) {
    let (mut told, mut pause) = (0, COMMAND_OUTPUT_PERIOD);
    while dir.is_running() {
        thread::sleep(pause);
        pause = (pause + LONGER).min(PERIOD_MAX);
        if !is_link_up.load(Ordering::Relaxed) {
            continue;
        }
        let Some(event) = news(dir, &mut told) else { continue };
        tell(event);
    }
}

/// What has come since `told` bytes, as far as it is still there.
fn news(dir: &StepDir, told: &mut u64) -> Option<CommandEvent> {
    let (to, bytes) = latest(&dir.output_file())?;
    let new = to.checked_sub(*told).filter(|new| *new > 0)?;
    let fresh = usize::try_from(new).unwrap_or(usize::MAX).min(bytes.len());
    let bytes = &bytes[bytes.len() - fresh..];
    let from = to - fresh as u64;
    *told = to;
    Some(CommandEvent::Output { from, to, text: String::from_utf8_lossy(bytes).into_owned() })
}
