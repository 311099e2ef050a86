//! The device's own word: a hook that may say "not now" before a run begins.
//!
//! The hook is the executable `veto` in the state directory; without it the device
//! takes every run. It is asked with the run's id as its argument. When it ends with 0
//! the run begins; else the first line that it printed is the reason why not, and the
//! server asks again later. A hook that cannot be run, or that does not answer in time,
//! says "not now" too: a device that guards something must not begin by mistake.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use muster_link::RunId;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long the hook may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of its output that are read, and characters that are told.
const OUTPUT_BYTES_MAX: u64 = 4 * 1024;
const REASON_CHARS_MAX: usize = 255;

/// Asks the hook: why the run must not begin now, if it must not.
pub(crate) fn ask(hook: &Path, run: &RunId) -> Option<String> {
    if !hook.exists() {
        return None;
    }
    match answer(hook, run) {
        Ok((status, _)) if status.success() => None,
        Ok((status, reason)) if reason.is_empty() => Some(format!("the device's hook ended with {status}")),
        Ok((_, reason)) => Some(reason),
        Err(error) => Some(format!("the device's hook could not be asked: {error}")),
    }
}

fn answer(hook: &Path, run: &RunId) -> io::Result<(ExitStatus, String)> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(hook);
    // A group of its own, so that whatever it has started ends with it.
    command.arg(run.to_string()).process_group(0);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let stdout = child.stdout.take();
    let group = i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)?;
    let (told, heard) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let read = stdout.map(|stdout| stdout.take(OUTPUT_BYTES_MAX).read_to_end(&mut text));
        let ended = child.wait();
        let _ = told.send(read.transpose().and(ended).map(|status| (status, first_line(&text))));
    });
    heard.recv_timeout(ANSWER_TIMEOUT).unwrap_or_else(|_| {
        let _ = killpg(group, Signal::SIGKILL);
        Err(io::ErrorKind::TimedOut.into())
    })
}

fn first_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().next().unwrap_or_default().trim();
    line.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn asked(script: &str) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let hook = dir.path().join("veto");
        // Renamed into its place: a file that is open for writing cannot be run.
        fs::write(dir.path().join("new"), script).unwrap();
        fs::set_permissions(dir.path().join("new"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::rename(dir.path().join("new"), &hook).unwrap();
        ask(&hook, &"dp-1a2b-3c4d.1".parse().unwrap())
    }

    #[test]
    fn the_hook_decides() {
        assert_eq!(ask(Path::new("/nonexistent/veto"), &"dp-1a2b-3c4d.1".parse().unwrap()), None);
        assert_eq!(asked("#!/bin/sh\nexit 0\n"), None);
        assert_eq!(asked("#!/bin/sh\necho \"$1 waits\"\necho more\nexit 1\n").unwrap(), "dp-1a2b-3c4d.1 waits");
        assert_eq!(asked("#!/bin/sh\nexit 3\n").unwrap(), "the device's hook ended with exit status: 3");
        assert!(asked("#!/nonexistent/shell\n").unwrap().starts_with("the device's hook could not be asked"));
    }
}
