//! The operations of the Tag Service, one after the other in random orders, held against
//! a plain model. A failing order is shrunk.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::names::Tag;
use muster_core::resource::Resource;
use muster_server::access::PermittedAccount;
use muster_server::error::{OpError, Result};
use muster_server::fleet::tag_links::LinkFilter;
use muster_server::fleet::{resources, tags};
use muster_store::tags::TagFilter;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::app::TestApp;
use crate::device::SimulatedDevice;
use crate::tag_operations::{assignment, device, links, names, permitted, resource, tag};

on_both_engines!(
    with: |config| config.account_tags_max = crate::tag_model::QUOTA;
    operations_do_what_a_plain_model_does,
);

/// Random orders on each engine.
const CASES: u32 = 20;
pub(crate) const QUOTA: u32 = 4;
const TAGS: [(&str, &str); 6] = [("a", ""), ("a", "x"), ("a", "y"), ("b", ""), ("Default tag", ""), ("c", "x")];
const RESOURCES: usize = 5;

/// Tags and resources by their numbers.
#[derive(Clone, Debug)]
enum Step {
    Create(Vec<usize>),
    Delete(Vec<usize>),
    Bind(usize, Vec<usize>),
    Unbind(usize, Vec<usize>),
    Clear(usize),
    Assign(Vec<(usize, Vec<usize>)>),
    /// Through API v2, to a device: not bounded by the quota.
    Add(usize, usize),
    /// Through API v2, one tag into another.
    Merge(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (one, some) = (|| 0..TAGS.len(), || vec(0..TAGS.len(), 0..3));
    let (resource, resources) = (|| 0..RESOURCES, || vec(0..RESOURCES, 0..4));
    prop_oneof![
        1 => some().prop_map(Step::Create),
        1 => some().prop_map(Step::Delete),
        3 => (one(), resources()).prop_map(|(tag, resources)| Step::Bind(tag, resources)),
        1 => (one(), resources()).prop_map(|(tag, resources)| Step::Unbind(tag, resources)),
        1 => resource().prop_map(Step::Clear),
        3 => vec((resource(), some()), 0..3).prop_map(Step::Assign),
        1 => (one(), 0..2_usize).prop_map(|(tag, device)| Step::Add(tag, device)),
        1 => (one(), one()).prop_map(|(from, into)| Step::Merge(from, into)),
    ]
}

fn tag_at(number: usize) -> Tag {
    tag(TAGS[number].0, TAGS[number].1)
}

fn tags_at(numbers: &[usize]) -> Vec<Tag> {
    numbers.iter().map(|number| tag_at(*number)).collect()
}

/// What there should be.
#[derive(Clone, Debug, Default)]
struct Model {
    tags: BTreeSet<usize>,
    borne: BTreeMap<usize, BTreeSet<usize>>,
}

impl Model {
    /// What the step leaves, unless it would pass the quota.
    fn after(&self, step: &Step) -> Option<Self> {
        let mut next = self.clone();
        let is_bounded = match step {
            Step::Create(tags) => {
                next.tags.extend(tags);
                true
            }
            Step::Delete(tags) => {
                tags.iter().filter(|tag| !tag_at(**tag).is_default()).for_each(|tag| next.delete(*tag));
                false
            }
            Step::Bind(tag, resources) => {
                next.tags.insert(*tag);
                for resource in resources {
                    next.borne.entry(*resource).or_default().insert(*tag);
                }
                true
            }
            Step::Unbind(tag, resources) => {
                for resource in resources {
                    next.borne.entry(*resource).or_default().remove(tag);
                }
                false
            }
            Step::Clear(resource) => {
                next.borne.remove(resource);
                false
            }
            Step::Assign(assignments) => {
                let last: BTreeMap<usize, &Vec<usize>> = assignments.iter().map(|(of, tags)| (*of, tags)).collect();
                for (resource, tags) in last {
                    next.tags.extend(tags);
                    next.borne.insert(resource, tags.iter().copied().collect());
                }
                true
            }
            Step::Add(tag, device) => {
                next.tags.insert(*tag);
                next.borne.entry(*device).or_default().insert(*tag);
                false
            }
            Step::Merge(from, into) => {
                if from != into && next.tags.contains(from) && next.tags.contains(into) {
                    for tags in next.borne.values_mut().filter(|tags| tags.contains(from)) {
                        tags.insert(*into);
                    }
                    next.delete(*from);
                }
                false
            }
        };
        let is_too_much = is_bounded && next.tags.len() > self.tags.len() && next.tags.len() > QUOTA as usize;
        (!is_too_much).then_some(next)
    }

    fn delete(&mut self, tag: usize) {
        self.tags.remove(&tag);
        for tags in self.borne.values_mut() {
            tags.remove(&tag);
        }
    }

