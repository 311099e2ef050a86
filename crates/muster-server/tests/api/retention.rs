//! What is over is forgotten after a while; what the audit log says of it stays.

use std::time::Duration;

use muster_core::limits::SESSIONS_KEPT_DEFAULT;
use muster_server::remote::{keeper, recordings, retention};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;
use crate::{device_streams, terminals};

on_both_engines!(
    sessions_and_tunnels_that_are_over_are_forgotten_after_a_while,
    a_session_is_kept_for_as_long_as_its_recording,
);

async fn listed(app: &TestApp) -> [usize; 2] {
    let sessions = app.admin().get("remote_sessions").await.ok(200);
    let tunnels = app.admin().get("port_tunnel").await.ok(200);
    [&sessions["remote_sessions"], &tunnels].map(|rows| rows.as_array().unwrap().len())
}

async fn sessions_and_tunnels_that_are_over_are_forgotten_after_a_while(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, ends, session) = device_streams::open(app, &device).await;
    let tunnel = app.operator().post("port_tunnel", &json!({ "device_uuid": device.uuid, "port": 22 })).await.ok(201);
    let tunnel = format!("port_tunnel/{}", tunnel["port_tunnel_id"].as_str().unwrap());
    app.app().clock().advance(SESSIONS_KEPT_DEFAULT);
    // However old: what is open stays until it has ended, and for a while from then on.
    retention::forget(app.app()).await.unwrap();
    assert_eq!(listed(app).await, [1, 1]);
    keeper::look(app.app()).await.unwrap();
    drop(ends);
    let over = terminals::over(app, &session).await;
    assert_eq!(over["status"], "ended");
    assert_ne!(app.admin().get(&tunnel).await.ok(200)["status"], "pending");
    app.app().clock().advance(SESSIONS_KEPT_DEFAULT);
    retention::forget(app.app()).await.unwrap();
    assert_eq!(listed(app).await, [1, 1]);
    app.app().clock().advance(Duration::from_millis(1));
    let said = app.audit().await;
    retention::forget(app.app()).await.unwrap();
    assert_eq!(listed(app).await, [0, 0]);
    app.admin().get(&format!("remote_sessions/{session}")).await.refused(404);
    assert_eq!(app.audit().await, said);
}

async fn a_session_is_kept_for_as_long_as_its_recording(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, ends, session) = terminals::open(app, &device).await;
    drop(ends);
    terminals::over(app, &session).await;
    app.app().clock().advance(SESSIONS_KEPT_DEFAULT + Duration::from_millis(1));
    recordings::sweep(app.app()).await.unwrap();
    retention::forget(app.app()).await.unwrap();
    let place = format!("remote_sessions/{session}");
    let kept: Value = app.admin().get(&place).await.ok(200);
    assert_eq!(kept["terminal"]["recording"], "kept", "for its days from the latest end that it could have had");
    app.app().clock().advance(app.app().config.tunnel_lifetime);
    recordings::sweep(app.app()).await.unwrap();
    assert_eq!(app.admin().get(&place).await.ok(200)["terminal"]["recording"], "deleted");
    retention::forget(app.app()).await.unwrap();
    app.admin().get(&place).await.refused(404);
}
