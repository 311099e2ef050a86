//! How one device goes through one run of a remote command.
//!
//! It is `pending → running → succeeded | failed | timed out | aborted`, or `expired` when
//! it never began. The rule is one pure function, [`CommandTarget::apply`]. What a device
//! says is not numbered: it says that the command runs, and repeats how it ended until that
//! is stored. Every state that is not final has a deadline.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::limits::{
    COMMAND_ABORT_DEADLINE, COMMAND_OUTPUT_BYTES_MAX, COMMAND_RUN_SLACK, COMMAND_START_GRACE, STEP_KILL_GRACE,
};
use crate::target::Reason;

/// Where a device stands in a run of a command. The numbers are those in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum CommandStatus {
    /// Not begun: the device is offline, or has others to run first.
    Pending = 0,
    /// The device has begun.
    Running = 1,
    /// It ended with exit code 0.
    Succeeded = 2,
    /// It ended otherwise, or could not begin, or nobody knows how it ended.
    Failed = 3,
    /// It was ended because its time was over.
    TimedOut = 4,
    /// It was ended because a person asked for it.
    Aborted = 5,
    /// The device did not begin in time.
    Expired = 6,
}

impl CommandStatus {
    /// Every status, in the order of its number.
    pub const ALL: [Self; 7] =
        [Self::Pending, Self::Running, Self::Succeeded, Self::Failed, Self::TimedOut, Self::Aborted, Self::Expired];

    /// The status with that number in the database.
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// The number in the database.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// No event changes a final status.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Aborted => "aborted",
            Self::Expired => "expired",
        }
    }

    /// The status that a word means.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }
}

/// How a command came to its end on the device. Also the wire shape on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandEnd {
    /// It ended by itself, well or badly.
    Exited,
    /// Its time was over.
    TimedOut,
    /// The server asked for its end.
    Aborted,
    /// It began, and what became of it is not known.
    Interrupted,
    /// It did not begin before it was too late.
    Expired,
    /// The device does not run it; also what a later version says.
    #[serde(other)]
    Refused,
}

/// What a command came to. Also the wire shape on the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResult {
    /// How it ended.
    pub end: CommandEnd,
    /// Why, where that is not plain.
    #[serde(default)]
    pub reason: Reason,
    /// The exit code, when it exited.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    #[serde(default)]
    pub signal: Option<i32>,
    /// How long it ran, in milliseconds, by the device's clock.
    #[serde(default)]
    pub duration_ms: u64,
    /// Standard output and standard error, as they came: the head and the tail.
    #[serde(default)]
    pub output: String,
    /// How many bytes of the output were left out between head and tail.
    #[serde(default)]
    pub left_out_bytes: u64,
}

impl CommandResult {
    /// A command that never began.
    pub fn unbegun(end: CommandEnd, reason: Reason) -> Self {
        Self { end, reason, exit_code: None, signal: None, duration_ms: 0, output: String::new(), left_out_bytes: 0 }
    }

    /// The status, and why it is not a success.
    fn verdict(&self) -> (CommandStatus, Reason) {
        let (status, code, text) = match (self.end, self.exit_code, self.signal) {
            (CommandEnd::Exited, Some(0), _) => return (CommandStatus::Succeeded, Reason::default()),
            (CommandEnd::Exited, Some(code), _) => {
                (CommandStatus::Failed, "exit_code", format!("The command ended with exit code {code}."))
            }
            (CommandEnd::Exited, None, signal) => {
                let signal = signal.map_or_else(String::new, |signal| format!(" {signal}"));
                (CommandStatus::Failed, "signal", format!("The command was ended by signal{signal}."))
            }
            (CommandEnd::TimedOut, ..) => {
                (CommandStatus::TimedOut, "timed_out", "The command did not end within its time limit.".to_owned())
            }
            (CommandEnd::Aborted, ..) => (CommandStatus::Aborted, "aborted", "The run was aborted.".to_owned()),
            (CommandEnd::Interrupted, ..) => {
                let text = "The command was interrupted; what it did is not known. It was not started again.";
                (CommandStatus::Failed, "interrupted", text.to_owned())
            }
            (CommandEnd::Expired, ..) => return (CommandStatus::Expired, expired()),
            (CommandEnd::Refused, ..) => {
                (CommandStatus::Failed, "refused_by_device", "The device does not run the command.".to_owned())
            }
        };
        let said = &self.reason;
        let reason = if said.code.is_empty() { Reason::new(code, text) } else { said.clone() };
        (status, reason)
    }
}

