//! `muster terminal`: a shell on a device, in this terminal.

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;

use anyhow::Context;
use clap::Args;
use muster_link::stream::{Exit, StreamMessage, Talk, TerminalSize, Turn};
use reqwest::Upgraded;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use super::device_stream;
use super::failure::Failure;
use super::session::{Common, Session};

/// Bytes that are read from the keyboard at once.
const TYPED_BYTES: usize = 4 * 1024;
/// After a line's end this is no key but the begin of a word to this program, as in ssh.
const ESCAPE: u8 = b'~';
/// The word that ends the terminal.
const LEAVE: u8 = b'.';
/// As shells have it: 128 and the signal's number.
const SIGNAL_EXIT_CODE: i32 = 128;

/// Options of `muster terminal`.
#[derive(Args)]
pub(crate) struct TerminalArgs {
    /// The device
    device: String,
    /// User of the device; by default the first that it allows
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Keys as they are, until it is dropped.
struct RawMode(Termios);

impl RawMode {
    fn begin() -> Result<Self, Failure> {
        let stdin = std::io::stdin();
        let before = tcgetattr(stdin.as_fd()).context("standard input is no terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin.as_fd(), OptionalActions::Flush, &raw).context("cannot set the terminal")?;
        Ok(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Flush, &self.0);
    }
}

/// Opens a terminal and is it until its end; ends as its shell did.
pub(super) async fn run(args: &TerminalArgs, session: &Session) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage("muster terminal needs a terminal; for programs there is muster ssh".to_owned()));
    }
    let size = size();
    let call = session.http.get(&[session.fleet()?, "devices", &args.device, "terminal"])?;
    let call = call.query("columns", &size.columns.to_string()).query("rows", &size.rows.to_string());
    let term = std::env::var("TERM").ok();
    let call = call.maybe("user", args.user.as_deref()).maybe("term", term.as_deref());
    let carrier = device_stream::socket(call).await?;
    let raw = RawMode::begin()?;
    let ended = serve(Talk::new(carrier)).await;
    drop(raw);
    match ended? {
        Exit { signal: Some(signal), .. } => Err(Failure::Ended(SIGNAL_EXIT_CODE + signal)),
        Exit { code: Some(0), .. } => Ok(()),
        Exit { code, .. } => Err(Failure::Ended(code.unwrap_or(1))),
    }
}

fn size() -> TerminalSize {
    let known = tcgetwinsize(std::io::stdin().as_fd()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or(TerminalSize { columns: 80, rows: 24 }, |size| TerminalSize {
        columns: size.ws_col.min(muster_core::limits::TERMINAL_CHARS_MAX),
        rows: size.ws_row.min(muster_core::limits::TERMINAL_CHARS_MAX),
    })
}

async fn serve(mut talk: Talk<Upgraded>) -> Result<Exit, Failure> {
    let mut resized = signal(SignalKind::window_change()).context("cannot hear of a new size")?;
    let (mut keyboard, mut keys) = (tokio::io::stdin(), Keys::default());
    let mut typed = vec![0; TYPED_BYTES];
    let broke = |error: muster_link::stream::CarrierError| anyhow::anyhow!("the terminal broke: {error}");
    loop {
        let is_busy = talk.is_busy();
        tokio::select! {
            turn = talk.turn(true) => match turn.map_err(broke)? {
                Turn::Data(bytes) => {
                    let mut screen = std::io::stdout();
                    screen.write_all(&bytes)?;
                    screen.flush()?;
                }
                Turn::Message(StreamMessage::Exited(exit)) => return Ok(exit),
                Turn::Message(StreamMessage::Failed { reason }) => return Err(anyhow::anyhow!("{reason}").into()),
                Turn::Message(_) | Turn::Sent => {}
            },
            length = keyboard.read(&mut typed), if !is_busy => {
                let length = length.context("cannot read the keyboard")?;
                let Some(bytes) = keys.take(&typed[..length]).filter(|_| length > 0) else {
                    return Ok(Exit { code: Some(0), signal: None });
                };
                if !bytes.is_empty() {
                    talk.say_bytes(bytes).map_err(broke)?;
                }
            }
            _ = resized.recv() => talk.say(&StreamMessage::Resize(size())).map_err(broke)?,
        }
    }
}

/// What was typed, as far as it says whether `~.` stands at the begin of a line.
struct Keys {
    is_at_begin: bool,
    is_escaped: bool,
}

impl Default for Keys {
    fn default() -> Self {
        Self { is_at_begin: true, is_escaped: false }
    }
}

impl Keys {
    /// What of it is for the device; nothing when the terminal is to end.
    fn take(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        let mut kept = Vec::with_capacity(typed.len() + 1);
        for byte in typed {
            match (self.is_escaped, *byte) {
                (true, LEAVE) => return None,
                (true, ESCAPE) => kept.push(ESCAPE),
                (true, other) => kept.extend([ESCAPE, other]),
                (false, ESCAPE) if self.is_at_begin => {
                    self.is_escaped = true;
                    continue;
                }
                (false, other) => kept.push(other),
            }
            self.is_escaped = false;
            self.is_at_begin = matches!(byte, b'\r' | b'\n');
        }
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_and_a_dot_at_the_begin_of_a_line_leave() {
        let taken = |pieces: &[&str]| {
            let mut keys = Keys::default();
            let kept: Option<Vec<_>> = pieces.iter().map(|piece| keys.take(piece.as_bytes())).collect();
            kept.map(|kept| String::from_utf8(kept.concat()).unwrap())
        };
        for pieces in [&["~."][..], &["ls\r", "~", "."], &["a\n~."]] {
            assert_eq!(taken(pieces), None, "{pieces:?}");
        }
        for (pieces, expected) in
            [(&["a~."][..], "a~."), (&["~~."], "~."), (&["~", "x"], "~x"), (&["\r~a~."], "\r~a~.")]
        {
            assert_eq!(taken(pieces).as_deref(), Some(expected), "{pieces:?}");
        }
    }
}
