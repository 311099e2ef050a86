//! Rollouts: waves and budgets as a person asks for them, and why a device waits.

use std::time::Duration;

use muster_core::target::{RunEvent, RunOutcome};
use muster_link::ToServer;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::{Link, SimulatedDevice, finished, step};
use crate::orders::{Deployment, FLOW, Order, create, flow, standing};

on_both_engines!(
    shows_its_waves_and_why_each_device_waits,
    pauses_when_its_failures_exceed_the_budget,
    a_person_pauses_and_resumes,
    tries_failed_devices_again,
    a_budget_keeps_a_site_running,
    a_site_is_kept_running_whatever_its_devices_are_at,
    includes_devices_that_come_later,
    begins_at_its_time,
    begins_while_a_window_is_open_where_the_device_is,
    a_device_that_says_not_now_is_asked_again,
    ends_while_it_is_paused,
    deadlines_of_the_fleet_the_flow_and_the_deployment,
    refuses_what_cannot_be,
);

/// Deploys to the whole fleet with these words in its configuration.
async fn configured(app: &TestApp, words: Value) -> Deployment {
    let created = try_configured(app, words).await.ok(201);
    Deployment { uuid: created["deployment_uuid"].as_str().unwrap().to_owned() }
}

async fn try_configured(app: &TestApp, words: Value) -> crate::caller::Answer {
    let mut configuration = words;
    configuration["flow_uuid"] = json!(flow(app, FLOW).await);
    app.operator().post("deployments", &json!({ "device_filter": {}, "deployment_configuration": configuration })).await
}

async fn rollout(app: &TestApp, policy: Value) -> Deployment {
    configured(app, json!({ "rollout": policy })).await
}

async fn seen(app: &TestApp, deployment: &Deployment) -> Value {
    app.viewer().get(&format!("deployments/{}", deployment.uuid)).await.ok(200)["rollout"].clone()
}

async fn act(app: &TestApp, deployment: &Deployment, what: &str) -> crate::caller::Answer {
    app.operator().post(&format!("deployments/{}/{what}", deployment.uuid), &json!({})).await
}

/// Devices in the order of their rows, by which rollouts go, each with its link.
async fn linked(app: &TestApp, count: usize) -> Vec<(SimulatedDevice<'_>, Link)> {
    let mut rows = Vec::new();
    for number in 0..count {
        let device = SimulatedDevice::enroll(app, &format!("device {number}")).await;
        rows.push((device.row().await.id, device));
    }
    rows.sort_by_key(|(id, _)| *id);
    let mut devices = Vec::new();
    for (_, device) in rows {
        let link = device.connect().await;
        devices.push((device, link));
    }
    devices
}

async fn fail(link: &mut Link) {
    let run = link.instruction().await.run;
    link.told(&run, 1, RunEvent::Accepted).await;
    link.told(&run, 2, finished(RunOutcome::Failed, "step_failed")).await;
}

async fn shows_its_waves_and_why_each_device_waits(app: &TestApp) {
    let mut devices = linked(app, 4).await;
    let policy = json!({ "waves": [{ "count": 2 }], "in_progress_max": 1, "soak_minutes": 30 });
    let deployment = rollout(app, policy.clone()).await;
    app.reconcile().await;
    let counts = |waiting, in_progress, succeeded| json!({ "waiting": waiting, "in_progress": in_progress, "succeeded": succeeded, "failed": 0, "ended_otherwise": 0 });
    let expected = json!({
        "status": "running", "wave": 1, "next_wave_time": null, "policy": policy,
        "waves": [counts(1, 1, 0), counts(2, 0, 0)],
    });
    assert_eq!(seen(app, &deployment).await, expected);
    for (place, code) in ["starting", "concurrency_budget", "wave_not_begun", "wave_not_begun"].iter().enumerate() {
        assert_eq!(deployment.stands(app, &devices[place].0).await, standing("Pending", code), "device {place}");
    }
    for (_, link) in &mut devices[..2] {
        app.reconcile().await;
        link.succeed().await;
    }
    app.reconcile().await;
    let soaking = seen(app, &deployment).await;
    assert_eq!((&soaking["wave"], &soaking["next_wave_time"]), (&json!(1), &json!("2025-06-09T14:40:44Z")));
    assert_eq!(deployment.stands(app, &devices[2].0).await, standing("Pending", "wave_soaking"));
    app.app().clock().advance(Duration::from_secs(1_800));
    let (device, link) = &mut devices[2];
    *link = device.connect().await;
    app.reconcile().await;
    link.succeed().await;
    assert_eq!(seen(app, &deployment).await["wave"], 2);
    let listed = app.viewer().get("deployments").await.ok(200);
    assert_eq!(listed["deployments"][0]["rollout"]["waves"][0], counts(0, 0, 2));
}

