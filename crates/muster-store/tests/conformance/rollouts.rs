//! Rollouts: waves, budgets, pauses, new attempts, devices that come later.

use std::collections::HashMap;
use std::time::Duration;

use muster_core::filter::Rule;
use muster_core::ids::RowId;
use muster_core::patch::DeviceChange;
use muster_core::rollout::choose::{Candidate, choose};
use muster_core::rollout::plan::{Phase, WaveCounts};
use muster_core::rollout::policy::{Policy, Wave, WireRollout};
use muster_core::target::{RunEvent, RunOutcome, TargetStatus};
use muster_store::deployments::NewDeployment;
use muster_store::devices::Device;
use muster_store::rollouts::{Advanced, NewRollout, NewWave, Rollout};
use muster_store::testing::{START, TestDatabase, seed_devices};
use serde_json::{Value, json};

use crate::fixture::{Deployed, House, RUN_DEADLINE, finished, tag};

on_both_engines!(
    waves_are_filled_in_their_order,
    a_wave_begins_once_the_one_before_has_ended,
    no_more_are_let_go_than_the_budget_allows,
    a_place_is_taken_back_from_one_that_cannot_start,
    one_that_was_told_and_vanished_gives_its_place_back,
    failures_pause_and_a_person_resumes,
    a_plain_deployment_can_be_paused,
    failed_devices_get_a_new_attempt,
    an_older_deployment_that_is_tried_again_waits_for_a_newer_one,
    devices_that_come_later_are_included,
    the_statement_chooses_as_the_rule_does,
    a_site_is_counted_whatever_deployment_its_devices_are_at,
    two_rollouts_do_not_both_take_one_sites_place,
    waves_are_cut_as_they_are_filled,
    a_device_that_says_not_now_gives_its_place_back,
    two_servers_do_not_both_spend_one_budget,
);

impl House {
    async fn roll_out(&self, policy: Value) -> Deployed {
        let new = NewDeployment { rollout: Some(self.rollout(policy).await), ..self.deployment() };
        self.deploy_as(&new, &self.everything()).await
    }

    pub(crate) async fn rollout(&self, policy: Value) -> NewRollout {
        let wire: WireRollout = serde_json::from_value(policy).unwrap();
        let policy = Policy::try_from(wire.clone()).unwrap();
        let mut waves = Vec::new();
        for wave in &policy.waves {
            waves.push(match wave {
                Wave::Share(share) => NewWave::Share(*share),
                Wave::Filter(filter) => {
                    NewWave::Matching(self.store().read().resolve(&self.fleet, filter).await.unwrap())
                }
            });
        }
        NewRollout { wire, policy, waves }
    }

    async fn advance(&self, deployed: &Deployed) -> Advanced {
        self.write(async |tx| tx.advance_rollout(deployed.id, "a").await).await.unwrap().unwrap()
    }

    async fn state(&self, deployed: &Deployed) -> Rollout {
        self.store().read().find_rollout(deployed.id).await.unwrap().unwrap()
    }

    /// Lets the plan's devices go and tells them; which those are.
    async fn start(&self, deployed: &Deployed) -> Vec<RowId> {
        self.advance(deployed).await;
        self.dispatch("a").await.into_iter().map(|due| due.device_id).collect()
    }

    async fn end(&self, deployed: &Deployed, device: &Device, outcome: RunOutcome) {
        self.report(deployed, device, 1, RunEvent::Accepted).await.unwrap();
        self.report(deployed, device, 2, finished(outcome)).await.unwrap();
    }

    async fn linked(&self, count: usize) -> Vec<Device> {
        let mut devices = Vec::new();
        for number in 0..count {
            let device = self.device(&format!("device-{number}")).await;
            self.link(&device, "a").await;
            devices.push(device);
        }
        // Ids of one moment are in no order; rollouts go by them.
        devices.sort_by_key(|device| device.id);
        devices
    }
}

const NOBODY: [RowId; 0] = [];

fn ids(devices: &[Device]) -> Vec<RowId> {
    devices.iter().map(|device| device.id).collect()
}

async fn waves_are_filled_in_their_order(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(10).await;
    house.tag("canary", &[&devices[8], &devices[0]]).await;
    let canary = json!({ "filters": [{ "type": "tag", "operand": "is", "value": "canary" }] });
    let waves = json!([{ "device_filter": canary }, { "count": 3 }, { "percent": 15 }]);
    let deployed = house.roll_out(json!({ "waves": waves })).await;
    let counts: Vec<u64> = house.state(&deployed).await.progress.waves.iter().map(WaveCounts::all).collect();
    assert_eq!((counts, deployed.target_count), (vec![2, 3, 2, 3], 10));
    assert_eq!(house.start(&deployed).await, [devices[0].id, devices[8].id]);
}

