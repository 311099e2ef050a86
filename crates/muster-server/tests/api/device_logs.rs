//! Files that devices are asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::limits::FILE_REQUESTS_MAX;
use muster_core::token::Secret;
use muster_link::{ToDevice, ToServer};
use reqwest::Method;
use serde_json::json;

use crate::app::{TestApp, eventually};
use crate::caller::answer;
use crate::device::{Link, SimulatedDevice};

on_both_engines!(
    a_device_sends_what_it_is_asked_for,
    a_device_that_cannot_is_not_asked,
    a_request_outlives_the_link,
    a_device_says_why_it_sends_nothing,
    a_device_has_few_requests_to_answer,
);

struct Asked {
    request: String,
    path: String,
    url: String,
    headers: BTreeMap<String, Secret>,
}

/// The request that must come next.
async fn asked(link: &mut Link) -> Asked {
    match link.next().await {
        Some(ToDevice::UploadFiles { request, path, url, headers }) => Asked { request, path, url, headers },
        other => panic!("no request but {other:?}"),
    }
}

/// Asks a device, and answers with the address.
async fn ask(app: &TestApp, device: &SimulatedDevice<'_>, path: &str) -> String {
    let told = app.operator().post(&format!("devices/{}/logs", device.uuid), &json!({ "files_path": path })).await;
    told.ok(200)["download_url"].as_str().unwrap().to_owned()
}

/// What the address says that has nothing to give.
async fn refusal(app: &TestApp, address: &str) -> String {
    let body = answer(app.http().get(address)).await.ok(404);
    let told = json!({ "errors": [{ "status": 404, "message": body["errors"][0]["message"] }] });
    assert_eq!(body, told);
    body["errors"][0]["message"].as_str().unwrap().to_owned()
}

async fn a_request_outlives_the_link(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect_with(&["upload_files"]).await;
    let address = ask(app, &device, "/var/log").await;
    let first = asked(&mut link).await;
    assert_eq!(refusal(app, &address).await, "the device has not sent it yet");
    link.hang_up().await;
    let offline = ask(app, &device, "/etc/app.conf").await;
    let mut link = device.connect_with(&["upload_files"]).await;
    let again = asked(&mut link).await;
    assert_eq!((&again.request, &again.path, &again.url), (&first.request, &first.path, &first.url));
    let upload = again.headers.iter().fold(app.http().put(&again.url), |put, (name, v)| put.header(name, v.expose()));
    answer(upload.body("what it logged")).await.ok(201);
    assert_eq!(answer(app.http().get(&address)).await.text, "what it logged");
    assert_eq!(asked(&mut link).await.path, "/etc/app.conf", "asked while it was away");
    link.hang_up().await;
    let mut link = device.connect_with(&["upload_files"]).await;
    assert_eq!(asked(&mut link).await.path, "/etc/app.conf", "and nothing that is stored");
    app.wait(Duration::from_secs(24 * 60 * 60)).await;
    assert_eq!(refusal(app, &offline).await, "the device did not send it in time");
}

async fn a_device_says_why_it_sends_nothing(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let other = SimulatedDevice::enroll(app, "other").await;
    let mut link = device.connect_with(&["upload_files"]).await;
    let address = ask(app, &device, "/none").await;
    let Asked { request, .. } = asked(&mut link).await;
    let failed = |reason: &str| ToServer::UploadFailed { request: request.clone(), reason: reason.to_owned() };
    let mut stranger = other.connect().await;
    stranger.send(&failed("it is not mine to say")).await;
    link.send(&failed("/none: No such file\u{0} or directory")).await;
    let told = eventually("the reason", async || {
        Some(refusal(app, &address).await).filter(|text| text != "the device has not sent it yet")
    });
    assert_eq!(told.await, "the device cannot send it: /none: No such file or directory");
    link.hang_up().await;
    let mut link = device.connect_with(&["upload_files"]).await;
    let next = ask(app, &device, "/next").await;
    assert_eq!(asked(&mut link).await.path, "/next", "and it is not asked again");
    assert_eq!(refusal(app, &next).await, "the device has not sent it yet");
}

async fn a_device_has_few_requests_to_answer(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let link = device.connect_with(&["upload_files"]).await;
    for _ in 0..FILE_REQUESTS_MAX {
        ask(app, &device, "/var/log").await;
    }
    let one_more = app.operator().post(&format!("devices/{}/logs", device.uuid), &json!({ "files_path": "/a" })).await;
    let text = format!("device_uuid: {} has not answered 16 requests for files yet", device.uuid);
    assert_eq!(one_more.v2_error(), (409, "too_many_requests".to_owned(), text));
    link.hang_up().await;
}

async fn a_device_sends_what_it_is_asked_for(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect_with(&["upload_files"]).await;
    let wanted = json!({ "files_path": "/var/log/my app/" });
    let told = app.operator().post(&format!("devices/{}/logs", device.uuid), &wanted).await.ok(200);
    let address = told["download_url"].as_str().unwrap();
    assert_eq!(told, json!({ "download_url": address }));
    let Asked { path, url, headers, .. } = asked(&mut link).await;
    assert_eq!(path, "/var/log/my app/");
    let (place, _) = address.split_once('?').unwrap();
    assert_eq!(url, place);
    let folder = format!("/artifactory/connect-demo-generic/upswift-general/devices/{}/files", device.uuid);
    assert!(url.starts_with(&format!("http://{}{folder}/user_requested/logs_my_app/", app.address())), "{url}");
    assert_eq!(app.http().get(address).send().await.unwrap().status(), 404, "not yet");
    let upload = headers.iter().fold(app.http().put(&url), |put, (name, value)| put.header(name, value.expose()));
    answer(upload.body("what it logged")).await.ok(201);
    let fetched = answer(app.http().get(address)).await;
    assert_eq!((fetched.status, fetched.text.as_str()), (200, "what it logged"), "with any client");
    let path = place.strip_prefix(&format!("http://{}", app.address())).unwrap();
    assert_eq!(app.operator().get(path).await.text, "what it logged");
    for (caller, status) in [(app.viewer(), 403), (app.neighbour(), 404), (app.anon(), 401)] {
        assert_eq!(caller.get(path).await.status, status);
    }
    let subject = format!("artifact:{}", path.strip_prefix("/artifactory/").unwrap());
    let log = app.audit().await;
    let of =
        |actor: &str, action: &str| log.iter().any(|line| line.starts_with(&format!("{actor} {action} {subject} ")));
    assert!(of(&format!("device:{}", device.uuid), "StoreArtifact") && of("user:operator", "GetArtifact"), "{log:?}");
    assert!(log.iter().all(|line| !line.contains("mg1.")), "{log:?}");
    let overwritten = answer(app.operator().request(Method::PUT, path).body("x")).await;
    assert_eq!(overwritten.status, 201, "who may deploy and look at the device");
}

async fn a_device_that_cannot_is_not_asked(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let ask = async |path: &str| {
        app.operator().post(&format!("devices/{}/logs", device.uuid), &json!({ "files_path": path })).await
    };
    let text = format!("device_uuid: the agent of {}, version 0.1.0, does not support upload_files", device.uuid);
    assert_eq!(ask("/var/log").await.v2_error(), (409, "not_supported_by_device".to_owned(), text));
    for (path, expected) in [
        ("", "files_path: \"\" is not an absolute path"),
        ("var/log", "files_path: \"var/log\" is not an absolute path"),
        ("/a\n", "files_path: \"/a\\n\" holds the control character U+000A"),
    ] {
        assert_eq!(ask(path).await.refused(400), expected);
    }
}
