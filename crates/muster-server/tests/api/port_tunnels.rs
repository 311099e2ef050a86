//! Port tunnels, and files that a device is asked for.

use std::time::Duration;

use muster_link::{ToDevice, ToServer, TunnelState};
use serde_json::{Value, json};

use crate::app::{TestApp, eventually};
use crate::device::{Link, SimulatedDevice};

on_both_engines!(
    a_device_that_cannot_is_a_clear_error,
    a_device_that_is_offline_is_a_clear_error,
    a_tunnel_opens_and_is_closed_by_a_person,
    a_tunnel_ends_by_the_clock,
    a_device_that_does_not_answer_ends_it,
    a_device_may_fail_or_close_it,
    refuses_wrong_orders,
);

async fn order(app: &TestApp, device: &SimulatedDevice<'_>) -> Value {
    app.operator().post("port_tunnel", &json!({ "device_uuid": device.uuid, "port": 22 })).await.ok(201)
}

fn id(tunnel: &Value) -> String {
    tunnel["port_tunnel_id"].as_str().unwrap().to_owned()
}

async fn seen(app: &TestApp, id: &str) -> Value {
    app.operator().get(&format!("port_tunnel/{id}")).await.ok(200)
}

async fn asked(link: &mut Link) -> (String, u16) {
    match link.next().await {
        Some(ToDevice::OpenTunnel { tunnel, port, .. }) => (tunnel, port),
        other => panic!("no order but {other:?}"),
    }
}

async fn answers(link: &mut Link, tunnel: &str, state: TunnelState) {
    link.send(&ToServer::Tunnel { tunnel: tunnel.to_owned(), state, reason: "so it is".to_owned() }).await;
    link.fence().await;
}

async fn last_of_log(app: &TestApp) -> String {
    app.audit().await.pop().unwrap_or_default()
}

