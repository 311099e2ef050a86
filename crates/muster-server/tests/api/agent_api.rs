//! The Agent API: devices that register and report by themselves.

use std::num::NonZeroU32;
use std::time::Duration;

use muster_core::token::Secret;
use muster_link::ToDevice;
use muster_store::fleets::FleetChange;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::{Answer, answer};
use crate::device::{Link, SimulatedDevice};
use crate::orders::{Order, create};

on_both_engines!(
    registers_with_what_is_given_and_defaults_for_the_rest,
    a_renamed_default_group_is_still_found,
    the_same_identifiers_are_the_same_device,
    another_project_is_an_error,
    registering_twice_at_once_makes_one_device,
    refuses_a_wrong_registration,
    tells_how_often_to_report,
    a_changed_heartbeat_is_told_until_it_is_fetched,
    a_status_is_a_sign_of_life_for_three_periods,
    keeps_what_is_plausible_of_a_status,
    refuses_a_wrong_status,
    a_deleted_device_is_told_to_stop,
    an_update_for_it_fails_at_once,
    takes_part_in_everything_else,
    opens_no_link,
    moving_it_is_a_change_of_parameters,
);

mod limits {
    on_both_engines!(
        with: crate::agent_api::few_calls;
        counts_the_calls_of_each_device,
    );

    async fn counts_the_calls_of_each_device(app: &crate::app::TestApp) {
        super::counts_the_calls_of_each_device(app).await;
    }
}

pub(crate) fn few_calls(config: &mut muster_server::ServerConfig) {
    config.agent_api_calls_per_minute = NonZeroU32::new(3).unwrap();
}

async fn register(app: &TestApp, more: &Value) -> Answer {
    let mut body = json!({ "device_identifier": ["02:00:00:00:00:01"], "project_name": "Demo fleet" });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    app.admin().v1_post("/v1/agent/register_device", &body).await
}

