//! The data monitor: names of a fleet, and the newest values of each device.

use muster_core::ids::RowId;
use muster_core::limits::MONITOR_RECORDS_MAX;
use muster_core::monitor::MonitorValue;
use muster_core::names::ParameterName;
use muster_store::devices::Device;
use muster_store::monitor::AppRecord;
use muster_store::testing::{START, TestDatabase};
use serde_json::{Value, json};

use crate::fixture::{House, parsed, write};

on_both_engines!(
    names_belong_to_their_fleet,
    names_are_paged_oldest_first,
    values_are_kept_with_their_type,
    the_newest_of_each_name_are_kept,
    a_deleted_name_takes_its_values,
    a_deleted_device_takes_its_values,
    values_are_stored_in_two_statements,
);

fn value(value: Value) -> MonitorValue {
    parsed(MonitorValue::parse(value))
}

async fn parameter(house: &House, fleet_id: RowId, name: &str) -> RowId {
    let name = &parsed(ParameterName::parse(name));
    house.write(async |tx| tx.insert_app_parameter(fleet_id, name).await).await.unwrap().id
}

async fn send(house: &House, device: &Device, values: &[(RowId, MonitorValue)]) {
    let values: Vec<(RowId, &MonitorValue)> = values.iter().map(|(id, value)| (*id, value)).collect();
    house.write(async |tx| tx.insert_app_records(device.id, &values).await).await.unwrap();
}

async fn values(house: &House, device: &Device) -> Vec<(String, Value)> {
    let records = house.store().read().app_records(device.id, 1_000).await.unwrap();
    records.into_iter().map(|record| (record.name, record.value)).collect()
}

async fn names_belong_to_their_fleet(db: TestDatabase) {
    let house = House::on(db).await;
    let second = house.second_fleet().await;
    let (own, _) = (parameter(&house, house.fleet.id, "Heat").await, parameter(&house, house.fleet.id, "heat").await);
    let foreign = parameter(&house, second.id, "Heat").await;
    let name = &parsed(ParameterName::parse("Heat"));
    assert!(house.write(async |tx| tx.insert_app_parameter(second.id, name).await).await.is_err(), "the name is taken");
    let read = house.store().read();
    for (fleet_id, id) in [(house.fleet.id, own), (second.id, foreign)] {
        let found = read.find_app_parameters(fleet_id, &["Heat", "nothing"]).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|found| (found.id, found.name, found.created_at)).collect();
        assert_eq!(found, [(id, "Heat".to_owned(), START)]);
    }
    assert_eq!(read.find_app_parameters(house.fleet.id, &[]).await.unwrap(), []);
    assert_eq!(read.app_parameters_count(house.fleet.id).await.unwrap(), 2);
    assert_eq!(read.app_parameters_count(second.id).await.unwrap(), 1);
}

async fn names_are_paged_oldest_first(db: TestDatabase) {
    let house = House::on(db).await;
    let ids = [
        parameter(&house, house.fleet.id, "c").await,
        parameter(&house, house.fleet.id, "a").await,
        parameter(&house, house.fleet.id, "b").await,
    ];
    let page = async |after, limit| {
        let (page, is_more) = house.store().read().app_parameters_page(house.fleet.id, after, limit).await.unwrap();
        (page.into_iter().map(|found| found.id).collect::<Vec<_>>(), is_more)
    };
    assert_eq!(page(None, 2).await, (ids[..2].to_vec(), true));
    assert_eq!(page(Some(ids[1]), 2).await, (ids[2..].to_vec(), false));
    assert_eq!(page(None, 3).await, (ids.to_vec(), false), "exactly full, and no more behind it");
}

async fn values_are_kept_with_their_type(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let (a, b) = (parameter(&house, house.fleet.id, "a").await, parameter(&house, house.fleet.id, "b").await);
    let sent =
        [json!(1), json!(1.0), json!("1"), json!(true), json!(-1e300), json!("\u{0}\u{1f4b6} '\";--"), json!("")];
    for sent in &sent {
        send(&house, &device, &[(a, value(sent.clone()))]).await;
    }
    send(&house, &device, &[(a, value(json!("first"))), (b, value(json!("last")))]).await;
    let mut expected: Vec<(String, Value)> = sent.into_iter().map(|value| ("a".to_owned(), value)).collect();
    expected.extend([("a".to_owned(), json!("first")), ("b".to_owned(), json!("last"))]);
    expected.reverse();
    assert_eq!(values(&house, &device).await, expected);
    let newest = house.store().read().app_records(device.id, 1).await.unwrap();
    assert_eq!(newest, [AppRecord { name: "b".to_owned(), value: json!("last"), at: START }]);
}

async fn the_newest_of_each_name_are_kept(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let (often, seldom) =
        (parameter(&house, house.fleet.id, "often").await, parameter(&house, house.fleet.id, "seldom").await);
    for device in [&one, &two] {
        send(&house, device, &[(seldom, value(json!("stays"))), (often, value(json!("old")))]).await;
    }
    let many: Vec<_> = (0..MONITOR_RECORDS_MAX).map(|number| (often, value(json!(number)))).collect();
    send(&house, &one, &many).await;
    send(&house, &one, &[(often, value(json!("new")))]).await;
    let kept = values(&house, &one).await;
    assert_eq!(kept.len() as u64, MONITOR_RECORDS_MAX + 1);
    assert_eq!(kept[0], ("often".to_owned(), json!("new")));
    assert_eq!(kept[kept.len() - 2], ("often".to_owned(), json!(1)), "the oldest that is kept");
    assert_eq!(kept[kept.len() - 1], ("seldom".to_owned(), json!("stays")));
    assert_eq!(values(&house, &two).await.len(), 2, "the other device loses nothing");
}

async fn a_deleted_name_takes_its_values(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let (a, b) = (parameter(&house, house.fleet.id, "a").await, parameter(&house, house.fleet.id, "b").await);
    send(&house, &device, &[(a, value(json!(1))), (b, value(json!(2)))]).await;
    house.write(async |tx| tx.delete_app_parameter(a).await).await.unwrap();
    assert_eq!(values(&house, &device).await, [("b".to_owned(), json!(2))]);
    assert_eq!(house.store().read().app_parameters_count(house.fleet.id).await.unwrap(), 1);
}

async fn a_deleted_device_takes_its_values(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let a = parameter(&house, house.fleet.id, "a").await;
    send(&house, &device, &[(a, value(json!(1)))]).await;
    let everything = house.everything();
    house.write(async |tx| tx.delete_matching(&everything).await).await.unwrap();
    assert_eq!(values(&house, &device).await, []);
    assert_eq!(house.store().read().app_parameters_count(house.fleet.id).await.unwrap(), 1);
}

async fn values_are_stored_in_two_statements(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let a = parameter(&house, house.fleet.id, "a").await;
    let (store, statements) = house.db.connect_recording().await;
    let many: Vec<MonitorValue> = (0..100).map(|number| value(json!(number))).collect();
    let many: Vec<(RowId, &MonitorValue)> = many.iter().map(|value| (a, value)).collect();
    statements.take();
    write(&store, async |tx| tx.insert_app_records(device.id, &many).await).await.unwrap();
    assert_eq!(statements.take().len(), 2);
}
