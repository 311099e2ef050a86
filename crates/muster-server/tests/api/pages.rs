//! Cursors of API v2: nothing is skipped or repeated while others come.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_server::http::Cursor;
use muster_store::ConnectionTrait;
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
    walks_are_exact_while_many_write,
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

/// Walks of each list, one after the other, while the writers go on.
const WALKS: usize = 4;

/// Every walk finds each device that nobody touches exactly once and in order, none
/// twice, and none that was never there; store tests do the same with random steps.
async fn walks_are_exact_while_many_write(app: &TestApp) {
    let (mut untouched, mut fickle) = (Vec::new(), Vec::new());
    for i in 0..6 {
        untouched.push(SimulatedDevice::enroll(app, &format!("untouched {i}")).await.uuid.to_string());
        fickle.push(SimulatedDevice::enroll(app, &format!("fickle {i}")).await.uuid.to_string());
    }
    let foreign = SimulatedDevice::enroll_with(app, &app.house().second_pairing, "foreign").await.uuid.to_string();
    for uuid in untouched.iter().chain(&fickle) {
        app.admin().change(uuid, &json!([{ "op": "add", "path": "tags", "value": ["a"] }])).await;
    }
    let is_done = AtomicBool::new(false);
    let walks = async {
        for _ in 0..WALKS {
            for found in [by_cursor(app, "").await, by_cursor(app, "&tags=a").await, by_uuid(app).await] {
                let unique: BTreeSet<&String> = found.iter().collect();
                assert_eq!(unique.len(), found.len(), "twice: {found:?}");
                let kept: Vec<&String> = found.iter().filter(|uuid| untouched.contains(uuid)).collect();
                assert_eq!(kept, untouched.iter().collect::<Vec<_>>(), "of {found:?}");
                assert!(!found.contains(&foreign), "{found:?}");
            }
        }
        is_done.store(true, Ordering::SeqCst);
    };
    let writers = async {
        tokio::join!(moves(app, &fickle[..3], &is_done), retags(app, &fickle[3..], &is_done), comes(app, &is_done));
    };
    tokio::join!(walks, writers);
}

async fn by_cursor(app: &TestApp, query: &str) -> Vec<String> {
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let page = app.viewer().get(&format!("devices?limit=2&after={after}{query}")).await.ok(200);
        found.extend(page["devices"].as_array().unwrap().iter().map(|device| word(device, "device_uuid")));
        match page["pagination_info"]["after"].as_str() {
            Some(next) => after = next.replace('+', "%2B").replace('=', "%3D"),
            None => return found,
        }
    }
}

/// API v1's list of states goes on behind a device. When that one has been deleted it
/// is refused, never guessed at, and the caller goes on behind the one before.
async fn by_uuid(app: &TestApp) -> Vec<String> {
    let (mut found, mut back): (Vec<String>, usize) = (Vec::new(), 0);
    loop {
        let mut body = json!({ "project_name": "Demo fleet", "limit": 2 });
        if let Some(last) = found.len().checked_sub(1 + back) {
            body["offset"] = json!(found[last]);
        }
        let answer = app.admin().v1_get("/v1/get_devices_state", &body).await;
        if answer.status == 400 {
            assert!(answer.v1_error().starts_with("offset: "));
            back += 1;
            continue;
        }
        let page: Vec<String> =
            answer.ok(200)["message"].as_array().unwrap().iter().map(|device| word(device, "device_uuid")).collect();
        if page.is_empty() {
            return found;
        }
        // What stood behind the deleted ones is gone with them: nothing comes again.
        (back, found) = (0, [found, page].concat());
    }
}

fn word(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no {key}: {value}")).to_owned()
}

/// Devices move to another fleet and back.
async fn moves(app: &TestApp, fickle: &[String], is_done: &AtomicBool) {
    while !is_done.load(Ordering::SeqCst) {
        for uuid in fickle {
            for (from, to) in [("demo", "second"), ("second", "demo")] {
                let path = format!("/api/v2/{from}/devices/{uuid}/move");
                let body = json!({ "destination_project_key": to, "destination_group_name": "Production" });
                app.admin().post(&path, &body).await.ok(200);
            }
        }
    }
}

async fn retags(app: &TestApp, fickle: &[String], is_done: &AtomicBool) {
    while !is_done.load(Ordering::SeqCst) {
        for uuid in fickle {
            for op in ["remove", "add"] {
                app.admin().change(uuid, &json!([{ "op": op, "path": "tags", "value": ["a"] }])).await;
            }
        }
    }
}

/// Devices enrol and are deleted again, behind the server's back.
async fn comes(app: &TestApp, is_done: &AtomicBool) {
    while !is_done.load(Ordering::SeqCst) {
        let id = SimulatedDevice::enroll(app, "short-lived").await.row().await.id;
        let sql = format!("DELETE FROM devices WHERE id = {id}");
        app.write(async |tx| {
            Ok(tx.execute_unprepared(&sql).await.map(drop).map_err(muster_store::StoreError::from)?)
        })
        .await;
    }
}
