//! `GET` and `POST /v1/devices_details`.

use muster_link::Metrics;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;
use crate::orders::{Order, create};

on_both_engines!(
    prints_a_device_as_documented,
    prints_what_a_device_has_never_said,
    a_device_token_outweighs_everything_else,
    pages_by_the_last_id,
    narrows_by_project_group_and_name,
    refuses_a_wrong_question,
    changes_everything_that_is_given,
    changes_nothing_when_anything_is_wrong,
);

const PATH: &str = "/v1/devices_details";

async fn prints_a_device_as_documented(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "My-Device-1").await;
    let order = Order { comment: "Some kind of a comment", app: Some(("firmware", "v1.1")), ..Order::default() };
    let deployment = create(app, &order).await;
    let mut link = device.connect().await;
    link.succeed().await;
    let metrics = Metrics {
        cpu_percent: Some(64.6),
        ram_percent: Some(15.2),
        disk_used_bytes: Some(1_022_100_000),
        disk_size_bytes: Some(8_218_000_000),
    };
    link.keep_alive(metrics).await;
    app.flush_keepalives().await;
    let change = json!({
        "device_token": device.token, "address": "Nurenberg, Germany", "lat": "49.4521", "lng": "11.0767",
        "description": "device description example", "tag": "London",
    });
    app.operator().v1_post(PATH, &change).await.ok(200);
    let answer = app.viewer().v1_get(PATH, &json!({ "project_name": "Demo fleet" })).await;
    let row = device.row().await;
    let expected = json!({
        "device_id": row.id,
        "device_uuid": device.uuid,
        "device_name": "My-Device-1",
        "upswift_version": "0.1.0",
        "project": "Demo fleet",
        "group": "Production",
        "device_ip": "127.0.0.1",
        "last_keepalive": "2025-06-09 14:10:44",
        "cpu_usage": 65,
        "ram_usage": 15,
        "disk_usage": 1022.1,
        "address": "Nurenberg, Germany",
        "lat": 49.4521,
        "lng": 11.0767,
        "is_update_trigger_set": false,
        "description": "device description example",
        "registered_date": "2025-06-09 14:10:44",
        "tags": ["London"],
        "updates": [{
            "update_id": deployment.id(app).await,
            "update_status": "success",
            "update_version": "v1.1",
            "comment": "Some kind of a comment",
            "deployment_schedule_time": "2025-06-09 14:10:44",
        }],
        "updates_v2": [{
            "flow_name": "Update",
            "update_status": "success",
            "comment": "Some kind of a comment",
            "deployment_schedule_time": "2025-06-09 14:10:44",
            "deployment_start_time": "2025-06-09 14:10:44",
            "deployment_finish_time": "2025-06-09 14:10:44",
            "apps_updated": [{ "app_name": "firmware", "app_new_version": "v1.1" }],
            "deployment_type": "api-deployment",
        }],
        "apps": [{ "app_name": "firmware", "version": "v1.1" }],
        "mac_addresses": ["02:00:00:00:00:07"],
    });
    assert_eq!(answer.ok(200), json!({ "more": false, "message": [expected] }));
}

async fn prints_what_a_device_has_never_said(app: &TestApp) {
    let viewer = app.viewer();
    assert_eq!(viewer.v1_get(PATH, &json!({})).await.ok(200), json!({ "more": false, "message": [] }));
    let device = SimulatedDevice::enroll(app, "silent").await;
    create(app, &Order::default()).await;
    let answer = viewer.v1_get(PATH, &json!({})).await.ok(200);
    let shown = &answer["message"][0];
    let part = |keys: &[&str]| keys.iter().map(|key| shown[*key].clone()).collect::<Value>();
    assert_eq!(shown["device_uuid"], json!(device.uuid));
    assert_eq!(part(&["device_ip", "address", "description", "lat", "lng"]), json!(["", "", "", null, null]));
    assert_eq!(part(&["cpu_usage", "ram_usage", "disk_usage", "tags", "apps"]), json!([0, 0, 0.0, [], []]));
    let update = json!({
        "flow_name": "Update", "update_status": "pending", "comment": "",
        "deployment_schedule_time": "2025-06-09 14:10:44", "deployment_start_time": "",
        "deployment_finish_time": "", "apps_updated": [], "deployment_type": "api-deployment",
    });
    assert_eq!(shown["updates_v2"], json!([update]));
    assert_eq!(shown["updates"][0]["update_version"], "");
}

