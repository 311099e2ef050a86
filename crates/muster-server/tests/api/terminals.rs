//! Terminals, with a simulated device at the other end, and their recordings.

use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use muster_core::names::UserName;
use muster_link::stream::{Exit, StreamMessage, Talk, TerminalSize, Turn};
use muster_server::remote::{keeper, recordings};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::app::{TestApp, eventually};
use crate::caller::Caller;
use crate::device::{Link, SimulatedDevice};
use crate::device_streams::{answered, socket};

on_both_engines!(
    what_is_typed_and_shown_goes_through_and_is_recorded,
    a_watcher_sees_what_was_and_what_comes,
    whoever_may_open_terminals_may_not_watch_them,
    whoever_may_watch_alone_finds_and_watches_and_does_nothing_else,
    a_grant_for_a_device_lets_its_terminals_be_watched,
    a_recording_on_another_server_is_said_to_be_there,
    a_watcher_who_loses_the_right_is_cut,
    a_revoked_right_cuts_the_terminal,
    recordings_are_deleted_when_their_time_is_over,
    wrong_orders_name_their_field,
    a_device_without_terminals_has_none,
);

/// The caller's end of a terminal.
pub(crate) type CallerEnd = Talk<TokioIo<Upgraded>>;
/// The device's.
pub(crate) type DeviceEnd = Talk<TcpStream>;

/// An open terminal of the operator: the device's link, the caller's end and the device's,
/// and its session.
pub(crate) async fn open(app: &TestApp, device: &SimulatedDevice<'_>) -> (Link, (CallerEnd, DeviceEnd), String) {
    let mut link = device.connect_with(&["terminal"]).await;
    let operator = app.operator();
    let place = format!("devices/{}/terminal?columns=100&rows=30&user=ops&term=vt100", device.uuid);
    let dialled = socket(app, &operator, &place);
    let (caller, carrier) = answered(app, &mut link, dialled, StreamMessage::Opened).await.unwrap();
    let listed = app.operator().get("remote_sessions?open=true&limit=1").await.ok(200);
    let session = listed["remote_sessions"][0]["session_id"].as_str().unwrap().to_owned();
    (link, (Talk::new(caller), Talk::new(carrier)), session)
}

pub(crate) async fn say<S: AsyncRead + AsyncWrite + Unpin>(end: &mut Talk<S>, bytes: &[u8]) {
    end.say_bytes(bytes.to_vec()).unwrap();
    end.flush().await.unwrap();
}

pub(crate) async fn tell<S: AsyncRead + AsyncWrite + Unpin>(end: &mut Talk<S>, message: StreamMessage) {
    end.say(&message).unwrap();
    end.flush().await.unwrap();
}

/// What is heard next.
pub(crate) async fn heard<S: AsyncRead + AsyncWrite + Unpin>(end: &mut Talk<S>) -> Turn {
    loop {
        match end.turn(true).await.unwrap() {
            Turn::Sent => {}
            turn => return turn,
        }
    }
}

pub(crate) async fn over(app: &TestApp, session: &str) -> Value {
    eventually("the session is over", async || {
        let seen = app.admin().get(&format!("remote_sessions/{session}")).await.ok(200);
        (seen["status"] == "ended").then_some(seen)
    })
    .await
}

/// The header and the events of a recording, without their times.
pub(crate) fn events(cast: &str) -> (Value, Vec<(String, String)>) {
    let mut lines = cast.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let header = lines.next().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (header, lines.map(|event| (text(&event[1]), text(&event[2]))).collect())
}

