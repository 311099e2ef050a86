//! Connections through port tunnels, with a simulated device at the other end.

use muster_core::names::UserName;
use muster_core::token::Secret;
use muster_link::stream::{Carrier, Side, StreamMessage};
use muster_link::{STREAM_PATH, ToServer, TunnelState};
use muster_server::remote::keeper;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use crate::app::{PATIENCE, TestApp, eventually};
use crate::device::{Link, SimulatedDevice};

on_both_engines!(
    a_carrier_serves_one_connection_after_the_other,
    what_comes_with_the_handshake_is_heard,
    a_secret_is_good_once_and_with_its_link_only,
    who_may_not_come_in_is_reset_and_noted,
    whoever_loses_a_right_loses_the_tunnel,
    connections_end_with_the_link,
    no_more_connections_than_there_may_be,
    another_host_is_for_the_fleet_to_allow,
    what_was_moved_is_told,
);

/// A carrier as a device dials it, or the status by which it is refused.
pub(crate) async fn dial(app: &TestApp, secret: &Secret) -> Result<Carrier<TcpStream>, u16> {
    let stream = TcpStream::connect(app.address()).await.unwrap();
    let mut request = format!("ws://{}{STREAM_PATH}", app.address()).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", secret.expose()).parse().unwrap());
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => {
            let mut carrier = Carrier::new(socket.into_inner(), Side::Client, 1);
            carrier.send(&StreamMessage::Ready).await.unwrap();
            Ok(carrier)
        }
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// An open tunnel of a device.
struct Open {
    link: Link,
    id: String,
    port: u16,
}

impl Open {
    async fn on(app: &TestApp, device: &SimulatedDevice<'_>) -> Self {
        Self::with(app, device, json!({})).await
    }

    async fn with(app: &TestApp, device: &SimulatedDevice<'_>, more: Value) -> Self {
        let link = device.connect_with(&["port_tunnel", "tunnel_to_network"]).await;
        let mut body = json!({ "device_uuid": device.uuid, "port": 22 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = app.operator().post("port_tunnel", &body).await.ok(201);
        let mut open = Self {
            link,
            id: made["port_tunnel_id"].as_str().unwrap().to_owned(),
            port: u16::try_from(made["server_port"].as_u64().unwrap()).unwrap(),
        };
        open.link.next().await;
        let answer = ToServer::Tunnel { tunnel: open.id.clone(), state: TunnelState::Opened, reason: String::new() };
        open.link.send(&answer).await;
        open.link.fence().await;
        open
    }

    async fn visit(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    async fn seen(&self, app: &TestApp) -> Value {
        app.operator().get(&format!("port_tunnel/{}?enrich_info=true", self.id)).await.ok(200)
    }

    /// A carrier that has been told to open a connection, which the device has taken.
    async fn carrier(&mut self, app: &TestApp) -> Carrier<TcpStream> {
        let secret = self.link.carrier_secret().await;
        let mut carrier = dial(app, &secret).await.unwrap();
        assert_eq!(heard(&mut carrier).await, StreamMessage::Open { host: String::new(), port: 22 });
        carrier.send(&StreamMessage::Opened).await.unwrap();
        carrier
    }
}

async fn heard(carrier: &mut Carrier<TcpStream>) -> StreamMessage {
    timeout(PATIENCE, carrier.receive()).await.expect("the server speaks").unwrap()
}

/// Whether a new connection ends at once: as soon as it is made, or while it is.
async fn is_turned_away(port: u16) -> bool {
    match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(visitor) => is_cut(visitor).await,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// Whether the connection ends by itself.
async fn is_cut(mut visitor: TcpStream) -> bool {
    matches!(timeout(PATIENCE, visitor.read(&mut [0])).await.expect("an end"), Ok(0) | Err(_))
}

async fn a_carrier_serves_one_connection_after_the_other(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut open = Open::on(app, &device).await;
    let mut visitor = open.visit().await;
    let mut carrier = open.carrier(app).await;
    for round in 0..3 {
        visitor.shutdown().await.unwrap();
        assert_eq!(heard(&mut carrier).await, StreamMessage::End, "{round}");
        carrier.send(&StreamMessage::End).await.unwrap();
        assert_eq!(visitor.read(&mut [0]).await.unwrap(), 0);
        if round < 2 {
            visitor = open.visit().await;
            assert_eq!(heard(&mut carrier).await, StreamMessage::Open { host: String::new(), port: 22 });
        }
    }
}

async fn what_comes_with_the_handshake_is_heard(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut open = Open::on(app, &device).await;
    let _visitor = open.visit().await;
    let mut stream = TcpStream::connect(app.address()).await.unwrap();
    let key = generate_key();
    let secret = open.link.carrier_secret().await;
    let head = format!(
        "GET {STREAM_PATH} HTTP/1.1\r\nhost: muster\r\nauthorization: Bearer {}\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n",
        secret.expose()
    );
    // A text, masked with zeros.
    let ready = serde_json::to_vec(&StreamMessage::Ready).unwrap();
    let frame_head = [0x81, 0x80 | u8::try_from(ready.len()).unwrap(), 0, 0, 0, 0];
    stream.write_all(&[head.as_bytes(), &frame_head, &ready].concat()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", answer.escape_ascii());
    let mut carrier = Carrier::new(stream, Side::Client, 1);
    assert_eq!(heard(&mut carrier).await, StreamMessage::Open { host: String::new(), port: 22 });
}

async fn a_secret_is_good_once_and_with_its_link_only(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut open = Open::on(app, &device).await;
    let (first, second) = (open.link.carrier_secret().await, open.link.carrier_secret().await);
    let _carrier = dial(app, &first).await.unwrap();
    assert_eq!(dial(app, &first).await.err(), Some(401));
    let plain = app.anon().get(STREAM_PATH).await;
    assert_eq!(plain.status, 401, "without a secret");
    open.link.hang_up().await;
    eventually("the link ends", async || (app.app().links.count() == 0).then_some(())).await;
    eventually("its secrets end", async || (dial(app, &second).await.err() == Some(401)).then_some(())).await;
}

async fn who_may_not_come_in_is_reset_and_noted(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let open = Open::with(app, &device, json!({ "allowed_ip": "192.0.2.0/24" })).await;
    assert!(is_turned_away(open.port).await);
    let expected = format!(
        r#"anonymous OpenStream port_tunnel:{} 127.0.0.1 {{"refused":"the port tunnel does not let this address through"}}"#,
        open.id
    );
    eventually("the audit entry", async || app.audit().await.contains(&expected).then_some(())).await;
    assert_eq!(open.seen(app).await["connections"], 0);
}

async fn whoever_loses_a_right_loses_the_tunnel(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut open = Open::on(app, &device).await;
    let visitor = open.visit().await;
    let _carrier = open.carrier(app).await;
    keeper::look(app.app()).await.unwrap();
    assert_eq!(open.seen(app).await["status"], "opened");
    app.write(async |tx| {
        let user = tx.find_user_by_name(&UserName::parse("operator").unwrap()).await?.unwrap();
        Ok(tx.replace_user_roles(user.id, &[]).await?)
    })
    .await;
    keeper::look(app.app()).await.unwrap();
    assert!(is_cut(visitor).await);
    let seen = app.admin().get(&format!("port_tunnel/{}?enrich_info=true", open.id)).await.ok(200);
    assert_eq!(json!([seen["status"], seen["reason"]]), json!(["closed", "permission_ended"]));
    assert!(TcpStream::connect(("127.0.0.1", open.port)).await.is_err(), "nobody listens any more");
}

async fn connections_end_with_the_link(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut open = Open::on(app, &device).await;
    let visitor = open.visit().await;
    let _carrier = open.carrier(app).await;
    let (id, port) = (open.id.clone(), open.port);
    open.link.hang_up().await;
    assert!(is_cut(visitor).await);
    assert_eq!(app.operator().get(&format!("port_tunnel/{id}")).await.ok(200)["status"], "opened");
    assert!(is_turned_away(port).await, "nobody can take it");
}

async fn no_more_connections_than_there_may_be(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let open = Open::on(app, &device).await;
    let mut held = Vec::new();
    for _ in 0..app.app().config.tunnel_connections_max {
        held.push(open.visit().await);
    }
    assert!(is_turned_away(open.port).await);
}

async fn another_host_is_for_the_fleet_to_allow(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let _link = device.connect_with(&["port_tunnel"]).await;
    let body = json!({ "device_uuid": device.uuid, "port": 22, "host": "10.0.0.9" });
    let refusal = app.operator().post("port_tunnel", &body).await.v2_error();
    assert_eq!((refusal.0, refusal.1.as_str()), (403, "forbidden"));
    let fleet = app.admin().patch("/api/v2/account/fleets/demo", &json!({ "tunnels_to_network": true })).await.ok(200);
    assert_eq!(fleet["tunnels_to_network"], true);
    let refusal = app.operator().post("port_tunnel", &body).await.v2_error();
    assert_eq!((refusal.0, refusal.1.as_str()), (409, "not_supported_by_device"));
    let open = Open::with(app, &device, json!({ "host": "10.0.0.9" })).await;
    assert_eq!(json!([open.seen(app).await["host"], open.seen(app).await["port"]]), json!(["10.0.0.9", 22]));
    app.admin().patch("/api/v2/account/fleets/demo", &json!({ "tunnels_to_network": false })).await.ok(200);
    keeper::look(app.app()).await.unwrap();
    assert_eq!(open.seen(app).await["reason"], "target_not_allowed");
    let wrong = json!({ "device_uuid": device.uuid, "port": 22, "host": "a b" });
    let problem = app.operator().post("port_tunnel", &wrong).await.refused(400);
    assert_eq!(problem, "host: \"a b\" is neither an IP address nor the name of a host");
}

async fn what_was_moved_is_told(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut open = Open::on(app, &device).await;
    let mut visitor = open.visit().await;
    let mut carrier = open.carrier(app).await;
    visitor.write_all(b"five!").await.unwrap();
    visitor.shutdown().await.unwrap();
    assert!(carrier.receive().await.is_err(), "bytes and no message");
    let told = async || {
        keeper::count(app.app()).await;
        let seen = open.seen(app).await;
        let moved = json!([seen["connections"], seen["bytes_to_device"], seen["bytes_from_device"]]);
        (moved == json!([1, 5, 0])).then_some(())
    };
    eventually("the counters", told).await;
}