/// What a device says of a command. Also the wire shape on the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum CommandEvent {
    /// It runs.
    Started,
    /// It has put out more. May be lost; the end holds all that is kept.
    Output {
        /// How many bytes of output came before this.
        from: u64,
        /// How many with it.
        to: u64,
        /// The output.
        text: String,
    },
    /// It is over; repeated until acknowledged.
    Ended(CommandResult),
    /// An event of a later version.
    #[serde(other)]
    Unknown,
}

/// What can happen to a device of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened<'a> {
    /// The device says that the command runs.
    Started,
    /// The device says how it ended.
    Ended(&'a CommandResult),
    /// The device cannot run commands, or does not want to.
    Unable,
    /// A person asked for the abort.
    AbortRequested,
    /// The clock passed the deadline.
    DeadlinePassed,
}

/// One device in one run of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandTarget {
    /// Where it stands.
    pub status: CommandStatus,
    /// Why it stands there.
    pub reason: Reason,
    /// The device was told, over whatever link.
    pub is_sent: bool,
    /// A person asked for the abort, and the device has not confirmed.
    pub is_abort_requested: bool,
    /// When the device began; [`Timestamp::NEVER`] before.
    pub started_at: Timestamp,
    /// When it became final; [`Timestamp::NEVER`] before.
    pub finished_at: Timestamp,
    /// When the present state ends by itself.
    pub deadline_at: Timestamp,
}

/// Why something changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// It had happened before.
    Repeated,
    /// The run had ended another way on this device, which must stop.
    AlreadyFinal,
}

impl CommandTarget {
    /// A device that is to begin before `expires_at`.
    pub fn pending(expires_at: Timestamp) -> Self {
        Self {
            status: CommandStatus::Pending,
            reason: Reason::default(),
            is_sent: false,
            is_abort_requested: false,
            started_at: Timestamp::NEVER,
            finished_at: Timestamp::NEVER,
            deadline_at: expires_at,
        }
    }

    /// The target after what happened. `timeout` is how long the command may run.
    pub fn apply(&self, happened: Happened<'_>, now: Timestamp, timeout: Duration) -> Result<Self, Unchanged> {
        if self.status.is_final() {
            return Err(Unchanged::AlreadyFinal);
        }
        match happened {
            Happened::Started if self.status == CommandStatus::Running => Err(Unchanged::Repeated),
            Happened::Started => Ok(self.started(now, timeout)),
            Happened::Ended(result) => {
                let (status, reason) = result.verdict();
                let ran_ms = i64::try_from(result.duration_ms).unwrap_or(0);
                let begun_at = Timestamp::from_millis(now.as_millis().saturating_sub(ran_ms));
                let is_begun = !matches!(result.end, CommandEnd::Expired | CommandEnd::Refused);
                let is_untold = is_begun && self.started_at == Timestamp::NEVER && result.duration_ms > 0;
                let started_at = if is_untold { begun_at } else { self.started_at };
                Ok(Self { started_at, ..self.ended(status, reason, now) })
            }
            Happened::Unable => Ok(self.ended(CommandStatus::Failed, unable(), now)),
            Happened::AbortRequested if self.is_abort_requested => Err(Unchanged::Repeated),
            Happened::AbortRequested if !self.is_sent => {
                let next = Self { is_abort_requested: true, ..self.clone() };
                Ok(next.ended(CommandStatus::Aborted, aborted_before_start(), now))
            }
            Happened::AbortRequested => {
                let deadline_at = self.deadline_at.min(now.after(COMMAND_ABORT_DEADLINE));
                Ok(Self { is_abort_requested: true, deadline_at, ..self.clone() })
            }
            Happened::DeadlinePassed if now < self.deadline_at => Err(Unchanged::Repeated),
            Happened::DeadlinePassed => {
                let (status, reason) = deadline_verdict(self.status, self.is_sent, self.is_abort_requested);
                Ok(self.ended(status, reason, now))
            }
        }
    }

    fn started(&self, now: Timestamp, timeout: Duration) -> Self {
        let ends_at = now.after(timeout.saturating_add(STEP_KILL_GRACE).saturating_add(COMMAND_RUN_SLACK));
        let deadline_at = if self.is_abort_requested { self.deadline_at } else { ends_at };
        Self { status: CommandStatus::Running, is_sent: true, started_at: now, deadline_at, ..self.clone() }
    }

