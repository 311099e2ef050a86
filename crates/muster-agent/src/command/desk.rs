//! Every remote command of the device. Pure: an input goes in, effects come out, and the
//! driver carries them out in order.

use std::collections::VecDeque;
use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::command::{CommandEnd, CommandResult};
use muster_core::ids::CommandRunUuid;
use muster_core::limits::{COMMAND_TIMEOUT_MAX, COMMANDS_AT_ONCE_MAX, WAITING_COMMANDS_MAX};
use muster_core::target::Reason;
use muster_link::CommandOrder;
use serde::{Deserialize, Serialize};

use crate::step::{StepEnd, StepOutcome};

/// Commands whose end the server has stored that are remembered: the server asks for none of
/// them again, unless it was put back to an older state.
pub const STORED_COMMANDS_KEPT: usize = 50;
/// Ends that may be on their way, without the server's word that they are stored, at a time.
const ENDS_IN_FLIGHT_MAX: usize = 4;

/// What a command is to do: `order.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its place among all commands.
    pub arrival: u64,
    /// For `sh`.
    pub script: String,
    /// Who runs it; empty for the agent's own user.
    pub user: String,
    /// How long it may run, in milliseconds.
    pub timeout_ms: u64,
    /// It does not begin after this.
    pub begin_before: Timestamp,
}

/// How far a command has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not begun.
    Waiting,
    /// Its runner was started, or was about to be.
    Running,
    /// It is over, and the disk knows how it ended.
    Ended,
    /// The server knows that as well.
    Stored,
}

/// A command as the disk remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Names it.
    pub id: CommandRunUuid,
    /// What it is to do.
    pub order: Order,
    /// How far it has come.
    pub stage: Stage,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The desk was made from the disk.
    Loaded,
    /// The server wants a command to run; as which user, or why it does not.
    Ordered(CommandOrder, Result<String, Reason>),
    /// The server wants a command to end.
    Aborted(CommandRunUuid),
    /// The server has stored how a command ended.
    Stored(CommandRunUuid),
    /// No runner of the command lives any more.
    Over {
        /// The command.
        id: CommandRunUuid,
        /// What the runner left, if anything.
        outcome: Option<Box<StepOutcome>>,
        /// The runner had been asked to end it.
        is_stop_requested: bool,
    },
    /// The link is up. Whatever was said over an older one may be lost.
    LinkUp,
    /// The link is down.
    LinkDown,
}

/// What the driver must do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write a command down.
    Create(CommandRunUuid, Order),
    /// Write down that it begins, start its runner, and wait for its end.
    Begin(CommandRunUuid),
    /// Wait for the end of one that an earlier agent began.
    Watch(CommandRunUuid),
    /// Tell its runner to end it.
    Stop(CommandRunUuid),
    /// Write down how it ended.
    End(CommandRunUuid, Box<CommandResult>),
    /// Tell the server that it runs.
    SayStarted(CommandRunUuid),
    /// Tell the server how it ended.
    SayEnded(CommandRunUuid),
    /// Write down that the server knows how it ended.
    Settle(CommandRunUuid),
    /// Remove all that is known of it.
    Remove(CommandRunUuid),
}

#[derive(Debug)]
struct Slot {
    known: Known,
    /// What is known of it was said over the present link.
    is_said: bool,
}

/// Every command that the device knows.
#[derive(Debug, Default)]
pub struct Desk {
    /// In order of arrival.
    slots: Vec<Slot>,
    next_arrival: u64,
    is_link_up: bool,
    effects: VecDeque<Effect>,
}

impl Desk {
    /// The desk of what was found on the disk.
    pub fn new(mut known: Vec<Known>) -> Self {
        known.sort_by_key(|known| known.order.arrival);
        let next_arrival = known.last().map_or(0, |known| known.order.arrival + 1);
        let slots = known.into_iter().map(|known| Slot { known, is_said: false }).collect();
        Self { slots, next_arrival, ..Self::default() }
    }

