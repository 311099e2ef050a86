//! How one device goes through one deployment.
//!
//! A target is `pending → in progress → succeeded | failed | aborted`. The rule is
//! one pure function, [`Target::apply`]: the store loads a target, applies an
//! event, and writes what came out. Every non-final state has a deadline, so that
//! every target ends whatever breaks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::limits::{ABORT_DEADLINE, ASK_AGAIN_AFTER, PENDING_DEADLINE, STEP_OUTPUT_BYTES_MAX};
use crate::names::StepName;

/// Where a device stands in a deployment. The numbers are those in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i16)]
pub enum TargetStatus {
    /// Not begun: the device is offline, its update trigger is set, or it is busy with another deployment.
    Pending = 0,
    /// The device has accepted the run.
    InProgress = 1,
    /// Every step succeeded.
    Succeeded = 2,
    /// A step failed, or a deadline passed.
    Failed = 3,
    /// Ended because a person asked for it.
    Aborted = 4,
}

impl TargetStatus {
    /// Every status, in the order of its number.
    pub const ALL: [Self; 5] = [Self::Pending, Self::InProgress, Self::Succeeded, Self::Failed, Self::Aborted];

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
        matches!(self, Self::Succeeded | Self::Failed | Self::Aborted)
    }

    /// The word in filters, in API v1 and in a device's `updates`.
    pub const fn filter_word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Succeeded => "success",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }

    /// The status that a filter's word means.
    pub fn from_filter_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.filter_word() == word)
    }

    /// The words in the bodies of API v2's deployments.
    pub const fn v2_word(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::InProgress => "In Progress",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Aborted => "Aborted",
        }
    }
}

/// Why a target stands as it does: a stable code for programs and a sentence for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// `step_failed`, `pending_deadline`, …: listed in `docs/operating/deployments.md`.
    pub code: String,
    /// One sentence.
    pub text: String,
}

impl Reason {
    /// A reason with that code and sentence.
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), text: text.into() }
    }
}

/// How a run ended on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Every step succeeded, or its failure was to be ignored.
    Succeeded,
    /// A step failed, or the run could not begin.
    Failed,
    /// The server asked for the abort.
    Aborted,
}

/// What one step of a run came to. Also the wire shape on the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    /// Place in the run, from 0; the steps of a rollback count on.
    pub index: u32,
    /// The step's name.
    pub name: StepName,
    /// The exit code; `None` when the step was ended by a signal, or never ran.
    pub exit_code: Option<i32>,
    /// Kept standard output.
    pub stdout: String,
    /// Kept standard error.
    pub stderr: String,
    /// When it began, by the device's clock.
    pub started_at: Timestamp,
    /// When it ended, by the device's clock.
    pub finished_at: Timestamp,
}

impl StepResult {
    /// The result as it may be stored: a device cannot make a row that a database
    /// refuses or that grows without bound, whatever it sends.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for stream in [&mut self.stdout, &mut self.stderr] {
            stream.retain(|c| c != '\0');
            let end = stream.floor_char_boundary(STEP_OUTPUT_BYTES_MAX * 2);
            stream.truncate(end);
        }
        self
    }
}

/// What a device reports of a run, in this order, each exactly once in effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// The instruction is in the device's journal; the run begins.
    Accepted,
    /// A step ended, well or badly.
    StepFinished(StepResult),
    /// The run is over.
    Finished {
        /// How it ended.
        outcome: RunOutcome,
        /// Why, when it did not succeed.
        #[serde(default)]
        reason: Reason,
    },
}

/// When each state of a deployment's targets ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From the making of a target to the device's acceptance.
    pub pending: Duration,
    /// From the device's acceptance to its last report.
    pub run: Duration,
    /// From the wish to abort to the device's confirmation.
    pub abort: Duration,
}

impl Deadlines {
    /// The defaults, for runs that may take that long.
    pub const fn new(run: Duration) -> Self {
        Self { pending: PENDING_DEADLINE, run, abort: ABORT_DEADLINE }
    }
}