async fn what_is_typed_and_shown_goes_through_and_is_recorded(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, (mut caller, mut shell), session) = open(app, &device).await;
    say(&mut caller, b"secret\r").await;
    assert_eq!(heard(&mut shell).await, Turn::Data(b"secret\r".to_vec()));
    say(&mut shell, b"shown").await;
    assert_eq!(heard(&mut caller).await, Turn::Data(b"shown".to_vec()));
    let resized = StreamMessage::Resize(TerminalSize { columns: 120, rows: 40 });
    tell(&mut caller, resized.clone()).await;
    assert_eq!(heard(&mut shell).await, Turn::Message(resized));
    let exited = StreamMessage::Exited(Exit { code: Some(3), signal: None });
    tell(&mut shell, exited.clone()).await;
    assert_eq!(heard(&mut caller).await, Turn::Message(exited));
    let seen = over(app, &session).await;
    assert_eq!((&seen["reason"], &seen["target"]), (&json!("finished"), &json!("ops")));
    assert_eq!((&seen["bytes_to_device"], &seen["bytes_from_device"]), (&json!(7), &json!(5)));
    assert_eq!(seen["terminal"], json!({ "exit_code": 3, "exit_signal": null, "recording": "kept" }));
    let cast = app.admin().get(&format!("remote_sessions/{session}/recording")).await;
    assert_eq!(cast.status, 200);
    let (header, events) = events(&cast.text);
    let expected = json!({
        "version": 2, "width": 100, "height": 30, "timestamp": header["timestamp"],
        "title": format!("ops@{}", device.uuid), "env": { "TERM": "vt100" },
    });
    assert_eq!(header, expected);
    let event = |kind: &str, data: &str| (kind.to_owned(), data.to_owned());
    assert_eq!(events, [event("o", "shown"), event("r", "120x40")], "and nothing of what was typed");
    let log = app.audit().await;
    let line = log.iter().find(|line| line.contains("GetSessionRecording")).unwrap();
    assert!(line.starts_with(&format!("user:admin GetSessionRecording remote_session:{session}")), "{line}");
}

async fn a_watcher_sees_what_was_and_what_comes(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, (mut caller, mut shell), session) = open(app, &device).await;
    say(&mut shell, b"before").await;
    heard(&mut caller).await;
    let admin = app.admin();
    let place = format!("remote_sessions/{session}/watch");
    let mut watcher = Talk::new(socket(app, &admin, &place).await.unwrap());
    let mut cast = String::new();
    while !cast.contains("before") {
        let Turn::Data(bytes) = heard(&mut watcher).await else { panic!("it ended") };
        cast += std::str::from_utf8(&bytes).unwrap();
    }
    say(&mut shell, b"after").await;
    tell(&mut shell, StreamMessage::Exited(Exit { code: None, signal: Some(9) })).await;
    loop {
        match heard(&mut watcher).await {
            Turn::Data(bytes) => cast += std::str::from_utf8(&bytes).unwrap(),
            ended => break assert_eq!(ended, Turn::Message(StreamMessage::End)),
        }
    }
    assert_eq!(over(app, &session).await["terminal"]["exit_signal"], 9);
    let whole = app.admin().get(&format!("remote_sessions/{session}/recording")).await;
    assert_eq!(cast, whole.text);
    assert!(app.audit().await.iter().any(|line| line.starts_with("user:admin WatchSession ")));
}

async fn whoever_may_open_terminals_may_not_watch_them(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, _ends, session) = open(app, &device).await;
    let place = format!("remote_sessions/{session}");
    assert_eq!(app.operator().get(&format!("{place}/recording")).await.status, 403);
    let operator = app.operator();
    assert_eq!(socket(app, &operator, &format!("{place}/watch")).await.err().unwrap().0, 403);
    assert_eq!(app.admin().get("remote_sessions/none/recording").await.status, 404);
}

/// A user whose role has that and nothing else.
async fn only<'a>(app: &'a TestApp, name: &str, rights: Value) -> Caller<'a> {
    let mut role = rights;
    role["name"] = json!(name);
    app.admin().post("/api/v2/account/roles", &role).await.ok(201);
    app.newcomer(name, name).await
}

