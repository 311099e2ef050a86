//! What an account's fleets share: `/api/v2/account/apps` and `/api/v2/account/tags`.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;
use crate::orders::{Order, create};

on_both_engines!(
    an_app_is_made_renamed_and_deleted,
    an_app_in_use_is_deleted_by_force_alone,
    a_deployment_outlives_its_app,
    versions_are_made_and_deleted,
    versions_come_page_by_page,
    a_tag_is_made_renamed_and_deleted,
    a_tag_is_merged_into_another,
    a_deletion_is_previewed,
    counts_know_only_what_the_caller_sees,
    names_may_hold_anything_that_a_path_can_encode,
    refuses_wrong_names,
);

const APPS: &str = "/api/v2/account/apps";
const TAGS: &str = "/api/v2/account/tags";
const MADE: &str = "2025-06-09T14:10:44Z";

fn app_body(name: &str, devices: u64, versions: u64) -> Value {
    json!({ "name": name, "created_time": MADE, "device_count": devices, "version_count": versions })
}

fn tag_body(name: &str, key: &str, value: &str, devices: u64) -> Value {
    let counts = json!({ "device_count": devices, "resource_count": 0 });
    let mut body = json!({ "name": name, "key": key, "value": value, "created_time": MADE });
    body.as_object_mut().unwrap().extend(counts.as_object().unwrap().clone());
    body
}

fn version_body(version: &str, devices: u64) -> Value {
    json!({ "version": version, "created_time": MADE, "device_count": devices })
}

async fn set(app: &TestApp, device: &SimulatedDevice<'_>, path: &str, value: &Value) {
    let project = device.row().await.fleet_id == app.house().fleet.id;
    let key = if project { "demo" } else { "second" };
    let body = json!([{ "op": "add", "path": path, "value": value }]);
    app.admin().patch(&format!("/api/v2/{key}/devices/{}", device.uuid), &body).await.ok(200);
}

async fn an_app_is_made_renamed_and_deleted(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    assert_eq!(app.neighbour().post(APPS, &json!({ "name": "kiosk" })).await.ok(201), app_body("kiosk", 0, 0));
    set(app, &device, "apps", &json!([{ "app_name": "kiosk", "version": "1" }])).await;
    let path = format!("{APPS}/kiosk");
    assert_eq!(app.viewer().get(&path).await.ok(200), app_body("kiosk", 1, 1));
    assert_eq!(app.admin().patch(&path, &json!({ "name": "Kiosk 2" })).await.ok(200), app_body("Kiosk 2", 1, 1));
    assert_eq!(device.seen().await["apps"], json!([{ "app_name": "Kiosk 2", "version": "1" }]));
    let apps = [app_body("firmware", 0, 0), app_body("default_app", 0, 0), app_body("Kiosk 2", 1, 1)];
    let page = json!({ "apps": apps, "pagination_info": { "after": null, "total": 3 } });
    assert_eq!(app.viewer().get(APPS).await.ok(200), page);
    app.admin().delete(&format!("{APPS}/firmware")).await.empty(204);
    app.viewer().get(&format!("{APPS}/firmware")).await.refused(404);
    let log = app.audit().await;
    let expected = [
        r#"user:neighbour CreateAccountApp app:kiosk 127.0.0.1 {"after":{"name":"kiosk"}}"#,
        r#"user:admin PatchApp app:kiosk 127.0.0.1 {"after":{"name":"Kiosk 2"},"before":{"name":"kiosk"}}"#,
        r#"user:admin DeleteApp app:firmware 127.0.0.1 {"before":{"name":"firmware"},"deployments":0,"devices":0}"#,
    ];
    assert!(expected.iter().all(|line| log.contains(&(*line).to_owned())), "{log:#?}");
}

async fn an_app_in_use_is_deleted_by_force_alone(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    set(app, &device, "apps", &json!([{ "app_name": "firmware", "version": "1" }])).await;
    let path = format!("{APPS}/firmware");
    let text = "1 device and 0 deployments have the app \"firmware\"";
    let expected = (409, "in_use".to_owned(), text.to_owned());
    assert_eq!(app.admin().delete(&path).await.v2_error(), expected);
    assert_eq!(app.admin().delete(&format!("{path}?force=false")).await.v2_error(), expected);
    assert_eq!(
        app.admin().delete(&format!("{path}?force=x")).await.refused(400),
        "force: \"x\" is neither true nor false"
    );
    app.admin().delete(&format!("{path}?force=true")).await.empty(204);
    assert_eq!(device.seen().await["apps"], json!([]));
    assert_eq!(app.admin().post(APPS, &json!({ "name": "firmware" })).await.ok(201), app_body("firmware", 0, 0));
}