async fn a_wave_begins_once_the_one_before_has_ended(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(3).await;
    let deployed = house.roll_out(json!({ "waves": [{ "count": 1 }], "soak_minutes": 10 })).await;
    assert_eq!(house.start(&deployed).await, ids(&devices[..1]));
    assert_eq!(house.start(&deployed).await, NOBODY);
    house.end(&deployed, &devices[0], RunOutcome::Succeeded).await;
    assert_eq!(house.start(&deployed).await, NOBODY, "the wave is watched");
    house.db.clock().advance(Duration::from_secs(600));
    for device in &devices[1..] {
        house.link(device, "a").await;
    }
    assert_eq!(house.start(&deployed).await, ids(&devices[1..]));
    for device in &devices[1..] {
        house.end(&deployed, device, RunOutcome::Succeeded).await;
    }
    assert_eq!(house.advance(&deployed).await.after.phase, Phase::Finished);
    assert!(house.store().read().open_rollouts().await.unwrap().is_empty());
}

async fn no_more_are_let_go_than_the_budget_allows(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(5).await;
    let deployed = house.roll_out(json!({ "in_progress_max": 2 })).await;
    assert_eq!(house.start(&deployed).await, ids(&devices[..2]));
    assert_eq!(house.start(&deployed).await, NOBODY);
    house.end(&deployed, &devices[1], RunOutcome::Failed).await;
    assert_eq!(house.start(&deployed).await, [devices[2].id]);
    let counts = house.state(&deployed).await.progress.waves[0];
    assert_eq!(counts, WaveCounts { waiting: 2, in_progress: 2, failed: 1, ..WaveCounts::default() });
}

async fn a_place_is_taken_back_from_one_that_cannot_start(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(2).await;
    let deployed = house.roll_out(json!({ "in_progress_max": 1 })).await;
    assert_eq!(house.advance(&deployed).await.released, 1);
    house.change(&devices[0], &[DeviceChange::UpdateTrigger(true)]).await.unwrap();
    let before = house.target(&deployed, &devices[1]).await.deadline_at;
    assert_eq!(house.start(&deployed).await, [devices[1].id]);
    assert_eq!(house.target(&deployed, &devices[0]).await.deadline_at, before, "it has its whole time again");
}

async fn one_that_was_told_and_vanished_gives_its_place_back(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(2).await;
    let deployed = house.roll_out(json!({ "in_progress_max": 1 })).await;
    assert_eq!(house.start(&deployed).await, [devices[0].id]);
    house.db.clock().advance(RUN_DEADLINE);
    house.link(&devices[1], "a").await;
    assert_eq!(house.start(&deployed).await, NOBODY, "it may be at it");
    house.write(async |tx| tx.expire_targets(10).await).await.unwrap();
    let vanished = house.target(&deployed, &devices[0]).await;
    assert_eq!((vanished.status, vanished.reason.code.as_str()), (TargetStatus::Failed, "start_unconfirmed"));
    assert_eq!(house.start(&deployed).await, [devices[1].id]);
}

async fn failures_pause_and_a_person_resumes(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(5).await;
    let deployed = house.roll_out(json!({ "in_progress_max": 1, "failures_max": { "count": 1 } })).await;
    for device in &devices[..2] {
        assert_eq!(house.start(&deployed).await, [device.id]);
        house.end(&deployed, device, RunOutcome::Failed).await;
    }
    assert_eq!(house.start(&deployed).await, NOBODY);
    assert_eq!(house.state(&deployed).await.progress.state.phase, Phase::OverBudget);
    let resumed = house.write(async |tx| tx.resume_rollout(deployed.id).await).await.unwrap().unwrap();
    assert_eq!(resumed.progress.state.failures_forgiven, 2);
    assert!(house.write(async |tx| tx.resume_rollout(deployed.id).await).await.unwrap().is_none());
    assert_eq!(house.start(&deployed).await, [devices[2].id]);
}

