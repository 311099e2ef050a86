//! `DELETE /v1/device_apps`.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;

on_both_engines!(takes_the_app_off_every_match_and_keeps_it_in_the_catalogue, refuses_what_does_not_exist);

const PATH: &str = "/v1/device_apps";

fn body(app: &str, filters: &Value) -> Value {
    json!({
        "app_name": app,
        "devices_filter": { "project": { "name": "Demo fleet" }, "groups": [], "filters": filters },
    })
}

async fn with_firmware<'a>(app: &'a TestApp, name: &str, version: &str) -> SimulatedDevice<'a> {
    let device = SimulatedDevice::enroll(app, name).await;
    let add = json!([{ "op": "add", "path": "apps", "value": [{ "app_name": "firmware", "version": version }] }]);
    app.admin().change(device.uuid.as_str(), &add).await;
    device
}

async fn takes_the_app_off_every_match_and_keeps_it_in_the_catalogue(app: &TestApp) {
    let operator = app.operator();
    let (old, new) = (with_firmware(app, "old", "1.0").await, with_firmware(app, "new", "2.0").await);
    let is_old = json!([{ "type": "app", "operand": "is", "value": "firmware", "app_version": "1.0" }]);
    let answer = operator.v1_delete(PATH, &body("firmware", &is_old)).await;
    assert_eq!(answer.ok(200), json!({ "message": "Success" }));
    assert_eq!(old.seen().await["apps"], json!([]));
    assert_eq!(new.seen().await["apps"], json!([{ "app_name": "firmware", "version": "2.0" }]));
    for _ in 0..2 {
        operator.v1_delete(PATH, &body("firmware", &json!([]))).await.ok(200);
        assert_eq!(new.seen().await["apps"], json!([]));
    }
    let log = app.audit().await;
    let expected =
        r#"user:operator DeleteDeviceApps app:firmware 127.0.0.1 {"after":{"devices":0},"before":{"devices":0}}"#;
    assert_eq!(log.last().map(String::as_str), Some(expected));
}

async fn refuses_what_does_not_exist(app: &TestApp) {
    let device = with_firmware(app, "device", "1.0").await;
    let unknown_group = json!({
        "app_name": "firmware",
        "device_filter": { "project": { "name": "Demo fleet" }, "groups": [{ "name": "x" }], "filters": [] },
    });
    let cases = [
        (body("nothing", &json!([])), "app_name: no app is called \"nothing\""),
        (body("", &json!([])), "app_name: \"\" is empty"),
        (json!({ "app_name": "firmware" }), "device_filter: is required"),
        (unknown_group, "device_filter.groups[0].name: no group of the fleet is called \"x\""),
        (
            body("firmware", &json!([{ "type": "app", "operand": "is", "value": "nothing" }])),
            "device_filter.filters[0].value: no app is called \"nothing\"",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(app.operator().v1_delete(PATH, &body).await.v1_error(), expected, "{body}");
    }
    assert_eq!(device.seen().await["apps"], json!([{ "app_name": "firmware", "version": "1.0" }]));
}
