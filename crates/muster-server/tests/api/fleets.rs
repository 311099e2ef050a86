//! Fleets of an account: `/api/v2/account/fleets`.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;
use crate::orders::{FLOW, Order, create, flow};

on_both_engines!(
    shows_each_caller_the_fleets_they_see,
    makes_changes_and_deletes_a_fleet,
    walks_the_fleets_by_pages,
    refuses_wrong_fleets,
    a_fleet_with_devices_stays,
    a_fleet_goes_with_all_it_has,
    the_last_fleet_of_an_account_stays,
);

const FLEETS: &str = "/api/v2/account/fleets";
const MADE: &str = "2025-06-09T14:10:44Z";

fn fleet(key: &str, name: &str, devices: u64) -> Value {
    json!({
        "project_key": key, "name": name, "heartbeat_seconds": 25, "created_time": MADE,
        "device_count": devices, "group_count": 2,
    })
}

async fn shows_each_caller_the_fleets_they_see(app: &TestApp) {
    SimulatedDevice::enroll(app, "device").await;
    let (demo, second) = (fleet("demo", "Demo fleet", 1), fleet("second", "Second fleet", 0));
    let foreign = fleet("foreign", "Foreign fleet", 0);
    for (caller, expected) in [
        (app.admin(), vec![&demo, &second]),
        (app.viewer(), vec![&demo]),
        (app.neighbour(), vec![&second]),
        (app.stranger(), vec![&foreign]),
    ] {
        let total = expected.len();
        let page = json!({ "fleets": expected, "pagination_info": { "after": null, "total": total } });
        assert_eq!(caller.get(FLEETS).await.ok(200), page);
    }
    assert_eq!(app.viewer().get(&format!("{FLEETS}/demo")).await.ok(200), demo);
    let unseen = app.viewer().get(&format!("{FLEETS}/second")).await.refused(404);
    assert_eq!(unseen, "no fleet \"second\" was found");
    assert_eq!(app.viewer().get(&format!("{FLEETS}/nowhere")).await.refused(404), unseen.replace("second", "nowhere"));
}

