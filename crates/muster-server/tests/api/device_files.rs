//! Files that devices send.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_core::limits::{DEVICE_FILE_BYTES_MAX, FORM_PART_BYTES_MAX};
use muster_core::token::Secret;
use muster_server::config::LOG_FILE_CALLS_PER_MINUTE;
use muster_server::telemetry::device_files::sweep;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, eventually};
use crate::caller::{answer, file_part, json_part, part};
use crate::device::SimulatedDevice;

on_both_engines!(
    a_file_is_sent_listed_downloaded_and_deleted,
    the_same_name_is_overwritten,
    the_oldest_gives_way_to_the_thirty_first,
    lists_page_by_page,
    the_largest_file_is_taken_and_a_larger_one_is_not,
    refuses_wrong_forms_and_stores_nothing,
    names_that_are_not_ascii_survive,
    wrong_tokens_are_refused,
    a_deleted_device_leaves_nothing,
    a_sweep_takes_what_has_no_row_and_no_more,
    a_file_that_another_server_has_is_a_clear_error,
);

mod limits {
    on_both_engines!(with: crate::device_files::as_documented; one_file_a_minute);

    async fn one_file_a_minute(app: &crate::app::TestApp) {
        super::counts_the_files_of_each_device(app).await;
    }
}

mod left {
    on_both_engines!(with: crate::device_files::litter; what_a_crash_left_is_swept);

    async fn what_a_crash_left_is_swept(app: &crate::app::TestApp) {
        super::what_a_crash_left_is_swept(app).await;
    }
}

pub(crate) fn as_documented(config: &mut muster_server::ServerConfig) {
    config.log_file_calls_per_minute = LOG_FILE_CALLS_PER_MINUTE;
    config.v1_device_calls_per_minute = NonZeroU32::MIN;
}

async fn send(app: &TestApp, device: &SimulatedDevice<'_>, name: &str, bytes: &[u8]) {
    let sent = app.operator().send_file(&device.token, name, bytes).await;
    assert_eq!(sent.ok(200), json!({ "message": "Success" }));
}

async fn listed(app: &TestApp, device: &SimulatedDevice<'_>) -> Value {
    app.viewer().get(&format!("devices/{}/files", device.uuid)).await.ok(200)
}

async fn names(app: &TestApp, device: &SimulatedDevice<'_>) -> Vec<String> {
    let files = listed(app, device).await["files"].as_array().unwrap().clone();
    files.iter().map(|file| file["name"].as_str().unwrap().to_owned()).collect()
}

async fn downloaded(app: &TestApp, device: &SimulatedDevice<'_>, name: &str) -> Vec<u8> {
    let request = app.operator().request(Method::GET, &format!("devices/{}/files/{name}", device.uuid));
    let response = request.send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    response.bytes().await.unwrap().to_vec()
}

/// Every file on the disk, in what folder soever.
fn on_disk(app: &TestApp) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&app.app().config.data.join("device-files"), &mut found);
    found
}

