//! Access tokens, user tokens and their scopes.

use std::time::Duration;

use muster_core::token::Secret;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::Caller;
use crate::device::SimulatedDevice;
use crate::house::Keys;

const PATH: &str = "/api/v2/account/tokens";

on_both_engines!(
    a_token_is_shown_once_and_listed_without_its_secret,
    a_scope_bounds_what_its_owner_may,
    a_scope_bounds_calls_of_api_v1,
    no_token_makes_one_that_may_do_more,
    administrators_make_tokens_for_others,
    a_revoked_token_ends_at_once,
    a_token_ends_by_the_clock,
    refuses_a_wrong_order,
);

async fn made(caller: &Caller<'_>, body: &Value) -> Value {
    caller.post(PATH, body).await.ok(201)
}

fn scoped(fleets: &Value, permissions: &Value) -> Value {
    json!({ "description": "scoped", "scope": { "fleets": fleets, "permissions": permissions } })
}

fn secret(made: &Value) -> &str {
    made["token"].as_str().unwrap()
}

async fn a_token_is_shown_once_and_listed_without_its_secret(app: &TestApp) {
    let made = made(&app.operator(), &json!({ "description": "CI", "expires_in_seconds": 60 })).await;
    let mut expected = json!({
        "token_id": made["token_id"], "kind": "access", "description": "CI", "subject": "operator",
        "created_time": "2025-06-09T14:10:44Z", "expires_time": "2025-06-09T14:11:44Z", "revoked_time": null,
        "scope": { "fleets": null, "permissions": null }, "token": made["token"],
    });
    assert_eq!(made, expected);
    assert!(secret(&made).starts_with("ma_"));
    expected.as_object_mut().unwrap().remove("token");
    let path = format!("{PATH}/{}", made["token_id"].as_str().unwrap());
    assert_eq!(app.operator().get(&path).await.ok(200), expected);
    assert_eq!(app.admin().get(&path).await.ok(200), expected);
    assert_eq!(app.viewer().get(&path).await.v2_error().0, 404);
    let list = app.operator().get(PATH).await.ok(200);
    assert_eq!(list["pagination_info"], json!({ "after": null, "total": 3 }));
    assert_eq!(list["tokens"][2], expected);
    let all = app.admin().get(&format!("{PATH}?limit=2")).await.ok(200);
    assert_eq!((all["tokens"].as_array().unwrap().len(), &all["pagination_info"]["total"]), (2, &json!(9)));
    let after = all["pagination_info"]["after"].as_str().unwrap().replace('=', "%3D");
    let next = app.admin().get(&format!("{PATH}?limit=100&after={after}")).await.ok(200);
    assert_eq!(next["tokens"].as_array().unwrap().len(), 7);
}

async fn a_scope_bounds_what_its_owner_may(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let path = format!("devices/{}", device.uuid);
    let rename = json!([{ "op": "replace", "path": "device_name", "value": "renamed" }]);
    let admin = app.admin();
    let looking = made(&admin, &scoped(&json!(["demo"]), &json!([]))).await;
    assert_eq!(looking["scope"], json!({ "fleets": ["demo"], "permissions": [] }));
    let looking = admin.with_token(secret(&looking));
    looking.get(&path).await.ok(200);
    assert_eq!(
        looking.patch(&path, &rename).await.refused(403),
        "this needs the permission modify_devices in the fleet"
    );
    let unknown = looking.get("/api/v2/nowhere/devices").await.refused(404).replace("nowhere", "second");
    assert_eq!(looking.get("/api/v2/second/devices").await.refused(404), unknown);
    assert_eq!(
        looking.get("/api/v2/account/users").await.refused(403),
        "only an administrator of the account may do this"
    );
    let me = looking.get("/api/v2/account/me").await.ok(200);
    assert_eq!(me["fleets"], json!([{ "project_key": "demo", "name": "Demo fleet", "permissions": [] }]));

    let elsewhere = admin.with_token(secret(&made(&admin, &scoped(&json!(["second"]), &Value::Null)).await));
    elsewhere.get(&path).await.refused(404);
    elsewhere.get("/api/v2/second/devices").await.ok(200);
    elsewhere.get("/api/v2/account/users").await.refused(403);
    let nowhere = admin.with_token(secret(&made(&admin, &scoped(&json!([]), &Value::Null)).await));
    nowhere.get(&path).await.refused(404);

    // The scope gives nothing that its owner does not have.
    let viewer = app.viewer();
    let wide = viewer.with_token(secret(&made(&viewer, &scoped(&Value::Null, &json!(["modify_devices"]))).await));
    wide.patch(&path, &rename).await.refused(403);
    let operator = app.operator();
    let able = operator.with_token(secret(&made(&operator, &scoped(&Value::Null, &json!(["modify_devices"]))).await));
    able.patch(&path, &rename).await.ok(200);
    able.post("apps", &json!({ "name": "kiosk" })).await.ok(201);
    able.post_yaml("update-flows", crate::orders::FLOW).await.refused(403);
}

