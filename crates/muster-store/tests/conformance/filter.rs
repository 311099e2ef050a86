//! The device filter: unknown names, and random filters over random fleets held
//! against a plain evaluation of the same rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_core::filter::{DeviceFilter, Filter, Rule};
use muster_core::ids::RowId;
use muster_core::names::Version;
use muster_core::patch::DeviceChange;
use muster_core::target::{RunEvent, RunOutcome, TargetStatus};
use muster_store::devices::Device;
use muster_store::testing::TestDatabase;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::fixture::{Deployed, House, app, finished, group, ids_of, parsed, refusal, tag, uuid, version};

on_both_engines!(
    unknown_names_are_errors_that_name_the_place,
    groups_are_a_union_and_all_is_everything,
    a_group_called_all_is_that_group,
    tags_narrow_by_any,
    random_filters_agree_with_a_plain_evaluation,
);

async fn unknown_names_are_errors_that_name_the_place(db: TestDatabase) {
    let house = House::on(db).await;
    let second = house.second_fleet().await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    let cases = [
        (Rule::Tag(tag("nowhere")), "filters[1].value: no tag is called \"nowhere\""),
        (Rule::App { name: app("nowhere"), version: None }, "filters[1].value: no app is called \"nowhere\""),
        (Rule::Device(parsed("d-0000-0000".parse())), "filters[1].value: no device of the fleet is called"),
        (Rule::Device(uuid(&device)), "filters[1].value: no device of the fleet is called"),
        (
            Rule::Deployment { uuid: deployed.uuid.clone(), status: None },
            "filters[1].deployment_id: no deployment of the fleet is called",
        ),
    ];
    for (rule, expected) in cases {
        let filters = vec![Filter { not: false, rule: Rule::Online(true) }, Filter { not: true, rule }];
        let filter = DeviceFilter { groups: Vec::new(), filters };
        let said = refusal(house.store().read().resolve(&second, &filter).await);
        assert!(said.starts_with(expected), "{said}");
    }
    let filter = DeviceFilter { groups: vec![group("Test"), group("test")], filters: Vec::new() };
    let said = refusal(house.store().read().resolve(&house.fleet, &filter).await);
    assert_eq!(said, "groups[1].name: no group of the fleet is called \"test\"");
    let tags = [tag("nowhere")];
    let narrowed = house.store().read().with_any_tag(&house.fleet, house.everything(), &tags).await;
    assert_eq!(refusal(narrowed), "tags: no tag is called \"nowhere\"");
}

async fn groups_are_a_union_and_all_is_everything(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    house.change(&two, &[DeviceChange::Group(group("Test"))]).await.unwrap();
    let matching = async |names: &[&str]| {
        let filter = DeviceFilter { groups: names.iter().map(|name| group(name)).collect(), filters: Vec::new() };
        let matching = house.store().read().resolve(&house.fleet, &filter).await.unwrap();
        ids_of(house.store().read(), &matching).await
    };
    assert_eq!(matching(&[]).await, [one.id, two.id]);
    assert_eq!(matching(&["Production"]).await, [one.id]);
    assert_eq!(matching(&["Test", "Production", "Test"]).await, [one.id, two.id]);
    assert_eq!(matching(&["all"]).await, [one.id, two.id]);
    assert_eq!(matching(&["Test", "all"]).await, [one.id, two.id]);
}

async fn a_group_called_all_is_that_group(db: TestDatabase) {
    let house = House::on(db).await;
    let all = house.write(async |tx| tx.insert_group(house.fleet.id, &group("all")).await).await.unwrap();
    house.device("one").await;
    let two = house.device_in(&house.fleet, all, "two").await;
    assert_eq!(ids_of(house.store().read(), &house.in_group("all").await).await, [two.id]);
}

async fn tags_narrow_by_any(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two, three) = (house.device("one").await, house.device("two").await, house.device("three").await);
    house.tag("a", &[&one, &two]).await;
    house.tag("b", &[&two, &three]).await;
    let narrowed = async |names: &[&str]| {
        let tags: Vec<_> = names.iter().map(|name| tag(name)).collect();
        let read = house.store().read();
        ids_of(read, &read.with_any_tag(&house.fleet, house.everything(), &tags).await.unwrap()).await
    };
    assert_eq!(narrowed(&[]).await, [one.id, two.id, three.id]);
    assert_eq!(narrowed(&["a"]).await, [one.id, two.id]);
    assert_eq!(narrowed(&["a", "b"]).await, [one.id, two.id, three.id]);
}

