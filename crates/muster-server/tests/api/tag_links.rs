//! Lists without pages: which tags there are, and what bears them.

use muster_core::names::Tag;
use muster_server::fleet::tag_links::{self, LinkFilter};
use muster_server::fleet::{resources, tags};
use muster_store::tags::TagFilter;
use muster_store::testing::{seed_devices, seed_resources, seed_tag};

use crate::app::TestApp;
use crate::device::SimulatedDevice;
use crate::tag_operations::{device, links, names, permitted, resource, tag};

on_both_engines!(
    an_absent_value_is_any_and_an_empty_one_is_itself,
    bearers_are_listed_by_kind_place_and_id,
    everybody_sees_the_devices_of_their_fleets_alone,
    a_long_list_comes_in_parts,
);

async fn an_absent_value_is_any_and_an_empty_one_is_itself(app: &TestApp) {
    let by = permitted(app, &app.admin()).await;
    let made = [tag("site", "London"), tag("site", ""), tag("red", ""), tag("room", "London")];
    tags::create_all(app.app(), &by, &made).await.unwrap();
    let some = |word: &str| Some(word.to_owned());
    for (key, value, expected) in [
        (None, None, vec!["site=London", "site", "red", "room=London"]),
        (some("site"), None, vec!["site=London", "site"]),
        (some("site"), some(""), vec!["site"]),
        (None, some("London"), vec!["site=London", "room=London"]),
        (some("nobody's"), None, vec![]),
    ] {
        let filter = TagFilter { key, value };
        assert_eq!(names(app, &by, filter.clone()).await, expected);
        let weak = links(app, &by, LinkFilter { tags: filter.clone(), ..LinkFilter::default() }).await;
        assert_eq!(weak, expected.iter().map(|name| ((*name).to_owned(), vec![])).collect::<Vec<_>>());
        let strong = LinkFilter { tags: filter, only_borne: true, ..LinkFilter::default() };
        assert_eq!(links(app, &by, strong).await, []);
    }
}

async fn bearers_are_listed_by_kind_place_and_id(app: &TestApp) {
    let by = permitted(app, &app.admin()).await;
    let here = SimulatedDevice::enroll(app, "here").await;
    let there = SimulatedDevice::enroll_with(app, &app.house().second_pairing, "there").await;
    let all = [
        device("demo", &here),
        device("second", &there),
        resource("BCC", "bj", "i-1"),
        resource("BCC", "gz", "i-2"),
        resource("BOS", "bj", "b-1"),
        // The uuid of a device, the key of a fleet: another kind all the same.
        resource("EIP", "demo", here.uuid.as_str()),
    ];
    resources::bind(app.app(), &by, &tag("red", ""), &all).await.unwrap();
    resources::bind(app.app(), &by, &tag("blue", ""), &all[2..3]).await.unwrap();
    tags::create_all(app.app(), &by, &[tag("bare", "")]).await.unwrap();
    let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    let any = LinkFilter::default;
    let red = |numbers: &[usize]| ("red".to_owned(), numbers.iter().map(|i| all[*i].to_string()).collect::<Vec<_>>());
    let blue = ("blue".to_owned(), vec![all[2].to_string()]);
    let bare = ("bare".to_owned(), vec![]);
    for (filter, expected) in [
        (any(), vec![red(&[0, 1, 2, 3, 4, 5]), blue.clone(), bare]),
        (LinkFilter { only_borne: true, ..any() }, vec![red(&[0, 1, 2, 3, 4, 5]), blue.clone()]),
        (LinkFilter { service_types: list(&["DEVICE"]), ..any() }, vec![red(&[0, 1])]),
        (LinkFilter { service_types: list(&["BCC"]), ..any() }, vec![red(&[2, 3]), blue.clone()]),
        (
            LinkFilter { service_types: list(&["BCC", "DEVICE"]), regions: list(&["bj", "demo"]), ..any() },
            vec![red(&[0, 2]), blue.clone()],
        ),
        (LinkFilter { regions: list(&["demo"]), ..any() }, vec![red(&[0, 5])]),
        (LinkFilter { regions: list(&["nowhere"]), ..any() }, vec![]),
        (LinkFilter { resource_ids: list(&[here.uuid.as_str(), "b-1"]), ..any() }, vec![red(&[0, 4, 5])]),
        (LinkFilter { resource_ids: list(&[here.uuid.as_str()]), service_types: list(&["BCC"]), ..any() }, vec![]),
    ] {
        assert_eq!(links(app, &by, filter.clone()).await, expected, "{filter:?}");
    }
}

