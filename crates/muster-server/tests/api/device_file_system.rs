//! Files of devices, with a simulated device at the other end. What a real agent does with
//! orders is tested with the agent.

use std::future::Future;
use std::pin::pin;

use muster_link::files::{FileAnswer, FileInfo, FileOperation, FileOrder, FileProblem, read_message, write_message};
use muster_link::stream::{ByteStream, StreamMessage};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::app::TestApp;
use crate::caller::{Answer, answer};
use crate::device::SimulatedDevice;
use crate::streams;

on_both_engines!(
    a_folder_is_listed_by_pages,
    a_range_of_a_file_is_read,
    a_file_is_written,
    what_a_device_refuses_is_told,
    rules_are_the_fleets_own_and_go_with_each_order,
    wrong_orders_of_files_name_their_field,
);

/// What every simulated device has at a path.
pub(crate) fn file(name: &str, kind: &str) -> FileInfo {
    FileInfo {
        name: name.to_owned(),
        kind: kind.to_owned(),
        size: 10,
        mode: "0644".to_owned(),
        uid: 0,
        gid: 0,
        modified_at: 1_749_478_244_000,
        link_target: None,
        tag: "1-a".to_owned(),
    }
}

/// What a simulated device answers to that operation, what follows, and what it says last.
fn played(operation: &FileOperation) -> (FileAnswer, &'static [u8], Option<FileAnswer>) {
    let done = |file, length, sha256| FileAnswer::Done { file: Some(file), from: 0, length, sha256, is_new: false };
    match operation {
        FileOperation::List { path, .. } => {
            let entries = vec![file("syslog", "file")];
            let next = Some("73".to_owned());
            (FileAnswer::Listed { file: file(path, "folder"), entries, next, total: 2 }, b"", None)
        }
        FileOperation::Read { path, from, length, .. } => {
            let from = from.unsigned_abs().min(10);
            let length = (*length).min(10 - from);
            let (start, end) = (usize::try_from(from).unwrap(), usize::try_from(from + length).unwrap());
            let answer = FileAnswer::Done {
                file: Some(file(path, "file")),
                from,
                length: Some(length),
                sha256: None,
                is_new: false,
            };
            (answer, &b"0123456789"[start..end], None)
        }
        FileOperation::Archive { path } => (done(file(path, "folder"), None, None), b"a tar", None),
        FileOperation::Write { path, if_absent, .. } => {
            let last = FileAnswer::Done {
                file: Some(file(path, "file")),
                from: 0,
                length: None,
                sha256: Some("5a".to_owned()),
                is_new: *if_absent,
            };
            (FileAnswer::Ready, b"", Some(last))
        }
        FileOperation::MakeFolder { path, .. } => (done(file(path, "folder"), None, None), b"", None),
        FileOperation::Digest { path } => (done(file(path, "file"), None, Some("00".repeat(32))), b"", None),
        FileOperation::Stat { path } | FileOperation::Delete { path } => {
            (done(file(path, "file"), None, None), b"", None)
        }
        FileOperation::Unknown => panic!("an operation of a later version"),
    }
}

/// What a caller is answered while a device plays its part, or says `refusal`; and what the
/// device was asked, with the content that came.
async fn served_or(
    app: &TestApp,
    device: &SimulatedDevice<'_>,
    asked: impl Future<Output = Answer>,
    refusal: Option<FileAnswer>,
) -> (Answer, Option<(FileOrder, Vec<u8>)>) {
    let mut link = device.connect_with(&["files"]).await;
    let mut heard = None;
    let mut asked = pin!(asked);
    let serving = async {
        loop {
            let secret = link.carrier_secret().await;
            let Ok(mut carrier) = streams::dial(app, &secret).await else { continue };
            assert_eq!(carrier.receive().await.unwrap(), StreamMessage::OpenFiles);
            carrier.send(&StreamMessage::Opened).await.unwrap();
            let mut stream = ByteStream::new(carrier);
            let order: FileOrder = read_message(&mut stream).await.unwrap();
            let (first, content, last) = played(&order.operation);
            write_message(&mut stream, refusal.as_ref().unwrap_or(&first)).await.unwrap();
            let mut came = Vec::new();
            if let (None, Some(last)) = (&refusal, last) {
                stream.read_to_end(&mut came).await.unwrap();
                write_message(&mut stream, &last).await.unwrap();
            } else if refusal.is_none() {
                stream.write_all(content).await.unwrap();
            }
            heard = Some((order, came));
            stream.shutdown().await.unwrap();
            let _ = stream.read(&mut [0; 1]).await;
            std::future::pending::<()>().await;
        }
    };
    let answer = {
        let mut serving = pin!(serving);
        tokio::select! {
            answer = &mut asked => answer,
            () = &mut serving => unreachable!(),
        }
    };
    (answer, heard)
}