fn every_byte() -> Vec<u8> {
    (0..300_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

async fn a_file_is_sent_listed_downloaded_and_deleted(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let none = json!({ "files": [], "pagination_info": { "after": null, "total": 0 } });
    assert_eq!(listed(app, &device).await, none);
    let bytes = every_byte();
    send(app, &device, "sys log.bin", &bytes).await;
    let item = json!({ "name": "sys log.bin", "size": 300_000, "created_time": "2025-06-09T14:10:44Z" });
    let expected = json!({ "files": [item], "pagination_info": { "after": null, "total": 1 } });
    assert_eq!(listed(app, &device).await, expected);

    let path = format!("devices/{}/files/sys%20log.bin", device.uuid);
    let got = app.operator().get(&path).await;
    assert_eq!((got.status, got.header("content-type")), (200, "application/octet-stream"));
    assert_eq!(got.header("content-length"), "300000");
    let disposition = "attachment; filename=\"sys log.bin\"; filename*=UTF-8''sys%20log.bin";
    assert_eq!(got.header("content-disposition"), disposition);
    assert_eq!(got.header("x-content-type-options"), "nosniff");
    assert!(downloaded(app, &device, "sys%20log.bin").await == bytes);
    app.viewer().get(&path).await.refused(403);
    app.viewer().delete(&path).await.refused(403);

    app.operator().delete(&path).await.empty(204);
    for gone in [app.operator().get(&path).await, app.operator().delete(&path).await] {
        assert_eq!(gone.refused(404), "no file \"sys log.bin\" was found");
    }
    for bad in ["..%2F..%2Fserve.lock", "%2e%2e%2fx", "a%5Cb", "%00"] {
        app.operator().get(&format!("devices/{}/files/{bad}", device.uuid)).await.refused(404);
    }
    assert_eq!(listed(app, &device).await, none);
    assert_eq!(on_disk(app), [""; 0].map(PathBuf::from));
    let log = app.audit().await;
    let of = |action: &str, detail: &Value| {
        format!("user:operator {action} device:{} 127.0.0.1 {}", device.uuid, json!(detail))
    };
    let (read, gone) = (json!({ "file": item }), json!({ "before": { "file": item }, "after": null }));
    let expected = [of("GetDeviceFile", &read), of("GetDeviceFile", &read), of("DeleteDeviceFile", &gone)];
    let of_files: Vec<&String> = log.iter().filter(|line| line.contains("user:operator")).collect();
    assert_eq!(of_files, expected.iter().collect::<Vec<_>>());
    assert!(!log.iter().any(|line| line.contains("SendLogFile")), "{log:?}");
}

async fn the_same_name_is_overwritten(app: &TestApp) {
    let (device, other) = (SimulatedDevice::enroll(app, "device").await, SimulatedDevice::enroll(app, "other").await);
    send(app, &device, "a", b"first").await;
    send(app, &device, "b", b"").await;
    send(app, &other, "a", b"of another").await;
    app.wait(Duration::from_secs(1)).await;
    send(app, &device, "a", b"second").await;
    let file = |name: &str, size: u64, time: &str| json!({ "name": name, "size": size, "created_time": time });
    let files = [file("a", 6, "2025-06-09T14:10:45Z"), file("b", 0, "2025-06-09T14:10:44Z")];
    assert_eq!(listed(app, &device).await, json!({ "files": files, "pagination_info": { "after": null, "total": 2 } }));
    assert_eq!(downloaded(app, &device, "a").await, b"second");
    assert_eq!(downloaded(app, &device, "b").await, b"");
    assert_eq!(downloaded(app, &other, "a").await, b"of another");
    assert_eq!(on_disk(app).len(), 3);
}

async fn the_oldest_gives_way_to_the_thirty_first(app: &TestApp) {
    let (device, other) = (SimulatedDevice::enroll(app, "device").await, SimulatedDevice::enroll(app, "other").await);
    send(app, &other, "0", b"of another").await;
    for i in 0..30 {
        send(app, &device, &i.to_string(), b"x").await;
    }
    // The oldest until now, it is the newest again.
    send(app, &device, "0", b"y").await;
    assert_eq!(names(app, &device).await.len(), 30);
    send(app, &device, "30", b"z").await;
    let expected: Vec<String> = [30, 0].into_iter().chain((2..30).rev()).map(|i| i.to_string()).collect();
    assert_eq!(names(app, &device).await, expected);
    assert_eq!(names(app, &other).await, ["0"]);
    assert_eq!(on_disk(app).len(), 31);
}

async fn lists_page_by_page(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    for name in ["a", "b", "c"] {
        send(app, &device, name, b"x").await;
    }
    let path = format!("devices/{}/files?limit=2", device.uuid);
    let item = |name: &str| json!({ "name": name, "size": 1, "created_time": "2025-06-09T14:10:44Z" });
    let first = app.viewer().get(&path).await.ok(200);
    let after = first["pagination_info"]["after"].as_str().unwrap().to_owned();
    let expected = json!({ "files": [item("c"), item("b")], "pagination_info": { "after": after, "total": 3 } });
    assert_eq!(first, expected);
    let second = app.viewer().get(&format!("{path}&after={after}")).await.ok(200);
    assert_eq!(second, json!({ "files": [item("a")], "pagination_info": { "after": null, "total": 3 } }));
    app.viewer().get(&format!("devices/{}/files?limit=0", device.uuid)).await.refused(400);
    app.viewer().get("devices/d-0000-0000/files").await.refused(404);
}

async fn the_largest_file_is_taken_and_a_larger_one_is_not(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut bytes = vec![b'x'; DEVICE_FILE_BYTES_MAX];
    send(app, &device, "largest", &bytes).await;
    bytes.push(b'x');
    let text = format!("file: is larger than {DEVICE_FILE_BYTES_MAX} bytes");
    let refusal = app.operator().send_file(&device.token, "larger", &bytes).await;
    assert_eq!(refusal.ok(413), json!({ "error_message": text }));
    let refusal = app.operator().send_form(&[json_part(&"x".repeat(FORM_PART_BYTES_MAX + 1))]).await;
    assert_eq!(refusal.ok(413)["error_message"], format!("json: is larger than {FORM_PART_BYTES_MAX} bytes"));
    // Who is refused for another reason hears that, however much they send.
    let refusal = app.anon().send_file(&device.token, "largest", &bytes).await;
    assert_eq!(refusal.v1_error(), "user_token: is not a valid account token");
    assert_eq!(names(app, &device).await, ["largest"]);
    assert_eq!(on_disk(app).len(), 1);
}

async fn refuses_wrong_forms_and_stores_nothing(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let operator = app.operator();
    let tokens = json!({ "user_token": operator.keys.user, "device_token": device.token }).to_string();
    let (json, file) = (json_part(&tokens), file_part("a", b"x"));
    let first = "json: must be the first part of the form, before the file";
    let cases = [
        (vec![], "json: is required"),
        (vec![json.clone()], "file: is required"),
        (vec![file.clone(), json.clone()], first),
        (vec![part("other\"", "text/plain", b"x"), json.clone(), file.clone()], first),
        (vec![json.clone(), file.clone(), file.clone()], "file: stands in the form more than once"),
        (vec![json.clone(), part("file\"", "text/plain", b"x")], "file: has no file name"),
        (vec![json.clone(), file_part("", b"x")], "file: \"\" is empty"),
        (vec![json.clone(), file_part("..", b"x")], "file: \"..\" names a folder"),
        (vec![json.clone(), file_part("../a", b"x")], "file: \"../a\" holds a path separator"),
        (vec![json.clone(), file_part("a\tb", b"x")], "file: \"a\\tb\" holds the control character U+0009"),
        (vec![json_part("{}"), file.clone()], "json.user_token: is required"),
    ];
    for (parts, expected) in &cases {
        assert_eq!(operator.send_form(parts).await.v1_error(), *expected);
    }
    let long = operator.send_form(&[json.clone(), file_part(&"é".repeat(256), b"x")]).await.v1_error();
    assert!(long.ends_with("is too long: 256 characters, at most 255 are allowed"), "{long}");
    for text in ["", "[]", "{", "null"] {
        let refusal = operator.send_form(&[json_part(text), file.clone()]).await.v1_error();
        assert!(refusal.starts_with("json: "), "{refusal}");
    }
    // Cut off in the middle of the file: it is not the device's.
    let cut = [&b"--boundary\r\n"[..], &json, b"--boundary\r\n", &file].concat();
    let refusal = answer(operator.raw_form(cut)).await.v1_error();
    assert!(refusal.starts_with("the form did not arrive whole: "), "{refusal}");
    let refusal = operator.v1_post("/v1/send_log_file", &json!({ "device_token": device.token })).await.v1_error();
    assert!(refusal.starts_with("the body is not multipart/form-data: "), "{refusal}");
    assert_eq!(names(app, &device).await, [""; 0]);
    assert_eq!(on_disk(app), [""; 0].map(PathBuf::from));
    // What nobody knows is ignored, as everywhere in API v1.
    let unknown = part("other\"", "text/plain", b"x");
    operator.send_form(&[json, unknown.clone(), file, unknown]).await.ok(200);
    assert_eq!(names(app, &device).await, ["a"]);
}

async fn names_that_are_not_ascii_survive(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let operator = app.operator();
    let tokens = json!({ "user_token": operator.keys.user, "device_token": device.token }).to_string();
    send(app, &device, "é.log", b"plain").await;
    let extended = part("file\"; filename*=utf-8''%E2%82%AC%201.log", "application/octet-stream", b"extended");
    operator.send_form(&[json_part(&tokens), extended]).await.ok(200);
    assert_eq!(names(app, &device).await, ["€ 1.log", "é.log"]);
    assert_eq!(downloaded(app, &device, "%C3%A9.log").await, b"plain");
    assert_eq!(downloaded(app, &device, "%E2%82%AC%201.log").await, b"extended");
    let got = operator.get(&format!("devices/{}/files/%C3%A9.log", device.uuid)).await;
    assert_eq!(got.header("content-disposition"), "attachment; filename=\"_.log\"; filename*=UTF-8''%C3%A9.log");
}

async fn wrong_tokens_are_refused(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let of_device = "device_token: is not a valid device token of the account";
    for (caller, token, expected) in [
        (app.anon(), device.token.clone(), "user_token: is not a valid account token"),
        (app.operator(), Secret::received("md_x"), of_device),
        (app.operator(), app.operator().keys.user, of_device),
        (app.stranger(), device.token.clone(), of_device),
        (app.neighbour(), device.token.clone(), "no device of that id or token was found"),
        (app.viewer(), device.token.clone(), "this needs the permission modify_devices in the fleet"),
    ] {
        assert_eq!(caller.send_file(&token, "a", b"x").await.v1_error(), expected);
    }
    assert_eq!(names(app, &device).await, [""; 0]);
    assert_eq!(on_disk(app), [""; 0].map(PathBuf::from));
}

async fn counts_the_files_of_each_device(app: &TestApp) {
    let (device, other) = (SimulatedDevice::enroll(app, "device").await, SimulatedDevice::enroll(app, "other").await);
    send(app, &device, "a", b"x").await;
    let refused = app.operator().send_file(&device.token, "a", b"x").await;
    assert_eq!(refused.ok(429), json!({}));
    assert!(!refused.header("retry-after").is_empty());
    send(app, &other, "a", b"x").await;
    assert_eq!(names(app, &device).await, ["a"]);
    // Other calls are counted by themselves.
    let state = json!({ "device_token": device.token });
    app.viewer().v1_get("/v1/get_device_state", &state).await.ok(200);
}

async fn a_deleted_device_leaves_nothing(app: &TestApp) {
    let (device, other) = (SimulatedDevice::enroll(app, "device").await, SimulatedDevice::enroll(app, "other").await);
    for name in ["a", "b"] {
        send(app, &device, name, b"x").await;
    }
    send(app, &other, "a", b"of another").await;
    let id = device.row().await.id;
    app.admin().delete(&format!("devices/{}", device.uuid)).await.empty(204);
    app.admin().get(&format!("devices/{}/files", device.uuid)).await.refused(404);
    app.admin().get(&format!("devices/{}/files/a", device.uuid)).await.refused(404);
    assert_eq!(app.store().read().device_files_count(id).await.unwrap(), 0);
    sweep(app.app()).await.unwrap();
    assert_eq!(on_disk(app).len(), 1);
    assert_eq!(downloaded(app, &other, "a").await, b"of another");
}

async fn a_sweep_takes_what_has_no_row_and_no_more(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    send(app, &device, "kept", b"x").await;
    let kept = on_disk(app);
    let folder = app.app().config.data.join("device-files/00");
    for name in ["256", "512", "notes.txt", "257"] {
        std::fs::write(folder.join(name), "x").unwrap();
    }
    // Between the disk and the row, as every file is for a moment.
    let mut arriving = app.app().files.begin(1024).await.unwrap();
    arriving.write(b"x").await.unwrap();
    arriving.publish().await.unwrap();
    sweep(app.app()).await.unwrap();
    let mut expected = vec![folder.join("1024"), folder.join("257"), folder.join("notes.txt")];
    expected.extend(kept.clone());
    let (mut left, mut expected) = (on_disk(app), expected);
    left.sort();
    expected.sort();
    assert_eq!(left, expected, "what is no file of a device in its place is left alone");
    drop(arriving);
    sweep(app.app()).await.unwrap();
    assert!(!folder.join("1024").exists());
    assert_eq!(downloaded(app, &device, "kept").await, b"x");
}

async fn a_file_that_another_server_has_is_a_clear_error(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    send(app, &device, "a", b"x").await;
    for file in on_disk(app) {
        std::fs::remove_file(file).unwrap();
    }
    let path = format!("devices/{}/files/a", device.uuid);
    let text = "file_name: \"a\" lies in the data folder of another server".to_owned();
    assert_eq!(app.operator().get(&path).await.v2_error(), (409, "not_supported_by_server".to_owned(), text));
    app.operator().delete(&path).await.empty(204);
}

/// What a server that was killed may leave: a file that had not arrived whole, and one
/// whose row was not written any more.
pub(crate) fn litter(config: &mut muster_server::ServerConfig) {
    let folder = config.data.join("device-files");
    for (shard, name) in [("incoming", "7"), ("00", "256")] {
        std::fs::create_dir_all(folder.join(shard)).unwrap();
        std::fs::write(folder.join(shard).join(name), "x").unwrap();
    }
}

async fn what_a_crash_left_is_swept(app: &TestApp) {
    eventually("the sweep", async || on_disk(app).is_empty().then_some(())).await;
    let device = SimulatedDevice::enroll(app, "device").await;
    send(app, &device, "a", b"x").await;
    assert_eq!(downloaded(app, &device, "a").await, b"x");
}
