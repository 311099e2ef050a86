//! Deployments: created, listed, looked at.

use muster_core::target::{RunEvent, RunOutcome};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::answer;
use crate::device::{SimulatedDevice, finished};
use crate::orders::{FLOW, Order, create, flow};

on_both_engines!(
    creates_a_deployment_from_every_spelling,
    fixes_its_devices_when_it_is_made,
    prints_deployments_as_documented,
    prints_devices_of_a_deployment_as_documented,
    refuses_a_wrong_order,
    fills_in_the_inputs_of_the_flow,
    what_is_elsewhere_does_not_exist,
    a_request_that_is_sent_twice_makes_one,
    counts_how_its_devices_stand,
);

async fn creates_a_deployment_from_every_spelling(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let flow = flow(app, FLOW).await;
    let bodies = [
        json!({ "device_filter": {}, "deployment_configuration": { "flow_uuid": flow } }),
        json!({ "devices_filter": { "groups": [] }, "deployment_configuration": { "flow_id": flow } }),
        json!({ "device_filter": { "filters": [] }, "flow_id": flow }),
        json!({ "device_filter": { "groups": [{ "name": "all" }] }, "flow_uuid": flow, "deployment_configuration": {} }),
        json!({ "device_filter": {}, "flow_id": flow, "deployment_configuration": { "flow_uuid": flow } }),
        // As the vendor's own action sends it.
        json!({
            "device_filter": { "groups": [] },
            "deployment_configuration": {
                "flow_uuid": flow, "comment": null, "app": null, "parameters_mapping": {},
            },
        }),
    ];
    for body in bodies {
        let created = app.operator().post("deployments", &body).await.ok(201);
        let uuid = created["deployment_uuid"].as_str().unwrap().to_owned();
        assert_eq!(created, json!({ "deployment_uuid": uuid }));
        assert_eq!(crate::orders::Deployment { uuid }.devices(app).await, [device.uuid.to_string()], "{body}");
    }
    let log = app.audit().await;
    assert!(log.last().unwrap().starts_with("user:operator CreateDeployment deployment:dp-"), "{log:?}");
    assert!(log.last().unwrap().ends_with(&format!(r#" 127.0.0.1 {{"devices":1,"flow":"{flow}"}}"#)), "{log:?}");
}

async fn a_request_that_is_sent_twice_makes_one(app: &TestApp) {
    let flow = flow(app, FLOW).await;
    let order = json!({ "device_filter": {}, "flow_uuid": flow });
    let send = async |key: &str, body: &Value| {
        let request = app.operator().request(Method::POST, "deployments").header("Idempotency-Key", key);
        answer(request.json(body)).await
    };
    let first = send("\"a key\"", &order).await.ok(201);
    assert_eq!(send("a key", &order).await.ok(201), first);
    let other = json!({ "device_filter": {}, "flow_uuid": flow, "deployment_configuration": { "comment": "other" } });
    assert_eq!(send("a key", &other).await.ok(409)["code"], "idempotency_key_reused");
    assert_ne!(send("another key", &order).await.ok(201), first);
    assert_eq!(send("", &order).await.ok(400)["message"], "Idempotency-Key: is not 1 to 255 characters of ASCII");
    assert_eq!(app.viewer().get("deployments").await.ok(200)["pagination_info"]["total"], 2);
}

async fn counts_how_its_devices_stand(app: &TestApp) {
    let devices = [SimulatedDevice::enroll(app, "one").await, SimulatedDevice::enroll(app, "two").await];
    let deployment = create(app, &Order::default()).await;
    let mut link = devices[0].connect().await;
    let run = link.instruction().await.run;
    link.told(&run, 1, RunEvent::Accepted).await;
    link.told(&run, 2, finished(RunOutcome::Failed, "step_failed")).await;
    let path = format!("deployments/{}", deployment.uuid);
    let expected = json!({
        "total": 2, "pending": 1, "in_progress": 0, "succeeded": 0, "failed": 1, "aborted": 0,
        "reasons": [{ "status": "Failed", "reason_code": "step_failed", "count": 1 }],
    });
    assert_eq!(app.viewer().get(&format!("{path}?enrich_info=true")).await.ok(200)["devices"], expected);
    assert_eq!(app.viewer().get(&path).await.ok(200)["devices"], Value::Null, "as documented, unless it is asked for");
    for (status, device) in [("Failed", &devices[0]), ("Pending", &devices[1])] {
        let listed = app.viewer().get(&format!("{path}/devices?status={status}")).await.ok(200);
        assert_eq!(listed["pagination_info"]["total"], 1);
        assert_eq!(listed["deployment_by_device_uuid"][device.uuid.as_str()]["status"], status);
    }
    let refused = app.viewer().get(&format!("{path}/devices?status=failed")).await.ok(400)["message"].clone();
    assert!(refused.as_str().unwrap().starts_with("status: \"failed\" is none of \"Pending\", \"In Progress\""));
}

async fn fixes_its_devices_when_it_is_made(app: &TestApp) {
    let empty = create(app, &Order::default()).await;
    let device = SimulatedDevice::enroll(app, "device").await;
    let full = create(app, &Order::default()).await;
    SimulatedDevice::enroll(app, "late").await;
    assert!(empty.devices(app).await.is_empty());
    assert_eq!(full.devices(app).await, [device.uuid.to_string()]);
}

async fn prints_deployments_as_documented(app: &TestApp) {
    let empty = json!({ "deployments": [], "pagination_info": { "after": null, "total": 0 } });
    assert_eq!(app.viewer().get("deployments").await.ok(200), empty);
    let deployment = create(app, &Order { comment: "for \"people\"", ..Order::default() }).await;
    let expected = json!({
        "comment": "for \"people\"", "created_time": "2025-06-09 14:10:44", "cve_severity": null,
        "Critical": 0, "High": 0, "Low": 0, "Medium": 0,
        "deployment_uuid": deployment.uuid, "type": "api-deployment",
    });
    assert_eq!(app.viewer().get(&format!("deployments/{}", deployment.uuid)).await.ok(200), expected);
    let page = json!({ "deployments": [expected], "pagination_info": { "after": null, "total": 1 } });
    assert_eq!(app.viewer().get("deployments").await.ok(200), page);
}

async fn prints_devices_of_a_deployment_as_documented(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let path = format!("deployments/{}/devices", deployment.uuid);
    let pending = json!({ "finished_time": null, "started_time": null, "status": "Pending" });
    let expected = json!({
        "deployment_by_device_uuid": { device.uuid.as_str(): pending },
        "pagination_info": { "after": null, "total": 1 },
    });
    assert_eq!(app.viewer().get(&path).await.ok(200), expected);
    let one = format!("{path}/{}", device.uuid);
    let pending = json!({ "finished_time": null, "started_time": null, "status": "Pending", "steps": [] });
    assert_eq!(app.viewer().get(&one).await.ok(200), pending);
    device.connect().await.succeed().await;
    let time = "2025-06-09 14:10:44";
    let step = json!({ "exit_code": 0, "name": "step 0", "stderr": "err 0", "stdout": "out 0" });
    let succeeded = json!({ "finished_time": time, "started_time": time, "status": "Succeeded", "steps": [step] });
    assert_eq!(app.viewer().get(&one).await.ok(200), succeeded);
    let none = create(app, &Order { filter: json!({ "groups": [{ "name": "Test" }] }), ..Order::default() }).await;
    let empty = json!({ "deployment_by_device_uuid": {}, "pagination_info": { "after": null, "total": 0 } });
    assert_eq!(app.viewer().get(&format!("deployments/{}/devices", none.uuid)).await.ok(200), empty);
}

/// A good order of `flow`, but for one place.
fn but(flow: &str, pointer: &str, value: Value) -> Value {
    let mut body = json!({
        "device_filter": { "groups": [], "filters": [{ "type": "device_state", "operand": "is", "value": "online" }] },
        "deployment_configuration": {
            "flow_uuid": flow, "comment": "c", "app": { "name": "firmware", "version": "1" }, "parameters_mapping": {},
        },
    });
    *body.pointer_mut(pointer).unwrap() = value;
    body
}

async fn refuses_a_wrong_order(app: &TestApp) {
    let flow = flow(app, FLOW).await;
    let config = |place: &str, value: Value| but(&flow, &format!("/deployment_configuration/{place}"), value);
    let filter = |place: &str, value: Value| but(&flow, &format!("/device_filter/{place}"), value);
    let cases = [
        (json!({}), "device_filter: is required"),
        (json!({ "device_filter": {} }), "deployment_configuration.flow_uuid: is required"),
        (
            json!({ "device_filter": {}, "flow_id": "f-0000-0000", "deployment_configuration": { "flow_id": flow } }),
            "flow_uuid: names another flow than deployment_configuration.flow_uuid",
        ),
        (
            json!({ "device_filter": {}, "flow_id": "f-0000-0000" }),
            "flow_uuid: no update flow of the fleet is called \"f-0000-0000\"",
        ),
        (
            config("flow_uuid", json!("f-0000-0000")),
            "deployment_configuration.flow_uuid: no update flow of the fleet is called \"f-0000-0000\"",
        ),
        (
            config("flow_uuid", json!("x' OR 1=1")),
            "deployment_configuration.flow_uuid: \"x\\' OR 1=1\" is not the id of a update flow; one looks like f-1a2b-3c4d",
        ),
        (config("app/name", json!("x")), "deployment_configuration.app.name: no app is called \"x\""),
        (config("app/version", json!("")), "deployment_configuration.app.version: \"\" is empty"),
        (config("app", json!({ "name": "firmware" })), "deployment_configuration.app.version: is required"),
        (
            config("comment", json!("a\u{0}")),
            "deployment_configuration.comment: \"a\\0\" holds the control character U+0000",
        ),
        (
            config("parameters_mapping", json!({ "x": "1" })),
            "deployment_configuration.parameters_mapping: the flow \"Update\" has no input \"x\"",
        ),
        (
            config("parameters_mapping", json!({ "x": 1 })),
            "deployment_configuration.parameters_mapping.x: invalid type: integer `1`, expected a string",
        ),
        (
            filter("groups", json!([{ "name": "x" }])),
            "device_filter.groups[0].name: no group of the fleet is called \"x\"",
        ),
        (filter("groups", json!(["x"])), "device_filter.groups[0]: invalid type: string \"x\", expected an object"),
        (
            filter("filters/0/value", json!("Online")),
            "device_filter.filters[0].value: \"Online\" is neither \"online\" nor \"offline\"",
        ),
        (
            filter("filters/0", json!({ "type": "deployment", "operand": "is", "value": "any" })),
            "device_filter.filters[0].deployment_id: is required with type \"deployment\"",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(app.operator().post("deployments", &body).await.refused(400), expected, "{body}");
    }
    let mut misspelt = config("comment", json!("c"));
    misspelt["device_filter"]["filter"] = json!([]);
    let refusal = app.operator().post("deployments", &misspelt).await.refused(400);
    assert!(refusal.starts_with("device_filter.filter: unknown field `filter`"), "{refusal}");
    assert_eq!(app.viewer().get("deployments").await.ok(200)["pagination_info"]["total"], 0);
}

async fn fills_in_the_inputs_of_the_flow(app: &TestApp) {
    let document = format!(
        "{}on:\n  workflow-dispatch:\n    inputs:\n      image: {{}}\n      tag: {{default: latest}}\n",
        FLOW.replace("\"true\"", "echo ${{ inputs.image }}:${{inputs.tag}}")
    );
    let flow = flow(app, &document).await;
    let device = SimulatedDevice::enroll(app, "device").await;
    let order = |mapping: Value| {
        json!({
            "device_filter": {},
            "deployment_configuration": { "flow_uuid": flow, "parameters_mapping": mapping },
        })
    };
    let refusal = app.operator().post("deployments", &order(json!({ "tag": "1" }))).await.refused(400);
    let field = "deployment_configuration.parameters_mapping.image";
    assert_eq!(refusal, format!("{field}: is required: the flow declares it without a default"));
    app.operator().post("deployments", &order(json!({ "image": "nginx" }))).await.ok(201);
    let instruction = device.connect().await.instruction().await;
    assert_eq!(json!(instruction.inputs), json!({ "image": "nginx", "tag": "latest" }));
    assert_eq!(instruction.flow.name.as_str(), "Update");
    assert_eq!(instruction.run.attempt, 1);
}

async fn what_is_elsewhere_does_not_exist(app: &TestApp) {
    let (device, other) = (SimulatedDevice::enroll(app, "a").await, SimulatedDevice::enroll(app, "b").await);
    let deployment = create(app, &Order::to(&device)).await.uuid;
    let viewer = app.viewer();
    for path in ["deployments/dp-0000-0000", "deployments/x", "deployments/dp-0000-0000/devices"] {
        viewer.get(path).await.refused(404);
    }
    for device in [other.uuid.as_str(), "d-0000-0000", "x"] {
        let refusal = viewer.get(&format!("deployments/{deployment}/devices/{device}")).await.refused(404);
        assert_eq!(refusal, format!("no device of the deployment \"{device}\" was found"));
        let abort = format!("deployments/{deployment}/devices/{device}/abort");
        app.operator().post(&abort, &json!({})).await.refused(404);
    }
    for path in ["", "/devices"] {
        app.neighbour().get(&format!("/api/v2/second/deployments/{deployment}{path}")).await.refused(404);
    }
    app.operator().post("deployments/dp-0000-0000/abort", &json!({})).await.refused(404);
}
