//! How a device goes through a deployment.

use muster_core::target::{RunEvent, RunOutcome};
use muster_link::ToDevice;
use serde_json::json;

use crate::app::TestApp;
use crate::device::{SimulatedDevice, finished, step};
use crate::orders::{Order, create, standing};

on_both_engines!(
    goes_from_pending_to_succeeded,
    a_failure_has_its_reason_and_its_steps,
    takes_each_report_once_and_in_order,
    is_told_again_over_each_new_link,
    the_update_trigger_holds_back_and_releases,
    one_deployment_at_a_time,
    the_app_has_its_version_only_after_success,
    reports_of_runs_that_nobody_ordered_are_stopped,
    reaches_a_device_that_is_connected_already,
);

async fn goes_from_pending_to_succeeded(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let target = deployment.target(app, &device).await;
    let waiting = json!({
        "finished_time": null, "started_time": null, "status": "Pending", "steps": [],
        "reason_code": "device_offline",
        "reason": "The device has no link to the server; it begins once it connects.",
        "attempt": 1, "deadline_time": "2025-07-09 14:10:44",
    });
    assert_eq!(target, waiting);
    let mut link = device.connect().await;
    let run = link.instruction().await.run;
    assert_eq!(run.to_string(), format!("{}.1", deployment.uuid));
    assert_eq!(deployment.stands(app, &device).await, standing("Pending", "starting"));
    link.told(&run, 1, RunEvent::Accepted).await;
    let target = deployment.target(app, &device).await;
    let running = json!({
        "finished_time": null, "started_time": "2025-06-09 14:10:44", "status": "In Progress", "steps": [],
        "reason_code": "running", "reason": "The device has begun and has not reported the end.",
        "attempt": 1, "deadline_time": "2025-06-09 16:10:44",
    });
    assert_eq!(target, running);
    link.told(&run, 2, step(0, 0)).await;
    link.told(&run, 3, step(1, 7)).await;
    link.told(&run, 4, finished(RunOutcome::Succeeded, "")).await;
    let target = deployment.target(app, &device).await;
    let steps = json!([
        { "exit_code": 0, "name": "step 0", "stderr": "err 0", "stdout": "out 0" },
        { "exit_code": 7, "name": "step 1", "stderr": "err 1", "stdout": "out 1" },
    ]);
    let done = json!({
        "finished_time": "2025-06-09 14:10:44", "started_time": "2025-06-09 14:10:44", "status": "Succeeded",
        "steps": steps, "reason_code": null, "reason": null, "attempt": 1, "deadline_time": null,
    });
    assert_eq!(target, done);
}

async fn a_failure_has_its_reason_and_its_steps(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let mut link = device.connect().await;
    let run = link.instruction().await.run;
    for (seq, event) in (1..).zip([RunEvent::Accepted, step(0, 127), finished(RunOutcome::Failed, "step_failed")]) {
        link.told(&run, seq, event).await;
    }
    let target = deployment.target(app, &device).await;
    assert_eq!(target["status"], "Failed");
    assert_eq!((&target["reason_code"], &target["reason"]), (&json!("step_failed"), &json!("Because of step_failed.")));
    assert_eq!(target["steps"][0]["exit_code"], 127);
    assert_eq!(device.seen().await["updates"][0]["deployment_status"], "failed");
}

async fn takes_each_report_once_and_in_order(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let mut link = device.connect().await;
    let run = link.instruction().await.run;
    link.report(&run, 2, step(0, 0)).await;
    link.report(&run, 3, finished(RunOutcome::Succeeded, "")).await;
    link.fence().await;
    assert_eq!(deployment.stands(app, &device).await, standing("Pending", "starting"), "report 1 is missing");
    link.told(&run, 1, RunEvent::Accepted).await;
    link.told(&run, 1, finished(RunOutcome::Failed, "repeated")).await;
    link.told(&run, 2, step(0, 0)).await;
    link.told(&run, 2, step(0, 9)).await;
    link.told(&run, 1, RunEvent::Accepted).await;
    assert_eq!(deployment.target(app, &device).await["steps"][0]["exit_code"], 0);
    link.told(&run, 3, finished(RunOutcome::Succeeded, "")).await;
    link.told(&run, 3, finished(RunOutcome::Succeeded, "")).await;
    link.told(&run, 4, finished(RunOutcome::Failed, "late")).await;
    assert_eq!(deployment.stands(app, &device).await, standing("Succeeded", ""));
}

