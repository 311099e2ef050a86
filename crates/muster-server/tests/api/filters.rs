//! The device filter, all six types of it, through both APIs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::{Link, SimulatedDevice};
use crate::orders::{Deployment, Order, create};

on_both_engines!(selects_what_loses_a_tag, selects_what_is_deployed_to, selects_by_update_status_what_is_deployed_to);

/// Three devices: `a` is online and was updated, `b` waits for that update, `c` is alone in its group.
struct Scene<'a> {
    devices: [SimulatedDevice<'a>; 3],
    deployment: Deployment,
    _link: Link,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl<'a> Scene<'a> {
    async fn set(app: &'a TestApp) -> Self {
        let devices = [
            SimulatedDevice::enroll(app, "a").await,
            SimulatedDevice::enroll(app, "b").await,
            SimulatedDevice::enroll(app, "c").await,
        ];
        let admin = app.admin();
        for device in &devices[..2] {
            let red = json!([{ "op": "add", "path": "tags", "value": ["red"] }]);
            admin.change(device.uuid.as_str(), &red).await;
        }
        let to_test = json!([{ "op": "replace", "path": "group_name", "value": "Test" }]);
        admin.change(devices[2].uuid.as_str(), &to_test).await;
        let red = json!({ "filters": [{ "type": "tag", "operand": "is", "value": "red" }] });
        let order = Order { filter: red, app: Some(("firmware", "1.0")), ..Order::default() };
        let deployment = create(app, &order).await;
        let mut link = devices[0].connect().await;
        link.succeed().await;
        Self { devices, deployment, _link: link }
    }

    /// Groups, filters, and the names of the devices that they mean.
    fn cases(&self) -> Vec<(Value, Value, &'static str)> {
        let group = |name: &str| json!({ "name": name });
        let one = |kind: &str, operand: &str, value: &str| json!({ "type": kind, "operand": operand, "value": value });
        let app = |operand: &str, version: &str| json!({ "type": "app", "operand": operand, "value": "firmware", "app_version": version });
        let deployed = |value: &str| json!({ "type": "deployment", "operand": "is", "value": value, "deployment_id": self.deployment.uuid });
        let a = self.devices[0].uuid.as_str();
        let groups = [
            (json!([]), "abc"),
            (json!([group("Production")]), "ab"),
            (json!([group("Test")]), "c"),
            (json!([group("Test"), group("Production")]), "abc"),
            (json!([group("all")]), "abc"),
            (json!([group("Test"), group("all")]), "abc"),
        ];
        let filters = [
            (json!([one("specific_device", "is", a)]), "a"),
            (json!([one("specific_device", "is_not", a)]), "bc"),
            (json!([one("tag", "is", "red")]), "ab"),
            (json!([one("tag", "is_not", "red")]), "c"),
            (json!([one("app", "is", "firmware")]), "a"),
            (json!([one("app", "is_not", "firmware")]), "bc"),
            (json!([one("app", "is", "default_app")]), ""),
            (json!([app("is", "1.0")]), "a"),
            (json!([app("is", "2.0")]), ""),
            (json!([app("is_not", "1.0")]), "bc"),
            (json!([one("device_state", "is", "online")]), "a"),
            (json!([one("device_state", "is", "offline")]), "bc"),
            (json!([deployed("any")]), "ab"),
            (json!([deployed("success")]), "a"),
            (json!([deployed("pending")]), "b"),
            (json!([deployed("failed")]), ""),
            (json!([one("tag", "is", "red"), one("device_state", "is", "offline")]), "b"),
            (json!([one("tag", "is", "red"), one("tag", "is_not", "red")]), ""),
        ];
        let both = [(json!([group("Test")]), json!([one("tag", "is", "red")]), "")];
        let groups = groups.into_iter().map(|(groups, names)| (groups, json!([]), names));
        let filters = filters.into_iter().map(|(filters, names)| (json!([]), filters, names));
        groups.chain(filters).chain(both).collect()
    }

    /// Filters on the newest update of a device, which every deployment changes.
    fn update_status_cases() -> Vec<(Value, &'static str)> {
        let one = |operand: &str, value: &str| json!([{ "type": "update_status", "operand": operand, "value": value }]);
        vec![
            (one("is", "success"), "a"),
            (one("is", "pending"), "b"),
            (one("is_not", "pending"), "ac"),
            (one("is", "in_progress"), ""),
            (one("is_not", "aborted"), "abc"),
        ]
    }

    fn names(&self, is_meant: impl Fn(&SimulatedDevice<'_>) -> bool) -> String {
        let meant = NAMES.iter().zip(&self.devices).filter(|(_, device)| is_meant(device));
        meant.map(|(name, _)| *name).collect()
    }
}

async fn selects_what_loses_a_tag(app: &TestApp) {
    let scene = Scene::set(app).await;
    let status = Scene::update_status_cases().into_iter().map(|(filters, names)| (json!([]), filters, names));
    for (groups, filters, expected) in scene.cases().into_iter().chain(status) {
        for device in &scene.devices {
            let probe = json!([{ "op": "add", "path": "tags", "value": ["probe"] }]);
            app.admin().change(device.uuid.as_str(), &probe).await;
        }
        let filter = json!({ "project": { "name": "Demo fleet" }, "groups": groups, "filters": filters });
        let body = json!({ "tag_name": "probe", "device_filter": filter });
        app.operator().v1_delete("/v1/device_tags", &body).await.ok(200);
        let left = app.viewer().get("devices?tags=probe").await.ok(200);
        let left: BTreeSet<&str> =
            left["devices"].as_array().unwrap().iter().map(|device| device["device_uuid"].as_str().unwrap()).collect();
        assert_eq!(scene.names(|device| !left.contains(device.uuid.as_str())), expected, "{filter}");
    }
}

async fn selects_what_is_deployed_to(app: &TestApp) {
    let scene = Scene::set(app).await;
    for (groups, filters, expected) in scene.cases() {
        let filter = json!({ "groups": groups, "filters": filters });
        assert_eq!(deployed_to(app, &scene, &filter).await, expected, "{filter}");
    }
}

async fn selects_by_update_status_what_is_deployed_to(app: &TestApp) {
    let scene = Scene::set(app).await;
    let filter = |operand: &str, value: &str| json!({ "filters": [{ "type": "update_status", "operand": operand, "value": value }] });
    assert_eq!(deployed_to(app, &scene, &filter("is", "success")).await, "a");
    assert_eq!(deployed_to(app, &scene, &filter("is_not", "pending")).await, "c", "a now waits for the last one");
    assert_eq!(deployed_to(app, &scene, &filter("is", "pending")).await, "abc");
}

async fn deployed_to(app: &TestApp, scene: &Scene<'_>, filter: &Value) -> String {
    let deployment = create(app, &Order { filter: filter.clone(), ..Order::default() }).await;
    let devices = deployment.devices(app).await;
    scene.names(|device| devices.contains(&device.uuid.to_string()))
}
