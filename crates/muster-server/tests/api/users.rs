//! Users of an account.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::Caller;

const PATH: &str = "/api/v2/account/users";

on_both_engines!(
    a_user_is_made_changed_and_deleted,
    rights_change_at_once,
    the_last_administrator_stays,
    two_administrators_cannot_remove_each_other,
    another_password_ends_logins,
    refuses_wrong_users,
);

async fn a_user_is_made_changed_and_deleted(app: &TestApp) {
    let roles = json!([{ "project_key": "demo", "role": "operator" }, { "project_key": "second", "role": "viewer" }]);
    let made = app.admin().post(PATH, &json!({ "name": "ada", "roles": roles })).await.ok(201);
    let mut expected = json!({
        "name": "ada", "is_admin": false, "has_password": false, "created_time": "2025-06-09T14:10:44Z",
        "roles": roles,
    });
    assert_eq!(made, expected);
    let path = format!("{PATH}/ada");
    let fewer = json!([{ "project_key": "second", "role": "viewer" }]);
    let change = json!({ "is_admin": true, "roles": fewer });
    expected["is_admin"] = json!(true);
    expected["roles"] = fewer.clone();
    assert_eq!(app.admin().patch(&path, &change).await.ok(200), expected);
    assert_eq!(app.admin().get(&path).await.ok(200), expected);
    let list = app.admin().get(PATH).await.ok(200);
    assert_eq!((&list["users"][4], &list["pagination_info"]["total"]), (&expected, &json!(5)));
    app.admin().delete(&path).await.done();
    app.admin().get(&path).await.refused(404);
    let log = app.audit().await;
    let (one, two) = (json!({ "is_admin": false, "roles": roles }), json!({ "is_admin": true, "roles": fewer }));
    assert_eq!(
        log,
        [
            format!("user:admin CreateUser user:ada 127.0.0.1 {}", json!({ "after": one })),
            format!("user:admin PatchUser user:ada 127.0.0.1 {}", json!({ "after": two, "before": one })),
            format!("user:admin DeleteUser user:ada 127.0.0.1 {}", json!({ "before": two })),
        ]
    );
}

async fn rights_change_at_once(app: &TestApp) {
    let set =
        async |roles: Value| app.admin().patch(&format!("{PATH}/viewer"), &json!({ "roles": roles })).await.ok(200);
    set(json!([])).await;
    app.viewer().get("devices").await.refused(404);
    set(json!([{ "project_key": "demo", "role": "operator" }])).await;
    app.viewer().post("apps", &json!({ "name": "x" })).await.ok(201);
    app.admin().delete(&format!("{PATH}/viewer")).await.done();
    app.viewer().get("devices").await.refused(401);
    app.viewer().v1_get("/v1/devices_details", &json!({})).await.v1_error();
}

const LAST: &str = "the account's last administrator can be neither deleted nor demoted";

async fn the_last_administrator_stays(app: &TestApp) {
    let path = format!("{PATH}/admin");
    let expected = (409, "conflict".to_owned(), LAST.to_owned());
    assert_eq!(app.admin().delete(&path).await.v2_error(), expected);
    assert_eq!(app.admin().patch(&path, &json!({ "is_admin": false })).await.v2_error(), expected);
    app.admin().patch(&path, &json!({ "is_admin": true })).await.ok(200);
    app.admin().patch(&format!("{PATH}/viewer"), &json!({ "is_admin": true })).await.ok(200);
    app.viewer().delete(&path).await.done();
    assert_eq!(app.viewer().delete(&format!("{PATH}/viewer")).await.v2_error(), expected);
}

async fn two_administrators_cannot_remove_each_other(app: &TestApp) {
    for round in 0..8 {
        let (one, two) = (format!("one {round}"), format!("two {round}"));
        let mut callers: Vec<Caller<'_>> = Vec::new();
        for name in [&one, &two] {
            app.stranger().post(PATH, &json!({ "name": name, "is_admin": true })).await.ok(201);
            let body = json!({ "description": "", "user": name });
            let made = app.stranger().post("/api/v2/account/tokens", &body).await.ok(201);
            callers.push(app.stranger().with_token(made["token"].as_str().unwrap()));
        }
        // Only these two are left for the moment.
        callers[0].patch(&format!("{PATH}/stranger"), &json!({ "is_admin": false })).await.ok(200);
        let demote = json!({ "is_admin": false });
        let (paths, demoted) = ([format!("{PATH}/{two}"), format!("{PATH}/{one}")], &demote);
        let (first, second) = tokio::join!(callers[0].patch(&paths[0], demoted), callers[1].patch(&paths[1], demoted));
        let mut statuses = [first.status, second.status];
        statuses.sort_unstable();
        // The one who comes later is the last, or no administrator any more.
        assert!(statuses[0] == 200 && [403, 409].contains(&statuses[1]), "{statuses:?}");
        let left = callers.iter().zip([&one, &two]);
        let mut restored = false;
        for (caller, _) in left {
            restored |= caller.patch(&format!("{PATH}/stranger"), &json!({ "is_admin": true })).await.status == 200;
        }
        assert!(restored, "somebody is left who may");
        for name in [&one, &two] {
            app.stranger().delete(&format!("{PATH}/{name}")).await.done();
        }
    }
}

async fn another_password_ends_logins(app: &TestApp) {
    let path = format!("{PATH}/operator");
    let login = |password: &str| json!({ "user": "operator", "password": password });
    let password = crate::house::password_of("operator");
    let made = app.anon().post("/api/v2/account/login", &login(&password)).await.ok(201);
    let caller = app.anon().with_token(made["token"].as_str().unwrap());
    let changed = app.admin().patch(&path, &json!({ "password": "given by the admin" })).await.ok(200);
    assert_eq!(changed["has_password"], true);
    caller.get("devices").await.refused(401);
    app.anon().post("/api/v2/account/login", &login("given by the admin")).await.ok(201);
    let log = app.audit().await;
    assert!(log[1].contains(r#""changed":["password"]"#) && !log[1].contains("given"), "{log:?}");
}

async fn refuses_wrong_users(app: &TestApp) {
    let role = |key: &str, role: &str| json!({ "name": "x", "roles": [{ "project_key": key, "role": role }] });
    for (body, expected) in [
        (json!({}), "name: is required"),
        (json!({ "name": "" }), "name: \"\" is empty"),
        (json!({ "name": "x", "password": "short" }), "password: is too short: at least 12 characters are needed"),
        (role("nowhere", "viewer"), "roles[0].project_key: no fleet is called \"nowhere\""),
        (role("foreign", "viewer"), "roles[0].project_key: no fleet is called \"foreign\""),
        (role("demo", "emperor"), "roles[0].role: no role is called \"emperor\""),
        (role("X", "viewer"), "roles[0].project_key: \"X\" is not a project key"),
        (json!({ "name": "x", "role": 1 }), "role: unknown field"),
    ] {
        let refusal = app.admin().post(PATH, &body).await.refused(400);
        assert!(refusal.starts_with(expected), "{body}: {refusal}");
    }
    let taken = app.admin().post(PATH, &json!({ "name": "viewer" })).await.v2_error();
    assert_eq!(taken, (409, "conflict".to_owned(), "name: user \"viewer\" exists already".to_owned()));
    for name in ["nobody", "stranger", "%00"] {
        app.admin().get(&format!("{PATH}/{name}")).await.refused(404);
        app.admin().delete(&format!("{PATH}/{name}")).await.refused(404);
    }
    assert_eq!(app.admin().get(PATH).await.ok(200)["pagination_info"]["total"], 4);
}
