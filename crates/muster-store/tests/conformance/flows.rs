//! Update flows and their documents.

use muster_core::flow::yaml;
use muster_core::ids::FlowUuid;
use muster_store::testing::TestDatabase;

use crate::fixture::{FLOW, House, parsed};

on_both_engines!(
    a_document_comes_back_byte_for_byte,
    the_flows_of_a_document_share_it,
    flows_are_found_in_their_fleet_only,
    pages_are_oldest_first,
);

async fn insert(house: &House, document: &str) -> Vec<FlowUuid> {
    let flows = parsed(yaml::parse(document));
    house.write(async |tx| tx.insert_flows(house.fleet.id, document, &flows).await).await.unwrap()
}

async fn a_document_comes_back_byte_for_byte(db: TestDatabase) {
    let house = House::on(db).await;
    let flow = parsed(yaml::parse(FLOW));
    let documents = [
        FLOW.replace('\n', "\r\n"),
        format!("\u{feff}{FLOW}# Füße \u{1f9b6} e\u{301} \u{85}\u{2028}\u{fffd}\u{10ffff}   \t"),
        format!("{FLOW}# '; DROP TABLE \"flows\"; -- $1 ? :x \\ \\0 %s \u{1}\u{7f}"),
        format!("\n\n{FLOW}\n\n\n"),
        format!("{FLOW}# {}", "x".repeat(900_000)),
    ];
    for document in documents {
        let made = house.write(async |tx| tx.insert_flows(house.fleet.id, &document, &flow).await).await.unwrap();
        let stored = house.store().read().flow_yaml(house.fleet.id, &made[0]).await.unwrap().unwrap();
        assert!(stored == document, "{:?}…", &document[..60.min(document.floor_char_boundary(60))]);
    }
}

async fn the_flows_of_a_document_share_it(db: TestDatabase) {
    let house = House::on(db).await;
    let document = "flows:\n  Zwei:\n    steps: [{name: a, run: b}]\n  Eins:\n    steps: [{name: c, run: \"${{ inputs.x }}\"}]\non:\n  workflow-dispatch:\n    inputs:\n      x: {}\n";
    let made = insert(&house, document).await;
    assert_eq!(made.len(), 2);
    for (uuid, flow) in made.iter().zip(parsed(yaml::parse(document))) {
        let read = house.store().read();
        assert_eq!(read.flow_yaml(house.fleet.id, uuid).await.unwrap().unwrap(), document);
        let stored = read.find_flow(house.fleet.id, uuid).await.unwrap().unwrap();
        assert_eq!((stored.uuid.as_str(), &stored.flow), (uuid.as_str(), &flow));
        assert_eq!(stored.created_at, house.db.clock().now());
    }
}

async fn flows_are_found_in_their_fleet_only(db: TestDatabase) {
    let house = House::on(db).await;
    let made = insert(&house, FLOW).await;
    let (read, foreign) = (house.store().read(), house.fleet.id + 1);
    assert!(read.find_flow(foreign, &made[0]).await.unwrap().is_none());
    assert!(read.flow_yaml(foreign, &made[0]).await.unwrap().is_none());
    let unknown = parsed("f-0000-0000".parse());
    assert!(read.flow_yaml(house.fleet.id, &unknown).await.unwrap().is_none());
}

async fn pages_are_oldest_first(db: TestDatabase) {
    let house = House::on(db).await;
    for _ in 0..4 {
        insert(&house, FLOW).await;
    }
    let read = house.store().read();
    let (first, is_more) = read.flows_page(house.fleet.id, None, 3).await.unwrap();
    assert!(is_more && first.len() == 3);
    let (second, is_more) = read.flows_page(house.fleet.id, Some(first[2].id), 3).await.unwrap();
    assert!(!is_more && second.len() == 2, "the house's own flow and four more");
    let ids: Vec<_> = first.iter().chain(&second).map(|flow| flow.id).collect();
    assert!(ids.is_sorted() && ids[0] == house.flow_id);
    assert_eq!(read.flows_count(house.fleet.id).await.unwrap(), 5);
    assert_eq!(read.flows_count(house.fleet.id + 1).await.unwrap(), 0);
    assert_eq!(read.flows_page(house.fleet.id + 1, None, 3).await.unwrap(), (Vec::new(), false));
}
