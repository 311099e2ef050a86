//! `POST /v2/deploy_update` and `POST /v1/deploy_update`, both of API v1.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::answer;
use crate::device::SimulatedDevice;
use crate::orders::{FLOW, flow};

on_both_engines!(deploys_what_either_document_shows, refuses_a_wrong_order, speaks_as_api_v1_does_in_spite_of_its_path,);

const NEW: &str = "/v2/deploy_update";
const OLD: &str = "/v1/deploy_update";

fn filter() -> Value {
    json!({ "project": { "name": "Demo fleet" }, "groups": [], "filters": [] })
}

async fn deploys_what_either_document_shows(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let flow = flow(app, FLOW).await;
    let app_of = json!({ "name": "firmware", "version": "1.1" });
    let bodies = [
        (
            NEW,
            json!({
                "device_filter": filter(),
                "deployment_configuration": {
                    "flow_id": flow, "comment": "c", "app": app_of, "parameters_mapping": {},
                },
            }),
        ),
        (OLD, json!({ "devices_filter": filter(), "flow_id": flow, "metadata": { "comment": "c", "app": app_of } })),
        (OLD, json!({ "devices_filter": filter(), "flow_id": flow, "metadata": {} })),
        (NEW, json!({ "devices_filter": filter(), "flow_id": flow })),
        (OLD, json!({ "device_filter": filter(), "deployment_configuration": { "flow_uuid": flow } })),
    ];
    let mut link = device.connect().await;
    for (path, body) in bodies {
        assert_eq!(app.operator().v1_post(path, &body).await.ok(200), json!({ "message": "Created" }), "{body}");
        link.succeed().await;
    }
    let newest = app.viewer().get("deployments").await.ok(200)["deployments"].clone();
    let comments: Vec<&Value> = newest.as_array().unwrap().iter().map(|deployment| &deployment["comment"]).collect();
    assert_eq!(json!(comments), json!(["", "", "", "c", "c"]));
    assert_eq!(newest[0]["type"], "api-deployment");
    assert_eq!(device.seen().await["apps"], json!([{ "app_name": "firmware", "version": "1.1" }]));
}

async fn refuses_a_wrong_order(app: &TestApp) {
    let flow = flow(app, FLOW).await;
    let with = |key: &str, value: Value| {
        let mut body = json!({ "device_filter": filter(), "deployment_configuration": { "flow_id": flow } });
        body[key] = value;
        body
    };
    let no_groups = json!({ "project": { "name": "Demo fleet" }, "filters": [] });
    let cases = [
        (json!({}), "device_filter: is required"),
        (with("device_filter", no_groups), "device_filter.groups: is required"),
        (with("device_filter", json!(null)), "device_filter: invalid type: null, expected an object"),
        (with("deployment_configuration", json!({})), "deployment_configuration.flow_id: is required"),
        (with("flow_id", json!("f-0000-0000")), "flow_id: names another flow than deployment_configuration.flow_id"),
        (
            with("deployment_configuration", json!({ "flow_id": "f-0000-0000" })),
            "deployment_configuration.flow_id: no update flow of the fleet is called \"f-0000-0000\"",
        ),
        (
            with("deployment_configuration", json!({ "flow_id": flow, "app": { "name": "x", "version": "1" } })),
            "deployment_configuration.app.name: no app is called \"x\"",
        ),
    ];
    for path in [NEW, OLD] {
        for (body, expected) in &cases {
            assert_eq!(app.operator().v1_post(path, body).await.v1_error(), *expected, "{path} {body}");
        }
    }
    assert_eq!(app.viewer().get("deployments").await.ok(200)["pagination_info"]["total"], 0);
}

async fn speaks_as_api_v1_does_in_spite_of_its_path(app: &TestApp) {
    let text = "this path does not take that method";
    for path in [NEW, OLD] {
        let refusal = answer(app.operator().request(Method::GET, path)).await;
        assert_eq!(refusal.ok(405), json!({ "error_message": text }), "{path}");
        let anonymous = app.anon().v1_post(path, &json!({ "device_filter": filter() })).await;
        assert_eq!(anonymous.v1_error(), "user_token: is required");
    }
}