async fn a_scope_bounds_calls_of_api_v1(app: &TestApp) {
    let mut body = scoped(&json!(["second"]), &Value::Null);
    body["kind"] = json!("user");
    let made = made(&app.admin(), &body).await;
    assert!(secret(&made).starts_with("mu_"));
    let caller = app.bearer(Keys::all(&Secret::received(secret(&made))));
    let state = async |project: &str| caller.v1_get("/v1/get_devices_state", &json!({ "project_name": project })).await;
    state("Second fleet").await.ok(200);
    assert_eq!(
        state("Demo fleet").await.v1_error(),
        state("Nowhere").await.v1_error().replace("Nowhere", "Demo fleet")
    );
    caller.get("/api/v2/second/devices").await.refused(401);
}

async fn no_token_makes_one_that_may_do_more(app: &TestApp) {
    let admin = app.admin();
    let narrow = admin.with_token(secret(&made(&admin, &scoped(&json!(["demo"]), &json!(["deploy"]))).await));
    let refused = "a token cannot make one that may do more than itself";
    for body in [
        json!({ "description": "" }),
        scoped(&json!(["demo"]), &Value::Null),
        scoped(&Value::Null, &json!(["deploy"])),
        scoped(&json!(["demo"]), &json!(["deploy", "remote_access"])),
    ] {
        assert_eq!(narrow.post(PATH, &body).await.refused(403), refused, "{body}");
    }
    let unseen = narrow.post(PATH, &scoped(&json!(["demo", "second"]), &json!([]))).await;
    assert_eq!(unseen.refused(400), "scope.fleets[1]: no fleet is called \"second\"");
    made(&narrow, &scoped(&json!(["demo"]), &json!([]))).await;
    let wide = made(&admin, &json!({ "description": "wide" })).await;
    let path = format!("{PATH}/{}", wide["token_id"].as_str().unwrap());
    let refusal = narrow.delete(&path).await.refused(403);
    assert_eq!(refusal, "a token cannot revoke one that may do more than itself");
    let log = app.audit().await;
    let told = log.iter().filter(|line| line.contains("\"refused\"")).count();
    assert_eq!(told, 5, "{log:?}");
}

async fn administrators_make_tokens_for_others(app: &TestApp) {
    let body = json!({ "description": "for the viewer", "user": "viewer" });
    let made = made(&app.admin(), &body).await;
    assert_eq!(made["subject"], "viewer");
    let me = app.admin().with_token(secret(&made)).get("/api/v2/account/me").await.ok(200);
    assert_eq!((&me["user"], &me["is_admin"]), (&json!("viewer"), &json!(false)));
    app.operator().post(PATH, &body).await.refused(403);
    for name in ["nobody", "stranger"] {
        let refusal = app.admin().post(PATH, &json!({ "description": "", "user": name })).await.refused(400);
        assert_eq!(refusal, format!("user: no user of the account is called \"{name}\""));
    }
}

async fn a_revoked_token_ends_at_once(app: &TestApp) {
    let made = made(&app.operator(), &json!({ "description": "CI" })).await;
    let (caller, id) = (app.operator().with_token(secret(&made)), made["token_id"].as_str().unwrap());
    caller.get("devices").await.ok(200);
    let path = format!("{PATH}/{id}");
    for _ in 0..2 {
        app.operator().delete(&path).await.done();
    }
    caller.get("devices").await.refused(401);
    assert_eq!(app.operator().get(&path).await.ok(200)["revoked_time"], "2025-06-09T14:10:44Z");
    let log = app.audit().await;
    let line = |action: &str, moment: &str| {
        let token =
            r#"{"description":"CI","kind":"access","scope":{"fleets":null,"permissions":null},"subject":"operator"}"#;
        format!(r#"user:operator {action} token:{id} 127.0.0.1 {{"{moment}":{token}}}"#)
    };
    assert_eq!(log, [line("CreateToken", "after"), line("RevokeToken", "before")]);
}

async fn a_token_ends_by_the_clock(app: &TestApp) {
    let made = made(&app.operator(), &json!({ "description": "", "expires_in_seconds": 10 })).await;
    let caller = app.operator().with_token(secret(&made));
    caller.get("devices").await.ok(200);
    app.wait(Duration::from_secs(10)).await;
    caller.get("devices").await.refused(401);
}

async fn refuses_a_wrong_order(app: &TestApp) {
    let with = |key: &str, value: Value| {
        let mut body = json!({ "description": "" });
        body[key] = value;
        body
    };
    for (body, expected) in [
        (json!({}), "description: is required"),
        (with("kind", json!("device")), "kind: \"device\" is neither access nor user"),
        (with("expires_in_seconds", json!(0)), "expires_in_seconds: 0 is not a number of seconds from 1 to 316224000"),
        (with("expires_in_seconds", json!(-1)), "expires_in_seconds: invalid value"),
        (with("scope", json!({ "fleets": ["x!"] })), "scope.fleets[0]: \"x!\" is not a project key"),
        (with("scope", json!({ "permissions": ["fly"] })), "scope.permissions[0]: \"fly\" is no permission; those are"),
        (with("scope", json!({ "groups": [] })), "scope.groups: unknown field"),
        (with("scope", json!([null, null])), "scope: invalid type: sequence, expected an object"),
        (with("more", json!(1)), "more: unknown field"),
    ] {
        let refusal = app.admin().post(PATH, &body).await.refused(400);
        assert!(refusal.starts_with(expected), "{body}: {refusal}");
    }
    for id in ["t-0000000000000000", "x", "%00"] {
        app.admin().get(&format!("{PATH}/{id}")).await.refused(404);
    }
}