/// The token in the answer, which must hold nothing else.
#[track_caller]
fn token(answer: &Answer) -> Secret {
    let body = answer.ok(200);
    let token = body["message"]["device_token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    assert_eq!(body, json!({ "message": { "device_token": token } }));
    Secret::received(token)
}

async fn parameters(app: &TestApp, token: &Secret) -> Answer {
    let request = app.anon().bare(Method::GET, "/v1/agent/project_parameters");
    answer(request.json(&json!({ "device_token": token }))).await
}

async fn status(app: &TestApp, token: &Secret, more: &Value) -> Answer {
    let mut body = more.clone();
    body["device_token"] = json!(token);
    answer(app.anon().bare(Method::POST, "/v1/agent/device_status").json(&body)).await
}

async fn uuid(app: &TestApp, token: &Secret) -> String {
    let state = app.admin().v1_get("/v1/get_device_state", &json!({ "device_token": token })).await.ok(200);
    state["message"]["device_id"].as_str().unwrap().to_owned()
}

async fn seen(app: &TestApp, token: &Secret) -> Value {
    let uuid = uuid(app, token).await;
    app.admin().get(&format!("devices/{uuid}?enrich_info=true")).await.ok(200)
}

async fn registers_with_what_is_given_and_defaults_for_the_rest(app: &TestApp) {
    let bare = token(&register(app, &json!({})).await);
    assert!(bare.expose().starts_with("md_"));
    let whole = json!({
        "device_identifier": ["b", "a", "b"], "device_os": "RTOS 7", "upswift_version": "AgentAPI-v2",
        "device_name": "meter", "device_group": "Test", "software_version": "1.4", "something_else": { "x": 1 },
    });
    let whole = token(&register(app, &whole).await);
    let device = seen(app, &bare).await;
    let shown = |device: &Value| {
        ["device_name", "group_name", "agent_version", "device_status", "mac_address", "apps", "tags", "updates"]
            .map(|key| device[key].clone())
    };
    let expected = json!(["New Device", "Production", "AgentAPI-v1", "offline", ["02:00:00:00:00:01"], [], [], []]);
    assert_eq!(json!(shown(&device)), expected);
    let apps = json!([{ "app_name": "default_app", "version": "1.4" }]);
    let expected = json!(["meter", "Test", "AgentAPI-v2", "offline", ["a", "b"], apps, [], []]);
    assert_eq!(json!(shown(&seen(app, &whole).await)), expected);
    let log = app.audit().await;
    let line = format!(
        r#"user:admin RegisterDevice device:{} 127.0.0.1 {{"after":{{"device_name":"New Device","group_name":"Production"}},"before":null}}"#,
        uuid(app, &bare).await
    );
    assert_eq!(log[0], line);
}

async fn a_renamed_default_group_is_still_found(app: &TestApp) {
    app.admin().patch("groups/Test", &json!({ "name": "Lab" })).await.ok(200);
    app.admin().patch("groups/Production", &json!({ "name": "Field" })).await.ok(200);
    let bare = token(&register(app, &json!({})).await);
    assert_eq!(seen(app, &bare).await["group_name"], "Lab", "the oldest one");
    let named = json!({ "device_identifier": ["b"], "device_group": "Field" });
    let named = token(&register(app, &named).await);
    assert_eq!(seen(app, &named).await["group_name"], "Field");
    let gone = json!({ "device_identifier": ["c"], "device_group": "Production" });
    let refusal = register(app, &gone).await.agent_error(400);
    assert!(refusal.contains("device_group") && refusal.contains("Production"), "{refusal}");
}

async fn the_same_identifiers_are_the_same_device(app: &TestApp) {
    let old = token(&register(app, &json!({ "device_identifier": ["a", "b"], "device_name": "meter" })).await);
    let was = uuid(app, &old).await;
    let again = json!({
        "device_identifier": ["b", "a"], "device_name": "other", "device_group": "Test", "software_version": "2",
        "upswift_version": "AgentAPI-v9",
    });
    let new = token(&register(app, &again).await);
    assert_eq!(uuid(app, &new).await, was);
    let device = seen(app, &new).await;
    assert_eq!(json!([device["device_name"], device["group_name"]]), json!(["meter", "Production"]));
    assert_eq!(device["agent_version"], "AgentAPI-v9");
    assert_eq!(device["apps"], json!([{ "app_name": "default_app", "version": "2" }]));
    assert_eq!(status(app, &old, &json!({})).await.agent_error(400), "device_token: is not a valid device token");
    status(app, &new, &json!({})).await.ok(200);
    assert_eq!(app.admin().get("devices").await.ok(200)["pagination_info"]["total"], 1);
    let other = token(&register(app, &json!({ "device_identifier": ["a"] })).await);
    assert_ne!(uuid(app, &other).await, was);
}

async fn another_project_is_an_error(app: &TestApp) {
    let first = token(&register(app, &json!({})).await);
    let refusal = register(app, &json!({ "project_name": "Second fleet" })).await.agent_error(400);
    let expected = "project_name: the device is registered in another project; move it there, or delete it first";
    assert_eq!(refusal, expected);
    status(app, &first, &json!({})).await.ok(200);
    let abroad = json!({ "device_identifier": ["02:00:00:00:00:01"], "project_name": "Foreign fleet" });
    token(&app.stranger().v1_post("/v1/agent/register_device", &abroad).await);
}

async fn registering_twice_at_once_makes_one_device(app: &TestApp) {
    let body = json!({});
    let (one, two, three) = tokio::join!(register(app, &body), register(app, &body), register(app, &body));
    for answer in [&one, &two, &three] {
        token(answer);
    }
    assert_eq!(app.admin().get("devices").await.ok(200)["pagination_info"]["total"], 1);
}

async fn refuses_a_wrong_registration(app: &TestApp) {
    let too_many: Vec<String> = (0..33).map(|i| i.to_string()).collect();
    for (body, expected) in [
        (json!({ "device_identifier": [] }), "device_identifier: is empty"),
        (json!({ "device_identifier": "a" }), "device_identifier: invalid type: string \"a\", expected a sequence"),
        (json!({ "device_identifier": ["a", ""] }), "device_identifier[1]: \"\" is empty"),
        (
            json!({ "device_identifier": ["a", 7] }),
            "device_identifier[1]: invalid type: integer `7`, expected a string",
        ),
        (json!({ "device_identifier": ["\u{0}"] }), "device_identifier[0]: \"\\0\" holds a control character"),
        (json!({ "device_identifier": too_many }), "device_identifier: has 33 items, at most 32 are allowed"),
        (json!({ "project_name": "Nowhere" }), "project_name: no project is called \"Nowhere\""),
        (json!({ "project_name": "Foreign fleet" }), "project_name: no project is called \"Foreign fleet\""),
        (json!({ "project_name": "" }), "project_name: \"\" is empty"),
        (json!({ "device_group": "Nowhere" }), "device_group: no group of the project is called \"Nowhere\""),
        (json!({ "upswift_version": "v1" }), "upswift_version: \"v1\" does not begin with AgentAPI-"),
        (json!({ "device_name": "a\n" }), "device_name: \"a\\n\" holds the control character U+000A"),
        (json!({ "software_version": "a\n" }), "software_version: \"a\\n\" holds the control character U+000A"),
        (json!({ "user_token": "mu_x" }), "user_token: is not a valid account token"),
    ] {
        let mut whole = json!({ "device_identifier": ["a"], "project_name": "Demo fleet" });
        whole["user_token"] = json!(app.admin().keys.user);
        for (key, value) in body.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let request = app.anon().bare(Method::POST, "/v1/agent/register_device").json(&whole);
        assert_eq!(answer(request).await.agent_error(400), expected, "{body}");
    }
    for missing in ["device_identifier", "project_name"] {
        let mut body = json!({ "device_identifier": ["a"], "project_name": "Demo fleet" });
        body.as_object_mut().unwrap().remove(missing);
        let refusal = app.admin().v1_post("/v1/agent/register_device", &body).await.agent_error(400);
        assert_eq!(refusal, format!("{missing}: is required"));
    }
    let body = json!({ "device_identifier": ["a"], "project_name": "Demo fleet" });
    let refusal = app.viewer().v1_post("/v1/agent/register_device", &body).await.agent_error(400);
    assert_eq!(refusal, "this needs the permission register_and_move_devices in the fleet");
    assert_eq!(app.admin().get("devices").await.ok(200)["pagination_info"]["total"], 0);
}

async fn tells_how_often_to_report(app: &TestApp) {
    let device = token(&register(app, &json!({})).await);
    assert_eq!(parameters(app, &device).await.ok(200), json!({ "message": { "status_timeout": 25 } }));
    let with_agent = SimulatedDevice::enroll(app, "device").await;
    assert_eq!(parameters(app, &with_agent.token).await.ok(200), json!({ "message": { "status_timeout": 25 } }));
    for wrong in [Secret::received(""), app.admin().keys.user, app.admin().keys.access] {
        let refusal = parameters(app, &wrong).await.agent_error(400);
        assert_eq!(refusal, "device_token: is not a valid device token");
    }
    let request = app.anon().bare(Method::GET, "/v1/agent/project_parameters");
    assert_eq!(answer(request.json(&json!({}))).await.agent_error(400), "device_token: is required");
}

async fn set_heartbeat(app: &TestApp, heartbeat: Duration) {
    let fleet_id = app.house().fleet.id;
    app.write(async |tx| Ok(tx.change_fleet(fleet_id, &heartbeat_of(heartbeat)).await?)).await;
}

async fn a_changed_heartbeat_is_told_until_it_is_fetched(app: &TestApp) {
    let device = token(&register(app, &json!({})).await);
    assert_eq!(status(app, &device, &json!({})).await.ok(200), json!({ "message": "Success" }));
    set_heartbeat(app, Duration::from_millis(59_500)).await;
    for _ in 0..2 {
        let changed = status(app, &device, &json!({ "cpu": 3 })).await;
        assert_eq!(changed.agent_error(301), "the project's parameters have changed; fetch them again");
        assert!(!changed.headers.contains_key("location"), "it is no redirect");
    }
    app.flush_keepalives().await;
    let known = seen(app, &device).await;
    assert_eq!(json!([known["device_status"], known["cpu_usage"]]), json!(["online", 3.0]), "it lives all the same");
    assert_eq!(parameters(app, &device).await.ok(200), json!({ "message": { "status_timeout": 60 } }));
    status(app, &device, &json!({})).await.ok(200);
}

async fn a_status_is_a_sign_of_life_for_three_periods(app: &TestApp) {
    let device = token(&register(app, &json!({})).await);
    assert_eq!(seen(app, &device).await["device_status"], "offline");
    status(app, &device, &json!({})).await.ok(200);
    app.flush_keepalives().await;
    let state = async || seen(app, &device).await["device_status"].clone();
    assert_eq!(state().await, "online");
    app.wait(Duration::from_secs(74)).await;
    assert_eq!(state().await, "online");
    app.wait(Duration::from_secs(1)).await;
    assert_eq!(state().await, "offline");
}

async fn keeps_what_is_plausible_of_a_status(app: &TestApp) {
    let device = token(&register(app, &json!({})).await);
    for (figures, expected) in [
        (
            json!({ "ram": 40, "cpu": 12.34, "disk_usage_total": 8000, "disk_usage_current": 1500.5, "uptime": "7 d" }),
            json!([40.0, 12.3, 1500, 8000]),
        ),
        (
            json!({ "ram": "40.5", "cpu": " 7 ", "disk_usage_total": "10", "disk_usage_curr": "5" }),
            json!([40.5, 7.0, 5, 10]),
        ),
        (
            json!({ "ram": 101, "cpu": -1, "disk_usage_total": -5, "disk_usage_current": 1e300 }),
            json!([null, null, 9_223_372_036_854_i64, 0]),
        ),
        (json!({ "ram": null, "cpu": null, "disk_usage_total": null }), json!([null, null, 0, 0])),
    ] {
        app.wait(Duration::from_secs(1)).await;
        assert_eq!(status(app, &device, &figures).await.ok(200), json!({ "message": "Success" }));
        app.flush_keepalives().await;
        let seen = seen(app, &device).await;
        let actual = json!([seen["ram_usage"], seen["cpu_usage"], seen["current_disk_usage"], seen["disk_size"]]);
        assert_eq!(actual, expected, "{figures}");
        assert_eq!(seen["device_ip"], "127.0.0.1");
    }
}

async fn refuses_a_wrong_status(app: &TestApp) {
    let device = token(&register(app, &json!({})).await);
    for (figures, expected) in [
        (json!({ "ram": "much" }), "ram: \"much\" is not a number"),
        (json!({ "cpu": [] }), "cpu: [] is not a number"),
        (json!({ "disk_usage_total": true }), "disk_usage_total: true is not a number"),
        (json!({ "disk_usage_current": "NaN" }), "disk_usage_current: \"NaN\" is not a number"),
    ] {
        assert_eq!(status(app, &device, &figures).await.agent_error(400), expected);
    }
    app.flush_keepalives().await;
    assert_eq!(seen(app, &device).await["device_status"], "offline");
    let request = app.anon().bare(Method::POST, "/v1/agent/device_status").body("nonsense");
    assert!(answer(request).await.agent_error(400).starts_with("the body is not JSON"));
}

async fn a_deleted_device_is_told_to_stop(app: &TestApp) {
    let device = token(&register(app, &json!({})).await);
    let uuid = uuid(app, &device).await;
    app.admin().delete(&format!("devices/{uuid}")).await.empty(204);
    let expected = "the device was deleted from its project; stop registering and reporting";
    for answer in [
        status(app, &device, &json!({})).await,
        parameters(app, &device).await,
        register(app, &json!({})).await,
        register(app, &json!({ "project_name": "Second fleet" })).await,
    ] {
        assert_eq!(answer.agent_error(350), expected);
    }
    app.admin().post(&format!("deleted-devices/{uuid}/forget"), &json!({})).await.empty(204);
    let refusal = status(app, &device, &json!({})).await.agent_error(400);
    assert_eq!(refusal, "device_token: is not a valid device token");
    token(&register(app, &json!({})).await);
    let with_agent = SimulatedDevice::enroll(app, "device").await;
    app.admin().delete(&format!("devices/{}", with_agent.uuid)).await.empty(204);
    assert_eq!(status(app, &with_agent.token, &json!({})).await.agent_error(350), expected);
}

async fn an_update_for_it_fails_at_once(app: &TestApp) {
    let device = token(&register(app, &json!({})).await);
    let with_agent = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let path = format!("deployments/{}/devices/{}?enrich_info=true", deployment.uuid, uuid(app, &device).await);
    let target = app.viewer().get(&path).await.ok(200);
    let shown = ["status", "reason_code", "reason", "started_time", "finished_time"].map(|key| target[key].clone());
    let reason = "The device has no agent that could carry out an update.";
    assert_eq!(json!(shown), json!(["Failed", "no_agent", reason, null, "2025-06-09 14:10:44"]));
    assert_eq!(deployment.stands(app, &with_agent).await.0, "Pending");
    let updates = seen(app, &device).await["updates"].clone();
    assert_eq!(updates[0]["deployment_status"], "failed");
    deployment.abort(app).await;
    assert_eq!(app.viewer().get(&path).await.ok(200)["status"], "Failed");
    let failed = json!([{ "type": "update_status", "operand": "is", "value": "failed" }]);
    let count = json!({ "device_filter": { "filters": failed }, "expected_count": 0 });
    let counted = app.admin().post("devices/delete", &count).await.refused(409);
    assert_eq!(counted, "expected_count: 1 devices match, not 0");
}

async fn takes_part_in_everything_else(app: &TestApp) {
    let device = token(&register(app, &json!({ "device_name": "meter" })).await);
    let uuid = uuid(app, &device).await;
    let change = json!([
        { "op": "add", "path": "tags", "value": ["London"] }, { "op": "replace", "path": "group_name", "value": "Test" },
    ]);
    app.admin().change(&uuid, &change).await;
    let listed = app.viewer().get("devices?tags=London&group_name=Test").await.ok(200);
    assert_eq!(listed["devices"][0]["device_uuid"], json!(uuid));
    let details = app.viewer().v1_get("/v1/devices_details", &json!({ "device_token": device })).await.ok(200);
    assert_eq!(details["message"][0]["device_name"], "meter");
    assert_eq!(details["message"][0]["mac_addresses"], json!(["02:00:00:00:00:01"]));
}

async fn opens_no_link(app: &TestApp) {
    let device = token(&register(app, &json!({})).await);
    let uuid = uuid(app, &device).await.parse().unwrap();
    let mut link = Link::dial(app).await;
    link.say_hello(&app.identity(), &uuid).await;
    assert!(matches!(link.next().await, Some(ToDevice::Refused { .. })));
}

async fn moving_it_is_a_change_of_parameters(app: &TestApp) {
    let device = token(&register(app, &json!({})).await);
    let second = app.house().second.id;
    app.write(async |tx| Ok(tx.change_fleet(second, &heartbeat_of(Duration::from_secs(60))).await?)).await;
    let to = json!({ "destination_project_key": "second", "destination_group_name": "Test" });
    app.admin().post(&format!("devices/{}/move", uuid(app, &device).await), &to).await.ok(200);
    status(app, &device, &json!({})).await.agent_error(301);
    assert_eq!(parameters(app, &device).await.ok(200), json!({ "message": { "status_timeout": 60 } }));
    register(app, &json!({})).await.agent_error(400);
    token(&register(app, &json!({ "project_name": "Second fleet" })).await);
}

async fn counts_the_calls_of_each_device(app: &TestApp) {
    let (busy, idle) = (
        token(&register(app, &json!({})).await),
        token(&register(app, &json!({ "device_identifier": ["other"] })).await),
    );
    for _ in 0..3 {
        status(app, &busy, &json!({})).await.ok(200);
    }
    let limited = status(app, &busy, &json!({})).await;
    assert_eq!(limited.ok(429), json!({}));
    assert!((1..=20).contains(&limited.header("retry-after").parse::<u64>().unwrap()));
    parameters(app, &busy).await.ok(429);
    status(app, &idle, &json!({})).await.ok(200);
}

fn heartbeat_of(heartbeat: Duration) -> FleetChange {
    FleetChange { heartbeat: Some(heartbeat), ..FleetChange::default() }
}