/// What can happen to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetEvent<'a> {
    /// The instruction is about to be sent over the link with that epoch.
    Dispatched {
        /// The device's link epoch.
        epoch: i64,
    },
    /// The device reported.
    Reported {
        /// Number of the report in its run, from 1.
        seq: i64,
        /// What it says.
        event: &'a RunEvent,
    },
    /// The device was told, and says that it will not begin now.
    PutOff {
        /// Why, in the device's words.
        reason: &'a str,
    },
    /// A person asked for the abort.
    AbortRequested,
    /// The clock passed the target's deadline.
    DeadlinePassed,
}

/// One device in one deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it stands.
    pub status: TargetStatus,
    /// Why it stands there.
    pub reason: Reason,
    /// Epoch of the link over which the instruction was last sent; 0 when it never was.
    pub dispatched_epoch: i64,
    /// The last report that took effect; 0 before the first.
    pub reported_seq: i64,
    /// A person asked for the abort, and the device has not confirmed.
    pub is_abort_requested: bool,
    /// When the device accepted; [`Timestamp::NEVER`] before.
    pub started_at: Timestamp,
    /// When it became final; [`Timestamp::NEVER`] before.
    pub finished_at: Timestamp,
    /// When the present state ends by itself.
    pub deadline_at: Timestamp,
    /// When it ends if the device never begins.
    pub pending_until_at: Timestamp,
    /// Before this the device is not asked to begin: it has said not now.
    pub ask_again_at: Timestamp,
}

/// What [`Target::apply`] asks of its caller, beside storing the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetEffect<'a> {
    /// Store this step's result.
    StoreStep(&'a StepResult),
    /// The device now has the deployment's app version.
    SetApp,
    /// Tell the device to abort.
    SendAbort,
}

/// Why an event changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// It had happened before: acknowledge it again.
    Repeated,
    /// A report before it is missing: do not acknowledge it.
    OutOfOrder,
    /// The target had ended another way: acknowledge it, the device must stop.
    AlreadyFinal,
    /// Nothing to do.
    NothingToDo,
}

impl Target {
    /// A new target, pending for at most `pending_deadline`.
    pub fn pending(now: Timestamp, pending_deadline: Duration) -> Self {
        Self {
            status: TargetStatus::Pending,
            reason: Reason::default(),
            dispatched_epoch: 0,
            reported_seq: 0,
            is_abort_requested: false,
            started_at: Timestamp::NEVER,
            finished_at: Timestamp::NEVER,
            deadline_at: now.after(pending_deadline),
            pending_until_at: now.after(pending_deadline),
            ask_again_at: Timestamp::NEVER,
        }
    }

