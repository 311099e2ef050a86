//! Registries and their secrets.

use muster_core::clock::Clock;
use muster_server::{Server, ServerConfig};
use muster_store::testing::{START, TestDatabase};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::app::TestApp;

const PATH: &str = "/api/v2/account/registries";

on_both_engines!(a_registry_is_made_changed_and_deleted, a_secret_is_nowhere_in_the_clear, refuses_wrong_registries);

fn body() -> Value {
    json!({
        "name": "images", "kind": "docker", "url": "https://registry.example.com", "username": "robot",
        "secret": "hunter2-hunter2",
    })
}

async fn a_registry_is_made_changed_and_deleted(app: &TestApp) {
    let mut expected = json!({
        "name": "images", "kind": "docker", "url": "https://registry.example.com", "username": "robot",
        "has_secret": true, "created_time": "2025-06-09T14:10:44Z",
    });
    assert_eq!(app.admin().post(PATH, &body()).await.ok(201), expected);
    let path = format!("{PATH}/images");
    expected["url"] = json!("registry.example.com:5000");
    let change = json!({ "url": "registry.example.com:5000" });
    assert_eq!(app.admin().patch(&path, &change).await.ok(200), expected);
    expected["has_secret"] = json!(false);
    assert_eq!(app.admin().patch(&path, &json!({ "secret": null })).await.ok(200), expected);
    expected["has_secret"] = json!(true);
    assert_eq!(app.admin().patch(&path, &json!({ "secret": "another" })).await.ok(200), expected);
    assert_eq!(app.admin().get(&path).await.ok(200), expected);
    let list = app.admin().get(PATH).await.ok(200);
    assert_eq!(list, json!({ "registries": [expected], "pagination_info": { "after": null, "total": 1 } }));
    app.admin().post(PATH, &body()).await.refused(409);
    app.admin().delete(&path).await.done();
    app.admin().get(&path).await.refused(404);
}

async fn a_secret_is_nowhere_in_the_clear(app: &TestApp) {
    app.admin().post(PATH, &body()).await.ok(201);
    let log = app.audit().await;
    assert!(log.iter().all(|line| !line.contains("hunter2")), "{log:?}");
    let row = app.store().read().registries_page(app.house().account_id, None, 10).await.unwrap().0.remove(0);
    assert!(row.sealed_secret.starts_with("x1:") && !format!("{row:?}").contains("hunter2"));
    let owner = json!(["registry", app.house().account_id, "images"]).to_string();
    assert_eq!(app.app().vault.open_sealed(&row.sealed_secret, &owner).unwrap(), "hunter2-hunter2");
    let moved = json!(["registry", app.house().account_id, "other"]).to_string();
    assert!(app.app().vault.open_sealed(&row.sealed_secret, &moved).is_err());
    if let muster_store::Location::Sqlite(file) = &app.app().config.database {
        for file in [file.clone(), file.with_extension("db-wal")] {
            let bytes = std::fs::read(file).unwrap_or_default();
            assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
        }
    }
}

async fn refuses_wrong_registries(app: &TestApp) {
    for (key, value, expected) in [
        ("kind", json!("ftp"), "kind: \"ftp\" is none of docker, artifactory, git, generic"),
        ("url", json!("https://u:p@h"), "url: must not hold a password; it belongs into secret"),
        ("secret", json!(""), "secret: is empty"),
        ("name", json!(""), "name: \"\" is empty"),
        ("more", json!(1), "more: unknown field"),
    ] {
        let mut body = body();
        body[key] = value;
        let refusal = app.admin().post(PATH, &body).await.refused(400);
        assert!(refusal.starts_with(expected), "{body}: {refusal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_key_does_not_start() {
    for database in [TestDatabase::sqlite().await, TestDatabase::postgres().await] {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let config = |folder: usize| ServerConfig {
            database: database.location().clone(),
            ..ServerConfig::new(folders[folder].path().to_owned(), None, ([127, 0, 0, 1], 0).into())
        };
        let start =
            async |config: ServerConfig| Server::start(config, Clock::manual(START), StdRng::seed_from_u64(9)).await;
        start(config(0)).await.unwrap().stop().await.unwrap();
        let missing = format!("{:#}", start(config(1)).await.err().unwrap());
        assert!(missing.contains("the key that sealed the secrets of this database"), "{missing}");
        assert!(!folders[1].path().join("secret.key").exists());
        std::fs::write(folders[1].path().join("secret.key"), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        let wrong = format!("{:#}", start(config(1)).await.err().unwrap());
        assert!(wrong.contains("is not the one that sealed the secrets of this database"), "{wrong}");
        let shared = ServerConfig { secret_key_file: folders[0].path().join("secret.key"), ..config(1) };
        start(shared).await.unwrap().stop().await.unwrap();
    }
}
