//! Apps and their versions on devices.

use muster_core::filter::Rule;
use muster_store::testing::TestDatabase;

use crate::fixture::{House, app, version};

on_both_engines!(
    apps_are_found_by_name,
    a_device_has_one_version_of_an_app,
    apps_are_removed_from_one_device,
    remove_app_matching_takes_exactly_what_matches,
);

async fn apps_are_found_by_name(db: TestDatabase) {
    let house = House::on(db).await;
    let id = house.app("web").await;
    let read = house.store().read();
    assert_eq!(read.find_app(house.account, &app("web")).await.unwrap(), Some(id));
    assert_eq!(read.find_app(house.account, &app("Web")).await.unwrap(), None);
    assert_eq!(read.find_app(house.account + 1, &app("web")).await.unwrap(), None);
    assert!(house.write(async |tx| tx.insert_app(house.account, &app("web")).await).await.is_err());
}

async fn a_device_has_one_version_of_an_app(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let (web, db_app) = (house.app("web").await, house.app("db").await);
    for number in ["1", "2", "2"] {
        house.set_app(&one, web, number).await;
    }
    house.set_app(&one, db_app, "7").await;
    house.set_app(&two, web, "1").await;
    let read = house.store().read();
    let found = read.apps_of(&[two.id, one.id]).await.unwrap();
    let expected = [(one.id, "web", "2"), (one.id, "db", "7"), (two.id, "web", "1")];
    let expected: Vec<_> = expected.iter().map(|(id, name, v)| (*id, (*name).to_owned(), (*v).to_owned())).collect();
    assert_eq!(found, expected);
    assert_eq!(read.apps_of(&[]).await.unwrap(), []);
}

async fn apps_are_removed_from_one_device(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let (web, db_app) = (house.app("web").await, house.app("db").await);
    for device in [&one, &two] {
        house.set_app(device, web, "1").await;
        house.set_app(device, db_app, "1").await;
    }
    house.write(async |tx| tx.remove_device_app(one.id, web).await).await.unwrap();
    house.write(async |tx| tx.clear_device_apps(two.id).await).await.unwrap();
    let left = house.store().read().apps_of(&[one.id, two.id]).await.unwrap();
    assert_eq!(left, [(one.id, "db".to_owned(), "1".to_owned())]);
}

async fn remove_app_matching_takes_exactly_what_matches(db: TestDatabase) {
    let house = House::on(db).await;
    let (one, two) = (house.device("one").await, house.device("two").await);
    let (web, other) = (house.app("web").await, house.app("other").await);
    house.set_app(&one, web, "1").await;
    house.set_app(&two, web, "2").await;
    house.set_app(&two, other, "2").await;
    let rule = Rule::App { name: app("web"), version: Some(version("2")) };
    let matching = house.matching(&[(false, rule)]).await;
    let removed = house.write(async |tx| tx.remove_app_matching(web, &matching).await).await.unwrap();
    assert_eq!(removed, 1);
    let left = house.store().read().apps_of(&[one.id, two.id]).await.unwrap();
    let left: Vec<_> = left.iter().map(|(id, name, _)| (*id, name.as_str())).collect();
    assert_eq!(left, [(one.id, "web"), (two.id, "other")]);
    assert_eq!(house.store().read().find_app(house.account, &app("web")).await.unwrap(), Some(web));
}