async fn everybody_sees_the_devices_of_their_fleets_alone(app: &TestApp) {
    let by = permitted(app, &app.admin()).await;
    let here = SimulatedDevice::enroll(app, "here").await;
    let there = SimulatedDevice::enroll_with(app, &app.house().second_pairing, "there").await;
    let (here, there, ours) = (device("demo", &here), device("second", &there), resource("BCC", "bj", "i-1"));
    resources::bind(app.app(), &by, &tag("red", ""), &[here.clone(), there.clone(), ours.clone()]).await.unwrap();
    resources::bind(app.app(), &by, &tag("blue", ""), std::slice::from_ref(&there)).await.unwrap();
    let (here, there, ours) = (here.to_string(), there.to_string(), ours.to_string());
    for (who, red, blue) in [
        (app.admin(), vec![here.clone(), there.clone(), ours.clone()], vec![there.clone()]),
        (app.viewer(), vec![here, ours.clone()], vec![]),
        (app.neighbour(), vec![there.clone(), ours], vec![there]),
    ] {
        let who = permitted(app, &who).await;
        let weak = links(app, &who, LinkFilter::default()).await;
        assert_eq!(weak, [("red".to_owned(), red.clone()), ("blue".to_owned(), blue.clone())]);
        let strong = links(app, &who, LinkFilter { only_borne: true, ..LinkFilter::default() }).await;
        assert_eq!(strong.len(), 1 + usize::from(!blue.is_empty()), "what bears it unseen does not exist");
    }
    let stranger = permitted(app, &app.stranger()).await;
    assert_eq!(links(app, &stranger, LinkFilter::default()).await, []);
}

/// More rows than are read at once, of each kind.
async fn a_long_list_comes_in_parts(app: &TestApp) {
    let by = permitted(app, &app.admin()).await;
    tags::create_all(app.app(), &by, &[tag("red", ""), tag("blue", "")]).await.unwrap();
    let (store, house) = (app.store(), app.house());
    let name = Tag::name(&tag("red", "")).unwrap();
    let red = store.read().find_tag(house.account_id, &name).await.unwrap().unwrap();
    let group = "Production".to_owned().try_into().unwrap();
    let group = store.read().find_group(house.fleet.id, &group).await.unwrap().unwrap();
    let ids = seed_devices(store, &house.fleet, group, 2_001).await.unwrap();
    seed_tag(store, red, &ids).await.unwrap();
    seed_resources(store, house.account_id, red, 1_500).await.unwrap();
    let all = links(app, &by, LinkFilter::default()).await;
    let mut bearers = all[0].1.clone();
    assert_eq!((all.len(), bearers.len(), all[1].1.len()), (2, 3_501, 0));
    bearers.sort();
    bearers.dedup();
    assert_eq!(bearers.len(), 3_501, "each is there once");
    let list = tag_links::links(app.app(), &by, LinkFilter::default()).await.unwrap();
    let sizes: Vec<usize> = futures_util::TryStreamExt::try_collect::<Vec<_>>(list)
        .await
        .unwrap()
        .iter()
        .map(|part| part.bearers.len())
        .collect();
    assert_eq!(sizes, [1_000, 1_000, 1, 1_000, 500, 0]);
}
