//! Commands that a killed runner left behind. They go on without it, and would work
//! on the same files as those of the runner that takes over.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::context::Failure;

/// Marks every process of a step: its value is the step's directory. A number would
/// not do, since it may have become another's.
pub(super) const MARK: &str = "MUSTER_STEP";

/// How often, and how many times, it is looked whether all are gone.
const POLL: Duration = Duration::from_millis(20);
const POLLS_MAX: u32 = 500;

/// Ends every process of the step in `dir`.
pub(super) fn end(dir: &Path) -> Result<(), Failure> {
    for _ in 0..POLLS_MAX {
        let left = marked(dir);
        if left.is_empty() {
            return Ok(());
        }
        for pid in left {
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(POLL);
    }
    Err(Failure::because("what the step's killed runner left behind cannot be ended"))
}

fn marked(dir: &Path) -> Vec<Pid> {
    let mark = format!("{MARK}={}", dir.display()).into_bytes();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let marked = processes.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        environment.split(|byte| *byte == 0).any(|variable| variable == mark).then_some(Pid::from_raw(pid))
    });
    marked.collect()
}