async fn pauses_when_its_failures_exceed_the_budget(app: &TestApp) {
    let mut devices = linked(app, 4).await;
    let deployment = rollout(app, json!({ "in_progress_max": 1, "failures_max": { "count": 1 } })).await;
    for (_, link) in &mut devices[..2] {
        app.reconcile().await;
        fail(link).await;
    }
    app.reconcile().await;
    assert_eq!(seen(app, &deployment).await["status"], "failure_budget_spent");
    assert_eq!(deployment.stands(app, &devices[2].0).await, standing("Pending", "failure_budget_spent"));
    let told = app.audit().await.pop().unwrap();
    assert!(
        told.contains("server") && told.contains("PauseDeployment") && told.contains("failure_budget_spent"),
        "{told}"
    );
    let resumed = act(app, &deployment, "resume").await.ok(200);
    assert_eq!(resumed["rollout"]["status"], "running");
    app.reconcile().await;
    devices[2].1.succeed().await;
    assert_eq!(act(app, &deployment, "resume").await.ok(409)["code"], "deployment_not_paused");
}

async fn a_person_pauses_and_resumes(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    assert_eq!(seen(app, &deployment).await, Value::Null, "as documented, unless it is asked for");
    for _ in 0..2 {
        assert_eq!(act(app, &deployment, "pause").await.ok(200)["rollout"]["status"], "paused");
    }
    let mut link = device.connect().await;
    app.reconcile().await;
    link.fence().await;
    assert_eq!(deployment.stands(app, &device).await, standing("Pending", "rollout_paused"));
    act(app, &deployment, "resume").await.ok(200);
    app.reconcile().await;
    link.succeed().await;
    app.reconcile().await;
    assert_eq!(act(app, &deployment, "pause").await.ok(409)["code"], "deployment_finished");
}

async fn tries_failed_devices_again(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let mut link = device.connect().await;
    let run = link.instruction().await.run;
    link.told(&run, 1, RunEvent::Accepted).await;
    link.told(&run, 2, step(0, 7)).await;
    link.told(&run, 3, finished(RunOutcome::Failed, "step_failed")).await;
    assert_eq!(act(app, &deployment, "retry_failed").await.ok(200), json!({ "retried": 1 }));
    assert_eq!(deployment.target(app, &device).await["steps"], json!([]), "the newest has not begun");
    let again = link.succeed().await.run;
    assert_eq!(again.to_string(), format!("{}.2", deployment.uuid));
    assert_eq!(deployment.stands(app, &device).await, standing("Succeeded", ""));
    assert_eq!(deployment.target(app, &device).await["attempt"], 2);
    assert_eq!(act(app, &deployment, "retry_failed").await.ok(200), json!({ "retried": 0 }));
    let path = format!("deployments/{}/devices/{}?attempt=", deployment.uuid, device.uuid);
    let first = app.viewer().get(&format!("{path}1&enrich_info=true")).await.ok(200);
    assert_eq!((&first["status"], &first["reason_code"]), (&json!("Failed"), &json!("step_failed")));
    assert_eq!((&first["attempt"], &first["steps"][0]["exit_code"]), (&json!(1), &json!(7)));
    assert_eq!(app.viewer().get(&format!("{path}2")).await.ok(200)["status"], "Succeeded");
    app.viewer().get(&format!("{path}3")).await.ok(404);
    app.viewer().get(&format!("{path}0")).await.ok(400);
}

