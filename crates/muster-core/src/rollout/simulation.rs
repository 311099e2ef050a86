//! A rollout played to its end by devices that do as they like.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::choose::{Candidate, choose};
use super::plan::{Phase, Plan, Progress, State, WaveCounts, plan};
use super::policy::{Disruption, Policy, Share, Wave};
use crate::clock::Timestamp;
use crate::ids::RowId;

const START: Timestamp = Timestamp::from_millis(1_000_000);
const PENDING_DEADLINE: Duration = Duration::from_secs(1_000);
const RUN_DEADLINE: Duration = Duration::from_secs(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waiting,
    /// Since then.
    InProgress(Timestamp),
    Succeeded,
    Failed,
    NeverBegan,
}

#[derive(Clone, Debug)]
struct Device {
    wave: u32,
    tag: Option<RowId>,
    fate: Fate,
}

struct World {
    policy: Policy,
    state: State,
    devices: Vec<Device>,
    /// How many devices of each tag other deployments are at.
    elsewhere: HashMap<RowId, u64>,
    now: Timestamp,
}

impl World {
    fn progress(&self) -> Progress {
        let mut waves = vec![WaveCounts::default(); self.policy.waves_count() as usize];
        for device in &self.devices {
            let wave = &mut waves[device.wave as usize];
            match device.fate {
                Fate::Waiting => wave.waiting += 1,
                Fate::InProgress(_) => wave.in_progress += 1,
                Fate::Succeeded => wave.succeeded += 1,
                Fate::Failed => wave.failed += 1,
                Fate::NeverBegan => wave.ended_otherwise += 1,
            }
        }
        Progress { state: self.state, waves, wave_time: self.policy.wave_time(PENDING_DEADLINE) }
    }

    fn ids(&self, is_wanted: impl Fn(&Device) -> bool) -> Vec<usize> {
        (0..self.devices.len()).filter(|i| is_wanted(&self.devices[*i])).collect()
    }

    fn at_it(&self) -> Vec<usize> {
        self.ids(|device| matches!(device.fate, Fate::InProgress(_)))
    }

    fn by_tag(&self) -> HashMap<RowId, u64> {
        let mut counts = self.elsewhere.clone();
        for i in self.at_it() {
            if let Some(tag) = self.devices[i].tag {
                *counts.entry(tag).or_default() += 1;
            }
        }
        counts
    }

    /// One round of the engine: deadlines, the plan, and who starts by it.
    fn round(&mut self) -> (Plan, Vec<usize>) {
        self.expire();
        let plan = plan(&self.policy, &self.progress(), self.now);
        self.state = plan.state;
        let waiting = self.ids(|device| device.fate == Fate::Waiting && device.wave <= plan.state.wave);
        let candidate =
            |i: &usize| Candidate { device_id: *i as RowId, tag_ids: self.devices[*i].tag.into_iter().collect() };
        let candidates: Vec<Candidate> = waiting.iter().map(candidate).collect();
        let each_max = self.policy.disruption.as_ref().map_or(u64::MAX, |disruption| disruption.in_progress_max);
        let chosen = choose(&candidates, &self.by_tag(), each_max, plan.may_start);
        let chosen: Vec<usize> = chosen.into_iter().map(|id| usize::try_from(id).unwrap()).collect();
        for i in &chosen {
            self.devices[*i].fate = Fate::InProgress(self.now);
        }
        (plan, chosen)
    }

    fn expire(&mut self) {
        let (now, latest) = (self.now, START.after(PENDING_DEADLINE));
        for device in &mut self.devices {
            match device.fate {
                Fate::Waiting if now >= latest => device.fate = Fate::NeverBegan,
                Fate::InProgress(since) if now >= since.after(RUN_DEADLINE) => device.fate = Fate::Failed,
                _ => {}
            }
        }
    }

    /// Another deployment begins with a device of a tag, or ends with one.
    fn elsewhere_happens(&mut self, which: usize) {
        let count = self.elsewhere.entry(which as RowId % 4).or_default();
        *count = if which.is_multiple_of(2) { *count + 1 } else { count.saturating_sub(1) };
    }

    fn happen(&mut self, what: u8, which: usize) {
        let at_it = self.at_it();
        let picked = if at_it.is_empty() { None } else { Some(at_it[which % at_it.len()]) };
        match (what, picked) {
            (0..=3, Some(i)) => self.devices[i].fate = Fate::Succeeded,
            (4, Some(i)) => self.devices[i].fate = Fate::Failed,
            (5, _) => self.state = self.state.paused().unwrap_or(self.state),
            (9, _) => self.elsewhere_happens(which),
            (6, _) => self.state = self.state.resumed(self.progress().failures()).unwrap_or(self.state),
            _ => self.now = self.now.after(Duration::from_secs(which as u64 % 60)),
        }
    }
}

