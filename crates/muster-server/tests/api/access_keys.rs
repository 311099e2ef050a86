//! Access keys: made, looked at, revoked, and how far they go.

use muster_core::access_key::TagPolicy;
use muster_core::token::Secret;
use muster_server::access::access_keys::revoke_by_operator;
use muster_server::access::bce_auth::Signer;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::signed::{TagService, tag_list};

const PATH: &str = "/api/v2/account/access_keys";

on_both_engines!(
    a_key_is_shown_once_and_listed_without_its_secret,
    a_revoked_key_ends_at_once,
    a_deleted_users_key_ends_at_once,
    a_policy_bounds_what_its_owner_may,
    no_token_makes_a_key_that_may_do_more,
    the_operator_of_the_server_makes_and_revokes,
    refuses_a_wrong_order,
);

fn with_key<'a>(app: &'a TestApp, made: &Value) -> TagService<'a> {
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    TagService::new(app, Some(Signer::new(text("access_key_id"), Secret::received(text("secret_access_key")))))
}

async fn a_key_is_shown_once_and_listed_without_its_secret(app: &TestApp) {
    let made = app.operator().post(PATH, &json!({ "description": "CI" })).await.ok(201);
    let mut expected = json!({
        "access_key_id": made["access_key_id"], "description": "CI", "subject": "operator",
        "policy": "TAGFullControlAccessPolicy", "created_time": "2025-06-09T14:10:44Z", "revoked_time": null,
        "secret_access_key": made["secret_access_key"],
    });
    assert_eq!(made, expected);
    assert_eq!(with_key(app, &made).tags("").await, []);
    let secret = expected.as_object_mut().unwrap().remove("secret_access_key").unwrap();
    assert!(secret.as_str().unwrap().starts_with("ms_"));
    let path = format!("{PATH}/{}", made["access_key_id"].as_str().unwrap());
    assert_eq!(app.operator().get(&path).await.ok(200), expected);
    assert_eq!(app.admin().get(&path).await.ok(200), expected);
    app.viewer().get(&path).await.refused(404);
    app.stranger().get(&path).await.refused(404);
    let page = json!({ "access_keys": [expected], "pagination_info": { "after": null, "total": 1 } });
    assert_eq!(app.operator().get(PATH).await.ok(200), page);
    assert_eq!(app.admin().get(PATH).await.ok(200), page);
    let none = json!({ "access_keys": [], "pagination_info": { "after": null, "total": 0 } });
    assert_eq!(app.viewer().get(PATH).await.ok(200), none);
}

