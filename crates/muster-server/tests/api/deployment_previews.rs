//! What a deployment would do, before it is made.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::{Link, SimulatedDevice};
use crate::orders::{FLOW, Order, create, flow};

on_both_engines!(
    tells_what_would_become_of_each_device,
    cuts_the_waves_as_the_deployment_does,
    tells_what_a_failure_puts_back,
    takes_a_flow_that_has_not_been_made,
    lists_the_devices_of_a_reason,
    refuses_what_the_deployment_would,
    writes_nothing,
);

const DOCKER: &str = "flows:\n  Till:\n    steps:\n      - name: run it\n        uses: connect/docker\n        with: {registry: hub, image-path: till, image-tag: '1'}\n";

async fn previewed(app: &TestApp, body: &Value) -> Value {
    app.viewer().post("deployments/preview", body).await.ok(200)
}

fn codes(reasons: &Value) -> Vec<(String, u64)> {
    let reason =
        |reason: &Value| (reason["reason_code"].as_str().unwrap().to_owned(), reason["count"].as_u64().unwrap());
    reasons.as_array().unwrap().iter().map(reason).collect()
}

fn counted(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    pairs.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect()
}

async fn tells_what_would_become_of_each_device(app: &TestApp) {
    let mut devices = Vec::new();
    for number in 0..6 {
        devices.push(SimulatedDevice::enroll(app, &format!("device {number}")).await);
    }
    let links: Vec<Link> = vec![
        devices[0].connect_with(&["action:connect/docker", "docker_engine"]).await,
        devices[1].connect_with(&["action:connect/docker"]).await,
        devices[2].connect().await,
        devices[3].connect_with(&["action:connect/docker", "docker_engine"]).await,
        devices[4].connect_with(&["action:connect/docker", "docker_engine"]).await,
    ];
    create(app, &Order::to(&devices[3])).await;
    let held = json!([{ "op": "replace", "path": "is_update_trigger_set", "value": true }]);
    app.operator().change(devices[4].uuid.as_str(), &held).await;
    let body = json!({ "device_filter": {}, "deployment_configuration": { "flow_uuid": flow(app, DOCKER).await } });
    let preview = previewed(app, &body).await;
    assert_eq!((&preview["matching"], &preview["would_start"]), (&json!(6), &json!(1)));
    let waits = [("update_trigger_set", 1), ("waiting_for_earlier_deployment", 1)];
    assert_eq!(codes(&preview["would_wait"]), counted(&waits));
    // One agent is older than the action, and so is the one that never connected.
    assert_eq!(codes(&preview["would_refuse"]), counted(&[("unsupported_step", 2), ("no_container_engine", 1)]));
    let lacking = &preview["would_refuse"][1];
    let expected = json!([{
        "device_uuid": devices[1].uuid, "device_name": "device 1", "agent_version": lacking["devices"][0]["agent_version"],
    }]);
    assert_eq!(lacking["devices"], expected);
    let plain = json!({ "device_filter": {}, "flow_uuid": flow(app, FLOW).await });
    let waits = [("device_offline", 1), ("update_trigger_set", 1), ("waiting_for_earlier_deployment", 1)];
    let preview = previewed(app, &plain).await;
    assert_eq!((codes(&preview["would_wait"]), &preview["would_refuse"]), (counted(&waits), &json!([])));
    assert_eq!((&preview["flow_name"], &preview["rollout"]), (&json!("Update"), &Value::Null));
    drop(links);
}

async fn cuts_the_waves_as_the_deployment_does(app: &TestApp) {
    for number in 0..7 {
        SimulatedDevice::enroll(app, &format!("device {number}")).await;
    }
    let rollout = json!({
        "waves": [{ "count": 1 }, { "percent": 50 }], "soak_minutes": 10, "in_progress_max": 3,
        "failures_max": { "percent": 30 }, "disruption": { "tag_key": "site", "in_progress_max": 1 },
    });
    let configuration = json!({ "flow_uuid": flow(app, FLOW).await, "rollout": rollout });
    let body = json!({ "device_filter": {}, "deployment_configuration": configuration });
    let expected = json!({
        "start_time": null, "waves": [1, 4, 2], "soak_minutes": 10, "wave_minutes_max": 14_393, "in_progress_max": 3,
        "failures_max": 2, "disruption": { "tag_key": "site", "in_progress_max": 1 },
    });
    assert_eq!(previewed(app, &body).await["rollout"], expected);
    let made = app.operator().post("deployments", &body).await.ok(201);
    let path = format!("deployments/{}", made["deployment_uuid"].as_str().unwrap());
    let waves = app.viewer().get(&path).await.ok(200)["rollout"]["waves"].clone();
    let waiting: Vec<&Value> = waves.as_array().unwrap().iter().map(|wave| &wave["waiting"]).collect();
    assert_eq!(waiting, [1, 4, 2]);
}

async fn tells_what_a_failure_puts_back(app: &TestApp) {
    let document = "flows:\n  Two:\n    on-failure: {run: 'echo ${{ inputs.who }}'}\n    steps:\n      - name: conf\n        uses: connect/file\n        with:\n          device-path: /etc/${{ inputs.who }}\n          content: x\n          on-failure: {revert-all-files: true, trigger-revert: any-step-failure}\n      - name: go\n        run: \"true\"\non:\n  workflow-dispatch:\n    inputs:\n      who: {}\n";
    let configuration = json!({ "flow_uuid": flow(app, document).await, "parameters_mapping": { "who": "till" } });
    let preview = previewed(app, &json!({ "device_filter": {}, "deployment_configuration": configuration })).await;
    let expected = json!([
        {
            "step": "conf", "puts_back": ["/etc/till"], "puts_back_when": "any_step_failure", "command": null,
            "command_when": "never", "text": "/etc/till put back when this or a later step fails",
        },
        {
            "step": "go", "puts_back": [], "puts_back_when": "never", "command": null, "command_when": "never",
            "text": "nothing is put back",
        },
    ]);
    assert_eq!((&preview["restores"], &preview["rollback"]), (&expected, &json!("echo till")));
    assert_eq!(preview["deadlines"], json!({ "pending_minutes": 43_200, "run_minutes": 300, "abort_minutes": 60 }));
}

