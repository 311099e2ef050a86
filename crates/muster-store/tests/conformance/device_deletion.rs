//! Devices that are deleted, and what stays of them.

use muster_core::filter::Rule;
use muster_core::target::TargetStatus;
use muster_core::token::{Secret, TokenKind};
use muster_store::ConnectionTrait;
use muster_store::device_deletion::DeletedDevice;
use muster_store::devices::Device;
use muster_store::testing::{START, TestDatabase, seed_devices, seed_tag};
use muster_store::tokens::NewToken;
use sea_orm::Statement;

use crate::fixture::{House, group, step, tag, uuid};

on_both_engines!(
    takes_exactly_what_matches_with_all_that_hangs_on_it,
    no_open_target_stays,
    leaves_enough_to_tell_a_device_so,
    deleting_any_number_is_a_fixed_number_of_statements,
    forgetting_is_for_ever,
    knows_whose_links_must_end,
    a_link_of_a_device_that_is_gone_is_none,
);

async fn rows_of(house: &House, device: &Device) -> Vec<(&'static str, i64)> {
    let read = house.store().read();
    let mut rows = Vec::new();
    for table in ["device_presence", "device_tags", "device_apps", "tokens", "targets", "steps"] {
        let sql = format!(r#"SELECT COUNT(*) AS "count" FROM "{table}" WHERE "device_id" = {}"#, device.id);
        let row = read.query_one_raw(Statement::from_string(read.get_database_backend(), sql)).await.unwrap().unwrap();
        rows.push((table, row.try_get("", "count").unwrap()));
    }
    rows
}

async fn token(house: &House, device: &Device) -> Secret {
    let new = NewToken { device_id: Some(device.id), ..NewToken::of(TokenKind::Device, house.account, "of a device") };
    house.write(async |tx| tx.insert_token(&new).await).await.unwrap()
}

async fn takes_exactly_what_matches_with_all_that_hangs_on_it(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let second = house.second_fleet().await;
    let test = house.store().read().find_group(second.id, &group("Test")).await.unwrap().unwrap();
    let foreign = house.device_in(&second, test, "foreign").await;
    house.tag("label", &[&one, &two, &foreign]).await;
    let web = house.app("web").await;
    for device in [&one, &two] {
        house.set_app(device, web, "1").await;
        token(&house, device).await;
    }
    let deployed = house.deploy(&house.everything()).await;
    for device in [&one, &two] {
        house.link(device, "a").await;
    }
    house.dispatch("a").await;
    for device in [&one, &two] {
        house.report(&deployed, device, 1, muster_core::target::RunEvent::Accepted).await.unwrap();
        house.report(&deployed, device, 2, step(0)).await.unwrap();
    }
    let kept = rows_of(&house, &two).await;
    assert!(kept.iter().all(|(_, count)| *count == 1), "{kept:?}");
    let matching = house.matching(&[(false, Rule::Device(uuid(&one))), (false, Rule::Tag(tag("label")))]).await;
    assert_eq!(house.write(async |tx| tx.delete_matching(&matching).await).await.unwrap(), 1);
    assert!(rows_of(&house, &one).await.iter().all(|(_, count)| *count == 0));
    assert_eq!(rows_of(&house, &two).await, kept);
    let deleted = house.write(async |tx| tx.delete_matching(&house.everything()).await).await.unwrap();
    assert_eq!(deleted, 1, "the other fleet is not touched");
    assert_eq!(house.tag_names(&foreign).await, ["label"]);
    assert_eq!(house.write(async |tx| tx.delete_matching(&house.everything()).await).await.unwrap(), 0);
}

async fn no_open_target_stays(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let deployed = house.deploy(&house.everything()).await;
    let only = house.everything().only(one.id);
    house.write(async |tx| tx.delete_matching(&only).await).await.unwrap();
    let read = house.store().read();
    assert_eq!(read.targets_count(deployed.id, None).await.unwrap(), 1);
    assert_eq!(read.find_target(deployed.id, &one.uuid).await.unwrap(), None);
    assert_eq!(house.status(&deployed, &two).await, TargetStatus::Pending);
    house.db.clock().advance(crate::fixture::PENDING_DEADLINE);
    assert_eq!(house.write(async |tx| tx.expire_targets(10).await).await.unwrap(), 1);
}

async fn leaves_enough_to_tell_a_device_so(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let old = token(&house, &device).await;
    house.write(async |tx| tx.revoke_device_tokens(device.id).await).await.unwrap();
    let new = token(&house, &device).await;
    house.write(async |tx| tx.delete_matching(&house.everything()).await).await.unwrap();
    let expected = DeletedDevice {
        id: device.id,
        uuid: device.uuid.clone(),
        account_id: house.account,
        fleet_id: house.fleet.id,
        name: "one".to_owned(),
        public_key: "key of one".to_owned(),
        identifiers: Vec::new(),
        deleted_at: START,
    };
    let read = house.store().read();
    let (by_uuid, by_key) = (
        read.find_deleted_device(&uuid(&device)).await.unwrap(),
        read.find_deleted_device_by_key(house.account, "key of one").await.unwrap(),
    );
    assert_eq!((by_uuid.as_ref(), by_key.as_ref()), (Some(&expected), Some(&expected)));
    assert_eq!(read.find_deleted_device_by_token(&new).await.unwrap(), Some(expected.clone()));
    assert_eq!(read.find_deleted_device_by_token(&old).await.unwrap(), None, "it was revoked before");
    assert_eq!(read.find_deleted_device_by_key(house.account + 1, "key of one").await.unwrap(), None);
    assert_eq!(read.find_token(TokenKind::Device, &new).await.unwrap(), None);
    assert_eq!(read.deleted_devices_page(house.fleet.id, None, 10).await.unwrap(), (vec![expected], false));
}

async fn deleting_any_number_is_a_fixed_number_of_statements(db: TestDatabase) {
    let house = House::on(db).await;
    let ids = seed_devices(house.store(), &house.fleet, house.production, 2_500).await.unwrap();
    let label = house.tag("label", &[]).await;
    seed_tag(house.store(), label, &ids).await.unwrap();
    house.deploy(&house.everything()).await;
    let matching = house.matching(&[(false, Rule::Tag(tag("label")))]).await;
    let (store, statements) = house.db.connect_recording().await;
    let deleted = crate::fixture::write(&store, async |tx| tx.delete_matching(&matching).await).await.unwrap();
    let sent = statements.take();
    assert_eq!((deleted, sent.len()), (2_500, 3), "{sent:?}");
    let read = house.store().read();
    assert_eq!(read.devices_count(&house.everything()).await.unwrap(), 0);
    assert_eq!(read.deleted_devices_count(house.fleet.id).await.unwrap(), 2_500);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let (page, is_more) = read.deleted_devices_page(house.fleet.id, after, 999).await.unwrap();
        after = page.last().map(|device| device.id);
        seen.extend(page.into_iter().map(|device| device.id));
        if !is_more {
            break;
        }
    }
    assert_eq!(seen, ids);
}

