//! Logging in and out, and one's own password.

use std::num::NonZeroU32;
use std::time::Duration;

use muster_store::testing::Engine;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::{Answer, Caller};
use crate::house::password_of;

on_both_engines!(
    a_password_is_exchanged_for_a_token,
    a_wrong_user_is_as_wrong_as_a_wrong_password,
    a_new_password_ends_other_logins,
    tells_who_one_is,
);

async fn log_in(app: &TestApp, user: &str, password: &str) -> Answer {
    app.anon().post("/api/v2/account/login", &json!({ "user": user, "password": password })).await
}

async fn logged_in<'a>(app: &'a TestApp, user: &str) -> Caller<'a> {
    let made = log_in(app, user, &password_of(user)).await.ok(201);
    app.anon().with_token(made["token"].as_str().unwrap())
}

async fn a_password_is_exchanged_for_a_token(app: &TestApp) {
    let made = log_in(app, "operator", &password_of("operator")).await.ok(201);
    let expected = json!({
        "token_id": made["token_id"], "kind": "access", "description": "login", "subject": "operator",
        "created_time": "2025-06-09T14:10:44Z", "expires_time": "2025-07-09T14:10:44Z", "revoked_time": null,
        "scope": { "fleets": null, "permissions": null }, "token": made["token"],
    });
    assert_eq!(made, expected);
    let caller = app.anon().with_token(made["token"].as_str().unwrap());
    caller.get("devices").await.ok(200);
    caller.post("/api/v2/account/logout", &json!({})).await.done();
    caller.get("devices").await.refused(401);
    let id = made["token_id"].as_str().unwrap();
    let line = |action: &str| format!("user:operator {action} token:{id} 127.0.0.1 {{}}");
    assert_eq!(app.audit().await, [line("LogIn"), line("LogOut")]);
    let too_long = json!({ "user": "operator", "password": "x", "expires_in_seconds": 90 * 24 * 3_600 + 1 });
    app.anon().post("/api/v2/account/login", &too_long).await.refused(400);
    app.wait(Duration::from_secs(60)).await;
}

async fn a_wrong_user_is_as_wrong_as_a_wrong_password(app: &TestApp) {
    app.admin().post("/api/v2/account/users", &json!({ "name": "mute" })).await.ok(201);
    let mut bodies = Vec::new();
    for (user, password) in [("operator", "wrong"), ("nobody", "wrong"), ("mute", ""), ("operator", "")] {
        let answer = log_in(app, user, password).await;
        let (status, code, message) = answer.v2_error();
        bodies.push((status, code, message));
    }
    let expected = (401, "unauthenticated".to_owned(), "the user or the password is wrong".to_owned());
    assert_eq!(bodies, vec![expected; 4]);
    let log = app.audit().await;
    let line = |user: &str| format!(r#"anonymous LogIn user:{user} 127.0.0.1 {{"refused":"the password is wrong"}}"#);
    assert_eq!(log[1..], [line("operator"), line("mute"), line("operator")]);
}

async fn a_new_password_ends_other_logins(app: &TestApp) {
    let (kept, ended) = (logged_in(app, "operator").await, logged_in(app, "operator").await);
    let change = |current: &str, new: &str| json!({ "current_password": current, "new_password": new });
    let path = "/api/v2/account/password";
    let current = password_of("operator");
    assert_eq!(kept.put(path, &change("wrong", "a new password")).await.refused(400), "current_password: is wrong");
    let short = kept.put(path, &change(&current, "eleven char")).await.refused(400);
    assert_eq!(short, "new_password: is too short: at least 12 characters are needed");
    kept.put(path, &change(&current, "a new password")).await.done();
    kept.get("devices").await.ok(200);
    ended.get("devices").await.refused(401);
    app.operator().get("devices").await.ok(200);
    log_in(app, "operator", &current).await.refused(401);
    log_in(app, "operator", "a new password").await.ok(201);
    let log = app.audit().await;
    assert!(log.iter().all(|line| !line.contains("new password") && !line.contains(&current)), "{log:?}");
    let told = r#"user:operator ChangePassword user:operator 127.0.0.1 {"changed":["password"]}"#;
    assert!(log.contains(&told.to_owned()), "{log:?}");
}

async fn tells_who_one_is(app: &TestApp) {
    let me = async |caller: Caller<'_>| {
        let mut me: Value = caller.get("/api/v2/account/me").await.ok(200);
        me.as_object_mut().unwrap().remove("token");
        me
    };
    let permissions = json!(["deploy", "modify_devices", "remote_access", "run_remote_commands"]);
    let fleets = json!([{ "project_key": "demo", "name": "Demo fleet", "permissions": permissions }]);
    assert_eq!(me(app.operator()).await, json!({ "user": "operator", "is_admin": false, "fleets": fleets }));
    let seen = me(app.admin()).await;
    assert_eq!((&seen["is_admin"], seen["fleets"].as_array().unwrap().len()), (&json!(true), 2));
    assert_eq!(seen["fleets"][1]["permissions"].as_array().unwrap().len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_limited() {
    let app = TestApp::start(Engine::Sqlite, |config| {
        config.login_attempts_per_minute = NonZeroU32::new(3).unwrap();
    })
    .await;
    for user in ["operator", "nobody", "viewer"] {
        log_in(&app, user, "wrong").await.refused(401);
    }
    let refused = log_in(&app, "admin", &password_of("admin")).await;
    assert_eq!(refused.v2_error().1, "rate_limited");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=20).contains(&wait), "{refused:?}");
    app.stop().await;
}
