//! Cursors of API v2: nothing is skipped or repeated while others come.

use muster_server::http::Cursor;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;
use crate::orders::{FLOW, Order, create, flow};

on_both_engines!(
    walks_devices_while_others_enrol,
    walks_deployments_while_others_are_made,
    walks_flows_while_others_are_made,
    walks_the_devices_of_a_deployment,
    cursors_have_the_documented_form,
    refuses_wrong_pages,
);

/// What happens between two pages.
enum Between {
    Nothing,
    Enrolment,
    Flow,
    Deployment,
}

/// Every item of a list, by pages of two.
async fn walk(app: &TestApp, path: &str, items: &str, between: Between) -> Vec<Value> {
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let page = app.viewer().get(&format!("{path}?limit=2&after={after}")).await.ok(200);
        match &page[items] {
            Value::Array(list) => found.extend(list.clone()),
            Value::Object(map) => found.extend(map.keys().map(|key| json!(key))),
            other => panic!("{other}"),
        }
        match page["pagination_info"]["after"].as_str() {
            Some(next) => after = next.replace('+', "%2B").replace('=', "%3D"),
            None => return found,
        }
        match between {
            Between::Enrolment if found.len() < 6 => drop(SimulatedDevice::enroll(app, "late").await),
            Between::Flow if found.len() < 6 => drop(flow(app, FLOW).await),
            Between::Deployment => drop(create(app, &Order::default()).await),
            _ => {}
        }
    }
}

fn all_of(items: &[Value], key: &str) -> Vec<Value> {
    items.iter().map(|item| item[key].clone()).collect()
}

async fn walks_devices_while_others_enrol(app: &TestApp) {
    for i in 0..5 {
        SimulatedDevice::enroll(app, &format!("d{i}")).await;
    }
    let names = all_of(&walk(app, "devices", "devices", Between::Enrolment).await, "device_name");
    assert_eq!(json!(names), json!(["d0", "d1", "d2", "d3", "d4", "late", "late"]));
}

async fn walks_deployments_while_others_are_made(app: &TestApp) {
    for comment in ["0", "1", "2", "3", "4"] {
        create(app, &Order { comment, ..Order::default() }).await;
    }
    let comments = all_of(&walk(app, "deployments", "deployments", Between::Deployment).await, "comment");
    assert_eq!(json!(comments), json!(["4", "3", "2", "1", "0"]), "newest first; what came later lies before");
}

async fn walks_flows_while_others_are_made(app: &TestApp) {
    for i in 0..5 {
        flow(app, &FLOW.replace("Update", &format!("f{i}"))).await;
    }
    let names = all_of(&walk(app, "update-flows", "update_flows", Between::Flow).await, "name");
    assert_eq!(json!(names), json!(["f0", "f1", "f2", "f3", "f4", "Update", "Update"]));
}

async fn walks_the_devices_of_a_deployment(app: &TestApp) {
    let mut expected = Vec::new();
    for i in 0..4 {
        expected.push(json!(SimulatedDevice::enroll(app, &format!("d{i}")).await.uuid));
    }
    let deployment = create(app, &Order::default()).await;
    let path = format!("deployments/{}/devices", deployment.uuid);
    let mut found = walk(app, &path, "deployment_by_device_uuid", Between::Nothing).await;
    found.sort_by_key(Value::to_string);
    expected.sort_by_key(Value::to_string);
    assert_eq!(found, expected, "four are two full pages: the second is the last");
}

async fn cursors_have_the_documented_form(app: &TestApp) {
    for name in ["a", "b"] {
        SimulatedDevice::enroll(app, name).await;
    }
    let page = app.viewer().get("devices?limit=1").await.ok(200);
    assert_eq!(page["pagination_info"]["total"], 2);
    let cursor = Cursor::decode(page["pagination_info"]["after"].as_str().unwrap()).unwrap();
    assert_eq!(cursor.limit, 1);
    let documented = app.viewer().get("devices?after=eyJjdXJzb3IiOiA0OTEsICJsaW1pdCI6IDN9").await.ok(200);
    assert_eq!(documented["devices"].as_array().unwrap().len(), 2, "row 491 lies before every other");
}

async fn refuses_wrong_pages(app: &TestApp) {
    let deployment = create(app, &Order::default()).await;
    let targets = format!("deployments/{}/devices", deployment.uuid);
    for path in ["devices", "deployments", "update-flows", &targets] {
        for (query, field) in [
            ("limit=0", "limit: "),
            ("limit=1001", "limit: "),
            ("limit=-1", "limit: "),
            ("limit=1.0", "limit: "),
            ("limit=99999999999999999999", "limit: "),
            ("after=x", "after: "),
            ("after=e30%3D", "after: "),
            ("after=eyJjdXJzb3IiOiAieCIsICJsaW1pdCI6IDN9", "after: "),
        ] {
            let refusal = app.viewer().get(&format!("{path}?{query}")).await.refused(400);
            assert!(refusal.starts_with(field), "{path}?{query}: {refusal}");
        }
        app.viewer().get(&format!("{path}?after=&limit=1000")).await.ok(200);
    }
}