    /// Each tag's bearers, by name.
    fn links(&self, resources: &[Resource]) -> BTreeMap<String, BTreeSet<String>> {
        let bearers = |tag: &usize| {
            let all = self.borne.iter().filter(|(_, tags)| tags.contains(tag));
            all.map(|(resource, _)| resources[*resource].to_string()).collect()
        };
        self.tags.iter().map(|tag| (tag_at(*tag).to_string(), bearers(tag))).collect()
    }
}

struct World<'a> {
    app: &'a TestApp,
    by: PermittedAccount,
    devices: [SimulatedDevice<'a>; 2],
    resources: Vec<Resource>,
}

impl World<'_> {
    fn resources_at(&self, numbers: &[usize]) -> Vec<Resource> {
        numbers.iter().map(|number| self.resources[*number].clone()).collect()
    }

    async fn take(&self, step: &Step) -> Result<()> {
        let (app, by) = (self.app.app(), &self.by);
        match step {
            Step::Create(numbers) => tags::create_all(app, by, &tags_at(numbers)).await,
            Step::Delete(numbers) => tags::delete_all(app, by, &tags_at(numbers)).await,
            Step::Bind(tag, to) => resources::bind(app, by, &tag_at(*tag), &self.resources_at(to)).await,
            Step::Unbind(tag, from) => resources::unbind(app, by, &tag_at(*tag), &self.resources_at(from)).await,
            Step::Clear(resource) => resources::clear(app, by, &self.resources[*resource]).await,
            Step::Assign(all) => {
                let all: Vec<_> =
                    all.iter().map(|(of, numbers)| assignment(&self.resources[*of], &tags_at(numbers))).collect();
                resources::assign(app, by, &all).await
            }
            Step::Add(tag, device) => {
                let change = json!([{ "op": "add", "path": "tags", "value": [tag_at(*tag).to_string()] }]);
                self.app.admin().change(self.devices[*device].uuid.as_str(), &change).await;
                Ok(())
            }
            Step::Merge(from, into) => {
                let into = tag_at(*into).name().unwrap();
                match tags::merge(app, by, &tag_at(*from).to_string(), &into).await {
                    Ok(_) | Err(OpError::Invalid(_) | OpError::NotFound { .. }) => Ok(()),
                    Err(other) => Err(other),
                }
            }
        }
    }

    async fn check(&self, model: &Model) {
        let expected = model.links(&self.resources);
        let all = links(self.app, &self.by, LinkFilter::default()).await;
        let seen: BTreeMap<String, BTreeSet<String>> =
            all.iter().map(|(name, bearers)| (name.clone(), bearers.iter().cloned().collect())).collect();
        assert_eq!(seen, expected);
        assert!(all.iter().all(|(name, bearers)| bearers.len() == seen[name].len()), "each once: {all:?}");
        let listed: BTreeSet<String> = names(self.app, &self.by, TagFilter::default()).await.into_iter().collect();
        assert_eq!(listed, expected.keys().cloned().collect());
        for (number, device) in self.devices.iter().enumerate() {
            let tags: BTreeSet<String> = serde_json::from_value(device.seen().await["tags"].clone()).unwrap();
            let borne = model.borne.get(&number).into_iter().flatten();
            assert_eq!(tags, borne.map(|tag| tag_at(*tag).to_string()).collect());
        }
    }

    /// Back to the beginning, for the next case.
    async fn empty(&self) {
        self.app
            .write(async |tx| {
                let (rows, _) = tx.tag_rows_page(self.by.account_id(), &TagFilter::default(), None, 100).await?;
                tx.delete_tags(&rows.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
                Ok(())
            })
            .await;
    }
}

async fn operations_do_what_a_plain_model_does(app: &TestApp) {
    let devices = [SimulatedDevice::enroll(app, "one").await, SimulatedDevice::enroll(app, "two").await];
    let resources = vec![
        device("demo", &devices[0]),
        device("demo", &devices[1]),
        resource("BCC", "bj", "i-1"),
        resource("BCC", "gz", "i-1"),
        resource("BOS", "global", "b"),
    ];
    let world = World { app, by: permitted(app, &app.admin()).await, devices, resources };
    let runtime = tokio::runtime::Handle::current();
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let outcome = tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&vec(step(), 1..10), |steps| {
            runtime.block_on(async {
                world.empty().await;
                let mut model = Model::default();
                for step in &steps {
                    let done = world.take(step).await;
                    match (model.after(step), done) {
                        (Some(next), Ok(())) => model = next,
                        (None, Err(OpError::TagQuota { .. })) => {}
                        (next, done) => panic!("{step:?}: {done:?}, and not {next:?}"),
                    }
                    world.check(&model).await;
                }
            });
            Ok(())
        })
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