async fn a_revoked_key_ends_at_once(app: &TestApp) {
    let made = app.operator().post(PATH, &json!({ "description": "CI" })).await.ok(201);
    let id = made["access_key_id"].as_str().unwrap();
    let path = format!("{PATH}/{id}");
    app.viewer().delete(&path).await.refused(404);
    for _ in 0..2 {
        app.operator().delete(&path).await.done();
    }
    let refused = with_key(app, &made).get("/v1/tag").await.tag_error(403);
    let text = "The Access Key ID you provided does not exist in our records.";
    assert_eq!(refused, ("InvalidAccessKeyId".to_owned(), text.to_owned()));
    assert_eq!(app.operator().get(&path).await.ok(200)["revoked_time"], "2025-06-09T14:10:44Z");
    let line = |action: &str, moment: &str| {
        let key = r#"{"description":"CI","policy":"TAGFullControlAccessPolicy","subject":"operator"}"#;
        format!(r#"user:operator {action} access_key:{id} 127.0.0.1 {{"{moment}":{key}}}"#)
    };
    assert_eq!(app.audit().await, [line("CreateAccessKey", "after"), line("RevokeAccessKey", "before")]);
}

async fn a_deleted_users_key_ends_at_once(app: &TestApp) {
    let made = app.admin().post(PATH, &json!({ "description": "", "user": "viewer" })).await.ok(201);
    assert_eq!(made["subject"], "viewer");
    with_key(app, &made).get("/v1/tag").await.ok(200);
    app.admin().delete("/api/v2/account/users/viewer").await.done();
    assert_eq!(with_key(app, &made).get("/v1/tag").await.tag_error(403).0, "InvalidAccessKeyId");
}

async fn a_policy_bounds_what_its_owner_may(app: &TestApp) {
    let tags = tag_list(&[("site", "London")]);
    for (user, policy, may_create, may_delete) in [
        ("admin", TagPolicy::FullControl, true, true),
        ("admin", TagPolicy::Operate, true, false),
        ("admin", TagPolicy::Read, false, false),
        ("operator", TagPolicy::FullControl, true, false),
        ("operator", TagPolicy::Read, false, false),
        ("viewer", TagPolicy::FullControl, false, false),
    ] {
        let service = TagService::new(app, Some(app.signer(user, policy).await));
        service.get("/v1/tag").await.ok(200);
        service.get("/v1/tag/tagResources").await.ok(200);
        service.post("/v1/tag?queryFullList", &json!({})).await.ok(200);
        for (flag, may) in [("create", may_create), ("delete", may_delete)] {
            let answer = service.put(&format!("/v1/tag?{flag}"), &tags).await;
            match may {
                true => answer.empty(200),
                false => {
                    let refused = ("AccessDenied".to_owned(), "Access denied.".to_owned());
                    assert_eq!(answer.tag_error(403), refused, "{user} {policy:?} {flag}");
                }
            }
        }
    }
    let told = app.audit().await.iter().filter(|line| line.contains("\"refused\"")).count();
    assert_eq!(told, 8);
}

async fn no_token_makes_a_key_that_may_do_more(app: &TestApp) {
    let admin = app.admin();
    let narrow = json!({ "description": "", "scope": { "permissions": [] } });
    let made = admin.post("/api/v2/account/tokens", &narrow).await.ok(201);
    let narrow = admin.with_token(made["token"].as_str().unwrap());
    let key = |policy: &str| json!({ "description": "", "policy": policy });
    narrow.post(PATH, &key("TAGReadAccessPolicy")).await.ok(201);
    for policy in ["TAGOperateAccessPolicy", "TAGFullControlAccessPolicy"] {
        let refusal = narrow.post(PATH, &key(policy)).await.refused(403);
        assert_eq!(refusal, "a token cannot make an access key that may do more than itself");
    }
    let wide = admin.post(PATH, &json!({ "description": "" })).await.ok(201);
    let refusal = narrow.delete(&format!("{PATH}/{}", wide["access_key_id"].as_str().unwrap())).await.refused(403);
    assert_eq!(refusal, "a token cannot revoke an access key that may do more than itself");
    app.operator().post(PATH, &json!({ "description": "", "user": "viewer" })).await.refused(403);
}

async fn the_operator_of_the_server_makes_and_revokes(app: &TestApp) {
    app.signer("admin", TagPolicy::Read).await;
    let listed = app.admin().get(PATH).await.ok(200);
    let id = listed["access_keys"][0]["access_key_id"].as_str().unwrap();
    for _ in 0..2 {
        revoke_by_operator(app.store(), id).await.unwrap();
    }
    assert!(revoke_by_operator(app.store(), "ak-nobody").await.is_err());
    let line = |action: &str, moment: &str| {
        let key = r#"{"description":"","policy":"TAGReadAccessPolicy","subject":"admin"}"#;
        format!(r#"muster-admin {action} access_key:{id}  {{"{moment}":{key}}}"#)
    };
    assert_eq!(app.audit().await, [line("CreateAccessKey", "after"), line("RevokeAccessKey", "before")]);
}

async fn refuses_a_wrong_order(app: &TestApp) {
    let with = |key: &str, value: Value| {
        let mut body = json!({ "description": "" });
        body[key] = value;
        body
    };
    for (body, expected) in [
        (json!({}), "description: is required"),
        (with("policy", json!("root")), "policy: \"root\" is none of TAGFullControlAccessPolicy"),
        (with("user", json!("nobody")), "user: no user of the account is called \"nobody\""),
        (with("user", json!("stranger")), "user: no user of the account is called \"stranger\""),
        (with("more", json!(1)), "more: unknown field"),
    ] {
        let refusal = app.admin().post(PATH, &body).await.refused(400);
        assert!(refusal.starts_with(expected), "{body}: {refusal}");
    }
    for id in ["ak-0000000000000000", "x", "%00"] {
        app.admin().get(&format!("{PATH}/{id}")).await.refused(404);
    }
}