async fn a_plain_deployment_can_be_paused(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(1).await;
    let late = house.device("late").await;
    let deployed = house.deploy(&house.everything()).await;
    assert_eq!(house.dispatch("a").await.len(), 1);
    let paused = house.write(async |tx| tx.pause_rollout(deployed.id).await).await.unwrap().unwrap();
    assert_eq!(paused.progress.state.phase, Phase::Paused);
    house.link(&late, "a").await;
    assert_eq!(house.start(&deployed).await, NOBODY);
    house.end(&deployed, &devices[0], RunOutcome::Succeeded).await;
    house.write(async |tx| tx.resume_rollout(deployed.id).await).await.unwrap().unwrap();
    assert_eq!(house.start(&deployed).await, [late.id]);
    house.end(&deployed, &late, RunOutcome::Succeeded).await;
    house.advance(&deployed).await;
    assert!(house.write(async |tx| tx.pause_rollout(deployed.id).await).await.unwrap().is_none(), "it is over");
}

async fn failed_devices_get_a_new_attempt(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(2).await;
    let deployed = house.deploy(&house.everything()).await;
    house.dispatch("a").await;
    house.report(&deployed, &devices[0], 1, RunEvent::Accepted).await.unwrap();
    house.report(&deployed, &devices[0], 2, crate::fixture::step(0)).await.unwrap();
    house.report(&deployed, &devices[0], 3, finished(RunOutcome::Failed)).await.unwrap();
    house.end(&deployed, &devices[1], RunOutcome::Succeeded).await;
    assert_eq!(house.write(async |tx| tx.retry_failed(deployed.id).await).await.unwrap(), 1);
    let again = house.target(&deployed, &devices[0]).await;
    assert_eq!((again.status, again.started_at, again.finished_at), (TargetStatus::Pending, None, None));
    let store = house.store().read();
    assert!(store.steps_of(deployed.id, devices[0].id, again.attempt).await.unwrap().is_empty());
    let first = store.find_attempt(deployed.id, &again, 1).await.unwrap().unwrap();
    assert_eq!((first.attempt, first.status, first.finished_at), (1, TargetStatus::Failed, Some(START)));
    assert_eq!(store.steps_of(deployed.id, devices[0].id, 1).await.unwrap().len(), 1);
    assert_eq!(store.find_attempt(deployed.id, &again, 2).await.unwrap(), Some(again.clone()));
    assert_eq!(store.find_attempt(deployed.id, &again, 3).await.unwrap(), None);
    let sent = house.dispatch("a").await;
    assert_eq!((sent.len(), sent[0].attempt), (1, 2));
    assert_eq!(house.write(async |tx| tx.retry_failed(deployed.id).await).await.unwrap(), 0);
}

async fn an_older_deployment_that_is_tried_again_waits_for_a_newer_one(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(1).await;
    let older = house.deploy(&house.everything()).await;
    house.dispatch("a").await;
    house.end(&older, &devices[0], RunOutcome::Failed).await;
    let newer = house.deploy(&house.everything()).await;
    assert_eq!(house.dispatch("a").await[0].deployment_id, newer.id);
    house.write(async |tx| tx.retry_failed(older.id).await).await.unwrap();
    assert_eq!(house.dispatch("a").await, []);
    house.end(&newer, &devices[0], RunOutcome::Succeeded).await;
    assert_eq!(house.dispatch("a").await[0].deployment_id, older.id);
}

async fn devices_that_come_later_are_included(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(1).await;
    house.tag("wanted", &[&devices[0]]).await;
    let wanted = house.matching(&[(false, Rule::Tag(tag("wanted")))]).await;
    let policy = json!({ "follow_until": "2025-06-09T15:10:44Z" });
    let new = NewDeployment { rollout: Some(house.rollout(policy).await), ..house.deployment() };
    let deployed = house.deploy_as(&new, &wanted).await;
    assert_eq!(house.start(&deployed).await, [devices[0].id]);
    house.end(&deployed, &devices[0], RunOutcome::Succeeded).await;
    let newer = house.deploy(&house.everything()).await;
    let (late, other) = (house.device("late").await, house.device("other").await);
    house.tag("wanted", &[&late]).await;
    house.db.clock().advance(Duration::from_secs(60));
    house.link(&late, "a").await;
    let advanced = house.advance(&deployed).await;
    assert_eq!((advanced.followed, advanced.released), (1, 1));
    assert!(house.store().read().find_target(deployed.id, &other.uuid).await.unwrap().is_none());
    assert_eq!(house.store().read().targets_count(newer.id, None).await.unwrap(), 1);
    let pending = house.matching(&[(false, Rule::UpdateStatus(TargetStatus::Pending))]).await;
    assert_eq!(house.store().read().devices_count(&pending).await.unwrap(), 2, "its newest update is this one");
    house.dispatch("a").await;
    house.end(&deployed, &late, RunOutcome::Succeeded).await;
    assert_eq!(house.advance(&deployed).await.after.phase, Phase::Running, "more may come");
    house.db.clock().advance(Duration::from_secs(3_600));
    assert_eq!(house.advance(&deployed).await.after.phase, Phase::Finished);
}

