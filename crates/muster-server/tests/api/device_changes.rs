//! `PATCH /devices/{device_uuid}`.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::answer;
use crate::device::SimulatedDevice;

on_both_engines!(
    changes_every_documented_field,
    understands_every_spelling,
    tags_are_added_removed_and_replaced,
    apps_are_set_removed_and_replaced,
    all_or_nothing,
    is_told_in_the_audit_log,
);

async fn changes_every_documented_field(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "old").await;
    let mut expected = device.seen().await;
    let changes = [
        ("device_name", json!("new name"), None),
        ("description", json!("two\nlines"), Some(json!(""))),
        ("address", json!("A street"), Some(json!(""))),
        ("lat", json!(52.5), Some(json!(null))),
        ("lng", json!(-13.25), Some(json!(null))),
        ("group_name", json!("Test"), None),
        ("is_update_trigger_set", json!(true), Some(json!(false))),
    ];
    for op in ["add", "replace"] {
        for (path, value, _) in &changes {
            let operation = json!([{ "op": op, "path": path, "value": value }]);
            expected[*path] = value.clone();
            assert_eq!(app.operator().change(device.uuid.as_str(), &operation).await, expected, "{op} {path}");
        }
    }
    for (path, _, cleared) in changes {
        let operation = json!({ "operations": [{ "op": "remove", "path": path }] });
        let answer = app.operator().patch(&format!("devices/{}", device.uuid), &operation).await;
        match cleared {
            Some(cleared) => {
                expected[path] = cleared;
                assert_eq!(answer.ok(200), expected, "{path}");
            }
            None => assert!(answer.refused(400).contains("a device always has one"), "{path}"),
        }
    }
    assert_eq!(device.seen().await, expected);
}

async fn understands_every_spelling(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let path = format!("devices/{}", device.uuid);
    let list = |tag: &str, path: &str| json!([{ "op": "add", "path": path, "value": [tag] }]);
    let bodies = [
        (json!({ "operations": list("a", "tags") }), Some("application/json")),
        (json!({ "operations": list("b", "/tags") }), Some("application/json-patch+json")),
        (list("c", "/tags"), Some("application/json-patch+json; charset=utf-8")),
        (list("d", "tags"), Some("text/plain")),
        (json!([{ "op": "add", "path": "/tags", "value": "e" }]), None),
    ];
    for (body, content_type) in bodies {
        let mut request = app.operator().request(Method::PATCH, &path).body(body.to_string());
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        answer(request).await.ok(200);
    }
    assert_eq!(device.seen().await["tags"], json!(["a", "b", "c", "d", "e"]));
}

async fn tags_are_added_removed_and_replaced(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let tags = async |operations: Value| app.operator().change(device.uuid.as_str(), &operations).await["tags"].clone();
    let op = |op: &str, value: Value| json!([{ "op": op, "path": "tags", "value": value }]);
    assert_eq!(tags(op("add", json!(["a", "with space", "a"]))).await, json!(["a", "with space"]));
    assert_eq!(tags(op("add", json!(["b", "a"]))).await, json!(["a", "with space", "b"]));
    assert_eq!(tags(op("remove", json!(["a", "b"]))).await, json!(["with space"]));
    assert_eq!(tags(op("remove", json!(["b"]))).await, json!(["with space"]), "it does not bear it");
    assert_eq!(tags(op("replace", json!(["b", "c"]))).await, json!(["b", "c"]));
    assert_eq!(tags(json!([{ "op": "remove", "path": "tags" }])).await, json!([]));
    let several = json!([
        { "op": "add", "path": "tags", "value": ["x", "y"] },
        { "op": "remove", "path": "tags", "value": ["x"] },
        { "op": "replace", "path": "description", "value": "both" },
    ]);
    assert_eq!(tags(several).await, json!(["y"]));
}

async fn apps_are_set_removed_and_replaced(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let apps = async |operations: Value| app.operator().change(device.uuid.as_str(), &operations).await["apps"].clone();
    let firmware = |version: &str| json!({ "app_name": "firmware", "version": version });
    let default = json!({ "app_name": "default_app", "version": "7" });
    let op = |op: &str, value: Value| json!([{ "op": op, "path": "apps", "value": value }]);
    assert_eq!(apps(op("add", json!([firmware("1")]))).await, json!([firmware("1")]));
    assert_eq!(apps(op("add", json!([firmware("2"), default]))).await, json!([firmware("2"), default]));
    assert_eq!(apps(op("remove", json!(["firmware"]))).await, json!([default]));
    assert_eq!(apps(op("replace", json!([firmware("3")]))).await, json!([firmware("3")]));
    assert_eq!(apps(op("remove", json!([{ "app_name": "firmware" }]))).await, json!([]));
    assert_eq!(apps(op("replace", json!([]))).await, json!([]));
}

