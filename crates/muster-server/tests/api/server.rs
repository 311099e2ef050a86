//! The server as a whole: its health, its own calls, its folder, its end.

use muster_core::clock::Clock;
use muster_server::{Server, ServerConfig};
use muster_store::testing::START;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;

use crate::app::TestApp;
use crate::device::SimulatedDevice;

on_both_engines!(
    says_how_it_is,
    says_that_it_cannot_reach_its_database,
    makes_groups_and_apps,
    one_server_for_each_folder,
);

async fn says_how_it_is(app: &TestApp) {
    let expected = json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") });
    assert_eq!(app.anon().get("/healthz").await.ok(200), expected);
    let document = app.anon().get("/api/openapi.json").await.ok(200);
    assert_eq!(document, json!(muster_server::router::openapi_document()));
}

async fn says_that_it_cannot_reach_its_database(app: &TestApp) {
    app.store().close().await;
    let text = "the server cannot reach its database; try again";
    let expected = (503, "unavailable".to_owned(), text.to_owned());
    assert_eq!(app.anon().get("/healthz").await.v2_error(), expected);
    assert_eq!(app.viewer().get("devices").await.v2_error(), expected);
    let v1 = app.viewer().v1_get("/v1/devices_details", &json!({})).await;
    assert_eq!(v1.ok(503), json!({ "error_message": text }));
}

async fn makes_groups_and_apps(app: &TestApp) {
    for (path, name, what) in [("groups", "Lab 7", "group"), ("apps", "kiosk", "app")] {
        let answer = app.admin().post(path, &json!({ "name": name })).await;
        assert_eq!(answer.ok(201)["name"], name);
        let refusal = app.admin().post(path, &json!({ "name": name })).await.v2_error();
        let text = format!("name: {what} \"{name}\" exists already");
        assert_eq!(refusal, (409, "conflict".to_owned(), text));
        for (body, expected) in [
            (json!({}), "name: is required"),
            (json!({ "name": "" }), "name: \"\" is empty"),
            (json!({ "name": "x", "more": 1 }), "more: unknown field `more`, expected `name`"),
        ] {
            assert_eq!(app.admin().post(path, &body).await.refused(400), expected);
        }
    }
    let device = SimulatedDevice::enroll(app, "device").await;
    let both = json!([
        { "op": "replace", "path": "group_name", "value": "Lab 7" },
        { "op": "add", "path": "apps", "value": [{ "app_name": "kiosk", "version": "1" }] },
    ]);
    assert_eq!(app.operator().change(device.uuid.as_str(), &both).await["group_name"], "Lab 7");
    let log = app.audit().await;
    assert_eq!(
        log[..2],
        [
            r#"user:admin CreateGroup group:Lab 7 127.0.0.1 {"after":{"name":"Lab 7"}}"#,
            r#"user:admin CreateApp app:kiosk 127.0.0.1 {"after":{"name":"kiosk"}}"#,
        ]
    );
}

async fn one_server_for_each_folder(app: &TestApp) {
    let config: ServerConfig = app.app().config.clone();
    let second = Server::start(config, Clock::manual(START), StdRng::seed_from_u64(9)).await;
    let error = format!("{:#}", second.err().unwrap());
    assert!(error.contains("belongs to a running server"), "{error}");
}
