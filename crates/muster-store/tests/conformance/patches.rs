//! Changes of one device: each kind, and errors that change nothing.

use muster_core::patch::DeviceChange as C;
use muster_store::devices::Device;
use muster_store::testing::TestDatabase;

use crate::fixture::{House, app, group, parsed, refusal, tag, text, version};

on_both_engines!(
    each_column_is_changed,
    coordinates_are_cleared,
    tags_are_added_removed_and_replaced,
    apps_are_set_removed_and_replaced,
    an_error_changes_nothing,
    changes_are_carried_out_in_order,
    another_device_is_left_alone,
);

async fn each_column_is_changed(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let changes = [
        C::Name(parsed(muster_core::names::DeviceName::parse("new 'name'"))),
        C::Description(text("two\nlines")),
        C::Address(text("Straße 1")),
        C::Lat(Some(-32.25)),
        C::Lng(Some(179.125)),
        C::Group(group("Test")),
        C::UpdateTrigger(true),
    ];
    house.change(&device, &changes).await.unwrap();
    let expected = Device {
        name: "new 'name'".to_owned(),
        description: "two\nlines".to_owned(),
        address: "Straße 1".to_owned(),
        lat: Some(-32.25),
        lng: Some(179.125),
        group_name: "Test".to_owned(),
        is_update_trigger_set: true,
        ..device.clone()
    };
    assert_eq!(house.reload(&device).await, expected);
}

async fn coordinates_are_cleared(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    house.change(&device, &[C::Lat(Some(1.0)), C::Lng(Some(2.0))]).await.unwrap();
    house.change(&device, &[C::Lat(None), C::Lng(None), C::Description(text(""))]).await.unwrap();
    assert_eq!(house.reload(&device).await, device);
}

async fn tags_are_added_removed_and_replaced(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let steps: [(C, &[&str]); 7] = [
        (C::AddTags(vec![tag("a"), tag("b=1"), tag("a")]), &["a", "b=1"]),
        (C::AddTags(vec![tag("b=1"), tag("c")]), &["a", "b=1", "c"]),
        (C::RemoveTags(vec![tag("b=1")]), &["a", "c"]),
        (C::RemoveTags(vec![tag("b=1")]), &["a", "c"]),
        (C::ReplaceTags(vec![tag("d"), tag("a")]), &["a", "d"]),
        (C::AddTags(Vec::new()), &["a", "d"]),
        (C::ReplaceTags(Vec::new()), &[]),
    ];
    for (change, expected) in steps {
        house.change(&device, std::slice::from_ref(&change)).await.unwrap();
        assert_eq!(house.tag_names(&device).await, expected, "{change:?}");
    }
    for name in ["a", "b=1", "c", "d"] {
        let kept = house.store().read().find_tag(house.account, &tag(name)).await.unwrap();
        assert!(kept.is_some(), "{name} stays in the catalogue");
    }
}

async fn apps_are_set_removed_and_replaced(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    house.app("web").await;
    house.app("db").await;
    let set = |name: &str, number: &str| (app(name), version(number));
    let steps: [(C, &[(&str, &str)]); 6] = [
        (C::SetApps(vec![set("web", "1")]), &[("web", "1")]),
        (C::SetApps(vec![set("web", "2"), set("db", "1")]), &[("web", "2"), ("db", "1")]),
        (C::ReplaceApps(vec![set("db", "3")]), &[("db", "3")]),
        (C::RemoveApps(vec![app("web")]), &[("db", "3")]),
        (C::RemoveApps(vec![app("db")]), &[]),
        (C::ReplaceApps(Vec::new()), &[]),
    ];
    for (change, expected) in steps {
        house.change(&device, std::slice::from_ref(&change)).await.unwrap();
        let apps = house.store().read().apps_of(&[device.id]).await.unwrap();
        let apps: Vec<(&str, &str)> = apps.iter().map(|(_, name, version)| (name.as_str(), version.as_str())).collect();
        assert_eq!(apps, expected, "{change:?}");
    }
}

async fn an_error_changes_nothing(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    house.tag("kept", &[&device]).await;
    let cases = [
        (C::Group(group("Nowhere")), "changes[2]: no group of the fleet is called \"Nowhere\""),
        (C::RemoveTags(vec![tag("nowhere")]), "changes[2][0]: no tag is called \"nowhere\""),
        (C::SetApps(vec![(app("nowhere"), version("1"))]), "changes[2][0].app_name: no app is called \"nowhere\""),
        (C::RemoveApps(vec![app("nowhere")]), "changes[2][0]: no app is called \"nowhere\""),
        (C::ReplaceApps(vec![(app("nowhere"), version("1"))]), "changes[2][0].app_name: no app is called \"nowhere\""),
    ];
    for (bad, expected) in cases {
        let changes = [C::Description(text("changed")), C::ReplaceTags(vec![tag("new")]), bad];
        assert_eq!(refusal(house.change(&device, &changes).await), expected);
        assert_eq!(house.reload(&device).await, device);
        assert_eq!(house.tag_names(&device).await, ["kept"]);
        assert_eq!(house.store().read().find_tag(house.account, &tag("new")).await.unwrap(), None);
    }
}

async fn changes_are_carried_out_in_order(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let changes = [C::AddTags(vec![tag("a")]), C::ReplaceTags(vec![tag("b")]), C::AddTags(vec![tag("c")])];
    house.change(&device, &changes).await.unwrap();
    assert_eq!(house.tag_names(&device).await, ["b", "c"]);
}

async fn another_device_is_left_alone(db: TestDatabase) {
    let house = House::on(db).await;
    let (device, other) = (house.device("one").await, house.device("two").await);
    let app_id = house.app("web").await;
    house.set_app(&other, app_id, "1").await;
    house.tag("label", &[&other]).await;
    let changes = [C::Description(text("x")), C::ReplaceTags(Vec::new()), C::ReplaceApps(Vec::new())];
    house.change(&device, &changes).await.unwrap();
    assert_eq!(house.reload(&other).await, other);
    assert_eq!(house.tag_names(&other).await, ["label"]);
    assert_eq!(house.store().read().apps_of(&[other.id]).await.unwrap().len(), 1);
}
