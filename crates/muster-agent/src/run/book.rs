//! Every run of the device. Pure: an input goes in, effects come out, and the
//! driver carries them out in order.

use std::collections::VecDeque;

use muster_core::clock::Timestamp;
use muster_link::RunId;

use super::effect::{Effect, Input};
use super::entry::Entry;
use super::machine::{Next, Origin, Run};
use crate::step::{StepOutcome, StepSpec};

/// Most runs that may wait for their turn. A server gives a device one at a time.
pub const WAITING_RUNS_MAX: usize = 32;
/// Settled runs that are kept.
///
/// A run is settled when the server has acknowledged its last report, which it does
/// once the target's final state is stored; it sends no instruction for a final
/// target, and what it sent before the acknowledgement came before it, since a
/// link keeps its order. So a settled run is not asked for again, but by a server
/// that was put back to an older state. The newest runs are kept for that case:
/// the deployments of the time since its backup.
pub const SETTLED_RUNS_KEPT: usize = 50;
/// Reports that the settled runs may have in all: each holds up to two kept outputs.
pub const SETTLED_REPORTS_KEPT: i64 = 500;
/// Runs that are over, and of which the server has not stored everything, that are
/// kept. A server acknowledges what it does not know, so there are few; the bound
/// is for one that does not.
pub const UNSTORED_RUNS_KEPT: usize = 200;
/// Reports that may be on their way, without an acknowledgement, at a time.
const REPORTS_IN_FLIGHT_MAX: i64 = 8;

/// Said of a step whose runner left no result.
const LEFT_NOTHING: &str = "the step was interrupted, by a power cut or because its runner was killed; \
                            it was not started again";

/// A run as the disk remembers it.
#[derive(Clone, Debug)]
pub struct KnownRun {
    /// Names it.
    pub id: RunId,
    /// Its place among all runs.
    pub arrival: u64,
    /// What its journal tells.
    pub run: Run,
}

#[derive(Debug)]
struct Slot {
    known: KnownRun,
    /// The last report sent over the present link.
    sent: i64,
}

/// Every run that the device knows.
#[derive(Debug, Default)]
pub struct Book {
    /// In order of arrival.
    slots: Vec<Slot>,
    next_arrival: u64,
    is_link_up: bool,
    /// A reboot was asked for and is still to come: nothing new may begin.
    is_rebooting: bool,
    effects: VecDeque<Effect>,
}

impl Book {
    /// The book of what was found on the disk.
    pub fn new(mut known: Vec<KnownRun>) -> Self {
        known.sort_by_key(|known| known.arrival);
        let next_arrival = known.last().map_or(0, |known| known.arrival + 1);
        let slots = known.into_iter().map(|known| Slot { known, sent: 0 }).collect();
        Self { slots, next_arrival, ..Self::default() }
    }

