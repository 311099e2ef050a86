//! The processes of a terminal, which are not the agent's: one that holds the terminal, and
//! the shell. The first is the parent of all that comes of the shell, however it detaches
//! itself, and ends it when the terminal ends: also when the agent is killed.

use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use muster_core::limits::TERMINAL_KILL_GRACE;
use muster_link::stream::Exit;
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Group, Pid, User, geteuid, initgroups, setgid, setsid, setuid};
use tokio::time::Instant;

/// How often is looked whether everything has ended.
const POLL: Duration = Duration::from_millis(20);
/// How long a killed process may take to be gone; one that hangs in the kernel never is.
const KILLED_WAIT: Duration = Duration::from_secs(5);
const PATH_OF_USERS: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";
const PATH_OF_ROOT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

enum Event {
    Ended(Pid, Exit),
    /// The agent wants the terminal to end, or has gone.
    Cut,
}

/// Holds a terminal, which is standard input, until its shell has ended, or the agent closes
/// the socket that is standard output. Writes there how the shell ended.
pub fn hold() -> Result<()> {
    let mut control = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    set_child_subreaper(true).context("cannot hold a terminal")?;
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut shell = Command::new("/proc/self/exe");
    let shell = shell.args(args).arg("--shell").spawn().context("cannot start a shell")?;
    let shell = Pid::from_raw(i32::try_from(shell.id())?);
    let (sender, events) = mpsc::channel();
    let (cuts, mut socket) = (sender.clone(), control.try_clone()?);
    thread::spawn(move || {
        // Nothing is said there; it ends.
        let _ = socket.read_to_end(&mut Vec::new());
        cuts.send(Event::Cut)
    });
    thread::spawn(move || reap(&sender));
    if let Some(exit) = wait_for_end(shell, &events) {
        // The agent may have gone, and then nobody wants to know.
        let _ = control.write_all(&serde_json::to_vec(&exit)?);
    }
    end_all();
    Ok(())
}

/// How the shell ended; nothing where the terminal is cut before.
fn wait_for_end(shell: Pid, events: &Receiver<Event>) -> Option<Exit> {
    loop {
        match events.recv() {
            Ok(Event::Ended(pid, exit)) if pid == shell => return Some(exit),
            Ok(Event::Ended(..)) => {}
            Ok(Event::Cut) | Err(_) => return None,
        }
    }
}

fn reap(events: &Sender<Event>) {
    loop {
        let (pid, exit) = match wait() {
            Ok(WaitStatus::Exited(pid, code)) => (pid, Exit { code: Some(code), signal: None }),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit { code: None, signal: Some(signal as i32) }),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(Errno::ECHILD) => {
                // The shell's end was told before.
                thread::sleep(POLL);
                continue;
            }
            Err(_) => return,
        };
        if events.send(Event::Ended(pid, exit)).is_err() {
            return;
        }
    }
}

/// Hangs up on everything that came of the shell, and kills what does not end.
fn end_all() {
    let began = Instant::now();
    tell(&[Signal::SIGHUP, Signal::SIGCONT]);
    while began.elapsed() < TERMINAL_KILL_GRACE && !descendants().is_empty() {
        thread::sleep(POLL);
    }
    while began.elapsed() < KILLED_WAIT && tell(&[Signal::SIGKILL]) {
        thread::sleep(POLL);
    }
}

/// Sends signals to everything that came of the shell; whether there was something.
fn tell(signals: &[Signal]) -> bool {
    let all = descendants();
    for (pid, signal) in all.iter().flat_map(|pid| signals.iter().map(move |signal| (*pid, *signal))) {
        let _ = kill(pid, signal);
    }
    !all.is_empty()
}