/// What a caller is answered while a device plays its part.
pub(crate) async fn served(app: &TestApp, device: &SimulatedDevice<'_>, asked: impl Future<Output = Answer>) -> Answer {
    served_or(app, device, asked, None).await.0
}

/// Below the path of a device.
pub(crate) fn place(device: &SimulatedDevice<'_>, rest: &str) -> String {
    format!("devices/{}/file_system{rest}", device.uuid)
}

async fn a_folder_is_listed_by_pages(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (operator, path) = (app.operator(), place(&device, "?path=/var/log&limit=1"));
    let (listed, heard) = served_or(app, &device, operator.get(&path), None).await;
    let listed = listed.ok(200);
    let entry = |name: &str, kind: &str| {
        json!({
            "name": name, "kind": kind, "size": 10, "mode": "0644", "uid": 0, "gid": 0,
            "modified_time": "2025-06-09T14:10:44Z", "link_target": null, "etag": "\"1-a\"",
        })
    };
    let after = listed["pagination_info"]["after"].as_str().unwrap().to_owned();
    let expected = json!({
        "file": entry("/var/log", "folder"), "entries": [entry("syslog", "file")],
        "pagination_info": { "after": after, "total": 2 },
    });
    assert_eq!(listed, expected);
    let list = |after: &str| FileOperation::List { path: "/var/log".to_owned(), after: after.to_owned(), limit: 1 };
    assert_eq!(heard.unwrap().0.operation, list(""));
    let path = format!("{path}&after={after}");
    let (_, heard) = served_or(app, &device, operator.get(&path), None).await;
    assert_eq!(heard.unwrap().0.operation, list("73"));
    let sessions = app.operator().get("remote_sessions").await.ok(200);
    let seen = &sessions["remote_sessions"][0];
    assert_eq!(json!([seen["kind"], seen["target"], seen["reason"]]), json!(["files", "/var/log", "finished"]));
    let log = app.audit().await;
    assert!(
        log.iter().any(|line| line.contains("user:operator GetDevicePath") && line.contains("/var/log")),
        "{log:?}"
    );
}

async fn a_range_of_a_file_is_read(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (operator, path) = (app.operator(), place(&device, "/content?path=/etc/hosts"));
    let read = async |range: &str, if_range: &str| {
        let request = operator.request(Method::GET, &path).header("range", range).header("if-range", if_range);
        served(app, &device, answer(request)).await
    };
    let part = read("bytes=2-4", "\"1-a\"").await;
    assert_eq!((part.status, part.text.as_str()), (206, "234"));
    assert_eq!((part.header("content-range"), part.header("etag")), ("bytes 2-4/10", "\"1-a\""));
    let whole = served(app, &device, operator.get(&path)).await;
    assert_eq!((whole.status, whole.text.as_str(), whole.header("content-length")), (200, "0123456789", "10"));
    let head = async |wanted: &str| {
        let request = operator.request(Method::HEAD, &path).header("want-repr-digest", wanted);
        served(app, &device, answer(request)).await
    };
    let told = head("sha-256=1").await;
    let digest = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    assert_eq!((told.status, told.header("repr-digest"), told.header("etag")), (200, digest, "\"1-a\""));
    assert!(!head("sha-256=0").await.headers.contains_key("repr-digest"));
    let out = FileAnswer::Refused { problem: FileProblem::OutOfRange, reason: String::new() };
    let request = operator.request(Method::GET, &path).header("range", "bytes=50-");
    assert_eq!(served_or(app, &device, answer(request), Some(out)).await.0.status, 416);
}

