//! Resources that are no devices, and their tags; devices as the Tag Service names them.

use muster_core::access::Permission;
use muster_core::names::{Region, ResourceId, ResourceUuid, ServiceType};
use muster_core::resource::Resource;
use muster_store::StoreError;
use muster_store::device_tags::{AmongDevices, DeviceRef};
use muster_store::resources::{AmongResources, ResourceTag};
use muster_store::testing::TestDatabase;

use crate::fixture::{House, group, parsed, uuid};

on_both_engines!(
    a_resource_bears_a_tag_once_until_it_is_taken_off,
    a_resource_is_its_kind_its_place_and_its_id,
    resources_belong_to_their_account,
    second_names_are_kept,
    resources_of_a_tag_come_page_by_page,
    devices_of_a_tag_come_page_by_page,
    many_devices_are_tagged_and_untagged_at_once,
    devices_are_found_by_uuid_in_their_account,
    fleets_are_found_by_what_a_user_may_do_there,
);

pub(crate) fn resource(kind: &str, region: &str, id: &str) -> Resource {
    Resource {
        service_type: parsed(ServiceType::parse(kind)),
        region: parsed(Region::parse(region)),
        id: parsed(ResourceId::parse(id)),
    }
}

pub(crate) fn link(resource: &Resource, uuid: &str, tag_id: i64) -> ResourceTag {
    ResourceTag { resource: resource.clone(), uuid: parsed(ResourceUuid::parse(uuid)), tag_id }
}

/// The names of each one's tags.
async fn names(house: &House, resources: &[Resource]) -> Vec<(String, String)> {
    let found = house.store().read().tags_of_resources(house.account, resources).await.unwrap();
    found.into_iter().map(|(resource, name)| (resource.to_string(), name)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(resource, name)| ((*resource).to_owned(), (*name).to_owned())).collect()
}

async fn a_resource_bears_a_tag_once_until_it_is_taken_off(db: TestDatabase) {
    let house = House::on(db).await;
    let (red, blue) = (house.tag("red", &[]).await, house.tag("blue", &[]).await);
    let (one, two) = (resource("BCC", "bj", "i-1"), resource("BCC", "bj", "i-2"));
    let links = [link(&one, "", red), link(&one, "", blue), link(&two, "", red), link(&one, "", red)];
    let tagged = house.write(async |tx| tx.tag_resources(house.account, &links).await).await.unwrap();
    let again = house.write(async |tx| tx.tag_resources(house.account, &links).await).await.unwrap();
    assert_eq!((tagged, again), (3, 0));
    let both = [one.clone(), two.clone()];
    let all = pairs(&[("BCC/bj/i-1", "red"), ("BCC/bj/i-2", "red"), ("BCC/bj/i-1", "blue")]);
    assert_eq!(names(&house, &both).await, all);
    let removed = house.write(async |tx| tx.untag_resources(house.account, red, &both).await).await.unwrap();
    let again = house.write(async |tx| tx.untag_resources(house.account, red, &both).await).await.unwrap();
    assert_eq!((removed, again), (2, 0));
    assert_eq!(names(&house, &both).await, pairs(&[("BCC/bj/i-1", "blue")]));
    house.write(async |tx| tx.tag_resources(house.account, &links).await).await.unwrap();
    let cleared = house.write(async |tx| tx.clear_tags_of_resources(house.account, std::slice::from_ref(&one)).await);
    assert_eq!(cleared.await.unwrap(), 2);
    assert_eq!(names(&house, &both).await, pairs(&[("BCC/bj/i-2", "red")]));
    assert_eq!(house.write(async |tx| tx.tag_resources(house.account, &[]).await).await.unwrap(), 0);
}

async fn a_resource_is_its_kind_its_place_and_its_id(db: TestDatabase) {
    let house = House::on(db).await;
    let red = house.tag("red", &[]).await;
    let all = [
        resource("BCC", "bj", "1"),
        resource("BOS", "bj", "1"),
        resource("BCC", "gz", "1"),
        resource("bcc", "bj", "1"),
    ];
    let links: Vec<_> = all.iter().map(|resource| link(resource, "", red)).collect();
    assert_eq!(house.write(async |tx| tx.tag_resources(house.account, &links).await).await.unwrap(), 4);
    let removed = house.write(async |tx| tx.untag_resources(house.account, red, &all[..1]).await).await.unwrap();
    assert_eq!(removed, 1);
    let left = pairs(&[("BCC/gz/1", "red"), ("BOS/bj/1", "red"), ("bcc/bj/1", "red")]);
    assert_eq!(names(&house, &all).await, left);
    let removed = house.write(async |tx| tx.clear_tags_of_resources(house.account, &all).await).await.unwrap();
    assert_eq!(removed, 3);
}

