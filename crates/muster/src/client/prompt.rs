//! Questions to a person, and secrets that come in by standard input.

use std::io::{IsTerminal, Read, Stdin, Write};

use anyhow::Context;
use clap::Args;
use muster_core::token::Secret;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use super::failure::Failure;

/// Option of every command that takes something away for good.
#[derive(Args)]
pub(crate) struct Consent {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Consent {
    /// Goes on only if a person agrees; where nobody can be asked, only with `--yes`.
    pub(super) fn ask(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::Usage(format!("{question} Nobody is there to answer: say --yes")));
        }
        write!(std::io::stderr(), "{question} [y/N] ")?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::Usage("nothing was done".to_owned())),
        }
    }
}

/// A password: the first line of standard input, or typed without echo.
pub(super) fn password(is_stdin: bool, prompt: &str) -> Result<Secret, Failure> {
    if is_stdin {
        return first_line("--password-stdin");
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage("there is no terminal to ask for a password: say --password-stdin".to_owned()));
    }
    let typed = without_echo(&stdin, || {
        write!(std::io::stderr(), "{prompt}: ")?;
        let mut line = String::new();
        stdin.read_line(&mut line)?;
        writeln!(std::io::stderr())?;
        Ok(line)
    });
    let typed = typed.context("cannot read the password")?;
    Ok(Secret::received(typed.trim_end_matches(['\r', '\n'])))
}

/// Does `read` while the terminal shows nothing of what is typed, from before anything is asked.
fn without_echo(terminal: &Stdin, read: impl FnOnce() -> std::io::Result<String>) -> std::io::Result<String> {
    let before = tcgetattr(terminal)?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(terminal, SetArg::TCSADRAIN, &silent)?;
    let typed = read();
    tcsetattr(terminal, SetArg::TCSADRAIN, &before)?;
    typed
}

/// A new password, typed twice.
pub(super) fn new_password(is_stdin: bool) -> Result<Secret, Failure> {
    let first = password(is_stdin, "New password")?;
    if !is_stdin && password(false, "Again")?.expose() != first.expose() {
        return Err(Failure::Usage("the two are not the same; nothing was done".to_owned()));
    }
    Ok(first)
}

/// The first line of standard input, without its end: a password may begin or end with blanks.
pub(super) fn first_line(option: &str) -> Result<Secret, Failure> {
    let line = all_of_stdin()?.lines().next().unwrap_or_default().to_owned();
    if line.is_empty() {
        return Err(Failure::Usage(format!("{option}: standard input is empty")));
    }
    Ok(Secret::received(line))
}

/// Everything on standard input.
pub(super) fn all_of_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    Ok(text)
}