    fn ended(&self, status: CommandStatus, reason: Reason, now: Timestamp) -> Self {
        Self { status, reason, finished_at: now, ..self.clone() }
    }
}

/// When a device that was told to begin before `expires_at` must have said that it has.
pub fn start_deadline(expires_at: Timestamp) -> Timestamp {
    expires_at.after(COMMAND_START_GRACE)
}

/// The reason of a device that was never told of a run that was aborted.
pub fn aborted_before_start() -> Reason {
    Reason::new("aborted", "The run was aborted before the device began.")
}

/// The reason of a device that did not begin in time.
pub fn expired() -> Reason {
    Reason::new("expired", "The device did not begin before the run expired.")
}

/// The reason of a device that has no agent.
pub fn without_agent() -> Reason {
    Reason::new("no_agent", "The device has no agent that could run a command.")
}

/// The reason of a device whose agent does not say that it runs commands.
pub fn unable() -> Reason {
    let text = "The device's agent runs no remote commands: it is too old for them, or was told not to.";
    Reason::new("not_supported_by_device", text)
}

/// What becomes of a device whose deadline passed. Shared with the store's set-based
/// statement, which ends many at once.
pub fn deadline_verdict(status: CommandStatus, is_sent: bool, is_abort_requested: bool) -> (CommandStatus, Reason) {
    if is_abort_requested {
        let text = "The device did not confirm the abort in time; what it did is not known.";
        return (CommandStatus::Aborted, Reason::new("abort_unconfirmed", text));
    }
    if status == CommandStatus::Running {
        let text = "The device began and did not say in time how the command ended.";
        return (CommandStatus::Failed, Reason::new("end_unknown", text));
    }
    if is_sent {
        let text = "The device was told to begin and did not say in time that it had; what it did is not known.";
        return (CommandStatus::Expired, Reason::new("start_unconfirmed", text));
    }
    (CommandStatus::Expired, expired())
}

/// Output that is kept while a command runs: the head and the tail of what has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// What is kept.
    pub text: String,
    /// How many bytes of output have come.
    pub bytes: u64,
    /// Whether something is missing in it.
    pub is_truncated: bool,
}

/// How many bytes of followed output are kept at least, and half of that from its beginning.
const FOLLOWED_BYTES_MAX: usize = COMMAND_OUTPUT_BYTES_MAX;

impl Followed {
    /// With what came then, `None` where it is not news.
    pub fn with(&self, from: u64, to: u64, text: &str) -> Option<Self> {
        if from < self.bytes || to <= from {
            return None;
        }
        let mut kept = self.text.clone();
        let missing = from - self.bytes;
        if missing > 0 {
            kept.push_str(&left_out(missing));
        }
        kept.extend(text.chars().filter(|c| *c != '\0').take(FOLLOWED_BYTES_MAX / 4));
        let is_cut = kept.len() > FOLLOWED_BYTES_MAX;
        Some(Self {
            text: if is_cut { head_and_tail(&kept) } else { kept },
            bytes: to,
            is_truncated: self.is_truncated || missing > 0 || is_cut,
        })
    }
}

/// The line that stands for output that is not kept.
pub fn left_out(bytes: u64) -> String {
    format!("\n[… {bytes} bytes were left out here …]\n")
}