/// What the audit log says of a tunnel that no person ended.
fn ended(by: &str, id: &str, from: &str, before: &str, after: &str, reason: &str) -> String {
    let detail = format!(r#"{{"after":"{after}","before":"{before}","reason":"{reason}"}}"#);
    format!("{by} DeletePortTunnel port_tunnel:{id} {from} {detail}")
}

async fn told_to_close(link: &mut Link, id: &str) {
    assert_eq!(link.next().await, Some(ToDevice::CloseTunnel { tunnel: id.to_owned() }));
}

async fn a_device_that_cannot_is_a_clear_error(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let _link = device.connect().await;
    let refusal =
        app.operator().post("port_tunnel", &json!({ "device_uuid": device.uuid, "port": 22 })).await.v2_error();
    let text = format!("device_uuid: the agent of {}, version 0.1.0, does not support port_tunnel", device.uuid);
    assert_eq!(refusal, (409, "not_supported_by_device".to_owned(), text));
    assert_eq!(app.operator().get("port_tunnel").await.ok(200), json!([]));
}

async fn a_device_that_is_offline_is_a_clear_error(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    device.connect_with(&["port_tunnel", "dancing"]).await.hang_up().await;
    eventually("the link ends", async || (app.app().links.count() == 0).then_some(())).await;
    let refusal =
        app.operator().post("port_tunnel", &json!({ "device_uuid": device.uuid, "port": 22 })).await.v2_error();
    let text = format!("device_uuid: {} is not connected to this server", device.uuid);
    assert_eq!(refusal, (409, "device_offline".to_owned(), text));
    assert_eq!(device.row().await.capabilities, ["port_tunnel"]);
    let _link = device.connect().await;
    assert_eq!(device.row().await.capabilities, [""; 0], "an agent may lose what it could");
}

async fn a_tunnel_opens_and_is_closed_by_a_person(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect_with(&["port_tunnel"]).await;
    let body = json!({ "device_uuid": device.uuid, "port": 22, "allowed_ip": "1.1.1.1" });
    let created = app.operator().post("port_tunnel", &body).await.ok(201);
    let id = id(&created);
    assert_eq!(created.as_object().unwrap().len(), 3);
    let address = created["server_address"].as_str().unwrap();
    assert!(address.starts_with(&format!("{}-", device.uuid)) && address.ends_with(".forwarding.localhost"));
    assert_eq!(asked(&mut link).await, (id.clone(), 22));
    let tunnel = |status: &str, finish: Value| {
        json!({
            "created_time": "Mon, 09 Jun 2025 14:10:44 GMT", "device_id": device.uuid, "finish_time": finish,
            "port_tunnel_id": id, "remote_server_address": created["server_address"],
            "remote_server_port": created["server_port"], "status": status, "user_source_ip": "1.1.1.1",
        })
    };
    assert_eq!(seen(app, &id).await, tunnel("pending", json!(null)));
    answers(&mut link, &id, TunnelState::Opened).await;
    assert_eq!(seen(app, &id).await, tunnel("opened", json!(null)));
    app.app().clock().advance(Duration::from_secs(22));
    app.operator().delete(&format!("port_tunnel/{id}")).await.empty(204);
    told_to_close(&mut link, &id).await;
    app.operator().delete(&format!("port_tunnel/{id}")).await.empty(204);
    let closed = tunnel("closed", json!("Mon, 09 Jun 2025 14:11:06 GMT"));
    assert_eq!(seen(app, &id).await, closed);
    assert_eq!(app.operator().get("port_tunnel").await.ok(200), json!([closed]));
    let log = app.audit().await;
    let created = format!(
        r#"user:operator CreatePortTunnel port_tunnel:{id} 127.0.0.1 {{"after":{{"allowed_ip":"1.1.1.1","device_uuid":"{}","port":22}},"before":null}}"#,
        device.uuid
    );
    let deleted =
        format!(r#"user:operator DeletePortTunnel port_tunnel:{id} 127.0.0.1 {{"after":"closed","before":"opened"}}"#);
    assert_eq!(log[log.len() - 2..], [created, deleted], "once, though it was asked for twice");
}

async fn a_tunnel_ends_by_the_clock(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect_with(&["port_tunnel"]).await;
    let id = id(&order(app, &device).await);
    asked(&mut link).await;
    answers(&mut link, &id, TunnelState::Opened).await;
    let tunnel = seen(app, &id).await;
    assert_eq!(json!([tunnel["status"], tunnel["user_source_ip"]]), json!(["opened", "127.0.0.1"]));
    for _ in 0..119 {
        app.app().clock().advance(Duration::from_secs(60));
        link.fence().await;
    }
    app.wait(Duration::from_secs(59)).await;
    assert_eq!(seen(app, &id).await["status"], "opened");
    app.wait(Duration::from_secs(1)).await;
    told_to_close(&mut link, &id).await;
    let tunnel = seen(app, &id).await;
    assert_eq!(json!([tunnel["status"], tunnel["finish_time"]]), json!(["closed", "Mon, 09 Jun 2025 16:10:44 GMT"]));
    assert_eq!(last_of_log(app).await, ended("server", &id, "", "opened", "closed", "expired"));
}

async fn a_device_that_does_not_answer_ends_it(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect_with(&["port_tunnel"]).await;
    let id = id(&order(app, &device).await);
    asked(&mut link).await;
    app.wait(Duration::from_secs(29)).await;
    assert_eq!(seen(app, &id).await["status"], "pending");
    app.wait(Duration::from_secs(1)).await;
    assert_eq!(seen(app, &id).await["status"], "terminated");
    assert_eq!(last_of_log(app).await, ended("server", &id, "", "pending", "terminated", "no_answer"));
    told_to_close(&mut link, &id).await;
    link.send(&ToServer::Tunnel { tunnel: id.clone(), state: TunnelState::Opened, reason: String::new() }).await;
    told_to_close(&mut link, &id).await;
    assert_eq!(seen(app, &id).await["status"], "terminated", "what comes too late is closed again");
}

async fn a_device_may_fail_or_close_it(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect_with(&["port_tunnel"]).await;
    let by = format!("device:{}", device.uuid);
    for (state, expected, code) in
        [(TunnelState::Failed, "terminated", "device_failed"), (TunnelState::Closed, "closed", "closed_by_device")]
    {
        let id = id(&order(app, &device).await);
        asked(&mut link).await;
        answers(&mut link, &id, state).await;
        assert_eq!(seen(app, &id).await["status"], expected);
        assert_eq!(last_of_log(app).await, ended(&by, &id, "127.0.0.1", "pending", expected, code));
    }
    let id = id(&order(app, &device).await);
    asked(&mut link).await;
    let other = SimulatedDevice::enroll(app, "other").await;
    let mut others = other.connect_with(&["port_tunnel"]).await;
    answers(&mut others, &id, TunnelState::Failed).await;
    assert_eq!(seen(app, &id).await["status"], "pending", "it is not that device's tunnel");
}

async fn refuses_wrong_orders(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    for (body, expected) in [
        (json!({}), "device_uuid: is required"),
        (json!({ "device_uuid": device.uuid }), "port: is required"),
        (json!({ "device_uuid": device.uuid, "port": 0 }), "port: 0 is not a port from 1 to 65535"),
        (json!({ "device_uuid": device.uuid, "port": 65_536 }), "port: 65536 is not a port from 1 to 65535"),
        (
            json!({ "device_uuid": "d-0000-0000", "port": 22 }),
            "device_uuid: no device of the fleet is called \"d-0000-0000\"",
        ),
        (
            json!({ "device_uuid": device.uuid, "port": 22, "allowed_ip": "all" }),
            "allowed_ip: \"all\" is neither an IP address nor a network",
        ),
    ] {
        assert_eq!(app.operator().post("port_tunnel", &body).await.refused(400), expected);
    }
    for id in ["x", "%00", "7d7a7462-cc5b-4f9a-b678-d3288475de02"] {
        app.operator().get(&format!("port_tunnel/{id}")).await.refused(404);
        app.operator().delete(&format!("port_tunnel/{id}")).await.refused(404);
    }
}