    /// The target after `event`, and what must be done for it.
    pub fn apply<'a>(
        &self,
        event: &TargetEvent<'a>,
        now: Timestamp,
        deadlines: Deadlines,
    ) -> Result<(Self, Vec<TargetEffect<'a>>), Unchanged> {
        match event {
            TargetEvent::Reported { seq, event } => self.reported(*seq, event, now, deadlines.run),
            _ if self.status.is_final() => Err(Unchanged::AlreadyFinal),
            TargetEvent::Dispatched { epoch } if *epoch > self.dispatched_epoch => {
                Ok((Self { dispatched_epoch: *epoch, ..self.clone() }, Vec::new()))
            }
            TargetEvent::Dispatched { .. } => Err(Unchanged::NothingToDo),
            TargetEvent::PutOff { reason } => self.put_off(reason, now),
            TargetEvent::AbortRequested => self.abort_requested(now, deadlines.abort),
            TargetEvent::DeadlinePassed if now < self.deadline_at => Err(Unchanged::NothingToDo),
            TargetEvent::DeadlinePassed => Ok(self.deadline_passed(now)),
        }
    }

    fn reported<'a>(
        &self,
        seq: i64,
        event: &'a RunEvent,
        now: Timestamp,
        run_deadline: Duration,
    ) -> Result<(Self, Vec<TargetEffect<'a>>), Unchanged> {
        if seq <= self.reported_seq {
            return Err(Unchanged::Repeated);
        }
        if self.status.is_final() {
            return Err(Unchanged::AlreadyFinal);
        }
        if seq > self.reported_seq + 1 {
            return Err(Unchanged::OutOfOrder);
        }
        let next = Self { reported_seq: seq, ..self.clone() };
        Ok(match event {
            RunEvent::Accepted => (next.accepted(now, run_deadline), Vec::new()),
            RunEvent::StepFinished(step) => (next, vec![TargetEffect::StoreStep(step)]),
            RunEvent::Finished { outcome: RunOutcome::Succeeded, .. } => {
                (next.ended(TargetStatus::Succeeded, Reason::default(), now), vec![TargetEffect::SetApp])
            }
            RunEvent::Finished { outcome: RunOutcome::Failed, reason } => {
                (next.ended(TargetStatus::Failed, reason.clone(), now), Vec::new())
            }
            RunEvent::Finished { outcome: RunOutcome::Aborted, reason } => {
                (next.ended(TargetStatus::Aborted, reason.clone(), now), Vec::new())
            }
        })
    }

    fn accepted(self, now: Timestamp, run_deadline: Duration) -> Self {
        let deadline_at = if self.is_abort_requested { self.deadline_at } else { now.after(run_deadline) };
        Self { status: TargetStatus::InProgress, reason: Reason::default(), started_at: now, deadline_at, ..self }
    }

    /// As if it had never been told, but not asked again at once.
    fn put_off<'a>(&self, reason: &str, now: Timestamp) -> Result<(Self, Vec<TargetEffect<'a>>), Unchanged> {
        if self.status != TargetStatus::Pending || self.dispatched_epoch == 0 {
            return Err(Unchanged::NothingToDo);
        }
        if self.is_abort_requested {
            return Ok((self.clone().ended(TargetStatus::Aborted, aborted_before_start(), now), Vec::new()));
        }
        let next = Self {
            reason: device_refuses(reason),
            dispatched_epoch: 0,
            deadline_at: self.pending_until_at,
            ask_again_at: now.after(ASK_AGAIN_AFTER),
            ..self.clone()
        };
        Ok((next, Vec::new()))
    }

    fn abort_requested<'a>(
        &self,
        now: Timestamp,
        abort_deadline: Duration,
    ) -> Result<(Self, Vec<TargetEffect<'a>>), Unchanged> {
        if self.is_abort_requested {
            return Err(Unchanged::NothingToDo);
        }
        let next = Self { is_abort_requested: true, ..self.clone() };
        if self.dispatched_epoch == 0 {
            return Ok((next.ended(TargetStatus::Aborted, aborted_before_start(), now), Vec::new()));
        }
        let deadline_at = self.deadline_at.min(now.after(abort_deadline));
        Ok((Self { deadline_at, ..next }, vec![TargetEffect::SendAbort]))
    }

    fn deadline_passed<'a>(&self, now: Timestamp) -> (Self, Vec<TargetEffect<'a>>) {
        let (status, reason) = deadline_verdict(self.status, self.dispatched_epoch > 0, self.is_abort_requested);
        let effects = if self.dispatched_epoch > 0 { vec![TargetEffect::SendAbort] } else { Vec::new() };
        (self.clone().ended(status, reason, now), effects)
    }

    fn ended(self, status: TargetStatus, reason: Reason, now: Timestamp) -> Self {
        Self { status, reason, finished_at: now, ..self }
    }
}

/// The reason of a target that was aborted before its device heard of it.
pub fn aborted_before_start() -> Reason {
    Reason::new("aborted", "The deployment was aborted before the device began.")
}

/// Why a target waits whose device has said not now.
fn device_refuses(reason: &str) -> Reason {
    let reason = if reason.is_empty() { "it gave no reason" } else { reason };
    Reason::new("device_refuses", format!("The device says not now: {reason}"))
}

/// What becomes of a target whose device has no agent, as soon as it is made: such a
/// device will never hear of it.
pub fn without_agent() -> (TargetStatus, Reason) {
    let text = "The device has no agent that could carry out an update.";
    (TargetStatus::Failed, Reason::new("no_agent", text))
}

