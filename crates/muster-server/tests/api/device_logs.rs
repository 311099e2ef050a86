//! Files that devices are asked for.

use muster_link::ToDevice;
use reqwest::Method;
use serde_json::json;

use crate::app::TestApp;
use crate::caller::answer;
use crate::device::SimulatedDevice;

on_both_engines!(a_device_sends_what_it_is_asked_for, a_device_that_cannot_is_not_asked);

async fn a_device_sends_what_it_is_asked_for(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect_with(&["upload_files"]).await;
    let asked = json!({ "files_path": "/var/log/my app/" });
    let told = app.operator().post(&format!("devices/{}/logs", device.uuid), &asked).await.ok(200);
    let address = told["download_url"].as_str().unwrap();
    assert_eq!(told, json!({ "download_url": address }));
    let Some(ToDevice::UploadFiles { path, url, headers }) = link.next().await else { panic!("no request") };
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
