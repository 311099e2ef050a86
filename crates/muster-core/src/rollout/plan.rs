//! The planner: what may start, and whether the rollout goes on.
//!
//! `(policy, what has become of the devices, now) → what is next`. It is asked after
//! whatever happened, and answers the same as long as nothing does: asked again with
//! the state that it answered, it changes nothing more.

use std::time::Duration;

use super::policy::Policy;
use crate::clock::Timestamp;
use crate::target::Reason;

/// How a rollout stands. The numbers are those in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Phase {
    /// Devices may begin.
    Running = 0,
    /// A person paused it: none begins.
    Paused = 1,
    /// More devices failed than may: none begins.
    OverBudget = 2,
    /// Every device has ended.
    Finished = 3,
}

impl Phase {
    /// Every phase, in the order of its number.
    pub const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::OverBudget, Self::Finished];

    /// The phase with that number in the database.
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.code() == code)
    }

    /// The number in the database.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// No device begins until a person says so.
    pub const fn is_paused(self) -> bool {
        matches!(self, Self::Paused | Self::OverBudget)
    }
}

/// What is remembered of a rollout, beside its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// How it stands.
    pub phase: Phase,
    /// The newest wave that has begun, from 0.
    pub wave: u32,
    /// When it began; [`Timestamp::NEVER`] before the first.
    pub wave_began_at: Timestamp,
    /// When the next wave begins, once this one is over; [`Timestamp::NEVER`] before.
    pub next_wave_at: Timestamp,
    /// Failures that a person has seen and went on after.
    pub failures_forgiven: u64,
}

impl State {
    /// Of a rollout that has just been made.
    pub const NEW: Self = Self {
        phase: Phase::Running,
        wave: 0,
        wave_began_at: Timestamp::NEVER,
        next_wave_at: Timestamp::NEVER,
        failures_forgiven: 0,
    };

    /// Paused by a person; `None` where nothing is left to pause.
    pub fn paused(self) -> Option<Self> {
        (self.phase != Phase::Finished).then_some(Self { phase: Phase::Paused, ..self })
    }

    /// Let on by a person, who has seen `failures`; `None` where it is not paused.
    pub fn resumed(self, failures: u64) -> Option<Self> {
        let resumed = Self { phase: Phase::Running, failures_forgiven: failures, ..self };
        self.phase.is_paused().then_some(resumed)
    }
}

/// What has become of the devices of one wave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaveCounts {
    /// May not start yet.
    pub waiting: u64,
    /// May start, or have begun, and have not ended.
    pub in_progress: u64,
    /// Succeeded.
    pub succeeded: u64,
    /// Failed after they were allowed to start.
    pub failed: u64,
    /// Ended without having been allowed to start, or aborted.
    pub ended_otherwise: u64,
}

impl WaveCounts {
    /// Devices that have not ended.
    pub const fn open(&self) -> u64 {
        self.waiting + self.in_progress
    }

    /// All devices of the wave.
    pub const fn all(&self) -> u64 {
        self.open() + self.succeeded + self.failed + self.ended_otherwise
    }
}

/// What the planner looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is remembered.
    pub state: State,
    /// Every wave, in order.
    pub waves: Vec<WaveCounts>,
    /// How long a wave may hold up the next.
    pub wave_time: Duration,
}

/// What is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is to be remembered.
    pub state: State,
    /// How many waiting devices of the waves up to `state.wave` may start now.
    pub may_start: u64,
}

impl Progress {
    fn sum(&self, of: impl Fn(&WaveCounts) -> u64) -> u64 {
        self.waves.iter().map(of).sum()
    }

    /// Devices that failed after they were allowed to start.
    pub fn failures(&self) -> u64 {
        self.sum(|wave| wave.failed)
    }

    /// Devices at it.
    pub fn in_progress(&self) -> u64 {
        self.sum(|wave| wave.in_progress)
    }

    fn current(&self, wave: u32) -> WaveCounts {
        usize::try_from(wave).ok().and_then(|wave| self.waves.get(wave)).copied().unwrap_or_default()
    }

    fn is_last(&self, wave: u32) -> bool {
        usize::try_from(wave).unwrap_or(usize::MAX).saturating_add(1) >= self.waves.len()
    }
}

/// What is next in a rollout.
pub fn plan(policy: &Policy, progress: &Progress, now: Timestamp) -> Plan {
    let state = next_state(policy, progress, now);
    let is_begun = state.wave_began_at != Timestamp::NEVER;
    let may_start = if state.phase == Phase::Running && is_begun { free_places(policy, progress) } else { 0 };
    Plan { state, may_start }
}

