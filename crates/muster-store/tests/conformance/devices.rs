//! Devices: enrolled, found, listed, counted, moved.

use std::time::Duration;

use muster_core::filter::Rule;
use muster_core::names::DeviceName;
use muster_store::devices::{Device, DeviceAccess, DeviceFacts, NewDevice};
use muster_store::testing::{START, TestDatabase};

use crate::fixture::{House, names, parsed, uuid};

on_both_engines!(
    an_enrolled_device_is_as_it_was_said,
    a_key_enrols_once,
    devices_are_found_in_their_fleet_and_account_only,
    the_key_of_a_device_comes_with_its_heartbeat,
    pages_neither_skip_nor_repeat,
    pages_of_several_fleets_and_of_none,
    names_are_matched_exactly,
    facts_are_kept_whatever_a_device_says,
    a_moved_device_is_in_its_new_fleet_only,
);

async fn an_enrolled_device_is_as_it_was_said(db: TestDatabase) {
    let house = House::on(db).await;
    let facts = DeviceFacts {
        agent_version: "1.2.3".to_owned(),
        hostname: "host".to_owned(),
        os: "Debian".to_owned(),
        arch: "aarch64".to_owned(),
        ip_addresses: vec!["192.0.2.1".to_owned()],
        mac_addresses: vec!["02:00:00:00:00:01".to_owned(), "02:00:00:00:00:02".to_owned()],
        time_zone: "Europe/Berlin".to_owned(),
        degraded: vec!["runs is damaged".to_owned()],
    };
    let name = parsed(DeviceName::parse("Kasse 1 \u{1f4b6} \"'; --"));
    let (group_id, public_key, access) = (house.production, "key".to_owned(), DeviceAccess::Agent);
    let new = NewDevice { name, group_id, public_key, access, facts };
    let made = house.write(async |tx| tx.insert_device(&house.fleet, &new).await).await.unwrap();
    let device = house.store().read().find_device(house.fleet.id, &made).await.unwrap().unwrap();
    let expected = Device {
        id: device.id,
        uuid: made.as_str().to_owned(),
        account_id: house.account,
        fleet_id: house.fleet.id,
        fleet_name: "Demo fleet".to_owned(),
        group_name: "Production".to_owned(),
        name: new.name.as_str().to_owned(),
        description: String::new(),
        address: String::new(),
        lat: None,
        lng: None,
        is_update_trigger_set: false,
        agent_version: "1.2.3".to_owned(),
        mac_addresses: new.facts.mac_addresses.clone(),
        has_agent: true,
        capabilities: Vec::new(),
        degraded: vec!["runs is damaged".to_owned()],
        told_heartbeat: Duration::ZERO,
        registered_at: START,
        last_keepalive_at: START,
        online_until_at: START,
        device_ip: None,
        cpu_percent: None,
        ram_percent: None,
        disk_used_bytes: None,
        disk_size_bytes: None,
    };
    assert_eq!(device, expected);
    assert!(!device.is_online(START));
}

async fn a_key_enrols_once(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let again = NewDevice {
        name: parsed(DeviceName::parse("two")),
        group_id: house.production,
        public_key: "key of one".to_owned(),
        access: DeviceAccess::Agent,
        facts: DeviceFacts::default(),
    };
    assert!(house.write(async |tx| tx.insert_device(&house.fleet, &again).await).await.is_err());
    let read = house.store().read();
    assert_eq!(read.devices_count(&house.everything()).await.unwrap(), 1);
    assert_eq!(read.find_device_by_key("key of one").await.unwrap(), Some(device));
    assert_eq!(read.find_device_by_key("key of two").await.unwrap(), None);
}

async fn devices_are_found_in_their_fleet_and_account_only(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let (read, id, fleet) = (house.store().read(), uuid(&device), house.fleet.id);
    assert_eq!(read.device_id(fleet, &id).await.unwrap(), Some(device.id));
    assert_eq!(read.device_id(fleet + 1, &id).await.unwrap(), None);
    assert_eq!(read.find_device(fleet + 1, &id).await.unwrap(), None);
    let account = house.account;
    assert_eq!(read.find_device_of_account(account, &id).await.unwrap().as_ref(), Some(&device));
    assert_eq!(read.find_device_of_account(account + 1, &id).await.unwrap(), None);
    assert_eq!(read.find_device_by_id(account, device.id).await.unwrap().as_ref(), Some(&device));
    assert_eq!(read.find_device_by_id(account + 1, device.id).await.unwrap(), None);
    assert_eq!(read.find_device_by_id(account, device.id + 1).await.unwrap(), None);
}

async fn the_key_of_a_device_comes_with_its_heartbeat(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let key = house.store().read().find_device_key(&uuid(&device)).await.unwrap().unwrap();
    assert_eq!((key.id, key.fleet_id), (device.id, house.fleet.id));
    assert_eq!((key.public_key.as_str(), key.heartbeat_ms), ("key of one", 25_000));
    let unknown = parsed("d-0000-0000".parse());
    assert_eq!(house.store().read().find_device_key(&unknown).await.unwrap(), None);
}