/// What becomes of a target whose deadline passed. Shared with the store's
/// set-based statement, which ends many at once.
pub fn deadline_verdict(status: TargetStatus, is_sent: bool, is_abort_requested: bool) -> (TargetStatus, Reason) {
    if is_abort_requested {
        let text = "The device did not confirm the abort in time; what it did is not known.";
        return (TargetStatus::Aborted, Reason::new("abort_unconfirmed", text));
    }
    if status == TargetStatus::Pending && is_sent {
        let text = "The device was told to begin and did not confirm it in time; what it did is not known.";
        return (TargetStatus::Failed, Reason::new("start_unconfirmed", text));
    }
    if status == TargetStatus::Pending {
        let text = "The device did not begin before the deployment's deadline.";
        return (TargetStatus::Failed, Reason::new("pending_deadline", text));
    }
    let text = "The device began but did not finish before its deadline.";
    (TargetStatus::Failed, Reason::new("run_deadline", text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUN: Duration = Duration::from_secs(100);
    const TIMES: Deadlines = Deadlines { pending: Duration::from_secs(50), run: RUN, abort: Duration::from_secs(20) };
    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn fresh() -> Target {
        Target::pending(START, Duration::from_secs(50))
    }

    fn dispatched() -> Target {
        fresh().apply(&TargetEvent::Dispatched { epoch: 1 }, START, TIMES).unwrap().0
    }

    fn report(target: &Target, seq: i64, event: &RunEvent) -> Result<Target, Unchanged> {
        target.apply(&TargetEvent::Reported { seq, event }, START, TIMES).map(|(next, _)| next)
    }

    fn finished(outcome: RunOutcome) -> RunEvent {
        RunEvent::Finished { outcome, reason: Reason::new("step_failed", "no") }
    }

    #[test]
    fn runs_to_success_and_sets_the_app() {
        let running = report(&dispatched(), 1, &RunEvent::Accepted).unwrap();
        assert_eq!(running.status, TargetStatus::InProgress);
        assert_eq!(running.deadline_at, START.after(RUN));
        let event = finished(RunOutcome::Succeeded);
        let (done, effects) = running.apply(&TargetEvent::Reported { seq: 2, event: &event }, START, TIMES).unwrap();
        assert_eq!((done.status, effects), (TargetStatus::Succeeded, vec![TargetEffect::SetApp]));
    }

    #[test]
    fn takes_each_report_once_and_in_order() {
        let target = dispatched();
        assert_eq!(report(&target, 2, &RunEvent::Accepted), Err(Unchanged::OutOfOrder));
        let running = report(&target, 1, &RunEvent::Accepted).unwrap();
        assert_eq!(report(&running, 1, &RunEvent::Accepted), Err(Unchanged::Repeated));
        let failed = report(&running, 2, &finished(RunOutcome::Failed)).unwrap();
        assert_eq!(failed.reason.code, "step_failed");
        assert_eq!(report(&failed, 3, &finished(RunOutcome::Succeeded)), Err(Unchanged::AlreadyFinal));
    }

    #[test]
    fn a_device_that_says_not_now_is_asked_again_and_may_be_aborted() {
        let put_off = TargetEvent::PutOff { reason: "a patient is connected" };
        let (waiting, effects) = dispatched().apply(&put_off, START, TIMES).unwrap();
        assert_eq!((waiting.status, waiting.dispatched_epoch, effects.len()), (TargetStatus::Pending, 0, 0));
        assert_eq!(waiting.reason.text, "The device says not now: a patient is connected");
        assert_eq!(waiting.ask_again_at, START.after(ASK_AGAIN_AFTER));
        assert_eq!(waiting.apply(&put_off, START, TIMES), Err(Unchanged::NothingToDo));
        let again = waiting.apply(&TargetEvent::Dispatched { epoch: 1 }, START, TIMES).unwrap().0;
        assert_eq!(report(&again, 1, &RunEvent::Accepted).unwrap().reason, Reason::default());
        let asked = again.apply(&TargetEvent::AbortRequested, START, TIMES).unwrap().0;
        assert_eq!(asked.apply(&put_off, START, TIMES).unwrap().0.status, TargetStatus::Aborted);
    }

    #[test]
    fn an_abort_before_dispatch_is_final_at_once() {
        let (aborted, effects) = fresh().apply(&TargetEvent::AbortRequested, START, TIMES).unwrap();
        assert_eq!((aborted.status, effects.len()), (TargetStatus::Aborted, 0));
    }

    #[test]
    fn an_abort_after_dispatch_waits_for_the_device_but_not_for_ever() {
        let (asked, effects) = dispatched().apply(&TargetEvent::AbortRequested, START, TIMES).unwrap();
        assert_eq!(effects, vec![TargetEffect::SendAbort]);
        assert!(!asked.status.is_final());
        let late = asked.deadline_at;
        let (ended, _) = asked.apply(&TargetEvent::DeadlinePassed, late, TIMES).unwrap();
        assert_eq!((ended.status, ended.reason.code.as_str()), (TargetStatus::Aborted, "abort_unconfirmed"));
    }

    #[test]
    fn a_deadline_ends_each_state_with_its_reason() {
        let late = START.after(Duration::from_secs(1_000));
        let (ended, effects) = fresh().apply(&TargetEvent::DeadlinePassed, late, TIMES).unwrap();
        assert_eq!((ended.reason.code.as_str(), effects.len()), ("pending_deadline", 0));
        let (ended, effects) = dispatched().apply(&TargetEvent::DeadlinePassed, late, TIMES).unwrap();
        assert_eq!((ended.reason.code.as_str(), effects.len()), ("start_unconfirmed", 1));
        let running = report(&dispatched(), 1, &RunEvent::Accepted).unwrap();
        let (ended, effects) = running.apply(&TargetEvent::DeadlinePassed, late, TIMES).unwrap();
        assert_eq!((ended.reason.code.as_str(), effects.len()), ("run_deadline", 1));
        assert_eq!(running.apply(&TargetEvent::DeadlinePassed, START, TIMES), Err(Unchanged::NothingToDo));
    }

    #[test]
    fn status_words_round_trip() {
        for status in TargetStatus::ALL {
            assert_eq!(TargetStatus::from_code(status.code()), Some(status));
            assert_eq!(TargetStatus::from_filter_word(status.filter_word()), Some(status));
        }
        assert_eq!(TargetStatus::from_code(9), None);
    }

    #[test]
    fn bounds_what_a_device_sends() {
        let step = StepResult {
            index: 0,
            name: StepName::parse("s").unwrap(),
            exit_code: Some(0),
            stdout: "a\0é".repeat(STEP_OUTPUT_BYTES_MAX),
            stderr: String::new(),
            started_at: START,
            finished_at: START,
        };
        let stored = step.bounded();
        assert!(stored.stdout.len() <= 2 * STEP_OUTPUT_BYTES_MAX && !stored.stdout.contains('\0'));
    }

    fn any_event() -> impl Strategy<Value = (u8, i64)> {
        (0u8..7, 0i64..6)
    }

    proptest! {
        #[test]
        fn nothing_leaves_a_final_state_and_the_deadline_always_ends(events in proptest::collection::vec(any_event(), 0..30)) {
            let (mut target, mut now) = (fresh(), START);
            for (kind, number) in events {
                now = now.after(Duration::from_secs(7));
                let run_event = match kind {
                    0 => RunEvent::Accepted,
                    1 => finished(RunOutcome::Succeeded),
                    _ => finished(RunOutcome::Aborted),
                };
                let event = match kind {
                    0..=2 => TargetEvent::Reported { seq: number, event: &run_event },
                    3 => TargetEvent::Dispatched { epoch: number },
                    4 => TargetEvent::AbortRequested,
                    5 => TargetEvent::PutOff { reason: "busy" },
                    _ => TargetEvent::DeadlinePassed,
                };
                let before = target.clone();
                if let Ok((next, _)) = target.apply(&event, now, TIMES) {
                    prop_assert!(!before.status.is_final());
                    prop_assert_eq!(next.status.is_final(), next.finished_at != Timestamp::NEVER);
                    target = next;
                }
            }
            if !target.status.is_final() {
                let (ended, _) = target.apply(&TargetEvent::DeadlinePassed, target.deadline_at, TIMES).unwrap();
                prop_assert!(ended.status.is_final());
            }
        }
    }
}
