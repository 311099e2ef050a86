//! Streams of callers to ports of a device, with a simulated device at the other end; and
//! what every remote session has in common.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use muster_core::ids::DeviceUuid;
use muster_core::names::UserName;
use muster_link::stream::{ByteStream, Carrier, Side, StreamMessage};
use muster_server::remote::keeper;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use crate::app::{TestApp, eventually};
use crate::caller::Caller;
use crate::device::{Link, SimulatedDevice};
use crate::streams;

on_both_engines!(
    bytes_go_both_ways_and_each_side_ends_for_itself,
    what_the_device_says_no_to_is_told,
    who_may_not_is_refused_before_anything_is_opened,
    whoever_loses_a_right_loses_the_stream_and_hears_why,
    a_session_ends_by_its_clock,
    a_person_ends_the_session_of_another,
    a_session_ends_with_the_link_of_its_device,
    a_caller_that_goes_ends_its_session,
    sessions_are_listed_the_newest_first,
    wrong_orders_name_their_field,
    what_a_killed_server_left_open_is_over_when_it_starts,
);

/// A stream at the caller's end.
pub(crate) type CallerStream = ByteStream<TokioIo<Upgraded>>;

/// Asks for a stream: at the caller's end, or the status by which it is refused.
pub(crate) async fn dial(
    app: &TestApp,
    caller: &Caller<'_>,
    device: &DeviceUuid,
    query: &str,
) -> Result<CallerStream, (u16, Value)> {
    socket(app, caller, &format!("devices/{device}/stream?{query}")).await.map(ByteStream::new)
}

/// Asks for a WebSocket at that place of the fleet: the caller's end, or the status by which
/// it is refused.
pub(crate) async fn socket(
    app: &TestApp,
    caller: &Caller<'_>,
    place: &str,
) -> Result<Carrier<TokioIo<Upgraded>>, (u16, Value)> {
    let socket = TcpStream::connect(app.address()).await.unwrap();
    let request = Request::get(format!("/api/v2/demo/{place}"))
        .header("host", app.address().to_string())
        .header("authorization", format!("Bearer {}", caller.keys.access.expose()))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key())
        .body(Empty::<Bytes>::new())
        .unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let answer = sender.send_request(request).await.unwrap();
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        // What the server sent right behind its answer is still there to be read.
        let socket = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        return Ok(Carrier::new(socket, Side::Client, 1));
    }
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Err((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

/// The device's answer to what it is asked to open, while the caller dials.
pub(crate) async fn answered<T, E>(
    app: &TestApp,
    link: &mut Link,
    dialled: impl Future<Output = Result<T, E>>,
    answer: StreamMessage,
) -> Result<(T, Carrier<TcpStream>), E> {
    let mut dialled = pin!(dialled);
    let device = async {
        let secret = link.carrier_secret().await;
        let mut carrier = streams::dial(app, &secret).await.unwrap();
        carrier.receive().await.unwrap();
        carrier.send(&answer).await.unwrap();
        carrier
    };
    tokio::select! {
        refused = &mut dialled => refused.map(|_| panic!("opened before the device was asked")),
        carrier = device => Ok((dialled.await?, carrier)),
    }
}

/// The same, with a device that opens what it is asked for; the status of a refusal.
pub(crate) async fn taken<T>(
    app: &TestApp,
    link: &mut Link,
    dialled: impl Future<Output = Result<T, (u16, Value)>>,
) -> Result<(T, Carrier<TcpStream>), u16> {
    answered(app, link, dialled, StreamMessage::Opened).await.map_err(|(status, _)| status)
}

/// An open stream of the operator: the device's link, both of its ends, and its session.
pub(crate) async fn open(
    app: &TestApp,
    device: &SimulatedDevice<'_>,
) -> (Link, (CallerStream, Carrier<TcpStream>), String) {
    let mut link = device.connect_with(&["port_tunnel"]).await;
    let operator = app.operator();
    let dialled = dial(app, &operator, &device.uuid, "port=22");
    let ends = taken(app, &mut link, dialled).await.unwrap();
    let listed = app.operator().get("remote_sessions?open=true&limit=1").await.ok(200);
    let session = listed["remote_sessions"][0]["session_id"].as_str().unwrap().to_owned();
    (link, ends, session)
}

/// Waits until a session is over, and answers with it.
async fn over(app: &TestApp, session: &str) -> Value {
    eventually("the session is over", async || {
        let seen = app.admin().get(&format!("remote_sessions/{session}")).await.ok(200);
        (seen["status"] == "ended").then_some(seen)
    })
    .await
}

/// What the caller reads at last.
async fn told(mut caller: CallerStream) -> String {
    match caller.read(&mut [0; 64]).await {
        Ok(bytes) => format!("{bytes} bytes"),
        Err(error) => error.to_string(),
    }
}

async fn bytes_go_both_ways_and_each_side_ends_for_itself(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, (mut caller, carrier), session) = open(app, &device).await;
    let mut target = ByteStream::new(carrier);
    caller.write_all(b"to the device").await.unwrap();
    caller.shutdown().await.unwrap();
    let mut came = String::new();
    target.read_to_string(&mut came).await.unwrap();
    assert_eq!(came, "to the device");
    target.write_all(b"and back").await.unwrap();
    target.shutdown().await.unwrap();
    let mut back = String::new();
    caller.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "and back");
    let seen = over(app, &session).await;
    let expected = json!({
        "session_id": session, "device_uuid": device.uuid, "kind": "stream", "host": "", "target": "22",
        "actor": "user:operator", "source_ip": "127.0.0.1", "status": "ended", "reason": "finished",
        "reason_text": "Both sides were done.", "created_time": seen["created_time"],
        "expires_time": seen["expires_time"], "ended_time": seen["ended_time"],
        "bytes_to_device": 13, "bytes_from_device": 8, "terminal": null,
    });
    assert_eq!(seen, expected);
    let log = app.audit().await;
    let ends = [
        format!(
            r#"user:operator OpenDeviceStream remote_session:{session} 127.0.0.1 {{"after":{{"device_uuid":"{}","kind":"stream","target":"22"}},"before":null}}"#,
            device.uuid
        ),
        format!(
            r#"user:operator EndRemoteSession remote_session:{session} 127.0.0.1 {{"after":{{"bytes_from_device":8,"bytes_to_device":13,"reason":"finished","status":"ended"}},"before":{{"status":"open"}}}}"#
        ),
    ];
    assert_eq!(log[log.len() - 2..], ends);
}

