//! The data monitor, through API v1 and v2.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;

on_both_engines!(
    values_keep_their_type_through_either_api,
    keeps_the_last_hundred_of_each_parameter,
    refuses_wrong_values_and_stores_none,
    names_are_made_listed_and_deleted,
);

async fn parameter(app: &TestApp, name: &str) {
    let made = app.operator().post("app-parameters", &json!({ "name": name })).await.ok(201);
    assert_eq!(made, json!({ "name": name, "created_at": "2025-06-09T14:10:44Z" }));
}

async fn send(app: &TestApp, device: &SimulatedDevice<'_>, values: &[(&str, Value)]) {
    let values: Vec<Value> = values
        .iter()
        .map(|(name, value)| json!({ "app_parameter_name": name, "app_parameter_value": value }))
        .collect();
    let body = json!({ "device_token": device.token, "app_parameters": values });
    let sent = app.operator().v1_post("/v1/send_app_monitor", &body).await;
    assert_eq!(sent.ok(200), json!({ "message": "Success" }));
}

async fn details(app: &TestApp, device: &SimulatedDevice<'_>) -> Value {
    app.viewer().v1_get("/v1/app_monitor_details", &json!({ "device_token": device.token })).await.ok(200)
}

async fn values_keep_their_type_through_either_api(app: &TestApp) {
    let (device, other) = (SimulatedDevice::enroll(app, "device").await, SimulatedDevice::enroll(app, "other").await);
    assert_eq!(details(app, &device).await, json!({ "message": [] }));
    for name in ["s", "i", "f", "b"] {
        parameter(app, name).await;
    }
    let values = [("s", json!("7")), ("i", json!(7)), ("f", json!(7.0)), ("b", json!(true))];
    send(app, &device, &values).await;
    let body = json!({ "app_parameters": [{ "name": "s", "value": "eight" }] });
    let sent = app.operator().post(&format!("monitor/{}", device.uuid), &body).await.ok(201);
    assert_eq!(sent, json!({ "message": "Success" }));
    let record = |name: &str, value: Value| json!({ "app_parameter_name": name, "app_parameter_value": value, "time": "2025-06-09 14:10:44" });
    let expected = [("s", json!("eight")), ("b", json!(true)), ("f", json!(7.0)), ("i", json!(7)), ("s", json!("7"))];
    let expected: Vec<Value> = expected.into_iter().map(|(name, value)| record(name, value)).collect();
    assert_eq!(details(app, &device).await, json!({ "message": expected }));
    assert_eq!(details(app, &other).await, json!({ "message": [] }));
    let in_project = json!({ "device_token": device.token, "project_name": "Second fleet" });
    let refusal = app.viewer().v1_get("/v1/app_monitor_details", &in_project).await.v1_error();
    assert_eq!(refusal, "project_name: \"Second fleet\" is not the project of the device");
}

async fn keeps_the_last_hundred_of_each_parameter(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    parameter(app, "a").await;
    parameter(app, "b").await;
    send(app, &device, &[("b", json!("kept"))]).await;
    let many: Vec<(&str, Value)> = (0..100).map(|i| ("a", json!(i))).collect();
    send(app, &device, &many).await;
    send(app, &device, &[("a", json!(100))]).await;
    let shown = details(app, &device).await["message"].as_array().unwrap().clone();
    assert_eq!((shown.len(), &shown[0]["app_parameter_value"]), (100, &json!(100)));
    let id = device.row().await.id;
    let stored = app.store().read().app_records(id, 1_000).await.unwrap();
    let of = |name: &str| stored.iter().filter(|record| record.name == name).count();
    assert_eq!((of("a"), of("b")), (100, 1));
}

async fn refuses_wrong_values_and_stores_none(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    parameter(app, "a").await;
    let good = json!({ "app_parameter_name": "a", "app_parameter_value": 1 });
    for (values, expected) in [
        (json!([]), "app_parameters: has 0 items, 1 to 100 are allowed"),
        (json!(vec![&good; 101]), "app_parameters: has 101 items, 1 to 100 are allowed"),
        (
            json!([good, { "app_parameter_name": "x", "app_parameter_value": 1 }]),
            "app_parameters[1].app_parameter_name: no parameter of the project is called \"x\"",
        ),
        (
            json!([good, { "app_parameter_name": "a", "app_parameter_value": null }]),
            "app_parameters[1].app_parameter_value: null is neither a string, a number, true nor false",
        ),
        (
            json!([{ "app_parameter_name": "", "app_parameter_value": 1 }]),
            "app_parameters[0].app_parameter_name: \"\" is empty",
        ),
    ] {
        let body = json!({ "device_token": device.token, "app_parameters": values });
        assert_eq!(app.operator().v1_post("/v1/send_app_monitor", &body).await.v1_error(), expected);
    }
    let body = json!({ "app_parameters": [{ "name": "a", "value": [1] }] });
    let refusal = app.operator().post(&format!("monitor/{}", device.uuid), &body).await.refused(400);
    assert_eq!(refusal, "app_parameters[0].value: a list is neither a string, a number, true nor false");
    app.operator().post("monitor/d-0000-0000", &body).await.refused(404);
    assert_eq!(details(app, &device).await, json!({ "message": [] }));
}

async fn names_are_made_listed_and_deleted(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    parameter(app, "a").await;
    parameter(app, "b c").await;
    let again = app.operator().post("app-parameters", &json!({ "name": "a" })).await.v2_error();
    assert_eq!(again, (409, "conflict".to_owned(), "name: parameter \"a\" exists already".to_owned()));
    send(app, &device, &[("b c", json!(1))]).await;
    let item = |name: &str| json!({ "name": name, "created_at": "2025-06-09T14:10:44Z" });
    let first = app.viewer().get("app-parameters?limit=1").await.ok(200);
    let after = first["pagination_info"]["after"].as_str().unwrap().to_owned();
    let expected = json!({ "app_parameters": [item("a")], "pagination_info": { "after": after, "total": 2 } });
    assert_eq!(first, expected);
    let second = app.viewer().get(&format!("app-parameters?limit=1&after={after}")).await.ok(200);
    let expected = json!({ "app_parameters": [item("b c")], "pagination_info": { "after": null, "total": 2 } });
    assert_eq!(second, expected);
    app.operator().delete("app-parameters/b%20c").await.empty(204);
    app.operator().delete("app-parameters/b%20c").await.refused(404);
    assert_eq!(details(app, &device).await, json!({ "message": [] }), "its values are gone");
    let log = app.audit().await;
    let line = r#"user:operator DeleteAppParameter app-parameter:b c 127.0.0.1 {"after":null,"before":{"name":"b c"}}"#;
    assert_eq!(log.last().unwrap(), line);
}