async fn a_device_token_outweighs_everything_else(app: &TestApp) {
    let (one, _other) = (SimulatedDevice::enroll(app, "one").await, SimulatedDevice::enroll(app, "other").await);
    let question = json!({ "device_token": one.token, "project_name": "no such project", "limit": 0, "offset": "x" });
    let answer = app.viewer().v1_get(PATH, &question).await.ok(200);
    assert_eq!(answer["more"], false);
    assert_eq!(names(&answer), ["one"]);
    let refusal = app.viewer().v1_get(PATH, &json!({ "device_token": "md_wrong" })).await.v1_error();
    assert_eq!(refusal, "device_token: is not a valid device token of the account");
}

fn names(answer: &Value) -> Vec<&str> {
    answer["message"].as_array().unwrap().iter().map(|device| device["device_name"].as_str().unwrap()).collect()
}

async fn pages_by_the_last_id(app: &TestApp) {
    let viewer = app.viewer();
    for i in 0..21 {
        SimulatedDevice::enroll(app, &format!("device-{i}")).await;
    }
    let first = viewer.v1_get(PATH, &json!({})).await.ok(200);
    assert_eq!((names(&first).len(), &first["more"]), (20, &json!(true)), "twenty by default");
    let last = first["message"][19]["device_id"].clone();
    for offset in [last.clone(), json!(last.to_string())] {
        let rest = viewer.v1_get(PATH, &json!({ "offset": offset })).await.ok(200);
        assert_eq!((names(&rest), &rest["more"]), (vec!["device-20"], &json!(false)));
    }
    let by_uuid = json!({ "offset": first["message"][0]["device_uuid"], "limit": "2" });
    let page = viewer.v1_get(PATH, &by_uuid).await.ok(200);
    assert_eq!((names(&page), &page["more"]), (vec!["device-1", "device-2"], &json!(true)));
    let beyond = viewer.v1_get(PATH, &json!({ "offset": i64::MAX })).await.ok(200);
    assert_eq!(beyond, json!({ "more": false, "message": [] }));
}

async fn narrows_by_project_group_and_name(app: &TestApp) {
    let (shop, lab) = (SimulatedDevice::enroll(app, "twin").await, SimulatedDevice::enroll(app, "twin").await);
    SimulatedDevice::enroll_with(app, &app.house().second_pairing, "elsewhere").await;
    let to_test = json!([{ "op": "replace", "path": "group_name", "value": "Test" }]);
    app.admin().change(lab.uuid.as_str(), &to_test).await;
    let ids = async |question: Value| -> Vec<Value> {
        let answer = app.admin().v1_get(PATH, &question).await.ok(200);
        answer["message"].as_array().unwrap().iter().map(|device| device["device_uuid"].clone()).collect()
    };
    assert_eq!(ids(json!({})).await.len(), 3, "an administrator sees every fleet of the account");
    assert_eq!(ids(json!({ "project_name": "Demo fleet" })).await, [json!(shop.uuid), json!(lab.uuid)]);
    let in_test = json!({ "project_name": "Demo fleet", "group_name": "Test" });
    assert_eq!(ids(in_test).await, [json!(lab.uuid)]);
    assert_eq!(ids(json!({ "device_name": "twin" })).await.len(), 2);
    assert_eq!(ids(json!({ "device_name": "twi" })).await.len(), 0, "the exact name only");
    let narrow = json!({ "project_name": "Demo fleet", "group_name": "Production", "device_name": "twin" });
    assert_eq!(ids(narrow).await, [json!(shop.uuid)]);
    assert_eq!(names(&app.viewer().v1_get(PATH, &json!({})).await.ok(200)), ["twin", "twin"]);
    assert_eq!(names(&app.neighbour().v1_get(PATH, &json!({})).await.ok(200)), ["elsewhere"]);
}

