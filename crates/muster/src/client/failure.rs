//! Why a command of the client ended otherwise than hoped, and the exit code that says so.

use std::io::ErrorKind;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// Nobody is logged in.
    #[error("{0}")]
    NotLoggedIn(String),
    /// The server refused the call.
    #[error("{message}")]
    Api {
        /// The status of HTTP.
        status: u16,
        /// The server's word for programs; empty where the answer has none.
        code: String,
        /// In the server's words.
        message: String,
    },
    /// A deployment has ended, and not every device succeeded.
    #[error("{0}")]
    NotAllSucceeded(String),
    /// A deployment is paused, and nobody is there who might let it go on.
    #[error("{0}")]
    Paused(String),
    /// A person pressed Ctrl-C; what was begun on the server goes on.
    #[error("{0}")]
    Interrupted(String),
    /// The shell of a terminal ended with that code, which says it all.
    #[error("the shell ended with {0}")]
    Ended(i32),
    /// Whoever read the output has gone away, which is no failure.
    #[error("nobody reads the output")]
    ReaderGone,
    /// Anything else: no connection, no such file.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

const ANY_FAILURE: u8 = 1;
const USAGE: u8 = 2;
const REFUSED: u8 = 3;
const NOT_FOUND: u8 = 4;
const NOT_ALL_SUCCEEDED: u8 = 5;
const PAUSED: u8 = 6;
/// As shells have it: 128 and the signal's number.
const INTERRUPTED: u8 = 130;

impl Failure {
    /// As `docs/client.md` lists them.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            // A code of a shell is a byte.
            Self::Ended(code) => code.to_le_bytes()[0],
            Self::Usage(_) => USAGE,
            Self::NotLoggedIn(_) | Self::Api { status: 401 | 403, .. } => REFUSED,
            Self::Api { status: 404, .. } => NOT_FOUND,
            Self::NotAllSucceeded(_) => NOT_ALL_SUCCEEDED,
            Self::Paused(_) => PAUSED,
            Self::Interrupted(_) => INTERRUPTED,
            Self::Api { .. } | Self::Other(_) => ANY_FAILURE,
        }
    }
}

impl Failure {
    /// Whether it says how a deployment stands that was followed.
    pub(super) const fn is_outcome(&self) -> bool {
        matches!(self, Self::NotAllSucceeded(_) | Self::Paused(_))
    }

    /// Whether the same call may succeed soon: a server that restarts is waited for.
    pub(super) const fn is_passing(&self) -> bool {
        matches!(self, Self::Other(_) | Self::Api { status: 429 | 500..=599, .. })
    }
}

impl Failure {
    /// Whether the link to the device, or the server, may be back in a moment. Answers to HEAD
    /// have no code.
    pub(super) fn is_cut(&self) -> bool {
        match self {
            Self::Api { status: 409, code, .. } => matches!(code.as_str(), "device_offline" | "session_ended" | ""),
            Self::Other(_) | Self::Api { status: 429 | 502..=504, .. } => true,
            _ => false,
        }
    }
}

impl From<std::io::Error> for Failure {
    /// Of writing to standard output or standard error.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Other(anyhow::Error::new(error).context("cannot write the output")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_exit_code() {
        let api = |status| Failure::Api { status, code: String::new(), message: "no".to_owned() }.exit_code();
        assert_eq!([400, 401, 403, 404, 409, 429, 500].map(api), [1, 3, 3, 4, 1, 1, 1]);
        assert_eq!(Failure::Usage(String::new()).exit_code(), 2);
        assert_eq!(Failure::NotLoggedIn(String::new()).exit_code(), 3);
        assert_eq!(Failure::NotAllSucceeded(String::new()).exit_code(), 5);
        assert_eq!(Failure::Paused(String::new()).exit_code(), 6);
        assert_eq!(Failure::Interrupted(String::new()).exit_code(), 130);
        assert_eq!(Failure::Ended(7).exit_code(), 7);
        assert_eq!(Failure::from(std::io::Error::from(ErrorKind::BrokenPipe)).exit_code(), 0);
    }
}
