//! A world in which the agent dies after any effect, over and over.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::run::book::{Book, KnownRun};
use crate::run::effect::{Effect, Input};
use crate::run::entry::Entry;
use crate::run::machine::{Origin, Run};

const RUNS: u32 = 3;
const STEPS: usize = 3;
/// The step that may be started again.
const REPEATABLE: u32 = 1;

/// The disk of a device, the processes on it, and what its server has stored.
#[derive(Default)]
struct World {
    disk: BTreeMap<String, (u64, Origin, Vec<Entry>)>,
    prepared: BTreeSet<(String, u32)>,
    launched: BTreeSet<(String, u32)>,
    repeatable: BTreeSet<(String, u32)>,
    /// Steps that the present agent waits for.
    watched: BTreeSet<(String, u32)>,
    stopped: BTreeSet<(String, u32)>,
    stored: BTreeMap<String, Vec<RunEvent>>,
    book: Book,
}

#[derive(Clone, Debug)]
enum Event {
    Instruct(u32),
    Abort(u32),
    /// The step that runs ends, with that exit code.
    StepEnds(i32),
    /// The step's runner is killed.
    RunnerDies,
    /// The server's acknowledgements arrive.
    Acks,
    LinkUp,
    LinkDown,
    Crash,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (1..=RUNS).prop_map(Event::Instruct),
        1 => (1..=RUNS).prop_map(Event::Abort),
        6 => prop_oneof![4 => Just(0), 1 => Just(1)].prop_map(Event::StepEnds),
        1 => Just(Event::RunnerDies),
        2 => Just(Event::Acks),
        1 => Just(Event::LinkUp),
        1 => Just(Event::LinkDown),
        1 => Just(Event::Crash),
    ]
}

fn flow(attempt: u32) -> Instruction {
    let mut steps: Vec<Value> = (0..STEPS).map(|i| step(&format!("s{i}"))).collect();
    steps[0]["on_failure"] = json!({"run": "true", "trigger": "any-step-failure"});
    let with = json!({"device-path": "/etc/x", "content": "x"});
    let on_failure = json!({"is_revert_all_files": true});
    steps[REPEATABLE as usize] = json!({"name": "s1", "uses": {"name": "connect/file", "with": with}, "timeout_ms": 1, "on_failure": on_failure});
    instruction(attempt, &json!(steps), Some("true"))
}

impl World {
    /// Lets something happen; the agent may die after any of the effects.
    fn happens(&mut self, event: &Event, dies_after: Option<Index>) {
        match event {
            Event::Instruct(attempt) => self.input(Input::Instructed(Box::new(flow(*attempt))), dies_after),
            Event::Abort(attempt) => self.input(Input::Aborted(run_id(*attempt)), dies_after),
            Event::StepEnds(exit_code) => self.step_ends(Some(*exit_code), dies_after),
            Event::RunnerDies => self.step_ends(None, dies_after),
            Event::Acks => {
                let stored: Vec<_> = self.stored.iter().map(|(id, told)| (id.clone(), told.len() as i64)).collect();
                for (id, seq) in stored {
                    self.input(Input::Acked(id.parse().unwrap(), seq), dies_after);
                }
            }
            Event::LinkUp => self.input(Input::LinkUp, dies_after),
            Event::LinkDown => self.input(Input::LinkDown, dies_after),
            Event::Crash => self.restart(None),
        }
    }

    fn step_ends(&mut self, exit_code: Option<i32>, dies_after: Option<Index>) {
        let Some((id, index)) = self.watched.pop_first() else { return };
        let key = (id.clone(), index);
        // A runner that was killed, or never started, leaves nothing.
        let exit_code = exit_code.filter(|_| self.launched.contains(&key));
        let outcome = exit_code
            .map(|code| Box::new(if self.stopped.contains(&key) { ended(StepEnd::Stopped) } else { exited(code) }));
        self.input(Input::StepOver { run: id.parse().unwrap(), index, outcome }, dies_after);
    }

    fn input(&mut self, input: Input, dies_after: Option<Index>) {
        let effects = self.book.handle(input, NOW);
        let survived = dies_after.map_or(effects.len(), |index| index.index(effects.len() + 1));
        let is_dead = survived < effects.len();
        effects.into_iter().take(survived).for_each(|effect| self.perform(effect));
        if is_dead {
            self.restart(None);
        }
    }