async fn makes_changes_and_deletes_a_fleet(app: &TestApp) {
    let new = json!({ "project_key": "shops", "name": "Shops", "heartbeat_seconds": 60 });
    let mut expected = fleet("shops", "Shops", 0);
    expected["heartbeat_seconds"] = json!(60);
    assert_eq!(app.admin().post(FLEETS, &new).await.ok(201), expected);
    let path = format!("{FLEETS}/shops");
    let change = json!({ "name": "All shops", "heartbeat_seconds": 5 });
    expected["name"] = json!("All shops");
    expected["heartbeat_seconds"] = json!(5);
    assert_eq!(app.admin().patch(&path, &change).await.ok(200), expected);
    assert_eq!(app.admin().patch(&path, &json!({})).await.ok(200), expected, "what is left out stays");
    assert_eq!(app.admin().get(&path).await.ok(200), expected);
    app.admin().delete(&path).await.done();
    app.admin().get(&path).await.refused(404);
    app.admin().delete(&path).await.refused(404);
    let log = app.audit().await;
    let first = r#"{"heartbeat_seconds":60,"name":"Shops"}"#;
    let last = r#"{"heartbeat_seconds":5,"name":"All shops"}"#;
    assert_eq!(
        log,
        [
            format!(r#"user:admin CreateFleet fleet:shops 127.0.0.1 {{"after":{first}}}"#),
            format!(r#"user:admin PatchFleet fleet:shops 127.0.0.1 {{"after":{last},"before":{first}}}"#),
            format!(r#"user:admin PatchFleet fleet:shops 127.0.0.1 {{"after":{last},"before":{last}}}"#),
            format!(r#"user:admin DeleteFleet fleet:shops 127.0.0.1 {{"before":{last}}}"#),
        ]
    );
}

async fn walks_the_fleets_by_pages(app: &TestApp) {
    for number in 0..3 {
        let new = json!({ "project_key": format!("f{number}"), "name": format!("Fleet {number}") });
        app.admin().post(FLEETS, &new).await.ok(201);
    }
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let page = app.admin().get(&format!("{FLEETS}?limit=2&after={after}")).await.ok(200);
        assert_eq!(page["pagination_info"]["total"], 5);
        found.extend(page["fleets"].as_array().unwrap().iter().map(|fleet| fleet["project_key"].clone()));
        match page["pagination_info"]["after"].as_str() {
            Some(next) => after = next.replace('+', "%2B").replace('=', "%3D"),
            None => break,
        }
    }
    assert_eq!(json!(found), json!(["demo", "second", "f0", "f1", "f2"]));
}

async fn refuses_wrong_fleets(app: &TestApp) {
    let new = |key: &str, name: &str| json!({ "project_key": key, "name": name });
    for (body, expected) in [
        (new("account", "Account"), "project_key: \"account\" is reserved"),
        (new("No", "Name"), "project_key: \"No\" is not a project key: "),
        (new("good", ""), "name: \"\" is empty"),
        (json!({ "name": "x" }), "project_key: is required"),
        (json!({ "project_key": "good" }), "name: is required"),
        (
            json!({ "project_key": "good", "name": "x", "heartbeat_seconds": 4 }),
            "heartbeat_seconds: 4 is not a number from 5 to 3600",
        ),
        (json!({ "project_key": "good", "name": "x", "heartbeat_seconds": 3_601 }), "heartbeat_seconds: 3601 is not"),
        (json!({ "project_key": "good", "name": "x", "heartbeat_seconds": 5.5 }), "heartbeat_seconds: invalid type"),
        (json!({ "project_key": "good", "name": "x", "key": 1 }), "key: unknown field"),
    ] {
        let refusal = app.admin().post(FLEETS, &body).await.refused(400);
        assert!(refusal.starts_with(expected), "{body}: {refusal}");
    }
    for (body, expected) in [
        (new("demo", "Other"), "project_key: fleet \"demo\" exists already"),
        (new("other", "Second fleet"), "name: fleet \"Second fleet\" exists already"),
    ] {
        let expected = (409, "conflict".to_owned(), expected.to_owned());
        assert_eq!(app.admin().post(FLEETS, &body).await.v2_error(), expected);
    }
    let path = format!("{FLEETS}/demo");
    for (body, expected) in [
        (json!({ "project_key": "x" }), "project_key: unknown field"),
        (json!({ "heartbeat_seconds": 0 }), "heartbeat_seconds: 0 is not"),
        (json!({ "name": " " }), "name: \" \" is empty"),
    ] {
        let refusal = app.admin().patch(&path, &body).await.refused(400);
        assert!(refusal.starts_with(expected), "{body}: {refusal}");
    }
    let taken = app.admin().patch(&path, &json!({ "name": "Second fleet" })).await.refused(409);
    assert_eq!(taken, "name: fleet \"Second fleet\" exists already");
    assert_eq!(app.audit().await, Vec::<String>::new());
    app.stranger().post(FLEETS, &new("demo", "Demo fleet")).await.ok(201);
}

async fn a_fleet_with_devices_stays(app: &TestApp) {
    SimulatedDevice::enroll(app, "one").await;
    let path = format!("{FLEETS}/demo");
    let expected = (409, "in_use".to_owned(), "the fleet \"demo\" has 1 device".to_owned());
    assert_eq!(app.admin().delete(&path).await.v2_error(), expected);
    SimulatedDevice::enroll(app, "two").await;
    assert_eq!(app.admin().delete(&path).await.refused(409), "the fleet \"demo\" has 2 devices");
    assert_eq!(app.admin().get(&path).await.ok(200), fleet("demo", "Demo fleet", 2));
}

async fn a_fleet_goes_with_all_it_has(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    flow(app, FLOW).await;
    app.admin().post("filters", &json!({ "name": "all", "device_filter": {} })).await.ok(201);
    create(app, &Order { comment: "first", ..Order::default() }).await;
    let to = json!({ "destination_project_key": "second", "destination_group_name": "Test" });
    app.admin().post(&format!("devices/{}/move", device.uuid), &to).await.ok(200);
    app.admin().delete(&format!("{FLEETS}/demo")).await.done();
    app.admin().get("deployments").await.refused(404);
    app.viewer().get(FLEETS).await.ok(200);
    let seen = app.neighbour().get(&format!("/api/v2/second/devices/{}?enrich_info=true", device.uuid)).await.ok(200);
    assert_eq!(seen["updates"], json!([]), "its part in the fleet's deployments is gone");
    let request = muster_link::EnrollRequest::new(&app.identity(), app.house().pairing.clone(), crate::device::facts());
    crate::device::post_enrolment(app, &request).await.refused(401);
    let again = json!({ "project_key": "demo", "name": "Demo fleet" });
    assert_eq!(app.admin().post(FLEETS, &again).await.ok(201), fleet("demo", "Demo fleet", 0));
}

async fn the_last_fleet_of_an_account_stays(app: &TestApp) {
    let refusal = app.stranger().delete(&format!("{FLEETS}/foreign")).await.v2_error();
    let text = "the last fleet of an account cannot be deleted";
    assert_eq!(refusal, (409, "in_use".to_owned(), text.to_owned()));
}
