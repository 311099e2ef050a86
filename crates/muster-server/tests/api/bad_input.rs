//! Whatever is sent: 4xx in the words of the API, nothing changed, never a fault of the server.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::{Answer, answer};
use crate::device::SimulatedDevice;
use crate::orders::{Deployment, Order, create};

on_both_engines!(no_body_is_a_fault, no_field_is_a_fault, no_address_is_a_fault, odd_names_are_names);

/// Every call that takes a body.
fn calls(device: &SimulatedDevice<'_>) -> Vec<(Method, String)> {
    let of_device = |rest: &str| format!("/api/v2/demo/devices/{}{rest}", device.uuid);
    let fixed = |method: Method, path: &str| (method, path.to_owned());
    vec![
        fixed(Method::DELETE, "/v1/device_tags"),
        fixed(Method::DELETE, "/v1/device_apps"),
        fixed(Method::POST, "/v1/devices_details"),
        fixed(Method::GET, "/v1/get_device_state"),
        fixed(Method::POST, "/v1/set_update_trigger"),
        (Method::PATCH, of_device("")),
        (Method::POST, of_device("/move")),
        fixed(Method::POST, "/api/v2/demo/update-flows"),
        fixed(Method::POST, "/api/v2/demo/deployments"),
        fixed(Method::POST, "/api/v2/demo/groups"),
        fixed(Method::POST, "/api/v2/demo/apps"),
        fixed(Method::POST, "/link/v1/enroll"),
        fixed(Method::POST, "/v2/deploy_update"),
    ]
}

/// What a test must find unchanged.
async fn everything(app: &TestApp, device: &SimulatedDevice<'_>) -> Value {
    json!([
        device.seen().await,
        app.audit().await,
        app.admin().get("devices").await.ok(200),
        app.admin().get("update-flows").await.ok(200),
        app.admin().get("deployments").await.ok(200),
    ])
}

#[track_caller]
fn assert_refused(answer: &Answer, what: &str) {
    assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
    let text = answer.json()["error_message"].as_str().unwrap_or_default().to_owned();
    assert!(!text.is_empty() && text.chars().count() < 500, "{what}: {answer:?}");
    assert!(!text.contains("muster_") && !text.contains("struct ") && !text.contains("::"), "{what}: {text}");
}

async fn no_body_is_a_fault(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let before = everything(app, &device).await;
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        b"5".to_vec(),
        b"\"x\"".to_vec(),
        b"{\"a\":".to_vec(),
        b"{}{}".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        b"{\"\\u0000\": 1}".to_vec(),
        b"[".repeat(100_000),
        br#"{"a":"#.repeat(50_000),
    ];
    for (method, path) in calls(&device) {
        for body in &bodies {
            let request = app.admin().request(method.clone(), &path).header(CONTENT_TYPE, "application/yaml");
            let what = format!("{method} {path} {}", String::from_utf8_lossy(&body[..body.len().min(40)]));
            assert_refused(&answer(request.body(body.clone())).await, &what);
        }
    }
    assert_eq!(everything(app, &device).await, before);
}

/// Good bodies, of which every single value is then replaced by a wrong one.
fn good_bodies(app: &TestApp, device: &SimulatedDevice<'_>, deployment: &Deployment) -> Vec<(Method, String, Value)> {
    let tokens = json!({ "user_token": app.admin().keys.user, "device_token": device.token });
    let filter = json!({ "type": "deployment", "operand": "is", "value": "any", "deployment_id": deployment.uuid });
    let with = |more: Value| {
        let mut body = tokens.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let v1_filter = json!({ "project": { "name": "Demo fleet" }, "groups": [{ "name": "Test" }], "filters": [filter] });
    let details = json!({
        "device_name": "n", "group": "Test", "address": "a", "lat": "1", "lng": "1", "description": "d",
        "apps": [{ "app_name": "firmware", "version": "1" }], "tag": "t", "software_version": "1",
    });
    let patch = json!({ "operations": [{ "op": "add", "path": "tags", "value": ["t"] }] });
    let app_patch = json!([{ "op": "add", "path": "apps", "value": [{ "app_name": "firmware", "version": "1" }] }]);
    let deployment = json!({
        "device_filter": { "groups": [{ "name": "Test" }], "filters": [filter] },
        "deployment_configuration": {
            "flow_uuid": "f-0000-0000", "comment": "c", "app": { "name": "firmware", "version": "1" },
            "parameters_mapping": { "x": "y" },
        },
    });
    let bodies = [
        with(json!({ "tag_name": "t", "device_filter": v1_filter })),
        with(json!({ "app_name": "firmware", "device_filter": v1_filter })),
        with(details),
        with(json!({ "device_id": device.uuid })),
        with(json!({ "trigger_set": true })),
        patch,
        json!({ "destination_project_key": "second", "destination_group_name": "Test" }),
        json!(null),
        deployment,
        json!({ "name": "n" }),
        json!({ "name": "n" }),
        json!({ "pairing_token": "x", "public_key": "x", "proof": "x", "facts": { "hostname": "x" } }),
        with(json!({ "device_filter": v1_filter, "deployment_configuration": { "flow_id": "f-0000-0000" } })),
    ];
    let all = calls(device).into_iter().zip(bodies).filter(|(_, body)| !body.is_null());
    let of_device = (Method::PATCH, format!("/api/v2/demo/devices/{}", device.uuid), app_patch);
    all.map(|((method, path), body)| (method, path, body)).chain([of_device]).collect()
}

/// Every place of a value in a body.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), found)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| places(value, &format!("{at}/{i}"), found)),
        _ => {}
    }
}