    fn restart(&mut self, dies_after: Option<Index>) {
        self.watched.clear();
        let known = self.disk.iter().map(|(id, (arrival, origin, entries))| {
            let mut run = Run::new(origin.clone());
            entries.iter().for_each(|entry| run.apply(entry));
            KnownRun { id: id.parse().unwrap(), arrival: *arrival, run }
        });
        self.book = Book::new(known.collect());
        self.input(Input::Loaded, dies_after);
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Create { run, arrival, origin } => {
                assert!(self.disk.insert(run.to_string(), (arrival, origin, Vec::new())).is_none());
            }
            Effect::Append { run, entry } => self.disk.get_mut(&run.to_string()).unwrap().2.push(entry),
            Effect::Prepare { run, spec } => {
                let key = (run.to_string(), spec.index);
                if spec.task.is_repeatable() {
                    self.repeatable.insert(key.clone());
                }
                self.prepared.insert(key);
            }
            Effect::Launch { run, index } => self.launch((run.to_string(), index)),
            Effect::Watch { run, index } => drop(self.watched.insert((run.to_string(), index))),
            Effect::StopStep { run, index } => drop(self.stopped.insert((run.to_string(), index))),
            Effect::ForgetStep { .. } => {}
            Effect::Report { run, seq } => self.store(&run.to_string(), seq),
            Effect::Reboot { .. } | Effect::Remove { .. } => panic!("{effect:?}"),
        }
    }

    fn launch(&mut self, key: (String, u32)) {
        let last = self.disk[&key.0].2.last();
        assert!(self.prepared.contains(&key) && self.watched.is_empty(), "one step at a time");
        match last {
            Some(Entry::StepStarted { index, .. }) if *index == key.1 => {
                assert!(self.launched.insert(key.clone()), "{key:?} runs twice");
            }
            Some(Entry::StepStartedAgain { index, .. }) if *index == key.1 => {
                // A step of the flow or of the restoration; what that is stands in its spec.
                assert!(self.repeatable.contains(&key), "{key:?} is no step to run again");
                self.launched.insert(key.clone());
            }
            other => panic!("not journalled first: {other:?}"),
        }
        self.watched.insert(key);
    }

    /// The server stores each report once, in order, and never hears another under the same number.
    fn store(&mut self, id: &str, seq: i64) {
        let entries = &self.disk[id].2;
        let event = entries.iter().filter_map(Entry::report).nth(usize::try_from(seq).unwrap() - 1).unwrap();
        let stored = self.stored.entry(id.to_owned()).or_default();
        match stored.get(usize::try_from(seq).unwrap() - 1) {
            Some(known) => assert_eq!(*known, event),
            None => {
                assert_eq!(seq, stored.len() as i64 + 1, "no gaps");
                stored.push(event);
            }
        }
    }

    /// The link holds and steps end: everything must come to its end.
    fn settle(&mut self) {
        self.input(Input::LinkUp, None);
        for _ in 0..100 {
            self.step_ends(Some(0), None);
            self.happens(&Event::Acks, None);
        }
    }
}

fn check(world: &World) {
    for (id, (_, origin, entries)) in &world.disk {
        let told = &world.stored[id];
        assert!(told.last().and_then(finish).is_some(), "{id} does not end: {entries:?}");
        assert_eq!(told.iter().filter(|event| finish(event).is_some()).count(), 1);
        let indices: Vec<u32> = told
            .iter()
            .filter_map(|event| match event {
                RunEvent::StepFinished(step) => Some(step.index),
                _ => None,
            })
            .collect();
        assert_eq!(indices, (0..u32::try_from(indices.len()).unwrap()).collect::<Vec<u32>>());
        let is_ordered = matches!(origin, Origin::Instruction(_));
        if finish(&told[told.len() - 1]) == Some((RunOutcome::Succeeded, "")) {
            assert!(is_ordered && indices.len() == STEPS);
        }
        assert!(world.book.find(&id.parse().unwrap()).unwrap().is_settled());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_run_ends_and_no_step_runs_twice(
        events in proptest::collection::vec((any_event(), proptest::option::weighted(0.3, any::<Index>())), 0..60),
    ) {
        let mut world = World::default();
        world.input(Input::LinkUp, None);
        for (event, dies_after) in &events {
            world.happens(event, *dies_after);
        }
        world.settle();
        check(&world);
    }
}
