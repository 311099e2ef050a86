//! Remote sessions: what a person does on a device through the server while it lasts.
//! Each is recorded, bounded in time, and ends by itself.

/// What a session is for. The numbers are those in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum SessionKind {
    /// Bytes to and from a port that the device reaches.
    Stream = 0,
    /// A terminal.
    Terminal = 1,
    /// Files of the device, read or written.
    Files = 2,
}

impl SessionKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 3] = [Self::Stream, Self::Terminal, Self::Files];

    /// The number in the database.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The kind with that number in the database.
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The word of the API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Terminal => "terminal",
            Self::Files => "files",
        }
    }

    /// The kind of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndReason {
    /// A stable word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub text: &'static str,
}

impl EndReason {
    /// Both sides were done.
    pub const FINISHED: Self = Self { code: "finished", text: "Both sides were done." };
    /// Whoever opened it has gone.
    pub const CALLER_GONE: Self = Self { code: "caller_gone", text: "The caller's connection broke." };
    /// The device, or its connection, has gone.
    pub const DEVICE_GONE: Self = Self { code: "device_gone", text: "The device's connection broke." };
    /// The device would not, or could not.
    pub const DEVICE_REFUSED: Self = Self { code: "device_refused", text: "The device could not, or would not." };
    /// Nothing moved for too long.
    pub const IDLE: Self = Self { code: "idle", text: "Nothing moved for too long." };
    /// Its time was over.
    pub const EXPIRED: Self = Self { code: "expired", text: "The session's time was over." };
    /// Somebody ended it.
    pub const ENDED_BY_USER: Self = Self { code: "ended_by_user", text: "A person ended the session." };
    /// The device was deleted.
    pub const DEVICE_DELETED: Self = Self { code: "device_deleted", text: "The device was deleted." };
    /// What it shows could not be recorded any more.
    pub const RECORDING_FAILED: Self =
        Self { code: "recording_failed", text: "What the terminal shows could not be recorded." };
    /// The server stopped, or was started anew.
    pub const SERVER_STOPPED: Self = Self { code: "server_stopped", text: "The server stopped." };
}

impl From<(&'static str, &'static str)> for EndReason {
    fn from((code, text): (&'static str, &'static str)) -> Self {
        Self { code, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_the_same_by_number_and_by_word() {
        for kind in SessionKind::ALL {
            assert_eq!(SessionKind::from_code(kind.code()), Some(kind));
            assert_eq!(SessionKind::from_word(kind.word()), Some(kind));
        }
        assert_eq!((SessionKind::from_code(9), SessionKind::from_word("x")), (None, None));
    }
}
