//! `GET /v1/get_device_state` and `GET /v1/get_devices_state`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;

on_both_engines!(
    tells_one_device_by_any_of_its_names,
    a_device_is_online_for_three_heartbeats,
    refuses_what_it_cannot_see,
    lists_devices_and_pages_by_the_last_uuid,
);

const ONE: &str = "/v1/get_device_state";
const MANY: &str = "/v1/get_devices_state";

async fn tells_one_device_by_any_of_its_names(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let id = device.row().await.id;
    let expected = json!({ "message": { "device_status": "offline", "device_id": device.uuid } });
    let names = [
        json!({ "device_token": device.token }),
        json!({ "device_id": device.uuid }),
        json!({ "device_id": id }),
        json!({ "device_id": id.to_string() }),
        json!({ "device_id": "ignored", "device_token": device.token }),
    ];
    for name in names {
        assert_eq!(app.viewer().v1_get(ONE, &name).await.ok(200), expected, "{name}");
    }
    let _link = device.connect().await;
    let answer = app.viewer().v1_get(ONE, &json!({ "device_id": device.uuid })).await.ok(200);
    assert_eq!(answer["message"]["device_status"], "online");
}

async fn a_device_is_online_for_three_heartbeats(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    device.connect().await.hang_up().await;
    let status = async || {
        let answer = app.viewer().v1_get(ONE, &json!({ "device_id": device.uuid })).await.ok(200);
        answer["message"]["device_status"].clone()
    };
    app.wait(Duration::from_millis(74_999)).await;
    assert_eq!(status().await, "online");
    app.wait(Duration::from_millis(1)).await;
    assert_eq!(status().await, "offline");
}

async fn refuses_what_it_cannot_see(app: &TestApp) {
    let hidden = SimulatedDevice::enroll_with(app, &app.house().second_pairing, "hidden").await;
    let foreign = SimulatedDevice::enroll_with(app, &app.house().foreign_pairing, "foreign").await;
    let unknown = |name: &str| format!("device_id: no device is called \"{name}\"");
    let cases = [
        (json!({}), "device_id: this or device_token is required".to_owned()),
        (json!({ "device_id": "x" }), unknown("x")),
        (json!({ "device_id": true }), "device_id: true is neither a device's uuid nor its number".to_owned()),
        (json!({ "device_id": 7 }), unknown("7")),
        (json!({ "device_id": "d-0000-0000" }), unknown("d-0000-0000")),
        (json!({ "device_id": hidden.uuid }), unknown(hidden.uuid.as_str())),
        (json!({ "device_id": hidden.row().await.id }), unknown(&hidden.row().await.id.to_string())),
        (json!({ "device_id": foreign.uuid }), unknown(foreign.uuid.as_str())),
        (json!({ "device_token": foreign.token }), "device_token: is not a valid device token of the account".into()),
        (json!({ "device_token": hidden.token }), "no device of that id or token was found".into()),
    ];
    for (question, expected) in cases {
        assert_eq!(app.viewer().v1_get(ONE, &question).await.v1_error(), expected, "{question}");
    }
}

async fn lists_devices_and_pages_by_the_last_uuid(app: &TestApp) {
    let viewer = app.viewer();
    assert_eq!(viewer.v1_get(MANY, &json!({})).await.ok(200), json!({ "message": [] }));
    let mut expected = Vec::new();
    for name in ["a", "b", "c"] {
        let device = SimulatedDevice::enroll(app, name).await;
        expected.push(json!({ "device_status": "offline", "device_uuid": device.uuid, "device_name": name }));
    }
    SimulatedDevice::enroll_with(app, &app.house().second_pairing, "hidden").await;
    let list = async |question: Value| viewer.v1_get(MANY, &question).await.ok(200)["message"].clone();
    assert_eq!(list(json!({})).await, json!(expected));
    let last = expected[0]["device_uuid"].clone();
    assert_eq!(list(json!({ "offset": last, "limit": 1 })).await, json!([expected[1]]));
    assert_eq!(list(json!({ "offset": last })).await, json!(expected[1..]));
    let group = json!({ "project_name": "Demo fleet", "group_name": "Test" });
    assert_eq!(list(group).await, json!([]));
    let refusal = viewer.v1_get(MANY, &json!({ "limit": 51 })).await.v1_error();
    assert_eq!(refusal, "limit: 51 is not a number from 1 to 50");
}