fn free_places(policy: &Policy, progress: &Progress) -> u64 {
    policy.in_progress_max.unwrap_or(u64::MAX).saturating_sub(progress.in_progress())
}

fn next_state(policy: &Policy, progress: &Progress, now: Timestamp) -> State {
    let state = progress.state;
    if progress.sum(WaveCounts::open) == 0 && policy.follow_until.is_none_or(|until| until <= now) {
        return State { phase: Phase::Finished, ..state };
    }
    // Also of a finished one, whose failed devices are tried again.
    let phase = if state.phase == Phase::Finished { Phase::Running } else { state.phase };
    let state = State { phase, ..state };
    if state.phase.is_paused() || policy.start_at.is_some_and(|start_at| now < start_at) {
        return state;
    }
    if is_over_budget(policy, progress) {
        return State { phase: Phase::OverBudget, ..state };
    }
    advanced(policy, progress, state, now)
}

/// Whether more devices have failed than may.
fn is_over_budget(policy: &Policy, progress: &Progress) -> bool {
    let counted = progress.failures().saturating_sub(progress.state.failures_forgiven);
    policy.failures_max.is_some_and(|share| counted > share.at_most(progress.sum(WaveCounts::all)))
}

/// As many waves on as have their time.
fn advanced(policy: &Policy, progress: &Progress, mut state: State, now: Timestamp) -> State {
    if state.wave_began_at == Timestamp::NEVER {
        state.wave_began_at = now;
    }
    while !progress.is_last(state.wave) {
        let wave = progress.current(state.wave);
        let is_over = wave.open() == 0 || now >= state.wave_began_at.after(progress.wave_time);
        if !is_over && state.next_wave_at == Timestamp::NEVER {
            break;
        }
        if state.next_wave_at == Timestamp::NEVER {
            // Nothing is learnt from watching a wave without devices.
            state.next_wave_at = if wave.all() == 0 { now } else { now.after(policy.soak) };
        }
        if now < state.next_wave_at {
            break;
        }
        state = State { wave: state.wave + 1, wave_began_at: now, next_wave_at: Timestamp::NEVER, ..state };
    }
    state
}

/// Why a device of `wave` may not start, for whatever reason of its rollout; `None`
/// where only its turn has not come, or only the device itself is in the way.
pub fn held_back(policy: &Policy, progress: &Progress, wave: u32, now: Timestamp) -> Option<Reason> {
    let Plan { state, .. } = plan(policy, progress, now);
    match state.phase {
        Phase::Paused => {
            let text = "The deployment is paused; the device begins once it is resumed.";
            return Some(Reason::new("rollout_paused", text));
        }
        Phase::OverBudget => {
            let failures = progress.failures();
            let text = format!("The deployment paused after {failures} failed; the device begins once it is resumed.");
            return Some(Reason::new("failure_budget_spent", text));
        }
        Phase::Running | Phase::Finished => {}
    }
    if let Some(start_at) = policy.start_at.filter(|start_at| now < *start_at) {
        let text = format!("The deployment begins at {}.", start_at.to_rfc3339());
        return Some(Reason::new("scheduled_start", text));
    }
    if wave <= state.wave {
        return None;
    }
    if state.next_wave_at != Timestamp::NEVER && wave == state.wave + 1 {
        let text = format!("Wave {} is watched until {}.", state.wave + 1, state.next_wave_at.to_rfc3339());
        return Some(Reason::new("wave_soaking", text));
    }
    let text = format!("The device is in wave {}; the deployment is at wave {}.", wave + 1, state.wave + 1);
    Some(Reason::new("wave_not_begun", text))
}