async fn resources_belong_to_their_account(db: TestDatabase) {
    let house = House::on(db).await;
    let red = house.tag("red", &[]).await;
    let one = [resource("BCC", "bj", "i-1")];
    house.write(async |tx| tx.tag_resources(house.account, &[link(&one[0], "u", red)]).await).await.unwrap();
    let other = house.account + 1;
    let read = house.store().read();
    assert_eq!(read.tags_of_resources(other, &one).await.unwrap(), []);
    assert_eq!(read.uuids_of_resources(other, &one).await.unwrap(), []);
    assert_eq!(house.write(async |tx| tx.untag_resources(other, red, &one).await).await.unwrap(), 0);
    assert_eq!(house.write(async |tx| tx.clear_tags_of_resources(other, &one).await).await.unwrap(), 0);
    let foreign = house.write(async |tx| tx.tag_resources(other, &[link(&one[0], "", red)]).await).await;
    assert!(matches!(foreign, Err(StoreError::Database(_))), "there is no such account");
}

async fn second_names_are_kept(db: TestDatabase) {
    let house = House::on(db).await;
    let (red, blue) = (house.tag("red", &[]).await, house.tag("blue", &[]).await);
    let (one, two) = (resource("BCC", "bj", "i-1"), resource("BCC", "bj", "i-2"));
    let links = [link(&one, "long one", red), link(&one, "long one", blue), link(&two, "", red)];
    house.write(async |tx| tx.tag_resources(house.account, &links).await).await.unwrap();
    let known = house.store().read().uuids_of_resources(house.account, &[one.clone(), two]).await.unwrap();
    assert_eq!(known, [(one, parsed(ResourceUuid::parse("long one")))]);
}

async fn resources_of_a_tag_come_page_by_page(db: TestDatabase) {
    let house = House::on(db).await;
    let (red, blue) = (house.tag("red", &[]).await, house.tag("blue", &[]).await);
    let all = [resource("BCC", "bj", "c"), resource("BOS", "bj", "b"), resource("BCC", "gz", "a")];
    let links: Vec<_> = all.iter().map(|resource| link(resource, "u", red)).collect();
    house.write(async |tx| tx.tag_resources(house.account, &links).await).await.unwrap();
    house.write(async |tx| tx.tag_resources(house.account, &[link(&all[0], "u", blue)]).await).await.unwrap();
    let read = house.store().read();
    let page = async |among: &AmongResources, after, limit| {
        let (rows, is_more) = read.tagged_resources_page(red, among, after, limit).await.unwrap();
        assert!(rows.iter().all(|row| row.resource_uuid == "u"));
        let last = rows.last().map(|row| row.id);
        let named = |row: &muster_store::resources::TaggedResource| {
            format!("{}/{}/{}", row.service_type, row.region, row.resource_id)
        };
        (rows.iter().map(named).collect::<Vec<_>>(), is_more, last)
    };
    let any = AmongResources::default();
    let (first, is_more, last) = page(&any, None, 2).await;
    assert_eq!((first, is_more), (vec!["BCC/bj/c".to_owned(), "BOS/bj/b".into()], true));
    let (rest, is_more, last) = page(&any, last, 2).await;
    assert_eq!((rest, is_more), (vec!["BCC/gz/a".to_owned()], false));
    assert_eq!(page(&any, last, 2).await, (vec![], false, None));
    let some = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    for (among, expected) in [
        (AmongResources { service_types: some(&["BCC"]), ..any.clone() }, vec!["BCC/bj/c", "BCC/gz/a"]),
        (AmongResources { regions: some(&["gz", "su"]), ..any.clone() }, vec!["BCC/gz/a"]),
        (AmongResources { resource_ids: some(&["b", "c"]), ..any.clone() }, vec!["BCC/bj/c", "BOS/bj/b"]),
        (AmongResources { service_types: some(&["BOS"]), regions: some(&["gz"]), resource_ids: None }, vec![]),
    ] {
        assert_eq!(page(&among, None, 9).await.0, expected, "{among:?}");
    }
}