async fn whoever_may_watch_alone_finds_and_watches_and_does_nothing_else(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, _ends, session) = open(app, &device).await;
    let auditor = only(app, "auditor", json!({ "permissions": ["watch_sessions"] })).await;
    let listed = auditor.get("remote_sessions?kind=terminal").await.ok(200);
    assert_eq!(listed["remote_sessions"][0]["session_id"], session.as_str());
    let place = format!("remote_sessions/{session}");
    assert_eq!(auditor.get(&place).await.ok(200)["actor"], "user:operator");
    assert_eq!(auditor.get(&format!("{place}/recording")).await.status, 200);
    let mut watcher = Talk::new(socket(app, &auditor, &format!("{place}/watch")).await.unwrap());
    assert!(matches!(heard(&mut watcher).await, Turn::Data(_)));
    auditor.delete(&place).await.refused(403);
    for closed in ["terminal", "stream?port=22"] {
        let refused = socket(app, &auditor, &format!("devices/{}/{closed}", device.uuid)).await.err().unwrap();
        assert_eq!((refused.0, &refused.1["code"]), (403, &json!("forbidden")), "{closed}");
    }
    let viewer = app.viewer().get("remote_sessions").await.v2_error();
    assert_eq!((viewer.0, viewer.1.as_str()), (403, "forbidden"));
}

async fn a_grant_for_a_device_lets_its_terminals_be_watched(app: &TestApp) {
    let (device, other) = (SimulatedDevice::enroll(app, "device").await, SimulatedDevice::enroll(app, "other").await);
    let (_link, _ends, session) = open(app, &device).await;
    let (_other_link, _other_ends, foreign) = open(app, &other).await;
    let auditor = only(app, "auditor", json!({ "permissions": [], "needs_grant": ["watch_sessions"] })).await;
    let place = |session: &str, what: &str| format!("remote_sessions/{session}/{what}");
    let refused = async |session: &str| {
        let (status, body) = socket(app, &auditor, &place(session, "watch")).await.err().unwrap();
        assert_eq!((status, &body["code"]), (403, &json!("grant_needed")));
        let refusal = auditor.get(&place(session, "recording")).await.v2_error();
        assert_eq!((refusal.0, refusal.1.as_str()), (403, "grant_needed"));
    };
    refused(&session).await;
    assert_eq!(auditor.get("remote_sessions").await.v2_error().1, "grant_needed");
    let order = json!({ "permissions": ["watch_sessions"], "devices": [device.uuid], "reason": "A till was opened.", "duration_seconds": 600 });
    let grant = auditor.post("access_grants", &order).await.ok(201);
    let grant = format!("access_grants/{}", grant["access_grant_id"].as_str().unwrap());
    app.admin().post(&format!("{grant}/approve"), &json!({})).await.ok(200);
    refused(&foreign).await;
    let listed = auditor.get("remote_sessions").await.ok(200);
    assert_eq!(listed["pagination_info"]["total"], 1);
    assert_eq!(listed["remote_sessions"][0]["session_id"], session.as_str());
    assert_eq!(auditor.get(&place(&session, "recording")).await.status, 200);
    let mut watcher = Talk::new(socket(app, &auditor, &place(&session, "watch")).await.unwrap());
    assert!(matches!(heard(&mut watcher).await, Turn::Data(_)));
    // A grant for another device does not keep it.
    let order = json!({ "permissions": ["watch_sessions"], "devices": [other.uuid], "reason": "And another.", "duration_seconds": 600 });
    let more = auditor.post("access_grants", &order).await.ok(201);
    let more = format!("access_grants/{}/approve", more["access_grant_id"].as_str().unwrap());
    app.admin().post(&more, &json!({})).await.ok(200);
    app.admin().post(&format!("{grant}/revoke"), &json!({})).await.ok(200);
    let told = StreamMessage::Failed { reason: "You may not watch this any more.".to_owned() };
    assert_eq!(heard(&mut watcher).await, Turn::Message(told));
    refused(&session).await;
    assert_eq!(auditor.get(&place(&foreign, "recording")).await.status, 200);
}