    /// Takes in what happened; says what must be done.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        match input {
            Input::Loaded => self.resume(),
            Input::Instructed(instruction) => {
                self.instructed(instruction.run.clone(), Origin::Instruction(instruction));
            }
            Input::Unreadable(run, problem) => self.instructed(run, Origin::Unreadable(problem)),
            Input::Aborted(run) => self.aborted(run, now),
            Input::Acked(run, seq) => self.acked(&run, seq),
            Input::StepOver { run, index, outcome } => self.step_over(&run, index, outcome, now),
            Input::LinkUp => self.link_up(),
            Input::LinkDown => self.is_link_up = false,
            Input::RebootOver => self.is_rebooting = false,
        }
        self.advance(now);
        self.prune();
        self.report();
        std::mem::take(&mut self.effects).into()
    }

    /// Takes up every step that was running when the last agent ended.
    fn resume(&mut self) {
        for slot in &self.slots {
            let (run, id) = (&slot.known.run, &slot.known.id);
            let Some((index, _)) = run.running() else { continue };
            if run.is_stop_due() {
                self.effects.push_back(Effect::StopStep { run: id.clone(), index });
            }
            self.effects.push_back(Effect::Watch { run: id.clone(), index });
        }
    }

    fn instructed(&mut self, id: RunId, origin: Origin) {
        if let Some(i) = self.position(&id) {
            // The server has not stored the first report, or it would not ask again.
            self.slots[i].sent = 0;
            return;
        }
        let waiting = self.slots.iter().filter(|slot| !slot.known.run.is_finished()).count();
        if waiting >= WAITING_RUNS_MAX {
            tracing::warn!(run = %id, "too many runs wait for their turn; the server will ask again");
            return;
        }
        self.create(id, origin);
    }

    fn create(&mut self, id: RunId, origin: Origin) {
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        self.effects.push_back(Effect::Create { run: id.clone(), arrival, origin: origin.clone() });
        self.slots.push(Slot { known: KnownRun { id, arrival, run: Run::new(origin) }, sent: 0 });
    }

    fn aborted(&mut self, id: RunId, now: Timestamp) {
        let Some(i) = self.position(&id) else { return self.create(id, Origin::Aborted) };
        let slot = &mut self.slots[i];
        if slot.known.run.is_finished() {
            // Asked again: the last report says that the run is over.
            slot.sent = slot.sent.min(slot.known.run.acked()).min(slot.known.run.reports() - 1);
            return;
        }
        if !slot.known.run.is_abortable() {
            return;
        }
        self.append(i, Entry::AbortRequested { at: now });
        let run = &self.slots[i].known.run;
        if let (true, Some((index, _))) = (run.is_stop_due(), run.running()) {
            self.effects.push_back(Effect::StopStep { run: id, index });
        }
    }

    fn acked(&mut self, id: &RunId, seq: i64) {
        let Some(i) = self.position(id) else { return };
        let run = &self.slots[i].known.run;
        if run.acked() < seq.min(run.reports()) {
            self.append(i, Entry::Acked { seq });
        }
    }

    fn step_over(&mut self, id: &RunId, index: u32, outcome: Option<Box<StepOutcome>>, now: Timestamp) {
        let Some(i) = self.position(id) else { return };
        let run = &self.slots[i].known.run;
        let Some((_, since)) = run.running().filter(|(running, _)| *running == index) else { return };
        if let (None, Some(spec)) = (&outcome, run.to_start_again()) {
            return self.start_again(i, spec, now);
        }
        let Some(name) = run.due_name() else { return };
        let outcome = outcome.map_or_else(|| StepOutcome::interrupted(LEFT_NOTHING, since, now), |outcome| *outcome);
        let (end, signal) = (outcome.end, outcome.signal);
        self.append(i, Entry::StepFinished { end, signal, result: outcome.into_result(index, name) });
        self.effects.push_back(Effect::ForgetStep { run: id.clone(), index });
    }

    fn start_again(&mut self, i: usize, spec: Box<StepSpec>, now: Timestamp) {
        let (run, index) = (self.slots[i].known.id.clone(), spec.index);
        self.effects.push_back(Effect::Prepare { run: run.clone(), spec });
        self.append(i, Entry::StepStartedAgain { index, at: now });
        self.effects.push_back(Effect::Launch { run: run.clone(), index });
        if self.slots[i].known.run.is_stop_due() {
            self.effects.push_back(Effect::StopStep { run, index });
        }
    }

    fn link_up(&mut self) {
        self.is_link_up = true;
        self.slots.iter_mut().for_each(|slot| slot.sent = slot.known.run.acked());
    }

    /// Brings every run as far as it can get. Runs take turns: one begins when all
    /// before it are over.
    fn advance(&mut self, now: Timestamp) {
        let mut is_turn = !self.is_rebooting;
        for i in 0..self.slots.len() {
            while self.step_on(i, is_turn && !self.is_rebooting, now) {}
            is_turn &= self.slots[i].known.run.next() == Next::Over;
        }
    }

    /// Takes one run a step further; whether there may be more to do.
    fn step_on(&mut self, i: usize, is_turn: bool, now: Timestamp) -> bool {
        let run = self.slots[i].known.id.clone();
        match self.slots[i].known.run.next() {
            Next::Finish { outcome, reason } => self.append(i, Entry::Finished { outcome, reason }),
            Next::Accept if is_turn => self.append(i, Entry::Accepted { at: now }),
            Next::Step(spec) if is_turn => {
                let index = spec.index;
                self.effects.push_back(Effect::Prepare { run: run.clone(), spec });
                self.append(i, Entry::StepStarted { index, at: now });
                self.effects.push_back(Effect::Launch { run, index });
            }
            // A server that asks for the next run has done with this one, acknowledged or
            // not, and what it has not stored is repeated after the reboot.
            next if is_turn && (next == Next::Reboot || next == Next::AwaitAck && self.is_awaited(i)) => {
                self.append(i, Entry::RebootStarted { at: now });
                self.effects.push_back(Effect::Reboot { run });
                self.is_rebooting = true;
            }
            _ => return false,
        }
        true
    }

    /// Whether a run waits behind this one.
    fn is_awaited(&self, i: usize) -> bool {
        self.slots[i + 1..].iter().any(|slot| !slot.known.run.is_finished())
    }

    /// Drops what settled runs need no more, and the oldest of the runs that are over.
    fn prune(&mut self) {
        let (mut settled, mut reports, mut unstored) = (0, 0, 0);
        let mut pruned = Vec::new();
        for Slot { known: KnownRun { id, run, .. }, .. } in self.slots.iter_mut().rev() {
            let is_surplus = if run.is_settled() {
                run.forget_instruction();
                settled += 1;
                reports += run.reports();
                settled > SETTLED_RUNS_KEPT || reports > SETTLED_REPORTS_KEPT
            } else {
                unstored += usize::from(run.next() == Next::Over);
                unstored > UNSTORED_RUNS_KEPT && run.next() == Next::Over
            };
            if is_surplus {
                pruned.push(id.clone());
            }
        }
        self.slots.retain(|slot| !pruned.contains(&slot.known.id));
        self.effects.extend(pruned.into_iter().map(|run| Effect::Remove { run }));
    }

    /// Sends what is due, in order, no more than a few ahead of the server.
    fn report(&mut self) {
        if !self.is_link_up {
            return;
        }
        for slot in &mut self.slots {
            let run = &slot.known.run;
            while slot.sent < run.reports().min(run.acked() + REPORTS_IN_FLIGHT_MAX) {
                slot.sent += 1;
                self.effects.push_back(Effect::Report { run: slot.known.id.clone(), seq: slot.sent });
            }
        }
    }

    fn append(&mut self, i: usize, entry: Entry) {
        let known = &mut self.slots[i].known;
        known.run.apply(&entry);
        self.effects.push_back(Effect::Append { run: known.id.clone(), entry });
    }

    fn position(&self, id: &RunId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.known.id == *id)
    }

    /// The run of that name.
    pub fn find(&self, id: &RunId) -> Option<&Run> {
        self.position(id).map(|i| &self.slots[i].known.run)
    }
}
