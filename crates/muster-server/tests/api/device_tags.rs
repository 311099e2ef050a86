//! `DELETE /v1/device_tags`.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;

on_both_engines!(
    takes_the_tag_off_every_match_and_keeps_it_in_the_catalogue,
    understands_both_names_of_the_filter,
    refuses_what_does_not_exist_and_changes_nothing,
    reaches_one_fleet_only,
    is_noted_in_the_audit_log,
);

const PATH: &str = "/v1/device_tags";

fn body(tag: &str, filters: &Value) -> Value {
    json!({
        "tag_name": tag,
        "device_filter": { "project": { "name": "Demo fleet" }, "groups": [], "filters": filters },
    })
}

async fn tagged<'a>(app: &'a TestApp, name: &str, tags: &[&str]) -> SimulatedDevice<'a> {
    let device = SimulatedDevice::enroll(app, name).await;
    app.admin().change(device.uuid.as_str(), &json!([{ "op": "add", "path": "tags", "value": tags }])).await;
    device
}

async fn takes_the_tag_off_every_match_and_keeps_it_in_the_catalogue(app: &TestApp) {
    let operator = app.operator();
    let (first, second) = (tagged(app, "first", &["London", "Lab"]).await, tagged(app, "second", &["London"]).await);
    let only_first = json!([{ "type": "specific_device", "operand": "is", "value": first.uuid }]);
    let answer = operator.v1_delete(PATH, &body("London", &only_first)).await;
    assert_eq!(answer.ok(200), json!({ "message": "Success" }));
    assert_eq!(first.seen().await["tags"], json!(["Lab"]));
    assert_eq!(second.seen().await["tags"], json!(["London"]));
    for _ in 0..2 {
        let answer = operator.v1_delete(PATH, &body("London", &json!([]))).await;
        assert_eq!(answer.ok(200), json!({ "message": "Success" }));
        assert_eq!(second.seen().await["tags"], json!([]));
    }
}

async fn understands_both_names_of_the_filter(app: &TestApp) {
    let operator = app.operator();
    let device = tagged(app, "device", &["London"]).await;
    let mut both = body("London", &json!([]));
    both["devices_filter"] = both["device_filter"].clone();
    let refusal = operator.v1_delete(PATH, &both).await.v1_error();
    assert_eq!(refusal, "duplicate field `device_filter`");
    both.as_object_mut().unwrap().remove("device_filter");
    operator.v1_delete(PATH, &both).await.ok(200);
    assert_eq!(device.seen().await["tags"], json!([]));
}

async fn refuses_what_does_not_exist_and_changes_nothing(app: &TestApp) {
    let device = tagged(app, "device", &["London"]).await;
    let with = |pointer: &str, value: Value| {
        let filter = json!([{ "type": "tag", "operand": "is", "value": "London" }]);
        let mut body = body("London", &filter);
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    let without = |key: &str| {
        let mut body = body("London", &json!([]));
        body["device_filter"].as_object_mut().unwrap().remove(key);
        body
    };
    let cases = [
        (with("/tag_name", json!("Paris")), "tag_name: no tag is called \"Paris\""),
        (with("/tag_name", json!("")), "tag_name: \"\" is empty"),
        (with("/tag_name", json!(null)), "tag_name: invalid type: null, expected a string"),
        (json!({ "tag_name": "London" }), "device_filter: is required"),
        (without("project"), "device_filter.project: is required"),
        (without("groups"), "device_filter.groups: is required"),
        (without("filters"), "device_filter.filters: is required"),
        (
            with("/device_filter/project/name", json!("Demo")),
            "device_filter.project.name: no project is called \"Demo\"",
        ),
        (
            with("/device_filter/project/name", json!("demo fleet")),
            "device_filter.project.name: no project is called \"demo fleet\"",
        ),
        (
            with("/device_filter/groups", json!([{ "name": "Nowhere" }])),
            "device_filter.groups[0].name: no group of the fleet is called \"Nowhere\"",
        ),
        (
            with("/device_filter/filters/0/value", json!("Paris")),
            "device_filter.filters[0].value: no tag is called \"Paris\"",
        ),
        (
            with("/device_filter/filters/0/value", json!(7)),
            "device_filter.filters[0].value: invalid type: integer `7`, expected a string",
        ),
        (
            with("/device_filter/filters/0/operand", json!("isnt")),
            "device_filter.filters[0].operand: \"isnt\" is neither \"is\" nor \"is_not\"",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(app.operator().v1_delete(PATH, &body).await.v1_error(), expected, "{body}");
    }
    assert_eq!(device.seen().await["tags"], json!(["London"]));
}

async fn reaches_one_fleet_only(app: &TestApp) {
    let second = SimulatedDevice::enroll_with(app, &app.house().second_pairing, "elsewhere").await;
    let path = format!("/api/v2/second/devices/{}", second.uuid);
    let add = json!([{ "op": "add", "path": "tags", "value": ["London"] }]);
    app.admin().patch(&path, &add).await.ok(200);
    app.admin().v1_delete(PATH, &body("London", &json!([]))).await.ok(200);
    let seen = app.admin().get(&format!("{path}?enrich_info=true")).await.ok(200);
    assert_eq!(seen["tags"], json!(["London"]));
}

async fn is_noted_in_the_audit_log(app: &TestApp) {
    tagged(app, "device", &["London"]).await;
    app.operator().v1_delete(PATH, &body("London", &json!([]))).await.ok(200);
    app.operator().v1_delete(PATH, &body("Paris", &json!([]))).await.v1_error();
    let log = app.audit().await;
    let expected =
        r#"user:operator DeleteDeviceTags tag:London 127.0.0.1 {"after":{"devices":0},"before":{"devices":1}}"#;
    assert_eq!(log.last().map(String::as_str), Some(expected));
}