async fn all_or_nothing(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let before = device.seen().await;
    let first = json!({ "op": "add", "path": "tags", "value": ["half"] });
    let cases = [
        (json!({ "op": "test", "path": "tags" }), "op: \"test\" is none of \"add\", \"replace\", \"remove\""),
        (json!({ "op": "move", "path": "tags", "from": "x" }), "from: unknown field"),
        (json!({ "op": "add", "path": "device_uuid", "value": "x" }), "path: \"device_uuid\" is none of device_name"),
        (json!({ "op": "add", "path": "//tags", "value": ["x"] }), "path: \"/tags\" is none of"),
        (json!({ "op": "add", "path": "tags" }), "value: is required"),
        (json!({ "op": "add", "path": "tags", "value": 1 }), "value: expected a list of tags, not "),
        (json!({ "op": "add", "path": "tags", "value": [1] }), "value[0]: expected a string, not "),
        (json!({ "op": "add", "path": "tags", "value": [""] }), "value[0]: \"\" is empty"),
        (json!({ "op": "add", "path": "lat", "value": 91 }), "value: expected a number from -90 to 90, not "),
        (json!({ "op": "add", "path": "is_update_trigger_set", "value": "true" }), "value: expected true or false"),
        (json!({ "op": "add", "path": "apps", "value": [{ "app_name": "firmware" }] }), "value[0]: "),
        (json!({ "path": "tags" }), "op: is required"),
        (json!({ "op": "replace", "path": "device_name", "value": "a\u{7}" }), "value: \"a\\u{7}\" holds the control"),
    ];
    let path = format!("devices/{}", device.uuid);
    for (wrong, expected) in cases {
        let refusal = app.operator().patch(&path, &json!({ "operations": [first, wrong] })).await.refused(400);
        assert!(refusal.starts_with(&format!("operations[1].{expected}")), "{wrong}: {refusal}");
    }
    let of_the_store = [
        (
            json!({ "op": "replace", "path": "group_name", "value": "Nowhere" }),
            "operations[1].value: no group of the fleet",
        ),
        (
            json!({ "op": "remove", "path": "tags", "value": ["unknown"] }),
            "operations[1].value[0]: no tag is called \"unknown\"",
        ),
        (
            json!({ "op": "add", "path": "apps", "value": [{ "app_name": "x", "version": "1" }] }),
            "operations[1].value[0].app_name: no app is called \"x\"",
        ),
    ];
    for (wrong, expected) in of_the_store {
        let refusal = app.operator().patch(&path, &json!([first, wrong])).await.refused(400);
        assert!(refusal.starts_with(expected), "{wrong}: {refusal}");
    }
    for (body, expected) in [
        (json!({ "operations": [] }), "operations: is empty"),
        (json!({}), "operations: is required"),
        (json!({ "operations": [], "x": 1 }), "x: unknown field `x`"),
        (json!("tags"), "invalid type: string \"tags\", expected an object with operations"),
    ] {
        let refusal = app.operator().patch(&path, &body).await.refused(400);
        assert!(refusal.starts_with(expected), "{body}: {refusal}");
    }
    assert_eq!(device.seen().await, before);
}

async fn is_told_in_the_audit_log(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let operations = json!([
        { "op": "add", "path": "tags", "value": ["a"] },
        { "op": "remove", "path": "lat" },
        { "op": "add", "path": "apps", "value": [{ "app_name": "firmware", "version": "1" }] },
    ]);
    app.operator().change(device.uuid.as_str(), &operations).await;
    let before = r#"{"apps":[],"lat":null,"tags":[]}"#;
    let after = r#"{"apps":[{"app_name":"firmware","version":"1"}],"lat":null,"tags":["a"]}"#;
    let detail = format!(r#"{{"after":{after},"before":{before}}}"#);
    let expected = format!("user:operator PatchDevice device:{} 127.0.0.1 {detail}", device.uuid);
    assert_eq!(app.audit().await[1], expected);
}
