//! `POST /devices/{device_uuid}/move`.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;
use crate::orders::{Order, create, standing};

on_both_engines!(moves_a_device_with_all_it_has, needs_the_permission_in_both_fleets, refuses_an_unknown_destination);

fn to(key: &str, group: &str) -> Value {
    json!({ "destination_project_key": key, "destination_group_name": group })
}

async fn moves_a_device_with_all_it_has(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let tags = json!([{ "op": "add", "path": "tags", "value": ["a"] }]);
    let mut expected = app.admin().change(device.uuid.as_str(), &tags).await;
    let answer = app.admin().post(&format!("devices/{}/move", device.uuid), &to("second", "Test")).await;
    assert_eq!(answer.ok(200), json!({ "message": "Device moved successfully" }));
    expected["project"] = json!("Second fleet");
    expected["group_name"] = json!("Test");
    let there = format!("/api/v2/second/devices/{}?enrich_info=true", device.uuid);
    assert_eq!(app.neighbour().get(&there).await.ok(200), expected);
    app.admin().get(&format!("devices/{}", device.uuid)).await.refused(404);
    assert_eq!(deployment.stands(app, &device).await, standing("Pending", "device_offline"), "it is still due");
    device.connect().await.succeed().await;
    assert_eq!(deployment.stands(app, &device).await.0, "Succeeded");
    let before = r#"{"group_name":"Production","project_key":"demo"}"#;
    let after = r#"{"group_name":"Test","project_key":"second"}"#;
    let detail = format!(r#"{{"after":{after},"before":{before}}}"#);
    let expected = format!("user:admin MoveDevice device:{} 127.0.0.1 {detail}", device.uuid);
    assert!(app.audit().await.contains(&expected));
}

async fn needs_the_permission_in_both_fleets(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let path = format!("devices/{}/move", device.uuid);
    let refusal = app.operator().post(&path, &to("second", "Test")).await.refused(403);
    assert_eq!(refusal, "this needs the permission register_and_move_devices in the fleet");
    app.neighbour().post(&path, &to("second", "Test")).await.refused(404);
    assert_eq!(device.seen().await["project"], "Demo fleet");
}

async fn refuses_an_unknown_destination(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let path = format!("devices/{}/move", device.uuid);
    let cases = [
        (to("nowhere", "Test"), "destination_project_key: no fleet is called \"nowhere\""),
        (to("foreign", "Test"), "destination_project_key: no fleet is called \"foreign\""),
        (to("", "Test"), "destination_project_key: no fleet is called \"\""),
        (to("second", "Nowhere"), "destination_group_name: no group of the fleet is called \"Nowhere\""),
        (to("second", ""), "destination_group_name: \"\" is empty"),
        (json!({ "destination_project_key": "second" }), "destination_group_name: is required"),
        (json!({ "destination_group_name": "Test" }), "destination_project_key: is required"),
    ];
    for (body, expected) in cases {
        assert_eq!(app.admin().post(&path, &body).await.refused(400), expected);
    }
    app.admin().post("devices/d-0000-0000/move", &to("second", "Test")).await.refused(404);
    assert_eq!(device.seen().await["project"], "Demo fleet");
    app.admin().post(&path, &to("demo", "Test")).await.ok(200);
    assert_eq!(device.seen().await["group_name"], "Test", "a move within the fleet is a change of group");
}