fn any_world() -> impl Strategy<Value = World> {
    let device = (0u32..4, proptest::option::of(0i64..4));
    let policy = (
        proptest::option::of(1u64..6),
        proptest::option::of(0u64..4),
        proptest::option::of(1u64..3),
        0u64..100,
        proptest::option::of(0u64..200),
    );
    (proptest::collection::vec(device, 1..40), policy).prop_map(
        |(devices, (at_once, failures, each_tag, soak, start))| {
            let policy = Policy {
                waves: vec![Wave::Share(Share::Count(1)); 3],
                in_progress_max: at_once,
                failures_max: failures.map(Share::Count),
                disruption: each_tag.map(|in_progress_max| Disruption { tag_key: "site".to_owned(), in_progress_max }),
                soak: Duration::from_secs(soak),
                start_at: start.map(|start| START.after(Duration::from_secs(start))),
                ..Policy::default()
            };
            let devices = devices.into_iter().map(|(wave, tag)| Device { wave, tag, fate: Fate::Waiting });
            World { policy, state: State::NEW, devices: devices.collect(), elsewhere: HashMap::new(), now: START }
        },
    )
}

/// What others do may fill a tag at any moment; this rollout adds nothing to one that is full.
fn check_budgets(world: &World, plan: &Plan, chosen: &[usize], failures_before: u64) -> Result<(), TestCaseError> {
    let policy = &world.policy;
    prop_assert!(world.at_it().len() as u64 <= policy.in_progress_max.unwrap_or(u64::MAX));
    if let Some(disruption) = &policy.disruption {
        let by_tag = world.by_tag();
        let is_full = |i: &usize| {
            world.devices[*i]
                .tag
                .is_some_and(|tag| by_tag.get(&tag).is_some_and(|at_it| *at_it > disruption.in_progress_max))
        };
        prop_assert!(!chosen.iter().any(is_full));
    }
    if !chosen.is_empty() {
        prop_assert_eq!(plan.state.phase, Phase::Running);
        prop_assert!(policy.start_at.is_none_or(|start_at| start_at <= world.now));
        prop_assert!(chosen.iter().all(|i| world.devices[*i].wave <= plan.state.wave));
        let counted = failures_before.saturating_sub(plan.state.failures_forgiven);
        prop_assert!(policy.failures_max.is_none_or(|share| counted <= share.at_most(u64::MAX)));
    }
    Ok(())
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("policy", &self.policy).field("devices", &self.devices).finish_non_exhaustive()
    }
}

proptest! {
    #[test]
    fn keeps_every_budget_and_ends_whatever_happens(
        mut world in any_world(),
        events in proptest::collection::vec((0u8..10, 0usize..1_000), 0..120),
    ) {
        for (what, which) in events {
            world.happen(what, which);
            let before = world.state.wave;
            let (plan, chosen) = world.round();
            check_budgets(&world, &plan, &chosen, world.progress().failures())?;
            prop_assert!(plan.state.wave >= before, "a wave that has begun has begun");
        }
        // Nobody does anything more: the deadlines end every device, paused or not.
        world.now = world.now.max(START.after(PENDING_DEADLINE));
        world.round();
        world.now = world.now.after(RUN_DEADLINE);
        let (plan, _) = world.round();
        prop_assert_eq!(plan.state.phase, Phase::Finished);
    }

    #[test]
    fn plans_the_same_for_the_same_state(mut world in any_world(), events in proptest::collection::vec((0u8..10, 0usize..1_000), 0..60)) {
        for (what, which) in events {
            world.happen(what, which);
            let progress = world.progress();
            let first = plan(&world.policy, &progress, world.now);
            prop_assert_eq!(plan(&world.policy, &progress, world.now), first);
            let again = Progress { state: first.state, ..progress };
            prop_assert_eq!(plan(&world.policy, &again, world.now), first, "its own answer changes nothing");
            world.round();
        }
    }

    /// While devices do end and none fails, somebody starts or somebody is at it until all have ended.
    #[test]
    fn always_goes_on_when_it_may(mut world in any_world()) {
        world.policy.soak = Duration::ZERO;
        world.policy.start_at = None;
        for _ in 0..=world.devices.len() {
            let (plan, chosen) = world.round();
            if plan.state.phase == Phase::Finished {
                return Ok(());
            }
            prop_assert!(!chosen.is_empty());
            for i in world.at_it() {
                world.devices[i].fate = Fate::Succeeded;
            }
        }
        prop_assert_eq!(world.round().0.state.phase, Phase::Finished);
    }
}
