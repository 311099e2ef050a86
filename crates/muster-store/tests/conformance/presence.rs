//! Keepalives and links.

use std::time::Duration;

use muster_core::ids::RowId;
use muster_store::dispatch::Due;
use muster_store::presence::{KEEPALIVES_MAX, Keepalive};
use muster_store::testing::{TestDatabase, seed_devices};

use crate::fixture::House;

on_both_engines!(
    a_keepalive_makes_a_device_online_for_three_periods,
    an_older_keepalive_changes_nothing,
    of_two_keepalives_in_one_batch_the_newer_counts,
    an_unknown_device_is_no_error,
    a_full_batch_is_two_statements,
    epochs_increase_and_an_old_link_closes_nothing,
    a_restarted_server_holds_no_links,
    an_unknown_device_has_no_link,
);

async fn store(house: &House, keepalives: &[Keepalive]) {
    house.write(async |tx| tx.store_keepalives(keepalives).await).await.unwrap();
}

async fn a_keepalive_makes_a_device_online_for_three_periods(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    house.db.clock().advance(Duration::from_secs(10));
    let now = house.db.clock().now();
    store(&house, &[house.keepalive(&device)]).await;
    let seen = house.reload(&device).await;
    assert_eq!((seen.last_keepalive_at, seen.online_until_at), (now, now.after(Duration::from_secs(75))));
    assert_eq!(
        (seen.device_ip.as_deref(), seen.cpu_percent, seen.ram_percent),
        (Some("192.0.2.7"), Some(1.5), Some(2.5))
    );
    assert_eq!((seen.disk_used_bytes, seen.disk_size_bytes), (Some(3), Some(4)));
    assert!(seen.is_online(now.after(Duration::from_millis(74_999))));
    assert!(!seen.is_online(now.after(Duration::from_secs(75))));
}

async fn an_older_keepalive_changes_nothing(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let older = Keepalive { cpu_percent: Some(99.0), ..house.keepalive(&device) };
    house.db.clock().advance(Duration::from_millis(1));
    store(&house, &[house.keepalive(&device)]).await;
    let before = house.reload(&device).await;
    store(&house, &[older]).await;
    assert_eq!(house.reload(&device).await, before);
    let same_moment = Keepalive { cpu_percent: None, ..house.keepalive(&device) };
    store(&house, &[same_moment]).await;
    assert_eq!(house.reload(&device).await.cpu_percent, None, "the last of one moment counts");
}

async fn of_two_keepalives_in_one_batch_the_newer_counts(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let older = house.keepalive(&one);
    house.db.clock().advance(Duration::from_secs(1));
    let newer = Keepalive { cpu_percent: Some(50.0), ..house.keepalive(&one) };
    store(&house, &[newer.clone(), house.keepalive(&two), older]).await;
    assert_eq!(house.reload(&one).await.cpu_percent, Some(50.0));
    assert_eq!(house.reload(&one).await.last_keepalive_at, newer.at);
    assert_eq!(house.reload(&two).await.cpu_percent, Some(1.5));
}

async fn an_unknown_device_is_no_error(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    house.db.clock().advance(Duration::from_secs(1));
    let unknown = Keepalive { device_id: device.id + 1, ..house.keepalive(&device) };
    store(&house, std::slice::from_ref(&unknown)).await;
    store(&house, &[unknown, house.keepalive(&device)]).await;
    store(&house, &[]).await;
    assert_eq!(house.reload(&device).await.last_keepalive_at, house.db.clock().now());
}

async fn a_full_batch_is_two_statements(db: TestDatabase) {
    let house = House::on(db).await;
    let ids: Vec<RowId> = seed_devices(house.store(), &house.fleet, house.production, KEEPALIVES_MAX).await.unwrap();
    let device = house.device("one").await;
    let keepalives: Vec<_> = ids.iter().map(|id| Keepalive { device_id: *id, ..house.keepalive(&device) }).collect();
    let (recorded, statements) = house.db.connect_recording().await;
    for _ in 0..2 {
        crate::fixture::write(&recorded, async |tx| tx.store_keepalives(&keepalives).await).await.unwrap();
        assert_eq!(statements.take().len(), 2, "one that looks for the known, one that stores");
    }
    let online = house.matching(&[(false, muster_core::filter::Rule::Online(true))]).await;
    assert_eq!(house.store().read().devices_count(&online).await.unwrap(), KEEPALIVES_MAX as u64);
}

async fn epochs_increase_and_an_old_link_closes_nothing(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let deployed = house.deploy_to(&device).await;
    let (first, second) = (house.link(&device, "a").await, house.link(&device, "b").await);
    assert!(0 < first && first < second);
    assert!(house.reload(&device).await.is_online(house.db.clock().now()));
    let due = async |server: &str| house.store().read().due(server, None, 9).await.unwrap();
    let expected = Due {
        deployment_id: deployed.id,
        device_id: device.id,
        attempt: 1,
        link_epoch: second,
        is_abort_requested: false,
    };
    house.write(async |tx| tx.close_link(device.id, first).await).await.unwrap();
    assert_eq!((due("a").await, due("b").await), (Vec::new(), vec![expected]));
    house.write(async |tx| tx.close_link(device.id, second).await).await.unwrap();
    assert_eq!(due("b").await, []);
    assert!(house.link(&device, "a").await > second, "closing forgets no epoch");
}

async fn a_restarted_server_holds_no_links(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    house.deploy(&house.everything()).await;
    house.link(&one, "a").await;
    house.link(&two, "b").await;
    house.write(async |tx| tx.close_links_of("a").await).await.unwrap();
    let due = async |server: &str| house.store().read().due(server, None, 9).await.unwrap().len();
    assert_eq!((due("a").await, due("b").await), (0, 1));
}

async fn an_unknown_device_has_no_link(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let unknown = Keepalive { device_id: device.id + 1, ..house.keepalive(&device) };
    assert_eq!(house.write(async |tx| tx.open_link("a", &unknown).await).await.unwrap(), 0);
}
