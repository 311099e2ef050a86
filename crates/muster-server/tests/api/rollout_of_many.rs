//! Ten thousand devices in one process: a rollout in five waves, whose failures pause it
//! at the very device at which they must.

use futures_util::future::join_all;
use muster_core::ids::RowId;
use muster_core::names::GroupName;
use muster_core::target::{RunEvent, RunOutcome};
use muster_store::ConnectionTrait;
use muster_store::targets::Report;
use muster_store::testing::seed_devices;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::finished;
use crate::orders::{FLOW, flow};

on_both_engines!(ten_thousand_devices_pause_at_the_right_one);

const DEVICES: usize = 10_000;
/// Devices that may be at it at once.
const AT_ONCE: usize = 500;
/// Devices that end between two rounds of the engine.
const GROUP: usize = 100;
/// Every so many devices one fails, and so many may.
const EACH_FAILS: usize = 40;
const FAILURES_MAX: usize = 50;

/// Takes some seconds for the two thousand runs that it plays, report by report.
async fn ten_thousand_devices_pause_at_the_right_one(app: &TestApp) {
    let devices = connected(app).await;
    let deployment = deploy(app).await;
    app.reconcile().await;
    assert_eq!(shown(app, &deployment).await["waves"][0]["in_progress"], 100, "the first wave is one per cent");
    let mut ended = 0;
    while shown(app, &deployment).await["status"] == "running" {
        // The failures first: the server's own engine may look between any two reports, and must find
        // a failure that is one too many before it finds room for devices to follow.
        let (bad, good): (Vec<_>, Vec<_>) =
            (ended..ended + GROUP).partition(|number| number % EACH_FAILS == EACH_FAILS - 1);
        for number in bad {
            run(app, &deployment, devices[number], RunOutcome::Failed).await;
        }
        join_all(good.into_iter().map(|number| run(app, &deployment, devices[number], RunOutcome::Succeeded))).await;
        ended += GROUP;
        app.reconcile().await;
    }
    let last_failure = (FAILURES_MAX + 1) * EACH_FAILS;
    assert_eq!(ended, last_failure.next_multiple_of(GROUP), "it paused with the failure that is one too many");
    let rollout = shown(app, &deployment).await;
    assert_eq!((&rollout["status"], &rollout["wave"]), (&json!("failure_budget_spent"), &json!(3)));
    let sum = |key: &str| rollout["waves"].as_array().unwrap().iter().map(|wave| wave[key].as_u64().unwrap()).sum();
    let (waiting, in_progress, failed): (u64, u64, u64) = (sum("waiting"), sum("in_progress"), sum("failed"));
    let started = ended - GROUP + AT_ONCE;
    assert_eq!((waiting, in_progress), ((DEVICES - started) as u64, (started - ended) as u64));
    assert_eq!(failed, (ended / EACH_FAILS) as u64);
    assert_eq!(reason(app, &deployment, devices[started - 1]).await, "starting");
    assert_eq!(reason(app, &deployment, devices[started]).await, "failure_budget_spent");
}

/// Devices whose links this server holds, in the order of their rows.
async fn connected(app: &TestApp) -> Vec<RowId> {
    let (store, fleet) = (app.store(), &app.house().fleet);
    let group = GroupName::parse("Production").unwrap();
    let group = store.read().find_group(fleet.id, &group).await.unwrap().unwrap();
    let mut ids = seed_devices(store, fleet, group, DEVICES).await.unwrap();
    ids.sort_unstable();
    let linked = format!(
        r#"UPDATE "device_presence" SET "link_epoch" = 1, "online_until_at" = {}, "link_server" = '{}'"#,
        i64::MAX,
        app.app().server_id,
    );
    app.write(async |tx| {
        tx.execute_unprepared(&linked).await.unwrap();
        Ok(())
    })
    .await;
    ids
}

async fn deploy(app: &TestApp) -> String {
    let waves = json!([{ "percent": 1 }, { "percent": 9 }, { "count": 2_000 }, { "count": 3_000 }]);
    let policy = json!({
        "waves": waves, "in_progress_max": AT_ONCE, "failures_max": { "count": FAILURES_MAX },
    });
    let configuration = json!({ "flow_uuid": flow(app, FLOW).await, "rollout": policy });
    let body = json!({ "device_filter": {}, "deployment_configuration": configuration });
    let created = app.operator().post("deployments", &body).await.ok(201);
    created["deployment_uuid"].as_str().unwrap().to_owned()
}

async fn shown(app: &TestApp, deployment: &str) -> Value {
    app.viewer().get(&format!("deployments/{deployment}")).await.ok(200)["rollout"].clone()
}

async fn run(app: &TestApp, deployment: &str, device_id: RowId, outcome: RunOutcome) {
    let code = if outcome == RunOutcome::Failed { "step_failed" } else { "" };
    for (seq, event) in (1..).zip([RunEvent::Accepted, finished(outcome, code)]) {
        let report = Report { device_id, deployment: deployment.parse().unwrap(), attempt: 1, seq, event };
        app.app().reports.store(muster_server::deploy::reports::Reported::Run(report)).await.expect("it is stored");
    }
}

/// Why a device waits.
async fn reason(app: &TestApp, deployment: &str, device_id: RowId) -> String {
    let device = app.store().read().find_device_by_id(app.house().account_id, device_id).await.unwrap().unwrap();
    let path = format!("deployments/{deployment}/devices/{}?enrich_info=true", device.uuid);
    app.viewer().get(&path).await.ok(200)["reason_code"].as_str().unwrap().to_owned()
}