const DEVICES: usize = 40;
const DEPLOYMENTS: usize = 6;
const FILTERS: usize = 150;
const TAGS: [&str; 3] = ["a", "b", "site=x"];
const APPS: [&str; 2] = ["web", "db"];
const VERSIONS: [&str; 2] = ["1", "2"];
const GROUPS: [&str; 2] = ["Test", "Production"];

async fn random_filters_agree_with_a_plain_evaluation(db: TestDatabase) {
    let house = House::on(db).await;
    let rng = &mut StdRng::seed_from_u64(31);
    let world = World::random(&house, rng).await;
    for _ in 0..FILTERS {
        let filter = world.random_filter(rng);
        let matching = house.store().read().resolve(&house.fleet, &filter).await.unwrap();
        let expected: Vec<RowId> = world.devices.iter().filter(|twin| twin.matches(&filter)).map(Twin::id).collect();
        assert_eq!(ids_of(house.store().read(), &matching).await, expected, "{filter:?}");
        assert_eq!(house.store().read().devices_count(&matching).await.unwrap(), expected.len() as u64);
        let (page, is_more) = house.store().read().devices_page(&matching, None, 7).await.unwrap();
        let page: Vec<RowId> = page.iter().map(|device| device.id).collect();
        assert_eq!((page.as_slice(), is_more), (&expected[..expected.len().min(7)], expected.len() > 7), "{filter:?}");
    }
}

/// What the test knows of one device, without any SQL.
struct Twin {
    device: Device,
    group: &'static str,
    tags: BTreeSet<&'static str>,
    apps: BTreeMap<&'static str, &'static str>,
    is_online: bool,
    /// In the order of the deployments.
    targets: Vec<(usize, TargetStatus)>,
    deployments: Vec<Deployed>,
}

impl Twin {
    fn id(&self) -> RowId {
        self.device.id
    }

    fn matches(&self, filter: &DeviceFilter) -> bool {
        let in_groups = filter.groups.is_empty() || filter.groups.iter().any(|name| name.as_str() == self.group);
        in_groups && filter.filters.iter().all(|filter| self.satisfies(&filter.rule) != filter.not)
    }

    fn satisfies(&self, rule: &Rule) -> bool {
        match rule {
            Rule::Device(uuid) => self.device.uuid == uuid.as_str(),
            Rule::Tag(name) => self.tags.contains(name.as_str()),
            Rule::App { name, version } => self
                .apps
                .get(name.as_str())
                .is_some_and(|held| version.as_ref().is_none_or(|version| version.as_str() == *held)),
            Rule::Online(is_online) => self.is_online == *is_online,
            Rule::UpdateStatus(status) => self.targets.last().is_some_and(|(_, newest)| newest == status),
            Rule::Deployment { uuid, status } => self.targets.iter().any(|(number, stands)| {
                self.deployments[*number].uuid == *uuid && status.is_none_or(|status| status == *stands)
            }),
        }
    }
}

struct World {
    devices: Vec<Twin>,
    deployments: Vec<Deployed>,
}

impl World {
    async fn random(house: &House, rng: &mut StdRng) -> Self {
        // What lies in another fleet of the account must never match.
        let second = house.second_fleet().await;
        let foreign_group = house.store().read().find_group(second.id, &group("Test")).await.unwrap().unwrap();
        let foreign = house.device_in(&second, foreign_group, "foreign").await;
        for name in TAGS {
            house.tag(name, &[&foreign]).await;
        }
        for name in APPS {
            let app_id = house.app(name).await;
            house.set_app(&foreign, app_id, VERSIONS[0]).await;
        }
        let mut devices = Vec::new();
        for number in 0..DEVICES {
            devices.push(random_device(house, rng, number).await);
        }
        let mut deployments = Vec::new();
        for number in 0..DEPLOYMENTS {
            deployments.push(random_deployment(house, rng, number, &mut devices).await);
        }
        devices.iter_mut().for_each(|twin| twin.deployments.clone_from(&deployments));
        // Half of the devices speak again, so that the others fall silent.
        house.db.clock().advance(Duration::from_secs(75));
        for twin in &mut devices {
            twin.is_online = rng.random();
            if twin.is_online {
                let keepalive = house.keepalive(&twin.device);
                house.write(async |tx| tx.store_keepalives(std::slice::from_ref(&keepalive)).await).await.unwrap();
            }
        }
        Self { devices, deployments }
    }