/// Why a device may not start that nothing else keeps from it: others are at it.
pub fn waits_for_others(policy: &Policy, progress: &Progress, now: Timestamp) -> Reason {
    let is_full = plan(policy, progress, now).may_start == 0;
    match &policy.disruption {
        Some(disruption) if !is_full => {
            let text = format!("Enough devices with the same tag {} are at it.", disruption.tag_key);
            Reason::new("disruption_budget", text)
        }
        _ => Reason::new("concurrency_budget", "As many devices are at it as may be at once."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::policy::{Share, Wave};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn two_waves() -> Policy {
        Policy { waves: vec![Wave::Share(Share::Count(2))], soak: HOUR, ..Policy::default() }
    }

    fn progress(state: State, waves: &[WaveCounts]) -> Progress {
        Progress { state, waves: waves.to_vec(), wave_time: 10 * HOUR }
    }

    fn waiting(waiting: u64) -> WaveCounts {
        WaveCounts { waiting, ..WaveCounts::default() }
    }

    #[test]
    fn goes_from_wave_to_wave_with_a_soak_between() {
        let policy = two_waves();
        let first = plan(&policy, &progress(State::NEW, &[waiting(2), waiting(8)]), NOW);
        assert_eq!((first.state.wave, first.may_start), (0, u64::MAX));
        let over = [WaveCounts { succeeded: 2, ..WaveCounts::default() }, waiting(8)];
        let soaking = plan(&policy, &progress(first.state, &over), NOW);
        assert_eq!((soaking.state.wave, soaking.state.next_wave_at), (0, NOW.after(HOUR)));
        assert_eq!(held_back(&policy, &progress(soaking.state, &over), 1, NOW).unwrap().code, "wave_soaking");
        let second = plan(&policy, &progress(soaking.state, &over), NOW.after(HOUR));
        assert_eq!((second.state.wave, second.state.next_wave_at), (1, Timestamp::NEVER));
    }

    #[test]
    fn a_wave_that_does_not_end_holds_up_the_next_no_longer_than_its_time() {
        let (policy, waves) = (two_waves(), [waiting(2), waiting(8)]);
        let begun = plan(&policy, &progress(State::NEW, &waves), NOW).state;
        let almost = Timestamp::from_millis(NOW.after(10 * HOUR).as_millis() - 1);
        assert_eq!(plan(&policy, &progress(begun, &waves), almost).state, begun);
        let soaking = plan(&policy, &progress(begun, &waves), NOW.after(10 * HOUR)).state;
        assert_eq!(plan(&policy, &progress(soaking, &waves), NOW.after(11 * HOUR)).state.wave, 1);
    }

    #[test]
    fn skips_waves_without_devices() {
        let policy = Policy { waves: vec![Wave::Share(Share::Count(2)); 3], soak: HOUR, ..Policy::default() };
        let waves = [waiting(0), waiting(0), waiting(3), waiting(0)];
        assert_eq!(plan(&policy, &progress(State::NEW, &waves), NOW).state.wave, 2);
    }

    #[test]
    fn pauses_at_one_failure_more_than_may_be() {
        let policy = Policy { failures_max: Some(Share::Count(1)), ..Policy::default() };
        let counts = |failed| [WaveCounts { failed, waiting: 5, in_progress: 1, ..WaveCounts::default() }];
        assert_eq!(plan(&policy, &progress(State::NEW, &counts(1)), NOW).state.phase, Phase::Running);
        let paused = plan(&policy, &progress(State::NEW, &counts(2)), NOW);
        assert_eq!((paused.state.phase, paused.may_start), (Phase::OverBudget, 0));
        let resumed = paused.state.resumed(2).unwrap();
        assert_eq!(plan(&policy, &progress(resumed, &counts(3)), NOW).state.phase, Phase::Running);
        assert_eq!(plan(&policy, &progress(resumed, &counts(4)), NOW).state.phase, Phase::OverBudget);
    }

    #[test]
    fn nothing_begins_before_its_time_or_while_it_is_paused() {
        let policy = Policy { start_at: Some(NOW.after(HOUR)), ..Policy::default() };
        let early = plan(&policy, &progress(State::NEW, &[waiting(1)]), NOW);
        assert_eq!(early, Plan { state: State::NEW, may_start: 0 });
        assert_eq!(plan(&policy, &progress(State::NEW, &[waiting(1)]), NOW.after(HOUR)).may_start, u64::MAX);
        let paused = State::NEW.paused().unwrap();
        assert_eq!(plan(&Policy::default(), &progress(paused, &[waiting(1)]), NOW).may_start, 0);
    }

    #[test]
    fn is_over_when_every_device_is_and_none_can_come() {
        let over = [WaveCounts { succeeded: 1, failed: 1, ..WaveCounts::default() }];
        let finished = plan(&Policy::default(), &progress(State::NEW, &over), NOW).state;
        assert_eq!(finished.phase, Phase::Finished);
        assert_eq!((finished.paused(), finished.resumed(0)), (None, None));
        let again = plan(&Policy::default(), &progress(finished, &[waiting(1)]), NOW);
        assert_eq!(again.state.phase, Phase::Running, "failed devices are tried again");
        let follows = Policy { follow_until: Some(NOW.after(HOUR)), ..Policy::default() };
        assert_eq!(plan(&follows, &progress(State::NEW, &over), NOW).state.phase, Phase::Running);
        assert_eq!(plan(&follows, &progress(State::NEW, &over), NOW.after(HOUR)).state.phase, Phase::Finished);
    }

    #[test]
    fn phases_round_trip() {
        for phase in Phase::ALL {
            assert_eq!(Phase::from_code(phase.code()), Some(phase));
        }
        assert_eq!(Phase::from_code(9), None);
    }
}
