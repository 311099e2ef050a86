//! Walks through lists, page by page, while others enrol, delete, move and change
//! what is listed. Whatever comes in between two pages:
//!
//! * what matched during the whole walk is on exactly one page,
//! * what never matched is on none,
//! * the order is strict, so that nothing is on two pages,
//! * a page knows whether there are more, and the total is exact at its moment.
//!
//! Random cases are held against a plain model; a failing one is shrunk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use muster_core::filter::DeviceFilter;
use muster_core::flow::yaml;
use muster_core::ids::RowId;
use muster_core::names::FleetName;
use muster_store::devices::{DeviceAccess, DeviceFacts, NewDevice};
use muster_store::filter::Matching;
use muster_store::fleets::Fleet;
use muster_store::testing::TestDatabase;
use muster_store::{ConnectionTrait, Store};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::fixture::{Deployed, FLOW, House, group, key, parsed, tag, write};

on_both_engines!(walks_are_exact_while_others_come_and_go);

/// Random cases on each engine.
const CASES: u32 = 48;
const TAGS: [&str; 2] = ["a", "b"];
const GROUPS: [&str; 2] = ["Production", "Test"];

/// A list that is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum List {
    /// Devices of one fleet.
    Fleet,
    /// Devices of one of its groups with either of two tags.
    GroupAndTags,
    /// Devices of every fleet that a caller may see, as API v1 lists them.
    BothFleets,
    /// Devices of one name, as API v1 lists them.
    Named,
    /// The devices of a deployment.
    Targets,
    /// Newest first.
    Deployments,
    Flows,
}

const LISTS: [List; 7] =
    [List::Fleet, List::GroupAndTags, List::BothFleets, List::Named, List::Targets, List::Deployments, List::Flows];

/// The name that every third device bears.
const NAME: &str = "lamp";

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Page(usize, u64),
    /// Through one of two servers, whose row ids are not in one order.
    Enrol {
        by_second: bool,
        is_second_fleet: bool,
        tags: [bool; 2],
    },
    Delete(Index),
    /// Into the other fleet.
    Move(Index),
    /// Into the other group.
    Regroup(Index),
    /// Puts a tag on, or takes it off.
    Retag(Index, usize),
    Rename(Index),
    InsertFlow,
    DeleteFlow(Index),
    Deploy,
    DeleteDeployment(Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..LISTS.len(), 1..4_u64).prop_map(|(list, limit)| Step::Page(list, limit)),
        3 => any::<(bool, bool, [bool; 2])>().prop_map(|(by_second, is_second_fleet, tags)| {
            Step::Enrol { by_second, is_second_fleet, tags }
        }),
        2 => any::<Index>().prop_map(Step::Delete),
        2 => any::<Index>().prop_map(Step::Move),
        1 => any::<Index>().prop_map(Step::Regroup),
        2 => (any::<Index>(), 0..TAGS.len()).prop_map(|(which, tag)| Step::Retag(which, tag)),
        1 => any::<Index>().prop_map(Step::Rename),
        1 => Just(Step::InsertFlow),
        1 => any::<Index>().prop_map(Step::DeleteFlow),
        1 => Just(Step::Deploy),
        1 => any::<Index>().prop_map(Step::DeleteDeployment),
    ];
    prop::collection::vec(step, 10..40)
}

async fn walks_are_exact_while_others_come_and_go(db: TestDatabase) {
    let house = House::on(db).await;
    let second_store = house.db.connect_again().await;
    for name in TAGS {
        house.tag(name, &[]).await;
    }
    let numbers = AtomicU32::new(0);
    let runtime = tokio::runtime::Handle::current();
    let mut runner =
        TestRunner::new(Config { cases: CASES, failure_persistence: None, max_shrink_iters: 200, ..Config::default() });
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&steps(), |steps| {
            runtime.block_on(async {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let mut world = World::new(&house, &second_store, number).await;
                for step in &steps {
                    world.take(step).await;
                }
                world.finish().await;
            });
            Ok(())
        })
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// A device as the model has it.
#[derive(Clone, Debug)]
struct Twin {
    is_second_fleet: bool,
    group: usize,
    tags: [bool; 2],
    is_named: bool,
    is_target: bool,
}

/// A walk, and what must come of it.
#[derive(Debug)]
struct Walk {
    seen: Vec<RowId>,
    is_done: bool,
    /// What has matched at every moment since the walk began.
    always: BTreeSet<RowId>,
    /// What has matched at some moment since then.
    ever: BTreeSet<RowId>,
}