async fn what_the_device_says_no_to_is_told(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect_with(&["port_tunnel"]).await;
    let operator = app.operator();
    let dialled = dial(app, &operator, &device.uuid, "port=9");
    let no = StreamMessage::Failed { reason: "127.0.0.1:9: Connection refused".to_owned() };
    let (status, body) = answered(app, &mut link, dialled, no).await.err().unwrap();
    assert_eq!((status, &body["code"]), (409, &json!("device_refused")));
    let expected = "device_uuid: the device answered: 127.0.0.1:9: Connection refused";
    assert_eq!(body["message"], expected);
    let listed = app.operator().get("remote_sessions").await.ok(200);
    assert_eq!(listed["remote_sessions"][0]["reason"], "device_refused");
}

async fn who_may_not_is_refused_before_anything_is_opened(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let status = async |caller: Caller<'_>| dial(app, &caller, &device.uuid, "port=22").await.err().unwrap().0;
    assert_eq!(status(app.anon()).await, 401);
    assert_eq!(status(app.viewer()).await, 403);
    assert_eq!(status(app.neighbour()).await, 404, "of another fleet");
    assert_eq!(status(app.stranger()).await, 404, "of another account");
    assert_eq!(status(app.operator()).await, 409, "the device cannot");
    let _link = device.connect_with(&["port_tunnel"]).await;
    let plain = app.operator().get(&format!("devices/{}/stream?port=22", device.uuid)).await;
    assert_eq!(plain.v2_error().1, "upgrade_required");
    let host = app.operator();
    let host = dial(app, &host, &device.uuid, "port=22&host=10.0.0.1").await.err().unwrap();
    assert_eq!(host.0, 403, "the fleet does not allow that");
    assert_eq!(app.operator().get("remote_sessions").await.ok(200)["pagination_info"]["total"], 0);
}

async fn whoever_loses_a_right_loses_the_stream_and_hears_why(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, (caller, _carrier), session) = open(app, &device).await;
    keeper::look(app.app()).await.unwrap();
    app.write(async |tx| {
        let user = tx.find_user_by_name(&UserName::parse("operator").unwrap()).await?.unwrap();
        Ok(tx.replace_user_roles(user.id, &[]).await?)
    })
    .await;
    keeper::look(app.app()).await.unwrap();
    assert!(told(caller).await.contains("may not open tunnels"));
    assert_eq!(over(app, &session).await["reason"], "permission_ended");
}

