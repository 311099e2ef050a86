//! Fleets and groups.

use std::time::Duration;

use muster_core::limits::HEARTBEAT_DEFAULT;
use muster_core::names::FleetName;
use muster_store::fleets::FleetChange;
use muster_store::testing::TestDatabase;

use crate::fixture::{House, group, key, parsed};

on_both_engines!(
    a_new_fleet_has_its_first_groups,
    fleets_are_found_in_their_account_only,
    users_see_the_fleets_of_their_roles,
    heartbeats_are_set,
    groups_are_made_and_found,
    keys_and_names_are_unique_in_the_account,
);

async fn a_new_fleet_has_its_first_groups(db: TestDatabase) {
    let house = House::on(db).await;
    assert_eq!(house.fleet.heartbeat, HEARTBEAT_DEFAULT);
    assert_eq!(house.store().read().group_names(house.fleet.id).await.unwrap(), ["Test", "Production"]);
}

async fn fleets_are_found_in_their_account_only(db: TestDatabase) {
    let house = House::on(db).await;
    let (read, fleet) = (house.store().read(), &house.fleet);
    let name = parsed(FleetName::parse("Demo fleet"));
    assert_eq!(read.find_fleet_by_key(house.account, &key("demo")).await.unwrap().as_ref(), Some(fleet));
    assert_eq!(read.find_fleet_by_name(house.account, &name).await.unwrap().as_ref(), Some(fleet));
    assert_eq!(read.find_fleet(house.account, fleet.id).await.unwrap().as_ref(), Some(fleet));
    let foreign = house.account + 1;
    assert_eq!(read.find_fleet_by_key(foreign, &key("demo")).await.unwrap(), None);
    assert_eq!(read.find_fleet_by_name(foreign, &name).await.unwrap(), None);
    assert_eq!(read.find_fleet(foreign, fleet.id).await.unwrap(), None);
    assert_eq!(read.find_fleet_by_key(house.account, &key("demo2")).await.unwrap(), None);
}

async fn users_see_the_fleets_of_their_roles(db: TestDatabase) {
    let house = House::on(db).await;
    let second = house.second_fleet().await;
    let (admin, bob) = (house.user("ada", true).await, house.user("bob", false).await);
    let visible = async |user| house.store().read().visible_fleets(user).await.unwrap();
    assert_eq!(visible(&admin).await, [house.fleet.clone(), second.clone()]);
    assert_eq!(visible(&bob).await, []);

    let viewer = house.store().read().find_role(house.account, "viewer").await.unwrap().unwrap();
    house.write(async |tx| tx.grant_role(bob.id, second.id, viewer).await).await.unwrap();
    assert_eq!(visible(&bob).await, [second]);
}

async fn heartbeats_are_set(db: TestDatabase) {
    let house = House::on(db).await;
    let (second, heartbeat) = (house.second_fleet().await, Duration::from_millis(7_500));
    let change = FleetChange { heartbeat: Some(heartbeat), ..FleetChange::default() };
    house.write(async |tx| tx.change_fleet(second.id, &change).await).await.unwrap();
    let heartbeat_of = async |id| house.store().read().find_fleet(house.account, id).await.unwrap().unwrap().heartbeat;
    assert_eq!(heartbeat_of(second.id).await, heartbeat);
    assert_eq!(heartbeat_of(house.fleet.id).await, HEARTBEAT_DEFAULT, "the other fleet keeps its own");
}

async fn groups_are_made_and_found(db: TestDatabase) {
    let house = House::on(db).await;
    let name = group("Läden \u{1f3ea} 'A'");
    let id = house.write(async |tx| tx.insert_group(house.fleet.id, &name).await).await.unwrap();
    let read = house.store().read();
    assert_eq!(read.find_group(house.fleet.id, &name).await.unwrap(), Some(id));
    assert_eq!(read.find_group(house.fleet.id, &group("production")).await.unwrap(), None, "case counts");
    assert_eq!(read.find_group(house.fleet.id + 1, &name).await.unwrap(), None);
    assert_eq!(read.group_names(house.fleet.id).await.unwrap(), ["Test", "Production", name.as_str()]);
    assert!(house.write(async |tx| tx.insert_group(house.fleet.id, &name).await).await.is_err());
}

async fn keys_and_names_are_unique_in_the_account(db: TestDatabase) {
    let house = House::on(db).await;
    for (taken_key, name) in [("demo", "Other"), ("other", "Demo fleet")] {
        let name = parsed(FleetName::parse(name));
        let insert = house.write(async |tx| tx.insert_fleet(house.account, &key(taken_key), &name).await);
        assert!(insert.await.is_err(), "{taken_key} {name}");
    }
}