/// Half of what may be kept from the beginning, and a quarter from the end, so that not
/// every further line cuts it again.
fn head_and_tail(text: &str) -> String {
    let head = text.floor_char_boundary(FOLLOWED_BYTES_MAX / 2);
    let tail = text.ceil_char_boundary(text.len() - FOLLOWED_BYTES_MAX / 4);
    format!("{}\n[… output was left out here …]\n{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);
    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn fresh() -> CommandTarget {
        CommandTarget::pending(START.after(Duration::from_secs(50)))
    }

    fn sent() -> CommandTarget {
        CommandTarget { is_sent: true, ..fresh() }
    }

    fn result(end: CommandEnd, exit_code: Option<i32>) -> CommandResult {
        CommandResult { exit_code, ..CommandResult::unbegun(end, Reason::default()) }
    }

    fn ended(end: CommandEnd, exit_code: Option<i32>) -> (CommandStatus, String) {
        let next = sent().apply(Happened::Ended(&result(end, exit_code)), START, TIMEOUT).unwrap();
        (next.status, next.reason.code)
    }

    #[test]
    fn every_end_has_its_status_and_reason() {
        for (end, code, status, reason) in [
            (CommandEnd::Exited, Some(0), CommandStatus::Succeeded, ""),
            (CommandEnd::Exited, Some(3), CommandStatus::Failed, "exit_code"),
            (CommandEnd::Exited, None, CommandStatus::Failed, "signal"),
            (CommandEnd::TimedOut, None, CommandStatus::TimedOut, "timed_out"),
            (CommandEnd::Aborted, None, CommandStatus::Aborted, "aborted"),
            (CommandEnd::Interrupted, None, CommandStatus::Failed, "interrupted"),
            (CommandEnd::Expired, None, CommandStatus::Expired, "expired"),
            (CommandEnd::Refused, None, CommandStatus::Failed, "refused_by_device"),
        ] {
            assert_eq!(ended(end, code), (status, reason.to_owned()));
        }
    }

    #[test]
    fn what_a_device_was_not_told_is_aborted_at_once() {
        let aborted = fresh().apply(Happened::AbortRequested, START, TIMEOUT).unwrap();
        assert_eq!(aborted.status, CommandStatus::Aborted);
        let asked = sent().apply(Happened::AbortRequested, START, TIMEOUT).unwrap();
        assert_eq!((asked.status, asked.is_abort_requested), (CommandStatus::Pending, true));
        assert_eq!(asked.apply(Happened::AbortRequested, START, TIMEOUT), Err(Unchanged::Repeated));
    }

    #[test]
    fn deadlines_end_each_state_with_its_own_reason() {
        let late = START.after(Duration::from_secs(1_000_000));
        let reason = |target: &CommandTarget| {
            let next = target.apply(Happened::DeadlinePassed, late, TIMEOUT).unwrap();
            (next.status, next.reason.code)
        };
        assert_eq!(reason(&fresh()), (CommandStatus::Expired, "expired".to_owned()));
        assert_eq!(reason(&sent()), (CommandStatus::Expired, "start_unconfirmed".to_owned()));
        let running = sent().apply(Happened::Started, START, TIMEOUT).unwrap();
        assert_eq!(reason(&running), (CommandStatus::Failed, "end_unknown".to_owned()));
        let asked = running.apply(Happened::AbortRequested, START, TIMEOUT).unwrap();
        assert_eq!(reason(&asked), (CommandStatus::Aborted, "abort_unconfirmed".to_owned()));
        assert_eq!(fresh().apply(Happened::DeadlinePassed, START, TIMEOUT), Err(Unchanged::Repeated));
    }

    #[test]
    fn followed_output_tells_its_gaps_and_stays_bounded() {
        let first = Followed::default().with(0, 4, "one\n").unwrap();
        assert_eq!(first.with(0, 4, "one\n"), None);
        let gap = first.with(10, 14, "two\n").unwrap();
        assert_eq!(gap.text, "one\n\n[… 6 bytes were left out here …]\ntwo\n");
        assert!(gap.is_truncated && !first.is_truncated);
        let mut long = first;
        for _ in 0..100 {
            long = long.with(long.bytes, long.bytes + 8_000, &"x".repeat(8_000)).unwrap();
        }
        assert!(long.text.len() <= FOLLOWED_BYTES_MAX && long.text.starts_with("one\n") && long.is_truncated);
    }

    fn happening() -> impl Strategy<Value = u8> {
        0_u8..12
    }

    proptest! {
        #[test]
        fn whatever_happens_a_device_ends_once_and_by_its_deadline(script in proptest::collection::vec(happening(), 0..12)) {
            let (mut target, mut now) = (fresh(), START);
            for what in script {
                now = now.after(Duration::from_secs(u64::from(what)));
                let end = result([CommandEnd::Exited, CommandEnd::Aborted, CommandEnd::Interrupted][usize::from(what % 3)], None);
                let happened = match what {
                    0..3 => Happened::Started,
                    3..5 => Happened::Ended(&end),
                    5 => Happened::Unable,
                    6..8 => Happened::AbortRequested,
                    _ => Happened::DeadlinePassed,
                };
                let next = target.apply(happened, now, TIMEOUT);
                if target.status.is_final() {
                    prop_assert_eq!(&next, &Err(Unchanged::AlreadyFinal));
                }
                if let Ok(next) = next {
                    prop_assert_eq!(next.status.is_final(), next.finished_at != Timestamp::NEVER);
                    target = next;
                }
            }
            if !target.status.is_final() {
                let over = target.apply(Happened::DeadlinePassed, target.deadline_at, TIMEOUT);
                prop_assert!(over.is_ok_and(|over| over.status.is_final()));
            }
        }
    }
}
