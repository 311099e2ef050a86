//! What a device is told of the artifacts that its run needs.

use muster_link::Artifact;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::answer;
use crate::device::SimulatedDevice;
use crate::orders::flow;

on_both_engines!(a_run_comes_with_what_it_needs);

const FLOW: &str = "\
on:
  workflow-dispatch:
    inputs:
      version: {}
flows:
  Update:
    steps:
      - name: own
        uses: connect/download-artifact
        with: {registry: files, artifactory-path: 'files/app/${{ inputs.version }}.bin', device-path: /tmp/app}
      - name: command
        run: 'true'
      - name: other
        uses: connect/download-artifact
        with: {registry: ship, artifactory-path: generic/a b.bin, device-path: /tmp/app}
      - name: clone
        uses: connect/git
        with: {registry: code, repository: 'https://git.example.com/a.git', device-path: /srv}
      - name: elsewhere
        uses: connect/git
        with: {registry: code, repository: 'https://evil.example.org/a.git', device-path: /srv}
      - name: missing
        uses: connect/download-artifact
        with: {registry: files, artifactory-path: none, device-path: /tmp/app}
      - name: of another fleet
        uses: connect/download-artifact
        with: {registry: theirs, artifactory-path: app, device-path: /tmp/app}
      - name: image
        uses: connect/docker
        with: {registry: ship, image-path: platform-url/till, image-tag: '${{ inputs.version }}'}
      - name: image of another server
        uses: connect/docker
        with: {registry: ship, image-path: evil.example.org/till, image-tag: '1'}
      - name: image of nobody
        uses: connect/docker
        with: {registry: none, image-path: till, image-tag: '1'}
      - name: images of a compose file
        uses: connect/docker-compose
        with: {registry: ship, compose: 'services: {}', device-path: /srv}
";

fn shown(artifact: &Artifact) -> Value {
    let header = artifact.headers.get("Authorization").map(|value| value.expose().to_owned());
    json!([artifact.url, header, artifact.sha256, artifact.size_bytes])
}

async fn prepare(app: &TestApp) {
    for (name, key) in [("files", json!("demo")), ("theirs", json!("second"))] {
        let made = json!({ "name": name, "project_key": key });
        app.admin().post("/api/v2/account/repositories", &made).await.ok(201);
    }
    for path in ["files/app/7.bin", "theirs/app"] {
        let request = app.admin().request(reqwest::Method::PUT, &format!("/artifactory/{path}"));
        answer(request.body("0123456789")).await.ok(201);
    }
    for (name, kind, url, username) in [
        ("ship", "artifactory", "https://ship.example.com/artifactory/", "robot"),
        ("code", "git", "git.example.com", ""),
    ] {
        let made = json!({ "name": name, "kind": kind, "url": url, "username": username, "secret": "hunter2" });
        app.admin().post("/api/v2/account/registries", &made).await.ok(201);
    }
}

async fn a_run_comes_with_what_it_needs(app: &TestApp) {
    prepare(app).await;
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect().await;
    let configuration = json!({ "flow_uuid": flow(app, FLOW).await, "parameters_mapping": { "version": "7" } });
    let body = json!({ "device_filter": {}, "deployment_configuration": configuration });
    app.operator().post("deployments", &body).await.ok(201);
    let instruction = link.instruction().await;
    let steps: Vec<&str> = instruction.artifacts.keys().map(String::as_str).collect();
    assert_eq!(steps, ["0", "10", "2", "3", "7"]);
    for (step, place) in [(2, "ship/generic/a%20b.bin"), (3, "code/a.git")] {
        let told = instruction.artifact(step).unwrap();
        let url = format!("http://{}/link/v1/registries/{place}", app.address());
        assert_eq!((told.url.as_str(), &told.sha256, told.size_bytes), (url.as_str(), &None, None));
        assert!(told.headers["Authorization"].expose().starts_with("Bearer mg1."), "a grant, and no secret");
    }
    let image = json!(["ship.example.com/platform-url/till:7", "Basic cm9ib3Q6aHVudGVyMg==", null, null]);
    assert_eq!(shown(instruction.artifact(7).unwrap()), image);
    let images = json!(["https://ship.example.com/artifactory/", "Basic cm9ib3Q6aHVudGVyMg==", null, null]);
    assert_eq!(shown(instruction.artifact(10).unwrap()), images);
    let own = instruction.artifact(0).unwrap();
    let sha256 = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
    assert_eq!((own.sha256.as_deref(), own.size_bytes), (Some(sha256), Some(10)));
    assert_eq!(own.url, format!("http://{}/artifactory/files/app/7.bin", app.address()));
    let fetch =
        own.headers.iter().fold(app.http().get(&own.url), |get, (name, value)| get.header(name, value.expose()));
    assert_eq!(answer(fetch).await.text, "0123456789");
}
