//! Groups of a fleet: `/api/v2/{project_key}/groups`.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;

on_both_engines!(
    makes_renames_and_deletes_a_group,
    names_may_hold_anything_that_a_path_can_encode,
    a_group_with_devices_stays,
    devices_move_out_of_a_group_that_is_deleted,
    the_last_group_of_a_fleet_stays,
    a_device_that_names_no_group_finds_one,
    refuses_wrong_groups,
);

fn group(name: &str, devices: u64) -> Value {
    json!({ "name": name, "created_time": "2025-06-09T14:10:44Z", "device_count": devices })
}

async fn listed(app: &TestApp) -> Value {
    app.viewer().get("groups").await.ok(200)["groups"].clone()
}

async fn makes_renames_and_deletes_a_group(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let page = json!({
        "groups": [group("Test", 0), group("Production", 1)], "pagination_info": { "after": null, "total": 2 },
    });
    assert_eq!(app.viewer().get("groups").await.ok(200), page);
    assert_eq!(app.admin().post("groups", &json!({ "name": "Lab" })).await.ok(201), group("Lab", 0));
    let to_lab = json!([{ "op": "replace", "path": "group_name", "value": "Lab" }]);
    app.admin().change(device.uuid.as_str(), &to_lab).await;
    assert_eq!(app.admin().patch("groups/Lab", &json!({ "name": "Lab 7" })).await.ok(200), group("Lab 7", 1));
    assert_eq!(device.seen().await["group_name"], "Lab 7", "devices stay in it");
    app.viewer().get("groups/Lab").await.refused(404);
    assert_eq!(app.viewer().get("groups/Lab%207").await.ok(200), group("Lab 7", 1));
    app.admin().delete("groups/Test").await.done();
    assert_eq!(listed(app).await, json!([group("Production", 0), group("Lab 7", 1)]));
    let log = app.audit().await;
    let of_groups: Vec<&String> = log.iter().filter(|line| line.contains("Group ")).collect();
    assert_eq!(
        of_groups,
        [
            r#"user:admin CreateGroup group:Lab 127.0.0.1 {"after":{"name":"Lab"}}"#,
            r#"user:admin PatchGroup group:Lab 127.0.0.1 {"after":{"name":"Lab 7"},"before":{"name":"Lab"}}"#,
            r#"user:admin DeleteGroup group:Test 127.0.0.1 {"before":{"devices":0,"name":"Test"},"devices":null}"#,
        ]
    );
}

async fn names_may_hold_anything_that_a_path_can_encode(app: &TestApp) {
    for (name, encoded) in [
        ("a/b", "a%2Fb"),
        ("../..", "..%2F.."),
        ("two words", "two%20words"),
        ("a+b", "a+b"),
        ("100%", "100%25"),
        ("%2F", "%252F"),
        ("Läden \u{1f3ea}", "L%C3%A4den%20%F0%9F%8F%AA"),
        ("?#&=", "%3F%23&="),
        ("groups", "groups"),
        ("account", "account"),
    ] {
        app.admin().post("groups", &json!({ "name": name })).await.ok(201);
        let path = format!("groups/{encoded}");
        assert_eq!(app.viewer().get(&path).await.ok(200), group(name, 0));
        let renamed = format!("{name}/{name}");
        assert_eq!(app.admin().patch(&path, &json!({ "name": renamed })).await.ok(200), group(&renamed, 0));
        app.admin().delete(&format!("groups/{encoded}%2F{encoded}")).await.done();
    }
    assert_eq!(listed(app).await, json!([group("Test", 0), group("Production", 0)]));
}

async fn a_group_with_devices_stays(app: &TestApp) {
    SimulatedDevice::enroll(app, "device").await;
    let expected = (409, "in_use".to_owned(), "the group \"Production\" has 1 device".to_owned());
    assert_eq!(app.admin().delete("groups/Production").await.v2_error(), expected);
    assert_eq!(listed(app).await, json!([group("Test", 0), group("Production", 1)]));
}

async fn devices_move_out_of_a_group_that_is_deleted(app: &TestApp) {
    let devices = [SimulatedDevice::enroll(app, "one").await, SimulatedDevice::enroll(app, "two").await];
    for (query, expected) in [
        ("move_to=Nowhere", "move_to: no other group of the fleet is called \"Nowhere\""),
        ("move_to=Production", "move_to: no other group of the fleet is called \"Production\""),
        ("move_to=", "move_to: \"\" is empty"),
    ] {
        assert_eq!(app.admin().delete(&format!("groups/Production?{query}")).await.refused(400), expected);
    }
    app.admin().delete("groups/Production?move_to=Test").await.done();
    assert_eq!(listed(app).await, json!([group("Test", 2)]));
    for device in &devices {
        assert_eq!(device.seen().await["group_name"], "Test");
    }
    let expected = r#"user:admin DeleteGroup group:Production 127.0.0.1 {"before":{"devices":2,"name":"Production"},"devices":{"moved":2,"to_group":"Test"}}"#;
    assert!(app.audit().await.contains(&expected.to_owned()));
}

async fn the_last_group_of_a_fleet_stays(app: &TestApp) {
    app.admin().delete("groups/Test").await.done();
    let expected = (409, "in_use".to_owned(), "the last group of a fleet cannot be deleted".to_owned());
    assert_eq!(app.admin().delete("groups/Production").await.v2_error(), expected);
}

async fn a_device_that_names_no_group_finds_one(app: &TestApp) {
    app.admin().patch("groups/Production", &json!({ "name": "Shops" })).await.ok(200);
    SimulatedDevice::enroll(app, "device").await;
    assert_eq!(listed(app).await, json!([group("Test", 1), group("Shops", 0)]), "the oldest");
}

async fn refuses_wrong_groups(app: &TestApp) {
    for (body, status, expected) in [
        (json!({ "name": "" }), 400, "name: \"\" is empty"),
        (json!({}), 400, "name: is required"),
        (json!({ "name": "Production" }), 409, "name: group \"Production\" exists already"),
    ] {
        assert_eq!(app.admin().patch("groups/Test", &body).await.refused(status), expected);
    }
    assert_eq!(app.admin().patch("groups/Test", &json!({ "name": "Test" })).await.ok(200), group("Test", 0));
    for path in ["groups/Nowhere", "groups/%00", "groups/%20"] {
        app.viewer().get(path).await.refused(404);
        app.admin().patch(path, &json!({ "name": "x" })).await.refused(404);
        app.admin().delete(path).await.refused(404);
    }
}
