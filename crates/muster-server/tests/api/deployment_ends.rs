//! Every deployment ends: by its deadlines, when nothing else ends it.

use std::time::Duration;

use muster_core::limits::{ABORT_DEADLINE, PENDING_DEADLINE, RUN_DEADLINE_SLACK, STEP_TIMEOUT_DEFAULT};
use muster_core::target::{RunEvent, RunOutcome};
use muster_link::ToDevice;
use serde_json::json;

use crate::app::{TestApp, eventually};
use crate::device::{SimulatedDevice, finished};
use crate::orders::{Order, create, standing};

on_both_engines!(
    a_device_that_never_comes_fails,
    a_device_that_never_finishes_fails_and_is_stopped,
    an_abort_that_is_never_confirmed_ends,
    the_engine_finds_what_is_overdue_by_itself,
);

const A_MOMENT: Duration = Duration::from_millis(1);

async fn a_device_that_never_comes_fails(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    app.wait(PENDING_DEADLINE - A_MOMENT).await;
    assert_eq!(deployment.stands(app, &device).await, standing("Pending", "device_offline"));
    app.wait(A_MOMENT).await;
    let failed = json!({
        "finished_time": "2025-07-09 14:10:44", "started_time": null, "status": "Failed", "steps": [],
        "reason_code": "pending_deadline",
        "reason": "The device did not begin before the deployment's deadline.", "attempt": 1, "deadline_time": null,
    });
    assert_eq!(deployment.target(app, &device).await, failed);
    let mut link = device.connect().await;
    app.reconcile().await;
    link.fence().await;
}

async fn a_device_that_never_finishes_fails_and_is_stopped(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let mut link = device.connect().await;
    let run = link.instruction().await.run;
    link.told(&run, 1, RunEvent::Accepted).await;
    link.hang_up().await;
    app.wait(RUN_DEADLINE_SLACK + STEP_TIMEOUT_DEFAULT - A_MOMENT).await;
    assert_eq!(deployment.stands(app, &device).await, standing("In Progress", "running"));
    app.wait(A_MOMENT).await;
    assert_eq!(deployment.stands(app, &device).await, standing("Failed", "run_deadline"));
    let mut link = device.connect().await;
    link.told(&run, 2, crate::device::step(0, 0)).await;
    assert_eq!(link.next().await, Some(ToDevice::Abort { run: run.clone() }), "it works on in vain");
    link.told(&run, 3, finished(RunOutcome::Succeeded, "")).await;
    assert_eq!(deployment.stands(app, &device).await, standing("Failed", "run_deadline"), "final is final");
}

async fn an_abort_that_is_never_confirmed_ends(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let mut link = device.connect().await;
    let run = link.instruction().await.run;
    link.told(&run, 1, RunEvent::Accepted).await;
    deployment.abort(app).await;
    assert_eq!(link.abort().await, run);
    link.hang_up().await;
    app.wait(ABORT_DEADLINE - A_MOMENT).await;
    assert_eq!(deployment.stands(app, &device).await, standing("In Progress", "abort_requested"));
    app.wait(A_MOMENT).await;
    assert_eq!(deployment.stands(app, &device).await, standing("Aborted", "abort_unconfirmed"));
}

async fn the_engine_finds_what_is_overdue_by_itself(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    app.app().clock().advance(PENDING_DEADLINE);
    app.app().wake.everything();
    eventually("the target ends", async || {
        (deployment.stands(app, &device).await == standing("Failed", "pending_deadline")).then_some(())
    })
    .await;
}