    fn random_filter(&self, rng: &mut StdRng) -> DeviceFilter {
        let groups = (0..rng.random_range(0..3)).map(|_| group(pick(&GROUPS, rng))).collect();
        let filters = (0..rng.random_range(0..4)).map(|_| self.random_rule(rng)).collect();
        DeviceFilter { groups, filters }
    }

    fn random_rule(&self, rng: &mut StdRng) -> Filter {
        let status = TargetStatus::ALL[rng.random_range(0..5)];
        let rule = match rng.random_range(0..10) {
            0 => Rule::Device(uuid(&self.devices[rng.random_range(0..DEVICES)].device)),
            1..=2 => Rule::Tag(tag(pick(&TAGS, rng))),
            3..=4 => {
                let version: Option<Version> = rng.random::<bool>().then(|| version(pick(&VERSIONS, rng)));
                Rule::App { name: app(pick(&APPS, rng)), version }
            }
            5..=6 => Rule::Online(rng.random()),
            7..=8 => Rule::UpdateStatus(status),
            _ => {
                let deployed = &self.deployments[rng.random_range(0..DEPLOYMENTS)];
                Rule::Deployment { uuid: deployed.uuid.clone(), status: rng.random::<bool>().then_some(status) }
            }
        };
        Filter { not: rng.random(), rule }
    }
}

fn pick(words: &[&'static str], rng: &mut StdRng) -> &'static str {
    words.choose(rng).unwrap()
}

async fn random_device(house: &House, rng: &mut StdRng, number: usize) -> Twin {
    let device = house.device(&format!("device {number}")).await;
    let group_name = pick(&GROUPS, rng);
    house.change(&device, &[DeviceChange::Group(group(group_name))]).await.unwrap();
    let tags: BTreeSet<_> = TAGS.into_iter().filter(|_| rng.random_range(0..3) == 0).collect();
    house.change(&device, &[DeviceChange::AddTags(tags.iter().map(|name| tag(name)).collect())]).await.unwrap();
    let mut apps = BTreeMap::new();
    for name in APPS {
        if rng.random() {
            apps.insert(name, pick(&VERSIONS, rng));
        }
    }
    let set = apps.iter().map(|(name, number)| (app(name), version(number))).collect();
    house.change(&device, &[DeviceChange::SetApps(set)]).await.unwrap();
    Twin { device, group: group_name, tags, apps, is_online: false, targets: Vec::new(), deployments: Vec::new() }
}

/// A deployment to the devices that bear a random tag, which then go different ways.
async fn random_deployment(house: &House, rng: &mut StdRng, number: usize, devices: &mut [Twin]) -> Deployed {
    let chosen = pick(&TAGS, rng);
    let deployed = house.deploy(&house.matching(&[(false, Rule::Tag(tag(chosen)))]).await).await;
    for twin in devices.iter_mut().filter(|twin| twin.tags.contains(chosen)) {
        let status = TargetStatus::ALL[rng.random_range(0..5)];
        let event = match status {
            TargetStatus::Pending => None,
            TargetStatus::InProgress => Some(RunEvent::Accepted),
            TargetStatus::Succeeded => Some(finished(RunOutcome::Succeeded)),
            TargetStatus::Failed => Some(finished(RunOutcome::Failed)),
            TargetStatus::Aborted => Some(finished(RunOutcome::Aborted)),
        };
        if let Some(event) = event {
            house.report(&deployed, &twin.device, 1, event).await.unwrap();
        }
        twin.targets.push((number, status));
    }
    deployed
}