async fn takes_a_flow_that_has_not_been_made(app: &TestApp) {
    let two = format!("{FLOW}  Other:\n    steps:\n      - name: one\n        run: \"true\"\n");
    let preview = previewed(app, &json!({ "device_filter": {}, "flow_document": FLOW })).await;
    assert_eq!((&preview["flow_uuid"], &preview["flow_name"]), (&Value::Null, &json!("Update")));
    let named = json!({ "device_filter": {}, "flow_document": two, "flow_name": "Other" });
    assert_eq!(previewed(app, &named).await["flow_name"], "Other");
    let cases = [
        (json!({ "flow_document": two }), "flow_name: the document holds several flows: \"Update\", \"Other\""),
        (json!({ "flow_document": two, "flow_name": "x" }), "flow_name: \"x\" is none of the document's"),
        (json!({ "flow_document": "flows: {}" }), "flow_document"),
        (json!({ "flow_document": FLOW, "flow_uuid": "x" }), "flow_document: does not go with a flow_uuid"),
        (json!({ "flow_name": "x" }), "flow_name: goes with flow_document"),
    ];
    for (words, expected) in cases {
        let mut body = words;
        body["device_filter"] = json!({});
        let refused = app.viewer().post("deployments/preview", &body).await.ok(400)["message"].clone();
        assert!(refused.as_str().unwrap().starts_with(expected), "{body} gave {refused}");
    }
    assert_eq!(app.viewer().get("update-flows").await.ok(200)["pagination_info"]["total"], 0);
}

async fn lists_the_devices_of_a_reason(app: &TestApp) {
    let mut uuids = Vec::new();
    for number in 0..3 {
        let device = SimulatedDevice::enroll(app, &format!("device {number}")).await;
        uuids.push((device.row().await.id, device.uuid.to_string()));
    }
    uuids.sort();
    let linked = SimulatedDevice::enroll(app, "linked").await;
    let _link = linked.connect().await;
    let body = json!({ "device_filter": {}, "flow_document": FLOW });
    let mut path = "deployments/preview/devices?reason_code=device_offline&limit=2".to_owned();
    let first = app.viewer().post(&path, &body).await.ok(200);
    assert_eq!(first["pagination_info"]["total"], 3);
    path += &format!("&after={}", first["pagination_info"]["after"].as_str().unwrap().replace('=', "%3D"));
    let second = app.viewer().post(&path, &body).await.ok(200);
    assert_eq!(second["pagination_info"], json!({ "after": null, "total": 3 }));
    let both = [&first, &second].map(|page| page["devices"].as_array().unwrap().clone()).concat();
    let listed: Vec<&str> = both.iter().map(|device| device["device_uuid"].as_str().unwrap()).collect();
    assert_eq!(listed, uuids.iter().map(|(_, uuid)| uuid.as_str()).collect::<Vec<_>>());
    assert!(both.iter().all(|device| device["reason_code"] == "device_offline"), "{both:?}");
    let all = app.viewer().post("deployments/preview/devices", &body).await.ok(200);
    assert_eq!(all["pagination_info"]["total"], 4);
    let starting = all["devices"].as_array().unwrap().iter().find(|device| device["device_name"] == "linked").unwrap();
    assert_eq!((&starting["reason_code"], &starting["reason"]), (&Value::Null, &Value::Null));
    let none = app.viewer().post("deployments/preview/devices?reason_code=other", &body).await.ok(200);
    assert_eq!(none, json!({ "devices": [], "pagination_info": { "after": null, "total": 0 } }));
}

async fn refuses_what_the_deployment_would(app: &TestApp) {
    let flow_uuid = flow(app, FLOW).await;
    let unknown = json!({ "filters": [{ "type": "tag", "operand": "is", "value": "nothing" }] });
    let cases = [
        json!({ "device_filter": unknown, "flow_uuid": flow_uuid }),
        json!({ "device_filter": {}, "flow_uuid": "00000000-0000-4000-8000-000000000000" }),
        json!({ "device_filter": {} }),
        json!({ "device_filter": {}, "deployment_configuration": { "flow_uuid": flow_uuid, "rollout": { "in_progress_max": 0 } } }),
        json!({ "device_filter": {}, "deployment_configuration": { "flow_uuid": flow_uuid, "parameters_mapping": { "x": "y" } } }),
        json!({ "device_filter": {}, "deployment_configuration": { "flow_uuid": flow_uuid, "app": { "name": "none", "version": "1" } } }),
    ];
    for body in cases {
        let previewed = app.operator().post("deployments/preview", &body).await.ok(400)["message"].clone();
        assert_eq!(app.operator().post("deployments", &body).await.ok(400)["message"], previewed, "{body}");
    }
}

async fn writes_nothing(app: &TestApp) {
    SimulatedDevice::enroll(app, "device").await;
    let body = json!({ "device_filter": {}, "flow_uuid": flow(app, FLOW).await });
    let before = app.audit().await;
    previewed(app, &body).await;
    assert_eq!(app.audit().await, before);
    assert_eq!(app.viewer().get("deployments").await.ok(200)["pagination_info"]["total"], 0);
}
