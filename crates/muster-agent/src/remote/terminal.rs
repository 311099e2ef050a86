//! Terminals: a shell on the device, with a person at the other end of the carrier.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use muster_core::limits::TERMINALS_MAX;
use muster_link::capability;
use muster_link::stream::{Carrier, Exit, StreamMessage, Talk, TerminalSize, Turn};
use nix::unistd::{User, geteuid};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::pty::Pty;
use crate::net::Stream;

/// Bytes of output that are read at once.
const OUTPUT_BYTES: usize = 16 * 1024;
/// Bytes that were typed, and that nothing in the terminal has read.
const INPUT_BYTES_MAX: usize = 1024 * 1024;
/// How long the last output may take, once the shell has ended.
const LAST_OUTPUT_WAIT: Duration = Duration::from_secs(2);

/// Whose terminals may be opened on this device, and how many are open.
#[derive(Clone, Debug)]
pub struct Terminals {
    users: Arc<[String]>,
    program: Arc<[OsString]>,
    room: Arc<Semaphore>,
}

/// What the server asks for.
pub(super) struct TerminalOrder {
    pub(super) user: String,
    pub(super) size: TerminalSize,
    pub(super) term: String,
}

impl Terminals {
    /// Terminals of those users alone; the first is the default. `program` holds one.
    pub fn new(users: Vec<String>, program: Vec<OsString>) -> Self {
        let users: Vec<_> = users.into_iter().filter(|user| !user.is_empty()).collect();
        Self { users: users.into(), program: program.into(), room: Arc::new(Semaphore::new(TERMINALS_MAX)) }
    }

    /// What the server is told that the device can do.
    pub fn capability(&self) -> Option<String> {
        (!self.users.is_empty()).then(|| capability::TERMINAL.to_owned())
    }

    /// Whose terminal `asked` means; else why there is none.
    fn user(&self, asked: &str) -> Result<&str, String> {
        let first = self.users.first().ok_or("the device allows no terminals")?;
        if asked.is_empty() {
            return Ok(first);
        }
        let found = self.users.iter().find(|user| *user == asked);
        Ok(found.ok_or_else(|| format!("the device allows no terminals of {asked}"))?)
    }
}

/// Whether the agent can become that user.
fn check_user(name: &str) -> Result<(), String> {
    let found = User::from_name(name).map_err(|error| format!("{name}: {error}"))?;
    let user = found.ok_or_else(|| format!("the device has no user {name}"))?;
    if geteuid().is_root() || geteuid() == user.uid {
        return Ok(());
    }
    Err(format!("the agent does not run as root, and cannot open terminals of {name}"))
}

/// One terminal, from the shell's begin to its end.
pub(super) async fn carry(
    mut carrier: Carrier<Stream>,
    terminals: &Terminals,
    order: &TerminalOrder,
) -> Result<(), String> {
    let room = terminals.room.try_acquire().map_err(|_| format!("{TERMINALS_MAX} terminals are open on the device"));
    let begun = room.and_then(|room| Ok((room, begin(terminals, order)?)));
    let (_room, (pty, mut control)) = match begun {
        Ok(begun) => begun,
        Err(reason) => {
            let refusal = StreamMessage::Failed { reason: reason.clone() };
            carrier.send(&refusal).await.map_err(|error| error.to_string())?;
            return Err(reason);
        }
    };
    carrier.send(&StreamMessage::Opened).await.map_err(|error| error.to_string())?;
    serve(Talk::new(carrier), &pty, &mut control).await
}

/// The terminal, and the connection to the process that holds it: closing it ends all that
/// runs in the terminal.
fn begin(terminals: &Terminals, order: &TerminalOrder) -> Result<(Pty, UnixStream), String> {
    let user = terminals.user(&order.user)?;
    check_user(user)?;
    start(terminals, user, order).map_err(|error| format!("the terminal could not be opened: {error}"))
}

fn start(terminals: &Terminals, user: &str, order: &TerminalOrder) -> io::Result<(Pty, UnixStream)> {
    let (pty, other) = Pty::open(order.size)?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (program, args) = terminals.program.split_first().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(program);
    command.args(args).args(["--user", user, "--term", &order.term]);
    command.stdin(Stdio::from(other)).stdout(Stdio::from(OwnedFd::from(theirs)));
    // A key pressed where the agent was started is not for it.
    command.process_group(0).spawn()?;
    Ok((pty, UnixStream::from_std(ours)?))
}

/// Moves what is typed and what is shown, and at the end says how the shell ended.
async fn serve(mut talk: Talk<Stream>, pty: &Pty, control: &mut UnixStream) -> Result<(), String> {
    let (mut input, mut output, mut said) = (Vec::new(), vec![0; OUTPUT_BYTES], Vec::new());
    let mut has_ended = false;
    loop {
        let is_busy = talk.is_busy();
        let shown = async {
            let read = timeout(if has_ended { LAST_OUTPUT_WAIT } else { Duration::MAX }, pty.read(&mut output));
            read.await.unwrap_or(Ok(0))
        };
        tokio::select! {
            // Always heard, so that the end of the carrier is, too.
            turn = talk.turn(true) => match turn.map_err(|error| error.to_string())? {
                Turn::Data(bytes) if input.len() + bytes.len() > INPUT_BYTES_MAX => {
                    return Err("what runs in the terminal does not read what is typed".to_owned());
                }
                Turn::Data(bytes) => input.extend(bytes),
                Turn::Message(StreamMessage::Resize(size)) => pty.resize(size).map_err(|error| error.to_string())?,
                Turn::Message(StreamMessage::End) => return Ok(()),
                Turn::Message(StreamMessage::Unknown) | Turn::Sent => {}
                Turn::Message(_) => return Err("the server said something out of its place".to_owned()),
            },
            shown = shown, if !is_busy => match shown.map_err(|error| error.to_string())? {
                0 => break,
                length => talk.say_bytes(output[..length].to_vec()).map_err(|error| error.to_string())?,
            },
            taken = pty.write(&input), if !input.is_empty() => {
                input.drain(..taken.map_err(|error| error.to_string())?);
            }
            read = control.read_buf(&mut said), if !has_ended => {
                has_ended = read.map_err(|error| error.to_string())? == 0;
            }
        }
    }
    if !has_ended {
        let _ = timeout(LAST_OUTPUT_WAIT, control.read_to_end(&mut said)).await;
    }
    let exit: Exit = serde_json::from_slice(&said).unwrap_or_default();
    talk.say(&StreamMessage::Exited(exit)).map_err(|error| error.to_string())?;
    talk.flush().await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminals(users: &[&str]) -> Terminals {
        Terminals::new(users.iter().map(|user| (*user).to_owned()).collect(), Vec::new())
    }

    #[test]
    fn the_device_says_whose_terminals_there_are() {
        assert_eq!(terminals(&[]).capability(), None);
        assert!(terminals(&[""]).user("").unwrap_err().contains("no terminals"));
        let two = terminals(&["ops", "root"]);
        assert_eq!(two.capability().as_deref(), Some("terminal"));
        assert_eq!((two.user(""), two.user("root")), (Ok("ops"), Ok("root")));
        assert!(two.user("daemon").unwrap_err().contains("no terminals of daemon"));
        assert!(check_user("nobody-at-all").unwrap_err().contains("no user"));
    }
}
