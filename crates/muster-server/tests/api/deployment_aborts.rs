//! Deployments that are aborted.

use muster_core::target::{RunEvent, RunOutcome};
use muster_link::ToDevice;
use serde_json::json;

use crate::app::TestApp;
use crate::device::{SimulatedDevice, finished, step};
use crate::orders::{Order, create, standing};

on_both_engines!(
    what_has_not_begun_ends_at_once,
    what_runs_ends_when_the_device_confirms,
    a_device_that_comes_back_is_told_of_the_abort,
    one_device_can_be_aborted_alone,
    what_has_ended_stays_as_it_is,
    a_device_may_be_done_before_it_hears_of_the_abort,
    an_aborted_deployment_makes_way_for_the_next,
);

async fn what_has_not_begun_ends_at_once(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let path = format!("deployments/{}/abort", deployment.uuid);
    for _ in 0..2 {
        let answer = app.operator().post(&path, &json!({})).await;
        assert_eq!(answer.ok(201), json!({ "message": "Deployment aborted successfully" }));
    }
    let bodyless = app.operator().request(reqwest::Method::POST, &path);
    crate::caller::answer(bodyless).await.ok(201);
    let aborted = json!({
        "finished_time": "2025-06-09 14:10:44", "started_time": null, "status": "Aborted", "steps": [],
        "reason_code": "aborted", "reason": "The deployment was aborted before the device began.",
        "attempt": 1, "deadline_time": null,
    });
    assert_eq!(deployment.target(app, &device).await, aborted);
    let mut link = device.connect().await;
    app.reconcile().await;
    link.fence().await;
    let log = app.audit().await;
    let line = |aborted: u32| {
        format!(
            r#"user:operator AbortDeployment deployment:{} 127.0.0.1 {{"after":{{"abort_requested":0,"aborted":{aborted}}},"before":{{"open":{aborted}}},"device":null}}"#,
            deployment.uuid
        )
    };
    assert_eq!(log[log.len() - 3..], [line(1), line(0), line(0)]);
}

async fn what_runs_ends_when_the_device_confirms(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let mut link = device.connect().await;
    let run = link.instruction().await.run;
    link.told(&run, 1, RunEvent::Accepted).await;
    deployment.abort(app).await;
    assert_eq!(link.abort().await, run);
    let log = app.audit().await;
    let counts = r#"{"after":{"abort_requested":1,"aborted":0},"before":{"open":1},"device":null}"#;
    assert!(log.last().unwrap().ends_with(counts), "{log:?}");
    assert_eq!(deployment.stands(app, &device).await, standing("In Progress", "abort_requested"));
    assert_eq!(deployment.target(app, &device).await["deadline_time"], "2025-06-09 15:10:44");
    link.told(&run, 2, step(0, 1)).await;
    link.told(&run, 3, finished(RunOutcome::Aborted, "aborted")).await;
    assert_eq!(deployment.stands(app, &device).await, standing("Aborted", "aborted"));
    assert_eq!(device.seen().await["updates"][0]["deployment_status"], "aborted");
}

async fn a_device_that_comes_back_is_told_of_the_abort(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let mut link = device.connect().await;
    let run = link.instruction().await.run;
    link.hang_up().await;
    deployment.abort(app).await;
    assert_eq!(deployment.stands(app, &device).await, standing("Pending", "abort_requested"), "it may have begun");
    for _ in 0..2 {
        assert_eq!(device.connect().await.abort().await, run, "until it confirms");
    }
    let mut link = device.connect().await;
    assert_eq!(link.abort().await, run);
    link.told(&run, 1, finished(RunOutcome::Aborted, "aborted")).await;
    assert_eq!(deployment.stands(app, &device).await, standing("Aborted", "aborted"));
}

async fn one_device_can_be_aborted_alone(app: &TestApp) {
    let (one, other) = (SimulatedDevice::enroll(app, "one").await, SimulatedDevice::enroll(app, "other").await);
    let deployment = create(app, &Order::default()).await;
    let path = format!("deployments/{}/devices/{}/abort", deployment.uuid, one.uuid);
    for _ in 0..2 {
        let answer = app.operator().post(&path, &json!({})).await;
        assert_eq!(answer.ok(201), json!({ "message": "Deployment for device aborted successfully" }));
    }
    assert_eq!(deployment.stands(app, &one).await, standing("Aborted", "aborted"));
    assert_eq!(deployment.stands(app, &other).await, standing("Pending", "device_offline"));
    let log = app.audit().await;
    assert!(log.last().unwrap().contains("AbortDeploymentDevice"), "{log:?}");
    assert!(log.last().unwrap().contains(one.uuid.as_str()), "{log:?}");
}

async fn what_has_ended_stays_as_it_is(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let mut link = device.connect().await;
    link.succeed().await;
    deployment.abort(app).await;
    app.reconcile().await;
    link.fence().await;
    assert_eq!(deployment.stands(app, &device).await, standing("Succeeded", ""));
}

async fn a_device_may_be_done_before_it_hears_of_the_abort(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let mut link = device.connect().await;
    let run = link.instruction().await.run;
    link.told(&run, 1, RunEvent::Accepted).await;
    deployment.abort(app).await;
    assert_eq!(link.next().await, Some(ToDevice::Abort { run: run.clone() }));
    link.told(&run, 2, finished(RunOutcome::Succeeded, "")).await;
    assert_eq!(deployment.stands(app, &device).await, standing("Succeeded", ""), "what was done is what is shown");
}

async fn an_aborted_deployment_makes_way_for_the_next(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (first, second) = (create(app, &Order::default()).await, create(app, &Order::default()).await);
    first.abort(app).await;
    assert_eq!(device.connect().await.instruction().await.run.deployment.as_str(), second.uuid);
}