async fn a_deployment_outlives_its_app(app: &TestApp) {
    let (done, waits) = (SimulatedDevice::enroll(app, "done").await, SimulatedDevice::enroll(app, "waits").await);
    create(app, &Order { app: Some(("firmware", "2.0")), ..Order::default() }).await;
    done.connect().await.succeed().await;
    let (before, path) = (done.seen().await, format!("{APPS}/firmware"));
    let updated = &before["updates"][0]["apps_updated"];
    assert_ne!(updated, &json!([]));
    let refusal = app.admin().delete(&path).await.refused(409);
    assert_eq!(refusal, "1 device and 1 deployment have the app \"firmware\"");
    app.admin().delete(&format!("{path}?force=true")).await.empty(204);
    let after = done.seen().await;
    assert_eq!((&after["updates"][0]["apps_updated"], &after["apps"]), (updated, &json!([])), "history is readable");
    waits.connect().await.succeed().await;
    assert_eq!(waits.seen().await["apps"], json!([]), "it sets nothing any more");
}

async fn versions_are_made_and_deleted(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let path = format!("{APPS}/firmware/versions");
    set(app, &device, "apps", &json!([{ "app_name": "firmware", "version": "2/0" }])).await;
    assert_eq!(app.operator().post(&path, &json!({ "version": "1.0" })).await.ok(201), version_body("1.0", 0));
    let taken = app.operator().post(&path, &json!({ "version": "1.0" })).await.v2_error();
    assert_eq!(taken, (409, "conflict".to_owned(), "version: version \"1.0\" exists already".to_owned()));
    let versions = [version_body("1.0", 0), version_body("2/0", 1)];
    let page = json!({ "versions": versions, "pagination_info": { "after": null, "total": 2 } });
    assert_eq!(app.viewer().get(&path).await.ok(200), page);
    let used = app.admin().delete(&format!("{path}/2%2F0")).await.v2_error();
    let text = "1 device and 0 deployments have the version \"2/0\"";
    assert_eq!(used, (409, "in_use".to_owned(), text.to_owned()));
    app.admin().delete(&format!("{path}/2%2F0?force=true")).await.empty(204);
    assert_eq!(device.seen().await["apps"], json!([]));
    app.admin().delete(&format!("{path}/1.0")).await.empty(204);
    app.admin().delete(&format!("{path}/1.0")).await.refused(404);
    create(app, &Order { app: Some(("firmware", "3")), ..Order::default() }).await;
    app.admin().post(&path, &json!({ "version": "3" })).await.ok(201);
    let used = app.admin().delete(&format!("{path}/3")).await.refused(409);
    assert_eq!(used, "0 devices and 1 deployment have the version \"3\"");
    for (body, expected) in [(json!({ "version": "" }), "version: \"\" is empty"), (json!({}), "version: is required")]
    {
        assert_eq!(app.operator().post(&path, &body).await.refused(400), expected);
    }
    app.operator().post(&format!("{APPS}/unknown/versions"), &json!({ "version": "1" })).await.refused(404);
    app.viewer().get(&format!("{APPS}/unknown/versions")).await.refused(404);
}

async fn versions_come_page_by_page(app: &TestApp) {
    let path = format!("{APPS}/firmware/versions");
    for version in ["3", "1", "2", "ü"] {
        app.operator().post(&path, &json!({ "version": version })).await.ok(201);
    }
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let page = app.viewer().get(&format!("{path}?limit=1&after={after}")).await.ok(200);
        assert_eq!(page["pagination_info"]["total"], 4);
        found.push(page["versions"][0]["version"].clone());
        match page["pagination_info"]["after"].as_str() {
            Some(next) => after = next.replace('+', "%2B").replace('=', "%3D"),
            None => break,
        }
    }
    assert_eq!(json!(found), json!(["1", "2", "3", "ü"]));
    for wrong in ["x", "eyJjdXJzb3IiOiA0OTEsICJsaW1pdCI6IDN9", "eyJjdXJzb3IiOiAiXHUwMDAwIiwgImxpbWl0IjogM30="] {
        let refusal = app.viewer().get(&format!("{path}?after={wrong}")).await.refused(400);
        assert!(refusal.starts_with("after: "), "{refusal}");
    }
}