async fn a_budget_keeps_a_site_running(app: &TestApp) {
    let mut devices = linked(app, 3).await;
    for (place, site) in [(0, "site=1"), (1, "site=1"), (2, "site=2")] {
        let tagged = json!([{ "op": "add", "path": "tags", "value": [site] }]);
        app.operator().change(devices[place].0.uuid.as_str(), &tagged).await;
    }
    let deployment = rollout(app, json!({ "disruption": { "tag_key": "site", "in_progress_max": 1 } })).await;
    app.reconcile().await;
    devices[2].1.succeed().await;
    assert_eq!(deployment.stands(app, &devices[1].0).await, standing("Pending", "disruption_budget"));
    devices[0].1.succeed().await;
    app.reconcile().await;
    devices[1].1.succeed().await;
    app.reconcile().await;
    assert_eq!(seen(app, &deployment).await["status"], "finished");
}

async fn a_site_is_kept_running_whatever_its_devices_are_at(app: &TestApp) {
    let mut devices = linked(app, 2).await;
    for (device, _) in &devices {
        let tagged = json!([{ "op": "add", "path": "tags", "value": ["site=1"] }]);
        app.operator().change(device.uuid.as_str(), &tagged).await;
    }
    create(app, &Order::to(&devices[1].0)).await;
    app.reconcile().await;
    let deployment = rollout(app, json!({ "disruption": { "tag_key": "site", "in_progress_max": 1 } })).await;
    app.reconcile().await;
    assert_eq!(deployment.stands(app, &devices[0].0).await, standing("Pending", "disruption_budget"));
    devices[1].1.succeed().await;
    app.reconcile().await;
    devices[0].1.succeed().await;
}

async fn includes_devices_that_come_later(app: &TestApp) {
    let deployment = rollout(app, json!({ "follow_until": "2025-06-09T16:00:00Z" })).await;
    let late = SimulatedDevice::enroll(app, "late").await;
    app.app().clock().advance(Duration::from_secs(60));
    let mut link = late.connect().await;
    app.reconcile().await;
    link.succeed().await;
    assert_eq!(deployment.devices(app).await, [late.uuid.to_string()]);
    app.wait(Duration::from_secs(2 * 3_600)).await;
    assert_eq!(seen(app, &deployment).await["status"], "finished");
}

async fn begins_at_its_time(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = rollout(app, json!({ "start_time": "2025-06-09T14:11:44Z" })).await;
    let mut link = device.connect().await;
    app.reconcile().await;
    assert_eq!(deployment.stands(app, &device).await, standing("Pending", "scheduled_start"));
    app.app().clock().advance(Duration::from_secs(60));
    app.reconcile().await;
    link.succeed().await;
}

async fn begins_while_a_window_is_open_where_the_device_is(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect().await;
    // It is 16:10 in Berlin; the simulated device does not tell where it is.
    let windows = json!([{ "cron": "30 16 * * *", "minutes": 60, "time_zone": "Europe/Berlin" }]);
    let path = "/api/v2/account/fleets/demo";
    let patched = app.admin().patch(path, &json!({ "update_windows": windows })).await.ok(200);
    assert_eq!(patched["update_windows"], windows);
    let deployments = [create(app, &Order::default()).await, rollout(app, json!({ "in_progress_max": 1 })).await];
    app.reconcile().await;
    link.fence().await;
    for deployment in &deployments {
        assert_eq!(deployment.stands(app, &device).await, standing("Pending", "outside_update_window"));
    }
    app.app().clock().advance(Duration::from_secs(20 * 60));
    for _ in &deployments {
        app.reconcile().await;
        link.succeed().await;
    }
    let refused = app.admin().patch(path, &json!({ "update_windows": [{ "cron": "soon", "minutes": 1 }] })).await;
    assert!(refused.ok(400)["message"].as_str().unwrap().starts_with("update_windows[0].cron: \"soon\""));
    let patched = app.admin().patch(path, &json!({ "update_windows": [] })).await.ok(200);
    assert_eq!(patched["update_windows"], Value::Null);
}