/// Every process that came of this one and lives.
fn descendants() -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if let Some(parent) = std::fs::read(entry.path().join("stat")).ok().and_then(|stat| parent(&stat)) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut to_look_at = vec![Pid::this().as_raw()];
    while let Some(pid) = to_look_at.pop() {
        let own = children.remove(&pid).unwrap_or_default();
        found.extend(own.iter().copied().map(Pid::from_raw));
        to_look_at.extend(own);
    }
    found
}

/// The parent of a process that lives, of which `stat` tells.
fn parent(stat: &[u8]) -> Option<i32> {
    // The name before may hold anything, brackets too.
    let behind_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut words = std::str::from_utf8(&stat[behind_name..]).ok()?.split_ascii_whitespace();
    let state = words.next()?;
    if matches!(state, "Z" | "X") { None } else { words.next()?.parse().ok() }
}

/// Becomes the login shell of that user, in the terminal that is standard input. Returns
/// only why it could not.
pub fn become_shell(user: &str, term: &str) -> anyhow::Error {
    match try_become(user, term) {
        Ok(never) => match never {},
        Err(error) => {
            // Whoever opened the terminal reads it there.
            if let Ok(terminal) = io::stdin().as_fd().try_clone_to_owned() {
                let _ = write!(std::fs::File::from(terminal), "{error:#}\r\n");
            }
            error
        }
    }
}

fn try_become(name: &str, term: &str) -> Result<std::convert::Infallible> {
    let user = User::from_name(name)?.with_context(|| format!("the device has no user {name}"))?;
    setsid()?;
    rustix::process::ioctl_tiocsctty(io::stdin())?;
    umask(Mode::from_bits_truncate(0o022));
    if geteuid().is_root() {
        give_terminal(&user);
        initgroups(&CString::new(name)?, user.gid)?;
        setgid(user.gid)?;
        setuid(user.uid)?;
    }
    if std::env::set_current_dir(&user.dir).is_err() {
        std::env::set_current_dir("/")?;
    }
    let shell = if user.shell.as_os_str().is_empty() { Path::new("/bin/sh") } else { &user.shell };
    let mut command = Command::new(shell);
    let mut login_name = OsString::from("-");
    login_name.push(shell.file_name().unwrap_or_default());
    command.arg0(login_name).env_clear();
    command.envs([("HOME", user.dir.as_os_str()), ("SHELL", shell.as_os_str())]);
    command.envs([("USER", name), ("LOGNAME", name), ("TERM", term)]);
    command.env("PATH", if user.uid.is_root() { PATH_OF_ROOT } else { PATH_OF_USERS });
    command.envs(std::env::vars_os().filter(|(key, _)| matches!(key.to_str(), Some("LANG" | "LC_ALL" | "TZ"))));
    let terminal = || -> io::Result<OwnedFd> { io::stdin().as_fd().try_clone_to_owned() };
    command.stdout(Stdio::from(terminal()?)).stderr(Stdio::from(terminal()?));
    Err(command.exec()).with_context(|| format!("cannot start {}", shell.display()))
}

/// Makes the terminal its user's, as a login does: else no program of theirs could open it by
/// its name. The group `tty`, where there is one, may write into it. Where a container lets no root do that, the terminal works all the same
/// for what it was opened for.
fn give_terminal(user: &User) {
    let group = Group::from_name("tty").ok().flatten().map_or(user.gid, |tty| tty.gid);
    let (uid, gid) = (rustix::fs::Uid::from_raw(user.uid.as_raw()), rustix::fs::Gid::from_raw(group.as_raw()));
    if rustix::fs::fchown(io::stdin(), Some(uid), Some(gid)).is_ok() {
        let _ = rustix::fs::fchmod(io::stdin(), rustix::fs::Mode::from_raw_mode(0o620));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_parent_unless_it_is_dead() {
        assert_eq!(parent(b"12 (a) b) S 7 12 12 0"), Some(7));
        assert_eq!(parent(b"12 (sh) Z 7 12 12 0"), None);
        assert_eq!(parent(b"nonsense"), None);
    }
}