async fn refuses_a_wrong_question(app: &TestApp) {
    let foreign = SimulatedDevice::enroll_with(app, &app.house().second_pairing, "elsewhere").await;
    let cases = [
        (json!({ "project_name": "nowhere" }), "project_name: no project is called \"nowhere\""),
        (json!({ "project_name": "Second fleet" }), "project_name: no project is called \"Second fleet\""),
        (json!({ "project_name": "" }), "project_name: \"\" is empty"),
        (json!({ "project_name": 1 }), "project_name: invalid type: integer `1`, expected a string"),
        (json!({ "group_name": "Production" }), "group_name: works only with project_name"),
        (
            json!({ "project_name": "Demo fleet", "group_name": "x" }),
            "group_name: no group of the fleet is called \"x\"",
        ),
        (json!({ "device_name": "" }), "device_name: \"\" is empty"),
        (json!({ "limit": 0 }), "limit: 0 is not a number from 1 to 50"),
        (json!({ "limit": 51 }), "limit: 51 is not a number from 1 to 50"),
        (json!({ "limit": -1 }), "limit: -1 is not a number from 1 to 50"),
        (json!({ "limit": 1.5 }), "limit: 1.5 is not a number from 1 to 50"),
        (json!({ "limit": "ten" }), "limit: \"ten\" is not a number from 1 to 50"),
        (json!({ "limit": [] }), "limit: [] is not a number from 1 to 50"),
        (json!({ "offset": "x" }), "offset: \"x\" is no device of an earlier page"),
        (json!({ "offset": { "a": 1 } }), "offset: {\"a\":1} is no device of an earlier page"),
        (json!({ "offset": "d-0000-0000" }), "offset: \"d-0000-0000\" is no device of an earlier page"),
    ];
    for (question, expected) in cases {
        assert_eq!(app.viewer().v1_get(PATH, &question).await.v1_error(), expected);
    }
    let hidden = app.viewer().v1_get(PATH, &json!({ "offset": foreign.uuid })).await.v1_error();
    assert_eq!(hidden, format!("offset: \"{}\" is no device of an earlier page", foreign.uuid));
}

async fn changes_everything_that_is_given(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "old name").await;
    let before = device.seen().await;
    let change = json!({
        "device_token": device.token, "device_name": "new_device_name", "group": "Test", "tag": "test tag",
        "apps": [{ "app_name": "firmware", "version": "v1.1" }], "software_version": "v7", "address": "A street",
        "lat": -1.5, "lng": "100", "description": "Some kind of description for that device",
    });
    let answer = app.operator().v1_post(PATH, &change).await;
    assert_eq!(answer.ok(200), json!({ "message": "Success" }));
    let mut expected = before;
    let changed = json!({
        "device_name": "new_device_name", "group_name": "Test", "tags": ["test tag"], "address": "A street",
        "apps": [{ "app_name": "firmware", "version": "v1.1" }, { "app_name": "default_app", "version": "v7" }],
        "lat": -1.5, "lng": 100.0, "description": "Some kind of description for that device",
    });
    expected.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
    assert_eq!(device.seen().await, expected);
    app.operator().v1_post(PATH, &json!({ "device_token": device.token })).await.ok(200);
    app.operator().v1_post(PATH, &json!({ "device_token": device.token, "tag": null, "unknown": 1 })).await.ok(200);
    assert_eq!(device.seen().await, expected, "nothing given, nothing changed");
}

async fn changes_nothing_when_anything_is_wrong(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let before = device.seen().await;
    let cases = [
        (json!({ "group": "Nowhere" }), "group: no group of the fleet is called \"Nowhere\""),
        (json!({ "device_name": " " }), "device_name: \" \" is empty"),
        (json!({ "device_name": "a\u{0}b" }), "device_name: \"a\\0b\" holds the control character U+0000"),
        (json!({ "device_name": 5 }), "device_name: invalid type: integer `5`, expected a string"),
        (json!({ "lat": "1" }), "lng: is required together with lat"),
        (json!({ "lng": "1" }), "lat: is required together with lng"),
        (json!({ "lat": "91", "lng": "1" }), "lat: expected a number from -90 to 90, not "),
        (json!({ "lat": "1", "lng": "NaN" }), "lng: expected a number from -180 to 180, not "),
        (json!({ "tag": "" }), "tag: \"\" is empty"),
        (
            json!({ "apps": [{ "app_name": "nothing", "version": "1" }] }),
            "apps[0].app_name: no app is called \"nothing\"",
        ),
        (json!({ "apps": [{ "app_name": "firmware" }] }), "apps[0].version: is required"),
        (json!({ "apps": [{ "app_name": "firmware", "version": "" }] }), "apps[0].version: \"\" is empty"),
        (json!({ "apps": "firmware" }), "apps: invalid type: string \"firmware\", expected a sequence"),
        (json!({ "software_version": "" }), "software_version: \"\" is empty"),
        (json!({ "description": "a\u{0}" }), "description: \"a\\0\" holds the control character U+0000"),
    ];
    for (mut change, expected) in cases {
        change["device_token"] = json!(device.token);
        change["address"] = change.get("address").cloned().unwrap_or(json!("changed"));
        let refusal = app.operator().v1_post(PATH, &change).await.v1_error();
        assert!(refusal.starts_with(expected), "{change}: {refusal}");
    }
    assert_eq!(device.seen().await, before);
    let refusal = app.operator().v1_post(PATH, &json!({ "address": "x" })).await.v1_error();
    assert_eq!(refusal, "device_token: is required");
}