async fn no_field_is_a_fault(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let wrong = [
        json!({ "unknown": 1 }),
        json!([[]]),
        json!(-1e300),
        json!(i64::MIN),
        json!("a\u{0}b"),
        json!("x".repeat(10_000)),
        json!("'; DROP TABLE devices; --"),
        json!(""),
    ];
    for (method, path, body) in good_bodies(app, &device, &deployment) {
        let mut all = Vec::new();
        places(&body, "", &mut all);
        for place in all {
            for wrong in &wrong {
                let mut body = body.clone();
                *body.pointer_mut(&place).unwrap() = wrong.clone();
                let answer = answer(app.admin().request(method.clone(), &path).json(&body)).await;
                assert!(answer.status < 500, "{method} {path} {place} {wrong}: {answer:?}");
                if answer.status != 200 && answer.status != 201 {
                    assert_refused(&answer, &format!("{method} {path} {place}"));
                }
                assert!(!answer.text.contains('\0'), "{answer:?}");
            }
        }
    }
    app.anon().get("/healthz").await.ok(200);
}

async fn no_address_is_a_fault(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let before = everything(app, &device).await;
    let long = "x".repeat(8_000);
    let words = ["%00", "%ff", "'%20OR%201=1%20--", "..%2f..", "%25", "-1", "%F0%9F%A6%80", "*", &long];
    for word in words {
        let paths = [
            format!("/api/v2/{word}/devices"),
            format!("devices/{word}"),
            format!("devices/{word}/move"),
            format!("deployments/{word}"),
            format!("deployments/{word}/devices/{word}"),
            format!("deployments/{word}/devices/{word}/abort"),
            format!("update-flows/{word}"),
            format!("/v1/{word}"),
            format!("devices?group_name={word}"),
            format!("devices?tags={word}&tags={word}"),
            format!("devices?after={word}"),
            format!("devices?limit={word}"),
            format!("deployments?after={word}"),
            format!("update-flows?limit={word}"),
        ];
        for path in paths {
            for method in [Method::GET, Method::PATCH, Method::POST] {
                let request = app.admin().request(method.clone(), &path).header(CONTENT_TYPE, "application/yaml");
                assert_refused(&answer(request).await, &format!("{method} {path}"));
            }
        }
    }
    assert_eq!(everything(app, &device).await, before);
}

async fn odd_names_are_names(app: &TestApp) {
    let names = ["'; DROP TABLE devices; --", "\" OR \"1\"=\"1", "%_\\", "a=b=c", "\u{1f980} ñ", "null", "all "];
    let device = SimulatedDevice::enroll(app, "device").await;
    for name in names {
        app.admin().post("groups", &json!({ "name": name })).await.ok(201);
        app.admin().post("apps", &json!({ "name": name })).await.ok(201);
        let change = json!([
            { "op": "replace", "path": "group_name", "value": name },
            { "op": "replace", "path": "device_name", "value": name },
            { "op": "replace", "path": "tags", "value": [name] },
            { "op": "replace", "path": "apps", "value": [{ "app_name": name, "version": name }] },
        ]);
        let seen = app.admin().change(device.uuid.as_str(), &change).await;
        assert_eq!((&seen["group_name"], &seen["device_name"]), (&json!(name), &json!(name)));
        assert_eq!((&seen["tags"], &seen["apps"][0]["version"]), (&json!([name]), &json!(name)));
        let question = json!({ "project_name": "Demo fleet", "group_name": name, "device_name": name });
        let found = app.viewer().v1_get("/v1/devices_details", &question).await.ok(200);
        assert_eq!(found["message"].as_array().unwrap().len(), 1, "{name}");
        let filters = json!([
            { "type": "tag", "operand": "is", "value": name },
            { "type": "app", "operand": "is", "value": name, "app_version": name },
        ]);
        let filter = json!({ "groups": [{ "name": name }], "filters": filters });
        let deployment = create(app, &Order { filter, comment: name, ..Order::default() }).await;
        assert_eq!(deployment.devices(app).await, [device.uuid.to_string()]);
    }
}