async fn forgetting_is_for_ever(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let secret = token(&house, &device).await;
    house.write(async |tx| tx.delete_matching(&house.everything()).await).await.unwrap();
    let forget = async |fleet| house.write(async |tx| tx.forget_deleted_device(fleet, &uuid(&device)).await).await;
    assert!(!forget(house.fleet.id + 1).await.unwrap());
    assert!(forget(house.fleet.id).await.unwrap());
    assert!(!forget(house.fleet.id).await.unwrap());
    let read = house.store().read();
    assert_eq!(read.find_deleted_device_by_token(&secret).await.unwrap(), None);
    assert_eq!(read.deleted_devices_count(house.fleet.id).await.unwrap(), 0);
    house.device("one").await;
}

async fn knows_whose_links_must_end(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two, three) = (house.device("one").await, house.device("two").await, house.device("three").await);
    house.link(&one, "a").await;
    house.link(&two, "b").await;
    let read = house.store().read();
    assert_eq!(read.linked_matching(&house.everything(), "a").await.unwrap(), [one.id]);
    let keepalives = [&one, &two, &three].map(|device| house.keepalive(device));
    house.write(async |tx| tx.delete_matching(&house.everything().only(two.id)).await).await.unwrap();
    let gone = house.write(async |tx| tx.store_keepalives(&keepalives).await).await.unwrap();
    assert_eq!(gone, [two.id]);
}

async fn a_link_of_a_device_that_is_gone_is_none(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    house.write(async |tx| tx.delete_matching(&house.everything()).await).await.unwrap();
    assert_eq!(house.link(&device, "a").await, 0);
}