async fn a_session_ends_by_its_clock(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, (caller, _carrier), session) = open(app, &device).await;
    app.app().clock().advance(app.app().config.tunnel_lifetime - Duration::from_millis(1));
    keeper::look(app.app()).await.unwrap();
    assert_eq!(app.admin().get(&format!("remote_sessions/{session}")).await.ok(200)["status"], "open");
    app.app().clock().advance(Duration::from_millis(1));
    keeper::look(app.app()).await.unwrap();
    assert_eq!(told(caller).await, "The session's time was over.");
    assert_eq!(over(app, &session).await["reason"], "expired");
}

async fn a_person_ends_the_session_of_another(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, (caller, mut carrier), session) = open(app, &device).await;
    let place = format!("remote_sessions/{session}");
    for _ in 0..2 {
        assert_eq!(app.admin().delete(&place).await.status, 204);
    }
    assert_eq!(told(caller).await, "A person ended the session.");
    assert!(carrier.receive().await.is_err(), "the device's end is cut");
    assert_eq!(over(app, &session).await["reason"], "ended_by_user");
    let ended: Vec<_> = app.audit().await.into_iter().filter(|line| line.contains("EndRemoteSession")).collect();
    assert_eq!(ended.len(), 1);
    assert!(ended[0].starts_with("user:admin "), "{ended:?}");
}

async fn a_session_ends_with_the_link_of_its_device(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (link, (caller, _carrier), session) = open(app, &device).await;
    link.hang_up().await;
    assert_eq!(told(caller).await, "The device's connection broke.");
    assert_eq!(over(app, &session).await["reason"], "device_gone");
}

async fn a_caller_that_goes_ends_its_session(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, (caller, mut carrier), session) = open(app, &device).await;
    drop(caller);
    assert!(carrier.receive().await.is_err(), "the device's end is cut");
    assert_eq!(over(app, &session).await["reason"], "caller_gone");
}

async fn sessions_are_listed_the_newest_first(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let (_link, ends, session) = open(app, &device).await;
        drop(ends);
        over(app, &session).await;
        sessions.insert(0, session);
    }
    let ids = |page: &Value| -> Vec<String> {
        let all = page["remote_sessions"].as_array().unwrap();
        all.iter().map(|session| session["session_id"].as_str().unwrap().to_owned()).collect()
    };
    let first = app.operator().get("remote_sessions?limit=2&kind=stream&open=false").await.ok(200);
    assert_eq!(ids(&first), sessions[..2]);
    let after = first["pagination_info"]["after"].as_str().unwrap();
    let second = app.operator().get(&format!("remote_sessions?after={after}")).await.ok(200);
    assert_eq!(ids(&second), sessions[2..]);
    assert_eq!(second["pagination_info"], json!({ "after": null, "total": 3 }));
    let of_device = format!("remote_sessions?device_uuid={}&kind=terminal", device.uuid);
    assert_eq!(app.operator().get(&of_device).await.ok(200)["pagination_info"]["total"], 0);
}

async fn wrong_orders_name_their_field(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let _link = device.connect_with(&["port_tunnel"]).await;
    for (query, expected) in [
        ("", "port: is required"),
        ("port=0", r#"port: "0" is not a port from 1 to 65535"#),
        ("port=65536", r#"port: "65536" is not a port from 1 to 65535"#),
        ("port=22&host=a%20b", r#"host: "a b" is neither an IP address nor the name of a host"#),
    ] {
        let operator = app.operator();
        let (status, body) = dial(app, &operator, &device.uuid, query).await.err().unwrap();
        assert_eq!((status, body["message"].as_str().unwrap()), (400, expected));
    }
    for (query, expected) in [
        ("kind=x", r#"kind: "x" is none of stream, terminal, files"#),
        ("open=x", r#"open: "x" is neither true nor false"#),
    ] {
        assert_eq!(app.operator().get(&format!("remote_sessions?{query}")).await.refused(400), expected);
    }
    assert_eq!(app.operator().get("remote_sessions/none%00").await.status, 404);
    assert_eq!(app.operator().get("remote_sessions?device_uuid=d-0000-0000").await.status, 404);
}

async fn what_a_killed_server_left_open_is_over_when_it_starts(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, _ends, session) = open(app, &device).await;
    // What a server does first of all that comes after one that was killed.
    keeper::restore(app.app()).await.unwrap();
    assert_eq!(over(app, &session).await["reason"], "server_stopped");
}
