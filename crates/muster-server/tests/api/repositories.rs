//! Repositories of artifacts.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::answer;

const PATH: &str = "/api/v2/account/repositories";

on_both_engines!(
    a_repository_is_made_listed_and_deleted,
    a_fleets_own_is_seen_in_that_fleet_alone,
    what_is_in_use_is_not_deleted,
    refuses_wrong_repositories,
);

fn shown(name: &str, key: Option<&str>) -> Value {
    json!({
        "name": name, "kind": "generic", "project_key": key, "description": "",
        "created_time": "2025-06-09T14:10:44Z",
    })
}

fn page(repositories: &[Value]) -> Value {
    json!({ "repositories": repositories, "pagination_info": { "after": null, "total": repositories.len() } })
}

async fn a_repository_is_made_listed_and_deleted(app: &TestApp) {
    assert_eq!(app.admin().get(PATH).await.ok(200), page(&[]));
    let mut expected = shown("files", None);
    expected["description"] = json!("What we ship");
    let made = json!({ "name": "files", "description": "What we ship" });
    assert_eq!(app.admin().post(PATH, &made).await.ok(201), expected);
    assert_eq!(app.viewer().get(&format!("{PATH}/files")).await.ok(200), expected);
    assert_eq!(app.viewer().get(PATH).await.ok(200), page(&[expected]));
    assert_eq!(app.admin().post(PATH, &made).await.refused(409), "name: repository \"files\" exists already");
    assert_eq!(app.stranger().post(PATH, &json!({ "name": "files" })).await.ok(201), shown("files", None));
    app.admin().delete(&format!("{PATH}/files")).await.done();
    let refusal = app.admin().get(&format!("{PATH}/files")).await.refused(404);
    assert_eq!(refusal, "no repository \"files\" was found");
    let log = app.audit().await;
    let last: Vec<&String> = log.iter().rev().take(2).collect();
    assert_eq!(
        [last[1].as_str(), last[0].as_str()],
        [
            r#"user:admin CreateRepository repository:files 127.0.0.1 {"after":{"description":"What we ship","kind":"generic"}}"#,
            r#"user:admin DeleteRepository repository:files 127.0.0.1 {"before":{"description":"What we ship","kind":"generic"}}"#,
        ]
    );
}

async fn a_fleets_own_is_seen_in_that_fleet_alone(app: &TestApp) {
    let made = json!({ "name": "own", "project_key": "demo" });
    assert_eq!(app.admin().post(PATH, &made).await.ok(201), shown("own", Some("demo")));
    assert_eq!(app.admin().post(PATH, &json!({ "name": "all" })).await.ok(201), shown("all", None));
    let both = page(&[shown("own", Some("demo")), shown("all", None)]);
    assert_eq!(app.admin().get(PATH).await.ok(200), both);
    assert_eq!(app.viewer().get(PATH).await.ok(200), both);
    assert_eq!(app.neighbour().get(PATH).await.ok(200), page(&[shown("all", None)]));
    let unknown = app.neighbour().get(&format!("{PATH}/none")).await.refused(404);
    let hidden = app.neighbour().get(&format!("{PATH}/own")).await.refused(404);
    assert_eq!(hidden, unknown.replace("none", "own"));
    let limited = json!({ "description": "", "scope": { "fleets": ["demo"], "permissions": ["deploy"] } });
    let token = app.admin().post("/api/v2/account/tokens", &limited).await.ok(201);
    let pipeline = app.admin().with_token(token["token"].as_str().unwrap());
    let store = |repository: &str| pipeline.request(Method::PUT, &format!("/artifactory/{repository}/a")).body("a");
    answer(store("own")).await.ok(201);
    let refused = answer(store("all")).await.ok(403);
    let message = "this token is for some fleets only, and what all of them share is not for it";
    assert_eq!(refused, json!({ "errors": [{ "status": 403, "message": message }] }));
}

async fn what_is_in_use_is_not_deleted(app: &TestApp) {
    app.admin().post(PATH, &json!({ "name": "own", "project_key": "second" })).await.ok(201);
    let store = app.admin().request(Method::PUT, "/artifactory/own/a/b/c").body("c");
    answer(store).await.ok(201);
    let path = format!("{PATH}/own");
    assert_eq!(app.admin().delete(&path).await.refused(409), "the repository holds artifacts");
    let fleet = app.admin().delete("/api/v2/account/fleets/second?devices=delete").await.refused(409);
    assert_eq!(fleet, "the fleet \"second\" has artifact repositories: own");
    let wrong = app.admin().delete(&format!("{path}?artifacts=keep")).await.refused(400);
    assert_eq!(wrong, "artifacts: \"keep\" is not \"delete\"");
    app.admin().delete(&format!("{path}?artifacts=delete")).await.done();
    app.admin().delete("/api/v2/account/fleets/second?devices=delete").await.done();
}

async fn refuses_wrong_repositories(app: &TestApp) {
    for (body, expected) in [
        (json!({ "name": "a b" }), "name: \"a b\" is not the name of a repository"),
        (json!({ "name": "api" }), "name: \"api\" is reserved"),
        (json!({ "name": "a", "project_key": "none" }), "project_key: no fleet \"none\" was found"),
        (json!({ "name": "a", "kind": "docker" }), "kind: unknown field"),
        (json!({}), "name: is required"),
    ] {
        let refusal = app.admin().post(PATH, &body).await.refused(400);
        assert!(refusal.starts_with(expected), "{body}: {refusal}");
    }
}