async fn pages_neither_skip_nor_repeat(db: TestDatabase) {
    let house = House::on(db).await;
    for number in 0..7 {
        house.device(&format!("device {number}")).await;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let (page, is_more) = house.store().read().devices_page(&house.everything(), after, 3).await.unwrap();
        after = page.last().map(|device| device.id);
        assert_eq!(page.len(), if is_more { 3 } else { 1 });
        seen.extend(page.into_iter().map(|device| device.name));
        if seen.len() == 3 {
            // What comes while a caller pages is seen, and moves nothing.
            house.device("device 7").await;
        }
        if !is_more || seen.len() >= 6 {
            break;
        }
    }
    assert_eq!(seen, (0..6).map(|number| format!("device {number}")).collect::<Vec<_>>());
    let (rest, is_more) = house.store().read().devices_page(&house.everything(), after, 2).await.unwrap();
    assert_eq!((rest.len(), is_more), (2, false), "exactly full, and no more behind it");
    let last = rest.last().map(|device| device.id);
    let (none, is_more) = house.store().read().devices_page(&house.everything(), last, 2).await.unwrap();
    assert_eq!((none.len(), is_more), (0, false));
}

async fn pages_of_several_fleets_and_of_none(db: TestDatabase) {
    let house = House::on(db).await;
    let second = house.second_fleet().await;
    let group = house.store().read().group_names(second.id).await.unwrap()[0].clone();
    let group = crate::fixture::group(&group);
    let group = house.store().read().find_group(second.id, &group).await.unwrap().unwrap();
    house.device("one").await;
    house.device_in(&second, group, "two").await;
    let read = house.store().read();
    for (fleets, expected) in [
        (vec![house.fleet.id, second.id], vec!["one", "two"]),
        (vec![second.id], vec!["two"]),
        (Vec::new(), Vec::new()),
    ] {
        let matching = read.everything_in(fleets);
        let (page, _) = read.devices_page(&matching, None, 10).await.unwrap();
        let found: Vec<&str> = page.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(found, expected);
        assert_eq!(read.devices_count(&matching).await.unwrap(), expected.len() as u64);
    }
}

async fn names_are_matched_exactly(db: TestDatabase) {
    let house = House::on(db).await;
    for name in ["a%", "ab", "A%", "a%"] {
        let unique = format!("{name}{}", house.store().read().devices_count(&house.everything()).await.unwrap());
        house.device(&unique).await;
    }
    let count = async |name: &str| {
        let matching = house.everything().named(&parsed(DeviceName::parse(name)));
        house.store().read().devices_count(&matching).await.unwrap()
    };
    assert_eq!((count("a%0").await, count("a%").await, count("A%2").await), (1, 0, 1));
}

async fn facts_are_kept_whatever_a_device_says(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let facts = DeviceFacts {
        agent_version: "9\0.9".to_owned(),
        hostname: "h".repeat(100_000),
        os: "\u{0}\u{1}\u{ffff}".to_owned(),
        arch: "x86_64".to_owned(),
        ip_addresses: vec!["\0".to_owned()],
        mac_addresses: vec!["a\"b\0".to_owned()],
        time_zone: "Europe/Berlin".to_owned(),
        degraded: vec!["a\"b\0".to_owned()],
    };
    house.write(async |tx| tx.set_device_facts(device.id, &facts).await).await.unwrap();
    let device = house.reload(&device).await;
    assert_eq!((device.agent_version.as_str(), &device.mac_addresses), ("9.9", &facts.mac_addresses));
    assert_eq!(device.degraded, facts.degraded);
}

async fn a_moved_device_is_in_its_new_fleet_only(db: TestDatabase) {
    let house = House::on(db).await;
    let (device, stays) = (house.device("moves").await, house.device("stays").await);
    house.tag("label", &[&device]).await;
    let second = house.second_fleet().await;
    let group = crate::fixture::group("Test");
    let group = house.store().read().find_group(second.id, &group).await.unwrap().unwrap();
    house.write(async |tx| tx.move_device(device.id, second.id, group).await).await.unwrap();
    let moved = house.reload(&device).await;
    assert_eq!((moved.fleet_name.as_str(), moved.group_name.as_str()), ("Second fleet", "Test"));
    assert_eq!(house.store().read().find_device(house.fleet.id, &uuid(&device)).await.unwrap(), None);
    assert_eq!(crate::fixture::ids_of(house.store().read(), &house.everything()).await, [stays.id]);
    let tags = house.store().read().tags_of(&[device.id], 10).await.unwrap();
    assert_eq!(names(tags), ["label"], "tags belong to the account");
    let foreign = muster_core::filter::DeviceFilter {
        groups: Vec::new(),
        filters: vec![muster_core::filter::Filter { not: false, rule: Rule::Device(uuid(&device)) }],
    };
    let refused = house.store().read().resolve(&house.fleet, &foreign).await;
    assert!(crate::fixture::refusal(refused).starts_with("filters[0].value: no device of the fleet"));
}