/// Two fleets of their own, and their model.
struct World<'a> {
    house: &'a House,
    second_store: &'a Store,
    fleets: [Fleet; 2],
    groups: [[RowId; 2]; 2],
    flow_id: RowId,
    deployed: Deployed,
    enrolled: u32,
    devices: BTreeMap<RowId, Twin>,
    flows: BTreeSet<RowId>,
    deployments: BTreeSet<RowId>,
    walks: BTreeMap<List, Walk>,
}

impl<'a> World<'a> {
    async fn new(house: &'a House, second_store: &'a Store, number: u32) -> Self {
        let fleets = [fleet(house, &format!("walked{number}")).await, fleet(house, &format!("other{number}")).await];
        let mut groups = [[0; 2]; 2];
        for (fleet, groups) in fleets.iter().zip(&mut groups) {
            for (name, id) in GROUPS.iter().zip(groups) {
                *id = house.store().read().find_group(fleet.id, &group(name)).await.unwrap().unwrap();
            }
        }
        let mut world = Self {
            house,
            second_store,
            fleets,
            groups,
            flow_id: 0,
            deployed: Deployed { id: 0, uuid: parsed("dp-0000-0000".parse()), target_count: 0 },
            enrolled: 0,
            devices: BTreeMap::new(),
            flows: BTreeSet::new(),
            deployments: BTreeSet::new(),
            walks: BTreeMap::new(),
        };
        world.fill().await;
        for list in LISTS {
            let matching = world.matching(list);
            let walk = Walk { seen: Vec::new(), is_done: false, always: matching.clone(), ever: matching };
            world.walks.insert(list, walk);
        }
        world
    }

    /// What is there before the walks begin.
    async fn fill(&mut self) {
        for number in 0..8 {
            self.enrol(number % 2 == 0, number == 5, [number % 2 == 0, number % 3 == 0]).await;
        }
        for _ in 0..3 {
            self.insert_flow().await;
        }
        self.flow_id = *self.flows.first().unwrap();
        self.deployed = self.deploy().await;
        for twin in self.devices.values_mut() {
            twin.is_target = !twin.is_second_fleet;
        }
        for _ in 0..2 {
            self.deploy().await;
        }
    }

