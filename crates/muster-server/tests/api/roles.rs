//! Roles of an account.

use serde_json::json;

use crate::app::TestApp;

const PATH: &str = "/api/v2/account/roles";

on_both_engines!(a_role_is_made_given_changed_and_deleted, built_in_roles_stay, refuses_wrong_roles);

async fn a_role_is_made_given_changed_and_deleted(app: &TestApp) {
    let body = json!({ "name": "grouper", "permissions": ["manage_groups", "manage_groups"] });
    let mut expected =
        json!({ "name": "grouper", "permissions": ["manage_groups"], "is_built_in": false, "user_count": 0 });
    assert_eq!(app.admin().post(PATH, &body).await.ok(201), expected);
    let roles = json!({ "roles": [
        { "project_key": "demo", "role": "grouper" }, { "project_key": "second", "role": "grouper" },
    ] });
    app.admin().patch("/api/v2/account/users/viewer", &roles).await.ok(200);
    app.viewer().post("groups", &json!({ "name": "a" })).await.ok(201);
    let path = format!("{PATH}/grouper");
    expected["user_count"] = json!(1);
    assert_eq!(app.viewer().get(&path).await.ok(200), expected);
    let in_use = app.admin().delete(&path).await.v2_error();
    assert_eq!((in_use.0, in_use.2.as_str()), (409, "role \"grouper\" is in use: users who have it: 1"));
    expected["permissions"] = json!(["deploy", "run_remote_commands"]);
    let change = json!({ "permissions": ["run_remote_commands", "deploy"] });
    assert_eq!(app.admin().patch(&path, &change).await.ok(200), expected);
    app.viewer().post("groups", &json!({ "name": "b" })).await.refused(403);
    app.admin().patch("/api/v2/account/users/viewer", &json!({ "roles": [] })).await.ok(200);
    app.admin().delete(&path).await.done();
    app.admin().get(&path).await.refused(404);
    let log = app.audit().await;
    let changed = json!({
        "after": { "permissions": ["deploy", "run_remote_commands"] }, "before": { "permissions": ["manage_groups"] },
    });
    assert!(log.contains(&format!("user:admin PatchRole role:grouper 127.0.0.1 {changed}")), "{log:?}");
}

async fn built_in_roles_stay(app: &TestApp) {
    let list = app.viewer().get(PATH).await.ok(200);
    let viewer = json!({ "name": "viewer", "permissions": [], "is_built_in": true, "user_count": 1 });
    assert_eq!((&list["roles"][0], &list["pagination_info"]), (&viewer, &json!({ "after": null, "total": 2 })));
    let path = format!("{PATH}/operator");
    let expected = (409, "conflict".to_owned(), "role \"operator\" is built in and stays as it is".to_owned());
    assert_eq!(app.admin().delete(&path).await.v2_error(), expected);
    assert_eq!(app.admin().patch(&path, &json!({ "permissions": [] })).await.v2_error(), expected);
}

async fn refuses_wrong_roles(app: &TestApp) {
    for (body, expected) in [
        (json!({ "name": "x" }), "permissions: is required"),
        (json!({ "name": " ", "permissions": [] }), "name: \" \" is empty"),
        (json!({ "name": "x", "permissions": ["fly"] }), "permissions[0]: \"fly\" is no permission; those are"),
    ] {
        let refusal = app.admin().post(PATH, &body).await.refused(400);
        assert!(refusal.starts_with(expected), "{body}: {refusal}");
    }
    app.admin().post(PATH, &json!({ "name": "viewer", "permissions": [] })).await.refused(409);
}