async fn a_tag_is_made_renamed_and_deleted(app: &TestApp) {
    let (here, there) = (
        SimulatedDevice::enroll(app, "here").await,
        SimulatedDevice::enroll_with(app, &app.house().second_pairing, "there").await,
    );
    let made = app.operator().post(TAGS, &json!({ "name": "site=London" })).await.ok(201);
    assert_eq!(made, tag_body("site=London", "site", "London", 0));
    set(app, &here, "tags", &json!(["site=London", "red"])).await;
    set(app, &there, "tags", &json!(["site=London"])).await;
    let path = format!("{TAGS}/site=London");
    let renamed = app.admin().patch(&path, &json!({ "name": "Leeds" })).await.ok(200);
    assert_eq!(renamed, tag_body("Leeds", "Leeds", "", 2));
    assert_eq!(here.seen().await["tags"], json!(["Leeds", "red"]), "devices keep it");
    let taken = app.admin().patch(&format!("{TAGS}/Leeds"), &json!({ "name": "red" })).await.v2_error();
    assert_eq!(taken, (409, "conflict".to_owned(), "name: tag \"red\" exists already".to_owned()));
    let tags = [tag_body("Leeds", "Leeds", "", 1), tag_body("red", "red", "", 1)];
    let page = json!({ "tags": tags, "pagination_info": { "after": null, "total": 2 } });
    assert_eq!(app.viewer().get(TAGS).await.ok(200), page);
    app.admin().delete(&format!("{TAGS}/Leeds")).await.empty(204);
    assert_eq!(here.seen().await["tags"], json!(["red"]));
    let there = format!("/api/v2/second/devices/{}?enrich_info=true", there.uuid);
    assert_eq!(app.neighbour().get(&there).await.ok(200)["tags"], json!([]), "in every fleet");
    app.viewer().get(&format!("{TAGS}/Leeds")).await.refused(404);
    let log = app.audit().await;
    let expected = [
        r#"user:admin PatchTag tag:site=London 127.0.0.1 {"after":{"name":"Leeds"},"before":{"name":"site=London"}}"#,
        r#"user:admin DeleteTag tag:Leeds 127.0.0.1 {"before":{"name":"Leeds"},"devices":2,"resources":0}"#,
    ];
    assert!(expected.iter().all(|line| log.contains(&(*line).to_owned())), "{log:#?}");
}

async fn a_tag_is_merged_into_another(app: &TestApp) {
    let (one, two) = (SimulatedDevice::enroll(app, "one").await, SimulatedDevice::enroll(app, "two").await);
    set(app, &one, "tags", &json!(["red", "site=London"])).await;
    set(app, &two, "tags", &json!(["red"])).await;
    let path = format!("{TAGS}/red/merge");
    let merged = app.admin().post(&path, &json!({ "into": "site=London" })).await.ok(200);
    assert_eq!(merged, tag_body("site=London", "site", "London", 2));
    for device in [&one, &two] {
        assert_eq!(device.seen().await["tags"], json!(["site=London"]));
    }
    assert_eq!(app.viewer().get(TAGS).await.ok(200)["pagination_info"]["total"], 1);
    let event = r#"user:admin MergeTag tag:red 127.0.0.1 {"after":{"name":"site=London"},"before":{"name":"red"},"devices":2,"resources":0}"#;
    assert_eq!(app.audit().await.last().unwrap(), event);
    app.admin().post(&path, &json!({ "into": "site=London" })).await.refused(404);
    let path = format!("{TAGS}/site=London/merge");
    for (into, refusal) in [
        ("red", "into: no tag is called \"red\""),
        ("site=London", "into: \"site=London\" is the tag itself"),
        (" ", "into: \" \" is empty"),
    ] {
        assert_eq!(app.admin().post(&path, &json!({ "into": into })).await.refused(400), refusal);
    }
    app.operator().post(&path, &json!({ "into": "red" })).await.refused(403);
}