async fn a_file_is_written(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let operator = app.operator();
    let request = operator
        .request(Method::PUT, &place(&device, "/content?path=/srv/a&mode=600&modified_time=1970-01-01T00:00:01Z"));
    let request = request.header("if-none-match", "*").body("content");
    let (written, heard) = served_or(app, &device, answer(request), None).await;
    assert_eq!(written.ok(201)["sha256"], "5a");
    let (order, came) = heard.unwrap();
    let (path, sha256, if_tag) = ("/srv/a".to_owned(), None, None);
    let expected = FileOperation::Write {
        path,
        size: Some(7),
        sha256,
        mode: Some(0o600),
        modified_at: Some(1_000),
        if_absent: true,
        if_tag,
    };
    assert_eq!((order.operation, came.as_slice()), (expected, b"content".as_slice()));
}

async fn what_a_device_refuses_is_told(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let operator = app.operator();
    let path = place(&device, "?path=/a");
    for (problem, status, code) in [
        (FileProblem::NotFound, 404, "not_found"),
        (FileProblem::NotAllowed, 403, "forbidden"),
        (FileProblem::WrongKind, 409, "wrong_kind"),
        (FileProblem::Changed, 409, "file_changed"),
        (FileProblem::NoRoom, 507, "no_room"),
        (FileProblem::BadPath, 400, "invalid"),
        (FileProblem::Failed, 409, "device_refused"),
    ] {
        let refusal = FileAnswer::Refused { problem, reason: "because".to_owned() };
        let (told, _) = served_or(app, &device, operator.delete(&path), Some(refusal)).await;
        let (told_status, told_code, ..) = told.v2_error();
        assert_eq!((told_status, told_code.as_str()), (status, code));
    }
}

async fn rules_are_the_fleets_own_and_go_with_each_order(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let by_default = app.viewer().get("file_rules").await.ok(200);
    assert_eq!(by_default["file_rules"].as_array().unwrap().last().unwrap()["path"], "/var/log/**");
    let rules = json!({ "file_rules": [{ "path": "/srv/**", "access": "write" }] });
    assert_eq!(app.admin().put("file_rules", &rules).await.ok(200), rules);
    assert_eq!(app.viewer().get("file_rules").await.ok(200), rules);
    let operator = app.operator();
    let (_, heard) = served_or(app, &device, operator.get(&place(&device, "?path=/srv")), None).await;
    assert_eq!(serde_json::to_value(heard.unwrap().0.rules).unwrap(), rules["file_rules"]);
    let log = app.audit().await;
    let changed = log.iter().find(|line| line.contains("ReplaceFileRules")).unwrap();
    assert!(changed.contains("/var/log/**") && changed.contains("/srv/**"), "{changed}");
}

async fn wrong_orders_of_files_name_their_field(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let _link = device.connect_with(&["files"]).await;
    for (query, expected) in [
        ("", "path: is required"),
        ("?path=etc", r#"path: "etc" is no absolute path"#),
        ("?path=/a/../b", r#"path: "/a/../b" has the part .."#),
        ("?path=/a%00", r#"path: "/a\0" has a zero byte in it"#),
    ] {
        assert_eq!(app.operator().get(&place(&device, query)).await.refused(400), expected);
    }
    for (method, query, expected) in [
        (Method::PUT, "/content?path=/srv/a&mode=1777", r#"mode: "1777" is no mode from 0 to 0777"#),
        (Method::PUT, "/content?path=/srv/a&mode=8", r#"mode: "8" is no mode from 0 to 0777"#),
        (Method::PUT, "/content?path=/srv/a&modified_time=now", r#"modified_time: "now" is no time of RFC 3339"#),
        (Method::POST, "/folder?path=/srv/a&mode=rwx", r#"mode: "rwx" is no mode from 0 to 0777"#),
    ] {
        let call = app.operator().request(method, &place(&device, query));
        assert_eq!(answer(call).await.refused(400), expected);
    }
    let rules: Value = json!({ "file_rules": [{ "path": "srv", "access": "read" }] });
    let expected = r#"file_rules[0].path: "srv" is no absolute path"#;
    assert_eq!(app.admin().put("file_rules", &rules).await.refused(400), expected);
}