async fn devices_of_a_tag_come_page_by_page(db: TestDatabase) {
    let house = House::on(db).await;
    let second = house.second_fleet().await;
    let test = house.store().read().find_group(second.id, &group("Test")).await.unwrap().unwrap();
    let (one, two) = (house.device("one").await, house.device("two").await);
    let there = house.device_in(&second, test, "there").await;
    house.device("bare").await;
    let red = house.tag("red", &[&one, &two, &there]).await;
    let read = house.store().read();
    let all: Vec<DeviceRef> = [(&one, house.fleet.id), (&two, house.fleet.id), (&there, second.id)]
        .map(|(device, fleet_id)| DeviceRef { id: device.id, uuid: device.uuid.clone(), fleet_id })
        .into();
    let any = AmongDevices::default();
    let (first, is_more) = read.tagged_devices_page(red, &any, None, 2).await.unwrap();
    let (rest, is_still_more) = read.tagged_devices_page(red, &any, Some(two.id), 2).await.unwrap();
    assert_eq!(([first, rest].concat(), is_more, is_still_more), (all.clone(), true, false));
    let here = AmongDevices { fleet_ids: Some(vec![house.fleet.id]), uuids: None };
    assert_eq!(read.tagged_devices_page(red, &here, None, 9).await.unwrap(), (all[..2].to_vec(), false));
    let none = AmongDevices { fleet_ids: Some(Vec::new()), uuids: None };
    assert_eq!(read.tagged_devices_page(red, &none, None, 9).await.unwrap(), (vec![], false));
    let named = AmongDevices { fleet_ids: None, uuids: Some(vec![there.uuid.clone(), "d-0".to_owned()]) };
    assert_eq!(read.tagged_devices_page(red, &named, None, 9).await.unwrap(), (all[2..].to_vec(), false));
}

async fn many_devices_are_tagged_and_untagged_at_once(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let (red, blue) = (house.tag("red", &[&one]).await, house.tag("blue", &[]).await);
    let pairs = [(one.id, red), (one.id, blue), (two.id, red), (two.id, red)];
    assert_eq!(house.write(async |tx| tx.tag_devices(&pairs).await).await.unwrap(), 2);
    assert_eq!(house.tag_names(&one).await, ["red", "blue"]);
    let untagged = house.write(async |tx| tx.untag_devices(red, &[one.id, two.id]).await).await.unwrap();
    assert_eq!(
        (untagged, house.tag_names(&one).await, house.tag_names(&two).await.len()),
        (2, vec!["blue".to_owned()], 0)
    );
    let cleared = house.write(async |tx| {
        tx.claim_devices(&[one.id, two.id]).await?;
        tx.clear_tags_of_devices(&[one.id, two.id]).await
    });
    assert_eq!((cleared.await.unwrap(), house.tag_names(&one).await.len()), (1, 0));
    for ids in [&[][..], &[one.id]] {
        assert_eq!(house.write(async |tx| tx.clear_tags_of_devices(ids).await).await.unwrap(), 0);
    }
}

async fn devices_are_found_by_uuid_in_their_account(db: TestDatabase) {
    let house = House::on(db).await;
    let one = house.device("one").await;
    let read = house.store().read();
    let asked = [uuid(&one), parsed("d-0000-0000".parse())];
    let found = vec![DeviceRef { id: one.id, uuid: one.uuid.clone(), fleet_id: house.fleet.id }];
    assert_eq!(read.device_refs(house.account, &asked).await.unwrap(), found);
    assert_eq!(read.device_refs(house.account + 1, &asked).await.unwrap(), []);
    assert_eq!(read.device_refs(house.account, &[]).await.unwrap(), []);
}

async fn fleets_are_found_by_what_a_user_may_do_there(db: TestDatabase) {
    let house = House::on(db).await;
    let second = house.second_fleet().await;
    let bob = house.user("bob", false).await;
    let role = async |name| house.store().read().find_role(house.account, name).await.unwrap().unwrap();
    let (viewer, operator) = (role("viewer").await, role("operator").await);
    let granted = house.write(async |tx| {
        tx.grant_role(bob.id, house.fleet.id, viewer).await?;
        tx.grant_role(bob.id, second.id, viewer).await?;
        tx.grant_role(bob.id, second.id, operator).await
    });
    granted.await.unwrap();
    let read = house.store().read();
    assert_eq!(read.fleets_with(bob.id, Permission::ModifyDevices).await.unwrap(), [second.id]);
    assert_eq!(read.fleets_with(bob.id, Permission::ManageGroups).await.unwrap(), [0_i64; 0]);
}