async fn a_deletion_is_previewed(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "one").await;
    set(app, &device, "tags", &json!(["red", "site=London"])).await;
    set(app, &device, "tags", &json!(["blue"])).await;
    let (events, preview) = (app.audit().await.len(), "/api/v2/account/tag-deletions/preview");
    let asked = json!({ "tags": ["site=London", "none", "red"] });
    let expected = json!({
        "tags": [tag_body("red", "red", "", 1), tag_body("site=London", "site", "London", 1)], "missing": ["none"],
    });
    assert_eq!(app.admin().post(preview, &asked).await.ok(200), expected);
    let nothing = json!({ "tags": [], "missing": ["site=London", "none", "red"] });
    assert_eq!(app.stranger().post(preview, &asked).await.ok(200), nothing);
    assert_eq!(
        (device.seen().await["tags"].clone(), app.audit().await.len()),
        (json!(["red", "site=London", "blue"]), events)
    );
    for (tags, refusal) in [
        (json!([]), "tags: is empty"),
        (json!(["red", ""]), "tags[1]: \"\" is empty"),
        (json!(vec!["x"; 1_001]), "tags: has 1001 items, at most 1000 are allowed"),
    ] {
        assert_eq!(app.admin().post(preview, &json!({ "tags": tags })).await.refused(400), refusal);
    }
}

async fn counts_know_only_what_the_caller_sees(app: &TestApp) {
    let devices = [
        SimulatedDevice::enroll(app, "one").await,
        SimulatedDevice::enroll(app, "two").await,
        SimulatedDevice::enroll_with(app, &app.house().second_pairing, "there").await,
    ];
    for device in &devices {
        set(app, device, "tags", &json!(["red"])).await;
        set(app, device, "apps", &json!([{ "app_name": "firmware", "version": "1" }])).await;
    }
    for (caller, seen) in [(app.admin(), 3), (app.viewer(), 2), (app.neighbour(), 1)] {
        assert_eq!(caller.get(&format!("{TAGS}/red")).await.ok(200)["device_count"], seen);
        assert_eq!(caller.get(TAGS).await.ok(200)["tags"][0]["device_count"], seen);
        assert_eq!(caller.get(&format!("{APPS}/firmware")).await.ok(200)["device_count"], seen);
        let versions = caller.get(&format!("{APPS}/firmware/versions")).await.ok(200);
        assert_eq!(versions["versions"][0]["device_count"], seen);
    }
    assert_eq!(app.stranger().get(TAGS).await.ok(200)["tags"], json!([]));
    assert_eq!(app.stranger().get(&format!("{APPS}/firmware")).await.ok(200)["device_count"], 0, "its own");
}

async fn names_may_hold_anything_that_a_path_can_encode(app: &TestApp) {
    for (name, encoded) in [("a/b", "a%2Fb"), ("a b", "a%20b"), ("../x", "..%2Fx"), ("k=ü", "k=%C3%BC"), ("%", "%25")]
    {
        for catalogue in [APPS, TAGS] {
            app.admin().post(catalogue, &json!({ "name": name })).await.ok(201);
            let path = format!("{catalogue}/{encoded}");
            assert_eq!(app.viewer().get(&path).await.ok(200)["name"], name);
            app.admin().patch(&path, &json!({ "name": format!("{name}2") })).await.ok(200);
            app.admin().delete(&format!("{path}2")).await.empty(204);
        }
    }
}

async fn refuses_wrong_names(app: &TestApp) {
    let before = (app.admin().get(APPS).await.ok(200), app.admin().get(TAGS).await.ok(200));
    for catalogue in [APPS, TAGS] {
        for (body, expected) in [
            (json!({}), "name: is required"),
            (json!({ "name": "" }), "name: \"\" is empty"),
            (json!({ "name": "x", "key": "y" }), "key: unknown field `key`, expected `name`"),
        ] {
            assert_eq!(app.admin().post(catalogue, &body).await.refused(400), expected);
        }
        for name in ["unknown", "%00", "%20"] {
            let path = format!("{catalogue}/{name}");
            app.viewer().get(&path).await.refused(404);
            app.admin().patch(&path, &json!({ "name": "x" })).await.refused(404);
            app.admin().delete(&path).await.refused(404);
        }
        let refusal = app.viewer().post(catalogue, &json!({ "name": "x" })).await.refused(403);
        assert_eq!(refusal, "this needs the permission modify_devices in a fleet of the account");
    }
    assert_eq!((app.admin().get(APPS).await.ok(200), app.admin().get(TAGS).await.ok(200)), before);
}