async fn the_statement_chooses_as_the_rule_does(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(12).await;
    // By a fixed rule and not by chance: some bear two sites, some none, the last few what the first bear.
    let sites = ["site=1", "site=2", "site=3"];
    let mut worn: HashMap<RowId, Vec<RowId>> = HashMap::new();
    for (number, site) in (0..).zip(sites) {
        let of_it = |i: usize| i % 4 == number || i % 5 == number || (i == 11 && number == 0);
        let bearers: Vec<&Device> = devices.iter().enumerate().filter(|(i, _)| of_it(*i)).map(|(_, d)| d).collect();
        let tag_id = house.tag(site, &bearers).await;
        bearers.iter().for_each(|device| worn.entry(device.id).or_default().push(tag_id));
    }
    house.tag("other=1", &devices.iter().collect::<Vec<_>>()).await;
    let tags_of = |id: RowId| worn.get(&id).cloned().unwrap_or_default();
    for (each_max, at_most) in [(1, 100), (2, 100), (2, 3), (3, 5)] {
        let disruption = json!({ "tag_key": "site", "in_progress_max": each_max });
        let deployed = house.roll_out(json!({ "disruption": disruption, "in_progress_max": at_most })).await;
        let mut at_it: Vec<RowId> = Vec::new();
        let mut waiting = ids(&devices);
        while !waiting.is_empty() {
            let mut by_tag = HashMap::new();
            at_it.iter().flat_map(|id| tags_of(*id)).for_each(|tag| *by_tag.entry(tag).or_default() += 1);
            let candidate = |id: &RowId| Candidate { device_id: *id, tag_ids: tags_of(*id) };
            let candidates: Vec<Candidate> = waiting.iter().map(candidate).collect();
            let free = at_most - at_it.len() as u64;
            let expected = choose(&candidates, &by_tag, each_max, free);
            let mut chosen = house.start(&deployed).await;
            chosen.sort_unstable();
            assert_eq!(chosen, expected, "{each_max} of each, {at_most} in all");
            waiting.retain(|id| !chosen.contains(id));
            at_it.extend(chosen);
            // The oldest of them ends, so that the next round finds some sites full.
            let ended = at_it.remove(0);
            let device = devices.iter().find(|device| device.id == ended).unwrap();
            house.end(&deployed, device, RunOutcome::Succeeded).await;
        }
        for device in devices.iter().filter(|device| at_it.contains(&device.id)) {
            house.end(&deployed, device, RunOutcome::Succeeded).await;
        }
    }
}

async fn a_site_is_counted_whatever_deployment_its_devices_are_at(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(5).await;
    house.tag("site=1", &[&devices[0], &devices[1], &devices[2]]).await;
    house.tag("site=2", &[&devices[3], &devices[4]]).await;
    let plain = house.deploy_to(&devices[1]).await;
    house.dispatch("a").await;
    // Not told yet: its device is not at it.
    house.change(&devices[4], &[DeviceChange::UpdateTrigger(true)]).await.unwrap();
    house.deploy_to(&devices[4]).await;
    let rollout = house.roll_out(json!({ "disruption": { "tag_key": "site", "in_progress_max": 1 } })).await;
    assert_eq!(house.start(&rollout).await, [devices[3].id]);
    house.end(&plain, &devices[1], RunOutcome::Succeeded).await;
    assert_eq!(house.start(&rollout).await, [devices[0].id]);
    // Another fleet's devices are at their own.
    assert_eq!(house.start(&rollout).await, NOBODY);
}