async fn is_told_again_over_each_new_link(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let mut first = device.connect().await;
    let instruction = first.instruction().await;
    app.reconcile().await;
    first.fence().await;
    let mut second = device.connect().await;
    assert!(second.epoch > first.epoch);
    assert_eq!(second.instruction().await, instruction, "the same run");
    second.told(&instruction.run, 1, RunEvent::Accepted).await;
    second.hang_up().await;
    let mut third = device.connect().await;
    assert_eq!(third.instruction().await, instruction, "until it is over");
    third.told(&instruction.run, 2, finished(RunOutcome::Succeeded, "")).await;
    let mut fourth = device.connect().await;
    app.reconcile().await;
    fourth.fence().await;
    assert_eq!(deployment.stands(app, &device).await.0, "Succeeded");
}

async fn the_update_trigger_holds_back_and_releases(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let trigger = async |is_set: bool| {
        let body = json!({ "device_token": device.token, "trigger_set": is_set });
        app.operator().v1_post("/v1/set_update_trigger", &body).await.ok(200);
    };
    trigger(true).await;
    let mut link = device.connect().await;
    let deployment = create(app, &Order::default()).await;
    app.reconcile().await;
    let target = deployment.target(app, &device).await;
    assert_eq!((&target["status"], &target["reason_code"]), (&json!("Pending"), &json!("update_trigger_set")));
    assert!(target["reason"].as_str().unwrap().contains("update trigger"), "{target}");
    trigger(false).await;
    let run = link.instruction().await.run;
    trigger(true).await;
    app.reconcile().await;
    assert_eq!(deployment.stands(app, &device).await, standing("Pending", "starting"), "what has begun goes on");
    link.told(&run, 1, RunEvent::Accepted).await;
    link.told(&run, 2, finished(RunOutcome::Succeeded, "")).await;
    assert_eq!(deployment.stands(app, &device).await.0, "Succeeded");
}

async fn one_deployment_at_a_time(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect().await;
    let (first, second) = (create(app, &Order::default()).await, create(app, &Order::default()).await);
    let run = link.instruction().await.run;
    assert_eq!(run.deployment.as_str(), first.uuid);
    app.reconcile().await;
    let waiting = standing("Pending", "waiting_for_earlier_deployment");
    assert_eq!(second.stands(app, &device).await, waiting);
    link.told(&run, 1, RunEvent::Accepted).await;
    app.reconcile().await;
    assert_eq!(second.stands(app, &device).await, waiting);
    link.told(&run, 2, finished(RunOutcome::Failed, "step_failed")).await;
    assert_eq!(link.succeed().await.run.deployment.as_str(), second.uuid);
}

async fn the_app_has_its_version_only_after_success(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect().await;
    let order = |version| Order { app: Some(("firmware", version)), ..Order::default() };
    create(app, &order("1.0")).await;
    let run = link.instruction().await.run;
    link.told(&run, 1, RunEvent::Accepted).await;
    link.told(&run, 2, finished(RunOutcome::Failed, "step_failed")).await;
    assert_eq!(device.seen().await["apps"], json!([]));
    create(app, &order("1.1")).await;
    link.succeed().await;
    assert_eq!(device.seen().await["apps"], json!([{ "app_name": "firmware", "version": "1.1" }]));
}

async fn reports_of_runs_that_nobody_ordered_are_stopped(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let other = SimulatedDevice::enroll(app, "other").await;
    let deployment = create(app, &Order::to(&other)).await;
    let mut link = device.connect().await;
    let runs = [format!("{}.1", deployment.uuid), format!("{}.2", deployment.uuid), "dp-0000-0000.1".to_owned()];
    for run in runs.map(|run| run.parse().unwrap()) {
        link.told(&run, 1, RunEvent::Accepted).await;
        assert_eq!(link.next().await, Some(ToDevice::Abort { run: run.clone() }));
        link.told(&run, 2, finished(RunOutcome::Aborted, "aborted")).await;
    }
    assert_eq!(deployment.stands(app, &other).await, standing("Pending", "device_offline"), "it is not the other's");
}

async fn reaches_a_device_that_is_connected_already(app: &TestApp) {
    let devices = [SimulatedDevice::enroll(app, "a").await, SimulatedDevice::enroll(app, "b").await];
    let mut links = [devices[0].connect().await, devices[1].connect().await];
    let deployment = create(app, &Order::to(&devices[1])).await;
    links[1].succeed().await;
    app.reconcile().await;
    links[0].fence().await;
    assert_eq!(deployment.devices(app).await, [devices[1].uuid.to_string()]);
}