    /// Takes in what happened; says what must be done.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        match input {
            Input::Loaded => self.resume(),
            Input::Ordered(order, user) => self.ordered(order, user, now),
            Input::Aborted(id) => self.aborted(id, now),
            Input::Stored(id) => self.stored(&id),
            Input::Over { id, outcome, is_stop_requested } => self.over(&id, outcome, is_stop_requested),
            Input::LinkUp => {
                self.is_link_up = true;
                self.slots.iter_mut().for_each(|slot| slot.is_said = false);
            }
            Input::LinkDown => self.is_link_up = false,
        }
        self.advance(now);
        self.prune();
        self.say();
        std::mem::take(&mut self.effects).into()
    }

    fn resume(&mut self) {
        let running = self.slots.iter().filter(|slot| slot.known.stage == Stage::Running);
        self.effects.extend(running.map(|slot| Effect::Watch(slot.known.id.clone())));
    }

    fn ordered(&mut self, order: CommandOrder, user: Result<String, Reason>, now: Timestamp) {
        if let Some(i) = self.position(&order.command) {
            // The server has not heard how it stands, or it would not ask again.
            self.slots[i].is_said = false;
            if self.slots[i].known.stage == Stage::Stored {
                self.slots[i].known.stage = Stage::Ended;
            }
            return;
        }
        let waiting = self.slots.iter().filter(|slot| slot.known.stage == Stage::Waiting).count();
        let longest = u64::try_from(COMMAND_TIMEOUT_MAX.as_millis()).unwrap_or(u64::MAX);
        let saved = Order {
            arrival: self.next_arrival,
            script: order.script,
            user: user.clone().unwrap_or_default(),
            timeout_ms: order.timeout_ms.min(longest),
            begin_before: now.after(Duration::from_millis(order.begin_within_ms)),
        };
        self.create(order.command, saved);
        match user {
            Err(reason) => self.end_last(CommandEnd::Refused, reason),
            Ok(_) if waiting >= WAITING_COMMANDS_MAX => {
                let text = format!("{WAITING_COMMANDS_MAX} commands wait on the device already.");
                self.end_last(CommandEnd::Refused, Reason::new("device_busy", text));
            }
            Ok(_) => {}
        }
    }

    fn create(&mut self, id: CommandRunUuid, order: Order) {
        self.next_arrival = order.arrival + 1;
        self.effects.push_back(Effect::Create(id.clone(), order.clone()));
        self.slots.push(Slot { known: Known { id, order, stage: Stage::Waiting }, is_said: false });
    }

    fn end_last(&mut self, end: CommandEnd, reason: Reason) {
        self.end(self.slots.len() - 1, CommandResult::unbegun(end, reason));
    }

    fn end(&mut self, i: usize, result: CommandResult) {
        let slot = &mut self.slots[i];
        slot.known.stage = Stage::Ended;
        slot.known.order.script = String::new();
        slot.is_said = false;
        self.effects.push_back(Effect::End(slot.known.id.clone(), Box::new(result)));
    }

    fn aborted(&mut self, id: CommandRunUuid, now: Timestamp) {
        let Some(i) = self.position(&id) else {
            // Kept, so that an order that comes late is not carried out.
            let (script, user) = (String::new(), String::new());
            self.create(id, Order { arrival: self.next_arrival, script, user, timeout_ms: 0, begin_before: now });
            return self.end_last(CommandEnd::Aborted, aborted_before_start());
        };
        match self.slots[i].known.stage {
            Stage::Waiting => self.end(i, CommandResult::unbegun(CommandEnd::Aborted, aborted_before_start())),
            Stage::Running => self.effects.push_back(Effect::Stop(id)),
            Stage::Ended | Stage::Stored => self.slots[i].is_said = false,
        }
        if self.slots[i].known.stage == Stage::Stored {
            self.slots[i].known.stage = Stage::Ended;
        }
    }

    fn stored(&mut self, id: &CommandRunUuid) {
        let Some(i) = self.position(id) else { return };
        if self.slots[i].known.stage == Stage::Ended {
            self.slots[i].known.stage = Stage::Stored;
            self.effects.push_back(Effect::Settle(id.clone()));
        }
    }

    fn over(&mut self, id: &CommandRunUuid, outcome: Option<Box<StepOutcome>>, is_stop_requested: bool) {
        let Some(i) = self.position(id) else { return };
        if self.slots[i].known.stage == Stage::Running {
            self.end(i, result(outcome, is_stop_requested));
        }
    }

    /// Ends what has waited too long, and begins what there is room for.
    fn advance(&mut self, now: Timestamp) {
        let mut running = self.slots.iter().filter(|slot| slot.known.stage == Stage::Running).count();
        for i in 0..self.slots.len() {
            let known = &mut self.slots[i].known;
            if known.stage != Stage::Waiting {
                continue;
            }
            if now > known.order.begin_before {
                self.end(i, CommandResult::unbegun(CommandEnd::Expired, Reason::default()));
            } else if running < COMMANDS_AT_ONCE_MAX {
                running += 1;
                known.stage = Stage::Running;
                self.effects.push_back(Effect::Begin(known.id.clone()));
            }
        }
    }

    /// Forgets the oldest of what the server has stored.
    fn prune(&mut self) {
        let stored = self.slots.iter().filter(|slot| slot.known.stage == Stage::Stored).count();
        let mut surplus = stored.saturating_sub(STORED_COMMANDS_KEPT);
        let effects = &mut self.effects;
        self.slots.retain(|slot| {
            let is_gone = surplus > 0 && slot.known.stage == Stage::Stored;
            if is_gone {
                surplus -= 1;
                effects.push_back(Effect::Remove(slot.known.id.clone()));
            }
            !is_gone
        });
    }

    /// Says what has not been said over the present link; of ends only a few at a time.
    fn say(&mut self) {
        if !self.is_link_up {
            return;
        }
        let in_flight = self.slots.iter().filter(|slot| slot.known.stage == Stage::Ended && slot.is_said).count();
        let mut room = ENDS_IN_FLIGHT_MAX.saturating_sub(in_flight);
        for Slot { known: Known { id, stage, .. }, is_said } in self.slots.iter_mut().filter(|slot| !slot.is_said) {
            match stage {
                Stage::Running => self.effects.push_back(Effect::SayStarted(id.clone())),
                Stage::Ended if room > 0 => {
                    room -= 1;
                    self.effects.push_back(Effect::SayEnded(id.clone()));
                }
                Stage::Waiting | Stage::Ended | Stage::Stored => continue,
            }
            *is_said = true;
        }
    }

    fn position(&self, id: &CommandRunUuid) -> Option<usize> {
        self.slots.iter().position(|slot| slot.known.id == *id)
    }

    /// What a command is to do.
    pub fn order(&self, id: &CommandRunUuid) -> Option<&Order> {
        self.position(id).map(|i| &self.slots[i].known.order)
    }
}