async fn two_rollouts_do_not_both_take_one_sites_place(db: TestDatabase) {
    let house = House::on(db).await;
    let other = house.db.connect_again().await;
    let devices = house.linked(8).await;
    house.tag("site=1", &devices.iter().collect::<Vec<_>>()).await;
    let policy = json!({ "disruption": { "tag_key": "site", "in_progress_max": 1 } });
    let mut rollouts = Vec::new();
    for half in [&devices[..4], &devices[4..]] {
        let tag_name = format!("half {}", half[0].id);
        house.tag(&tag_name, &half.iter().collect::<Vec<_>>()).await;
        let matching = house.matching(&[(false, Rule::Tag(tag(&tag_name)))]).await;
        let new = NewDeployment { rollout: Some(house.rollout(policy.clone()).await), ..house.deployment() };
        rollouts.push(house.deploy_as(&new, &matching).await.id);
    }
    let round = |store: muster_store::Store, id: RowId| async move {
        store.write(|tx| async move { tx.advance_rollout(id, "a").await }).await.unwrap();
    };
    for _ in 0..5 {
        tokio::join!(round(house.store().clone(), rollouts[0]), round(other.clone(), rollouts[1]));
    }
    let open = house.store().read().open_rollouts().await.unwrap();
    assert_eq!(open.iter().map(|rollout| rollout.progress.in_progress()).sum::<u64>(), 1);
}

async fn waves_are_cut_as_they_are_filled(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(12).await;
    house.tag("canary", &[&devices[8], &devices[0], &devices[3]]).await;
    house.tag("late", &[&devices[1], &devices[8], &devices[11]]).await;
    let of = |tag: &str| json!({ "filters": [{ "type": "tag", "operand": "is", "value": tag }] });
    let cases = [
        json!([]),
        json!([{ "count": 2 }, { "percent": 50 }]),
        json!([{ "device_filter": of("canary") }, { "count": 3 }, { "device_filter": of("late") }, { "percent": 15 }]),
        json!([{ "count": 2 }, { "device_filter": of("late") }, { "device_filter": of("canary") }]),
        json!([{ "device_filter": {} }, { "count": 5 }]),
        json!([{ "count": 100 }, { "device_filter": of("late") }]),
    ];
    for waves in cases {
        let new = house.rollout(json!({ "waves": waves })).await;
        let cut = house.store().read().cut_into_waves(&house.everything(), &new.waves, 12).await.unwrap();
        let deployed = house.roll_out(json!({ "waves": waves })).await;
        let filled: Vec<u64> = house.state(&deployed).await.progress.waves.iter().map(WaveCounts::all).collect();
        assert_eq!(cut, filled, "{waves}");
    }
}

async fn a_device_that_says_not_now_gives_its_place_back(db: TestDatabase) {
    let house = House::on(db).await;
    let devices = house.linked(2).await;
    let deployed = house.roll_out(json!({ "in_progress_max": 1 })).await;
    assert_eq!(house.start(&deployed).await, [devices[0].id]);
    let put_off = async |attempt| {
        house.write(async |tx| tx.put_off(&deployed.uuid, devices[0].id, attempt, "it is in use").await).await.unwrap()
    };
    assert!(!put_off(2).await, "another attempt");
    assert!(put_off(1).await);
    let target = house.target(&deployed, &devices[0]).await;
    assert_eq!((target.status, target.reason.code.as_str()), (TargetStatus::Pending, "device_refuses"));
    assert_eq!(house.start(&deployed).await, [devices[1].id], "the next has its place");
    house.end(&deployed, &devices[1], RunOutcome::Succeeded).await;
    assert_eq!(house.start(&deployed).await, NOBODY, "it is not asked again at once");
    house.db.clock().advance(muster_core::limits::ASK_AGAIN_AFTER);
    house.link(&devices[0], "a").await;
    assert_eq!(house.start(&deployed).await, [devices[0].id]);
}

async fn two_servers_do_not_both_spend_one_budget(db: TestDatabase) {
    let house = House::on(db).await;
    let other = house.db.connect_again().await;
    let ids = seed_devices(house.store(), &house.fleet, house.production, 40).await.unwrap();
    for (number, id) in ids.iter().enumerate() {
        let device = house.store().read().find_device_by_id(house.account, *id).await.unwrap().unwrap();
        house.link(&device, if number % 2 == 0 { "a" } else { "b" }).await;
    }
    let deployed = house.roll_out(json!({ "in_progress_max": 10 })).await;
    let round = |store: muster_store::Store, server: &'static str| async move {
        store.write(|tx| async move { tx.advance_rollout(deployed.id, server).await }).await.unwrap();
    };
    for _ in 0..5 {
        tokio::join!(round(house.store().clone(), "a"), round(other.clone(), "b"));
    }
    assert_eq!(house.state(&deployed).await.progress.in_progress(), 10);
}