    /// What is in a list now, by the model.
    fn matching(&self, list: List) -> BTreeSet<RowId> {
        let devices = |is_in: fn(&Twin) -> bool| {
            self.devices.iter().filter(|(_, twin)| is_in(twin)).map(|(id, _)| *id).collect::<BTreeSet<_>>()
        };
        match list {
            List::Fleet => devices(|twin| !twin.is_second_fleet),
            List::GroupAndTags => {
                devices(|twin| !twin.is_second_fleet && twin.group == 0 && (twin.tags[0] || twin.tags[1]))
            }
            List::BothFleets => devices(|_| true),
            List::Named => devices(|twin| twin.is_named),
            List::Targets => devices(|twin| twin.is_target),
            List::Deployments => self.deployments.clone(),
            List::Flows => self.flows.clone(),
        }
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Page(list, limit) => return self.read(LISTS[*list], *limit).await,
            Step::Enrol { by_second, is_second_fleet, tags } => self.enrol(*by_second, *is_second_fleet, *tags).await,
            Step::InsertFlow => self.insert_flow().await,
            Step::DeleteFlow(which) => self.delete_flow(which).await,
            Step::Deploy => drop(self.deploy().await),
            Step::DeleteDeployment(which) => self.delete_deployment(which).await,
            Step::Delete(which)
            | Step::Move(which)
            | Step::Regroup(which)
            | Step::Retag(which, _)
            | Step::Rename(which) => {
                if !self.devices.is_empty() {
                    let id = *self.devices.keys().nth(which.index(self.devices.len())).unwrap();
                    self.change(step, id).await;
                }
            }
        }
        self.look();
    }

    /// Notes what matches since the last change.
    fn look(&mut self) {
        for list in LISTS {
            let matching = self.matching(list);
            let walk = self.walks.get_mut(&list).unwrap();
            if !walk.is_done {
                walk.always.retain(|id| matching.contains(id));
                walk.ever.extend(&matching);
            }
        }
    }

    async fn enrol(&mut self, by_second: bool, is_second_fleet: bool, tags: [bool; 2]) {
        self.enrolled += 1;
        // Two enrolments share a millisecond, and so have rows in any order. Without end,
        // both servers would make the same ones.
        if self.enrolled.is_multiple_of(2) {
            self.house.db.clock().advance(Duration::from_millis(1));
        }
        let is_named = self.enrolled.is_multiple_of(3);
        let fleet = &self.fleets[usize::from(is_second_fleet)];
        let name = if is_named { NAME.to_owned() } else { format!("device {}", self.enrolled) };
        let new = NewDevice {
            name: parsed(name.try_into()),
            group_id: self.groups[usize::from(is_second_fleet)][0],
            public_key: format!("key of {} {}", fleet.project_key, self.enrolled),
            access: DeviceAccess::Agent,
            facts: DeviceFacts::default(),
        };
        let store = if by_second { self.second_store } else { self.house.store() };
        let id = write(store, async |tx| {
            let uuid = tx.insert_device(fleet, &new).await?;
            let id = tx.device_id(fleet.id, &uuid).await?.unwrap();
            for (name, _) in TAGS.iter().zip(tags).filter(|(_, is_on)| *is_on) {
                tx.tag_device(id, tx.ensure_tag(self.house.account, &tag(name)).await?).await?;
            }
            Ok(id)
        });
        let twin = Twin { is_second_fleet, group: 0, tags, is_named, is_target: false };
        self.devices.insert(id.await.unwrap(), twin);
    }

    async fn change(&mut self, step: &Step, id: RowId) {
        let mut twin = self.devices.remove(&id).unwrap();
        match step {
            Step::Delete(_) => return self.sql(&format!("DELETE FROM devices WHERE id = {id}")).await,
            Step::Move(_) => {
                twin.is_second_fleet = !twin.is_second_fleet;
                let place = usize::from(twin.is_second_fleet);
                let (fleet_id, group_id) = (self.fleets[place].id, self.groups[place][twin.group]);
                self.house.write(async |tx| tx.move_device(id, fleet_id, group_id).await).await.unwrap();
            }
            Step::Regroup(_) => {
                twin.group = 1 - twin.group;
                let group_id = self.groups[usize::from(twin.is_second_fleet)][twin.group];
                self.sql(&format!("UPDATE devices SET group_id = {group_id} WHERE id = {id}")).await;
            }
            Step::Retag(_, which) => {
                twin.tags[*which] = !twin.tags[*which];
                self.retag(id, TAGS[*which], twin.tags[*which]).await;
            }
            _ => {
                twin.is_named = !twin.is_named;
                let name = if twin.is_named { NAME } else { "another" };
                self.sql(&format!("UPDATE devices SET name = '{name}' WHERE id = {id}")).await;
            }
        }
        self.devices.insert(id, twin);
    }

    async fn retag(&self, id: RowId, name: &str, is_on: bool) {
        let changed = self.house.write(async |tx| {
            let tag_id = tx.ensure_tag(self.house.account, &tag(name)).await?;
            if is_on { tx.tag_device(id, tag_id).await } else { tx.untag_device(id, tag_id).await }
        });
        changed.await.unwrap();
    }

    async fn insert_flow(&mut self) {
        let (fleet_id, flows) = (self.fleets[0].id, parsed(yaml::parse(FLOW)));
        let id = self.house.write(async |tx| {
            let uuid = &tx.insert_flows(fleet_id, FLOW, &flows).await?[0];
            Ok(tx.find_flow(fleet_id, uuid).await?.unwrap().id)
        });
        self.flows.insert(id.await.unwrap());
    }

    /// Any but the one that is deployed.
    async fn delete_flow(&mut self, which: &Index) {
        let others: Vec<RowId> = self.flows.iter().copied().filter(|id| *id != self.flow_id).collect();
        if let Some(id) = (!others.is_empty()).then(|| *which.get(&others)) {
            self.sql(&format!("DELETE FROM flows WHERE id = {id}")).await;
            self.flows.remove(&id);
        }
    }

    async fn deploy(&mut self) -> Deployed {
        let mut new = self.house.deployment();
        (new.fleet_id, new.flow_id) = (self.fleets[0].id, self.flow_id);
        let everything = self.house.store().read().everything_in(vec![new.fleet_id]);
        let deployed = self.house.deploy_as(&new, &everything).await;
        self.deployments.insert(deployed.id);
        deployed
    }

    /// Any but the one whose devices are walked.
    async fn delete_deployment(&mut self, which: &Index) {
        let others: Vec<RowId> = self.deployments.iter().copied().filter(|id| *id != self.deployed.id).collect();
        if let Some(id) = (!others.is_empty()).then(|| *which.get(&others)) {
            self.sql(&format!("DELETE FROM deployments WHERE id = {id}")).await;
            self.deployments.remove(&id);
        }
    }

    async fn sql(&self, sql: &str) {
        self.house.write(async |tx| Ok(tx.execute_unprepared(sql).await.map(drop)?)).await.unwrap();
    }

    /// Reads the next page of a walk, unless that has ended.
    async fn read(&mut self, list: List, limit: u64) {
        if self.walks[&list].is_done {
            return;
        }
        let after = self.walks[&list].seen.last().copied();
        let (ids, is_more, total) = self.page(list, after, limit).await;
        let matching = self.matching(list);
        assert_eq!(total, matching.len() as u64, "{list:?}: the total");
        let mut in_order: Vec<RowId> = matching.into_iter().collect();
        if list == List::Deployments {
            in_order.reverse();
        }
        let is_behind = |id: &RowId| match (after, list) {
            (None, _) => true,
            (Some(after), List::Deployments) => *id < after,
            (Some(after), _) => *id > after,
        };
        let rest: Vec<RowId> = in_order.into_iter().filter(is_behind).collect();
        let expected = &rest[..rest.len().min(usize::try_from(limit).unwrap())];
        assert_eq!(ids, expected, "{list:?} behind {after:?}");
        assert_eq!(is_more, ids.len() < rest.len(), "{list:?}: whether there are more");
        let walk = self.walks.get_mut(&list).unwrap();
        walk.seen.extend(ids);
        walk.is_done = !is_more;
    }

    async fn page(&self, list: List, after: Option<RowId>, limit: u64) -> (Vec<RowId>, bool, u64) {
        let store = self.house.store().read();
        match list {
            List::Deployments => {
                let (page, is_more) = store.deployments_page(self.fleets[0].id, after, limit).await.unwrap();
                let total = store.deployments_count(self.fleets[0].id).await.unwrap();
                (page.iter().map(|deployment| deployment.id).collect(), is_more, total)
            }
            List::Flows => {
                let (page, is_more) = store.flows_page(self.fleets[0].id, after, limit).await.unwrap();
                let total = store.flows_count(self.fleets[0].id).await.unwrap();
                (page.iter().map(|flow| flow.id).collect(), is_more, total)
            }
            List::Targets => {
                let (page, is_more) = store.targets_page(self.deployed.id, None, after, limit).await.unwrap();
                let total = store.targets_count(self.deployed.id, None).await.unwrap();
                (page.iter().map(|target| target.device_id).collect(), is_more, total)
            }
            _ => {
                let matching = self.devices_of(list).await;
                let (page, is_more) = store.devices_page(&matching, after, limit).await.unwrap();
                let total = store.devices_count(&matching).await.unwrap();
                (page.iter().map(|device| device.id).collect(), is_more, total)
            }
        }
    }

    async fn devices_of(&self, list: List) -> Matching {
        let (store, [first, second]) = (self.house.store().read(), &self.fleets);
        match list {
            List::Fleet => store.everything_in(vec![first.id]),
            List::GroupAndTags => {
                let filter = DeviceFilter { groups: vec![group(GROUPS[0])], filters: Vec::new() };
                let matching = store.resolve(first, &filter).await.unwrap();
                store.with_any_tag(first, matching, &TAGS.map(tag)).await.unwrap()
            }
            List::Named => store.everything_in(vec![first.id, second.id]).named(&parsed(NAME.to_owned().try_into())),
            _ => store.everything_in(vec![first.id, second.id]),
        }
    }

    /// Walks every list to its end, and holds what was seen against what was there.
    async fn finish(mut self) {
        for list in LISTS {
            while !self.walks[&list].is_done {
                self.read(list, 3).await;
            }
            let Walk { seen, always, ever, .. } = &self.walks[&list];
            let is_in_order = |pair: &[RowId]| (pair[0] < pair[1]) != (list == List::Deployments);
            assert!(seen.windows(2).all(is_in_order), "{list:?}: {seen:?}");
            let seen: BTreeSet<RowId> = seen.iter().copied().collect();
            assert!(always.is_subset(&seen), "{list:?}: left out {:?}", always.difference(&seen));
            assert!(seen.is_subset(ever), "{list:?}: never there {:?}", seen.difference(ever));
        }
    }
}

async fn fleet(house: &House, name: &str) -> Fleet {
    let its_name = parsed(FleetName::parse(name));
    house.write(async |tx| tx.insert_fleet(house.account, &key(name), &its_name).await).await.unwrap()
}