async fn a_device_that_says_not_now_is_asked_again(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let mut link = device.connect().await;
    let run = link.instruction().await.run;
    link.send(&ToServer::NotNow { run, reason: "a patient is connected".to_owned() }).await;
    link.fence().await;
    app.reconcile().await;
    link.fence().await;
    let target = deployment.target(app, &device).await;
    assert_eq!((&target["status"], &target["reason_code"]), (&json!("Pending"), &json!("device_refuses")));
    assert_eq!(target["reason"], "The device says not now: a patient is connected");
    app.app().clock().advance(muster_core::limits::ASK_AGAIN_AFTER);
    app.reconcile().await;
    link.succeed().await;
    assert_eq!(deployment.stands(app, &device).await, standing("Succeeded", ""));
}

async fn ends_while_it_is_paused(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let words = json!({ "deadlines": { "pending_minutes": 10 }, "rollout": { "in_progress_max": 1 } });
    let deployment = configured(app, words).await;
    act(app, &deployment, "pause").await.ok(200);
    app.wait(Duration::from_secs(600)).await;
    assert_eq!(deployment.stands(app, &device).await, standing("Failed", "pending_deadline"));
    assert_eq!(seen(app, &deployment).await["status"], "finished");
}

async fn deadlines_of_the_fleet_the_flow_and_the_deployment(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let minutes = json!({ "pending_minutes": 30, "abort_minutes": 5 });
    let path = "/api/v2/account/fleets/demo";
    let patched = app.admin().patch(path, &json!({ "deadlines": minutes })).await.ok(200);
    assert_eq!(patched["deadlines"], minutes);
    let of_fleet = create(app, &Order::default()).await;
    assert_eq!(of_fleet.target(app, &device).await["deadline_time"], "2025-06-09 14:40:44");
    let document = FLOW.replace("  Update:\n", "  Update:\n    deadlines: {pending-minutes: 20}\n");
    let body = json!({ "device_filter": {}, "deployment_configuration": { "flow_uuid": flow(app, &document).await } });
    let created = app.operator().post("deployments", &body).await.ok(201);
    let of_flow = Deployment { uuid: created["deployment_uuid"].as_str().unwrap().to_owned() };
    assert_eq!(of_flow.target(app, &device).await["deadline_time"], "2025-06-09 14:30:44");
    let own = configured(app, json!({ "deadlines": { "pending_minutes": 10, "run_minutes": 7 } })).await;
    assert_eq!(own.target(app, &device).await["deadline_time"], "2025-06-09 14:20:44");
    let mut link = device.connect().await;
    let run = link.instruction().await.run;
    link.told(&run, 1, RunEvent::Accepted).await;
    of_fleet.abort(app).await;
    assert_eq!(of_fleet.target(app, &device).await["deadline_time"], "2025-06-09 14:15:44", "of the fleet");
    assert_eq!(app.admin().patch(path, &json!({ "deadlines": {} })).await.ok(200)["deadlines"], Value::Null);
}

async fn refuses_what_cannot_be(app: &TestApp) {
    let in_rollout = "deployment_configuration.rollout";
    let unknown = json!({ "filters": [{ "type": "tag", "operand": "is", "value": "nothing" }] });
    let cases = [
        (json!({ "waves": [{ "count": 1, "percent": 1 }] }), format!("{in_rollout}.waves[0]: ")),
        (
            json!({ "waves": [{ "device_filter": unknown }] }),
            format!("{in_rollout}.waves[0].device_filter.filters[0].value: "),
        ),
        (json!({ "waves": [{ "count": 1 }], "soak_minutes": 50_000 }), format!("{in_rollout}.waves: takes longer")),
        (json!({ "start_time": "2026-06-09T14:10:44Z" }), format!("{in_rollout}.start_time: takes longer")),
        (json!({ "in_progress_max": -1 }), String::new()),
        (json!([]), String::new()),
    ];
    for (policy, expected) in cases {
        let refused = try_configured(app, json!({ "rollout": policy })).await;
        let text = refused.ok(400)["message"].as_str().unwrap().to_owned();
        assert!(text.starts_with(&expected), "{policy} gave {text}");
    }
    let refused = try_configured(app, json!({ "deadlines": { "run_minutes": 0 } })).await.ok(400);
    assert!(refused["message"].as_str().unwrap().starts_with("deployment_configuration.deadlines.run_minutes: 0"));
    assert_eq!(app.viewer().get("deployments").await.ok(200)["pagination_info"]["total"], 0);
}
