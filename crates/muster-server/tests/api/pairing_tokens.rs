//! Pairing tokens of a fleet.

use muster_core::token::Secret;
use muster_link::EnrollRequest;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::Answer;
use crate::device::{enrolled, facts, post_enrolment};

const PATH: &str = "pairing-tokens";

on_both_engines!(
    a_pairing_token_is_made_used_and_revoked,
    a_rotation_is_completed,
    a_rotation_is_aborted,
    refuses_wrong_orders,
);

async fn enroll(app: &TestApp, made: &Value) -> Answer {
    let secret = Secret::received(made["token"].as_str().unwrap());
    post_enrolment(app, &EnrollRequest::new(&app.identity(), secret, facts())).await
}

fn path(made: &Value) -> String {
    format!("{PATH}/{}", made["token_id"].as_str().unwrap())
}

async fn a_pairing_token_is_made_used_and_revoked(app: &TestApp) {
    let body = json!({ "description": "shops", "expires_in_seconds": 60, "uses_max": 2, "group_name": "Test" });
    let made = app.admin().post(PATH, &body).await.ok(201);
    let mut expected = json!({
        "token_id": made["token_id"], "description": "shops", "created_time": "2025-06-09T14:10:44Z",
        "expires_time": "2025-06-09T14:11:44Z", "uses": 0, "uses_max": 2, "group_name": "Test",
        "revoked_time": null, "rotation": null, "token": made["token"],
    });
    assert_eq!(made, expected);
    expected.as_object_mut().unwrap().remove("token");
    assert_eq!(enrolled(&enroll(app, &made).await).group.as_str(), "Test");
    expected["uses"] = json!(1);
    assert_eq!(app.admin().get(&path(&made)).await.ok(200), expected);
    let list = app.admin().get(PATH).await.ok(200);
    assert_eq!(list["pairing_tokens"].as_array().unwrap().last(), Some(&expected));
    for _ in 0..2 {
        app.admin().delete(&path(&made)).await.done();
    }
    expected["revoked_time"] = json!("2025-06-09T14:10:44Z");
    assert_eq!(app.admin().get(&path(&made)).await.ok(200), expected);
    enroll(app, &made).await.refused(401);
    let there = format!("/api/v2/second/{}", path(&made));
    app.admin().get(&there).await.refused(404);
}

async fn rotated(app: &TestApp) -> (Value, Value) {
    let body = json!({ "description": "shops", "uses_max": 5, "group_name": "Test" });
    let old = app.admin().post(PATH, &body).await.ok(201);
    let new = app.admin().post(&format!("{}/rotate", path(&old)), &json!({})).await.ok(201);
    for key in ["description", "uses_max", "group_name", "expires_time"] {
        assert_eq!(old[key], new[key], "{key}");
    }
    let rotation = json!({ "started_time": "2025-06-09T14:10:44Z", "new_token_id": new["token_id"] });
    assert_eq!(app.admin().get(&path(&old)).await.ok(200)["rotation"], rotation);
    let twice = app.admin().post(&format!("{}/rotate", path(&old)), &json!({})).await;
    assert_eq!(twice.refused(409), "the pairing token is being rotated already");
    enrolled(&enroll(app, &old).await);
    enrolled(&enroll(app, &new).await);
    (old, new)
}

async fn a_rotation_is_completed(app: &TestApp) {
    let (old, new) = rotated(app).await;
    let end = format!("{}/complete-rotation", path(&old));
    let ended = app.admin().post(&end, &json!({})).await.ok(200);
    assert_eq!((&ended["rotation"], &ended["revoked_time"]), (&Value::Null, &json!("2025-06-09T14:10:44Z")));
    enroll(app, &old).await.refused(401);
    enrolled(&enroll(app, &new).await);
    assert_eq!(app.admin().post(&end, &json!({})).await.refused(409), "the pairing token is not being rotated");
    let rotate = format!("{}/rotate", path(&old));
    assert_eq!(app.admin().post(&rotate, &json!({})).await.refused(409), "the pairing token is revoked");
}

async fn a_rotation_is_aborted(app: &TestApp) {
    let (old, new) = rotated(app).await;
    let ended = app.admin().post(&format!("{}/abort-rotation", path(&old)), &json!({})).await.ok(200);
    assert_eq!((&ended["rotation"], &ended["revoked_time"]), (&Value::Null, &Value::Null));
    enroll(app, &new).await.refused(401);
    enrolled(&enroll(app, &old).await);
    app.admin().post(&format!("{}/rotate", path(&old)), &json!({})).await.ok(201);
}

async fn refuses_wrong_orders(app: &TestApp) {
    for (body, expected) in [
        (json!({}), "description: is required"),
        (json!({ "description": "", "uses_max": 0 }), "uses_max: 0 is not a number from 1 to 10000000"),
        (
            json!({ "description": "", "group_name": "Nowhere" }),
            "group_name: no group of the fleet is called \"Nowhere\"",
        ),
        (json!({ "description": "", "expires_in_seconds": 0 }), "expires_in_seconds: 0 is not a number of seconds"),
    ] {
        let refusal = app.admin().post(PATH, &body).await.refused(400);
        assert!(refusal.starts_with(expected), "{body}: {refusal}");
    }
    app.admin().get(&format!("{PATH}/t-0000000000000000")).await.refused(404);
}