async fn a_recording_on_another_server_is_said_to_be_there(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, ends, session) = open(app, &device).await;
    drop(ends);
    over(app, &session).await;
    // As it looks from a server that shares the database and not the folder.
    std::fs::remove_file(app.app().config.data.join(format!("recordings/{session}.cast"))).unwrap();
    let text = format!("session_id: the recording of {session} lies in the data folder of another server");
    let refusal = app.admin().get(&format!("remote_sessions/{session}/recording")).await.v2_error();
    assert_eq!(refusal, (409, "not_supported_by_server".to_owned(), text));
    let admin = app.admin();
    let refused = socket(app, &admin, &format!("remote_sessions/{session}/watch")).await.err().unwrap();
    assert_eq!((refused.0, &refused.1["code"]), (409, &json!("not_supported_by_server")));
    assert!(!app.audit().await.iter().any(|line| line.contains("GetSessionRecording")), "nobody has seen it");
}

async fn a_watcher_who_loses_the_right_is_cut(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, _ends, session) = open(app, &device).await;
    app.write(async |tx| {
        let user = tx.find_user_by_name(&UserName::parse("operator").unwrap()).await?.unwrap();
        Ok(tx.set_admin(user.id, true).await?)
    })
    .await;
    let operator = app.operator();
    let mut watcher = Talk::new(socket(app, &operator, &format!("remote_sessions/{session}/watch")).await.unwrap());
    assert!(matches!(heard(&mut watcher).await, Turn::Data(_)));
    app.write(async |tx| {
        let user = tx.find_user_by_name(&UserName::parse("operator").unwrap()).await?.unwrap();
        Ok(tx.set_admin(user.id, false).await?)
    })
    .await;
    let Turn::Message(StreamMessage::Failed { reason }) = heard(&mut watcher).await else { panic!("it goes on") };
    assert_eq!(reason, "You may not watch this any more.");
}

async fn a_revoked_right_cuts_the_terminal(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, (mut caller, mut shell), session) = open(app, &device).await;
    app.write(async |tx| {
        let user = tx.find_user_by_name(&UserName::parse("operator").unwrap()).await?.unwrap();
        Ok(tx.replace_user_roles(user.id, &[]).await?)
    })
    .await;
    keeper::look(app.app()).await.unwrap();
    assert!(matches!(heard(&mut caller).await, Turn::Message(StreamMessage::Failed { .. })));
    assert!(shell.turn(true).await.is_err(), "the device's end is cut");
    let seen = over(app, &session).await;
    assert_eq!(seen["reason"], "permission_ended");
    assert_eq!(seen["terminal"], json!({ "exit_code": null, "exit_signal": null, "recording": "kept" }));
}

async fn recordings_are_deleted_when_their_time_is_over(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, (caller, _shell), session) = open(app, &device).await;
    drop(caller);
    assert_eq!(over(app, &session).await["reason"], "caller_gone");
    let place = format!("remote_sessions/{session}/recording");
    recordings::sweep(app.app()).await.unwrap();
    assert_eq!(app.admin().get(&place).await.status, 200);
    let config = &app.app().config;
    app.app().clock().advance(config.recordings_kept + config.tunnel_lifetime + Duration::from_secs(1));
    recordings::sweep(app.app()).await.unwrap();
    let left = std::fs::read_dir(config.data.join("recordings")).unwrap().count();
    assert_eq!(left, 0);
}

async fn wrong_orders_name_their_field(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let _link = device.connect_with(&["terminal"]).await;
    for (query, expected) in [
        ("columns=0", r#"columns: "0" is not a number from 1 to 1000"#),
        ("rows=1001", r#"rows: "1001" is not a number from 1 to 1000"#),
        ("user=-x", r#"user: "-x" is no name of a user"#),
        ("term=a%20b", r#"term: "a b" is no name of a term"#),
    ] {
        let operator = app.operator();
        let place = format!("devices/{}/terminal?{query}", device.uuid);
        let (status, body) = socket(app, &operator, &place).await.err().unwrap();
        assert_eq!((status, body["message"].as_str().unwrap()), (400, expected));
    }
}

async fn a_device_without_terminals_has_none(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let _link = device.connect_with(&["port_tunnel"]).await;
    let operator = app.operator();
    let (status, body) = socket(app, &operator, &format!("devices/{}/terminal", device.uuid)).await.err().unwrap();
    assert_eq!((status, &body["code"]), (409, &json!("not_supported_by_device")));
}