fn aborted_before_start() -> Reason {
    Reason::new("aborted", "The run was aborted before the device began.")
}

/// What a command came to, of which the runner left that.
fn result(outcome: Option<Box<StepOutcome>>, is_stop_requested: bool) -> CommandResult {
    let Some(outcome) = outcome else {
        return CommandResult::unbegun(CommandEnd::Interrupted, Reason::default());
    };
    let end = match outcome.end {
        StepEnd::Exited => CommandEnd::Exited,
        StepEnd::TimedOut => CommandEnd::TimedOut,
        StepEnd::Stopped if is_stop_requested => CommandEnd::Aborted,
        // Without an abort: the device was shutting down.
        StepEnd::Stopped | StepEnd::Interrupted => CommandEnd::Interrupted,
    };
    let duration = outcome.finished_at.since(outcome.started_at);
    CommandResult {
        end,
        reason: Reason::default(),
        exit_code: outcome.exit_code,
        signal: outcome.signal,
        // What ran for less than one did run.
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1),
        output: outcome.stdout,
        left_out_bytes: outcome.left_out_bytes,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn id(n: usize) -> CommandRunUuid {
        format!("cr-0000-{n:04}").parse().unwrap()
    }

    fn order(n: usize) -> Input {
        let order = CommandOrder {
            command: id(n),
            script: "true".to_owned(),
            user: String::new(),
            timeout_ms: 1_000,
            begin_within_ms: 60_000,
        };
        Input::Ordered(order, Ok(String::new()))
    }

    fn exited(n: usize) -> Input {
        let outcome =
            StepOutcome { end: StepEnd::Exited, exit_code: Some(0), ..StepOutcome::interrupted("", NOW, NOW) };
        Input::Over { id: id(n), outcome: Some(Box::new(outcome)), is_stop_requested: false }
    }

    #[test]
    fn a_command_begins_once_however_often_it_is_ordered() {
        let mut desk = Desk::default();
        desk.handle(Input::LinkUp, NOW);
        let first = desk.handle(order(1), NOW);
        assert!(matches!(&first[..], [Effect::Create(..), Effect::Begin(_), Effect::SayStarted(_)]), "{first:?}");
        assert_eq!(desk.handle(order(1), NOW), [Effect::SayStarted(id(1))]);
        let ended = desk.handle(exited(1), NOW);
        assert!(matches!(&ended[..], [Effect::End(..), Effect::SayEnded(_)]), "{ended:?}");
        assert_eq!(desk.handle(order(1), NOW), [Effect::SayEnded(id(1))]);
        assert_eq!(desk.handle(Input::Stored(id(1)), NOW), [Effect::Settle(id(1))]);
        assert_eq!(desk.handle(Input::LinkUp, NOW), []);
        assert_eq!(desk.handle(order(1), NOW), [Effect::SayEnded(id(1))], "a server of an older state hears it again");
    }

    #[test]
    fn only_so_many_run_at_once_and_the_rest_waits_its_turn() {
        let mut desk = Desk::default();
        let begun = |effects: &[Effect]| effects.iter().filter(|effect| matches!(effect, Effect::Begin(_))).count();
        let first: usize = (0..10).map(|n| begun(&desk.handle(order(n), NOW))).sum();
        assert_eq!(first, COMMANDS_AT_ONCE_MAX);
        assert_eq!(begun(&desk.handle(exited(0), NOW)), 1);
        let late = NOW.after(Duration::from_secs(61));
        let effects = desk.handle(exited(1), late);
        let expired = effects
            .iter()
            .filter(|effect| matches!(effect, Effect::End(_, result) if result.end == CommandEnd::Expired));
        assert_eq!((begun(&effects), expired.count()), (0, 5));
    }

    #[test]
    fn what_is_aborted_before_it_is_ordered_is_never_run() {
        let mut desk = Desk::default();
        desk.handle(Input::Aborted(id(1)), NOW);
        assert_eq!(desk.handle(order(1), NOW), []);
        let ended = desk.handle(Input::LinkUp, NOW);
        assert_eq!(ended, [Effect::SayEnded(id(1))]);
    }

    #[test]
    fn what_an_earlier_agent_began_is_waited_for_and_never_begun_again() {
        let saved = Order { arrival: 3, script: "x".to_owned(), user: String::new(), timeout_ms: 1, begin_before: NOW };
        let mut desk = Desk::new(vec![Known { id: id(1), order: saved, stage: Stage::Running }]);
        assert_eq!(desk.handle(Input::Loaded, NOW), [Effect::Watch(id(1))]);
        assert_eq!(desk.handle(order(1), NOW), []);
        let over = Input::Over { id: id(1), outcome: None, is_stop_requested: false };
        let [Effect::End(_, result)] = &desk.handle(over, NOW)[..] else { panic!() };
        assert_eq!(result.end, CommandEnd::Interrupted);
    }

    #[test]
    fn what_the_device_refuses_ends_at_once() {
        let mut desk = Desk::default();
        let Input::Ordered(order, _) = order(1) else { panic!() };
        let refused = Input::Ordered(order, Err(Reason::new("user_not_allowed", "no")));
        let effects = desk.handle(refused, NOW);
        let [Effect::Create(..), Effect::End(_, result)] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!((result.end, result.reason.code.as_str()), (CommandEnd::Refused, "user_not_allowed"));
    }

    proptest! {
        #[test]
        fn none_begins_twice_and_never_too_many_run(script in proptest::collection::vec((0_u8..6, 0_usize..8), 0..60)) {
            let mut desk = Desk::default();
            let (mut begun, mut running) = (std::collections::HashSet::new(), 0_usize);
            for (what, n) in script {
                let input = match what {
                    0 | 1 => order(n),
                    2 => Input::Aborted(id(n)),
                    3 => exited(n),
                    4 => Input::Stored(id(n)),
                    _ => Input::LinkUp,
                };
                for effect in desk.handle(input, NOW) {
                    match effect {
                        Effect::Begin(id) => {
                            prop_assert!(begun.insert(id));
                            running += 1;
                        }
                        Effect::End(id, result) if begun.contains(&id) && result.end == CommandEnd::Exited => running -= 1,
                        _ => {}
                    }
                    prop_assert!(running <= COMMANDS_AT_ONCE_MAX);
                }
            }
        }
    }
}
