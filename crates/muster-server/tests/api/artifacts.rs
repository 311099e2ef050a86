//! Artifacts, as Artifactory's clients store and fetch them.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::stream;
use muster_core::artifact::{Expected, Grant, Right};
use muster_core::limits::{ARTIFACT_GRANT_LIFETIME, ARTIFACT_UPLOAD_TIMEOUT, BLOB_GRACE};
use muster_core::names::{ArtifactPath, RepositoryName};
use muster_server::artifacts::storing::{self, StoreOrder};
use muster_server::artifacts::{collection, grants};
use muster_server::error::OpError;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::{Answer, Caller, answer};

on_both_engines!(
    an_artifact_is_stored_fetched_and_deleted,
    folders_are_told_and_deleted_with_what_lies_in_them,
    a_part_is_fetched,
    what_the_client_has_is_not_sent_again,
    checksums_are_compared,
    a_known_content_needs_no_body,
    credentials_stand_where_clients_put_them,
    refuses_wrong_places,
    the_same_content_is_stored_once_and_removed_after_its_last_artifact,
    what_a_crash_left_of_an_upload_is_removed,
    a_grant_is_for_one_artifact_and_a_while,
    a_grant_is_for_what_lay_there,
);

mod small {
    on_both_engines!(with: |config| config.artifact_bytes_max = 10; a_larger_artifact_is_refused);

    async fn a_larger_artifact_is_refused(app: &crate::app::TestApp) {
        super::a_larger_artifact_is_refused(app).await;
    }
}

const DIGITS: &str = "0123456789";
const SHA256: &str = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
const SHA1: &str = "87acec17cd9dcd20a716cc2cf67417b71c8a7016";
const MD5: &str = "781e5e245d69b566979b86e28d23f2c7";

async fn repository(app: &TestApp) {
    let made = json!({ "name": "files", "project_key": "demo" });
    app.admin().post("/api/v2/account/repositories", &made).await.ok(201);
}

fn put<'a>(caller: &Caller<'a>, path: &str) -> RequestBuilder {
    caller.request(Method::PUT, &format!("/artifactory/files/{path}"))
}

async fn store(app: &TestApp, path: &str, content: &str) -> Value {
    answer(put(&app.operator(), path).body(content.to_owned())).await.ok(201)
}

async fn fetch(app: &TestApp, path: &str) -> Answer {
    app.viewer().get(&format!("/artifactory/files/{path}")).await
}

/// What Artifactory says of a mistake, and no more.
#[track_caller]
fn mistake(answer: &Answer, status: u16) -> String {
    let body = answer.ok(status);
    let message = body["errors"][0]["message"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    assert_eq!(body, json!({ "errors": [{ "status": status, "message": message }] }));
    message
}

fn info(app: &TestApp, path: &str) -> Value {
    let base = format!("http://{}/artifactory", app.address());
    let checksums = json!({ "sha1": SHA1, "md5": MD5, "sha256": SHA256 });
    json!({
        "repo": "files", "path": format!("/{path}"),
        "created": "2025-06-09T14:10:44.000Z", "createdBy": "operator",
        "lastModified": "2025-06-09T14:10:44.000Z", "modifiedBy": "operator",
        "lastUpdated": "2025-06-09T14:10:44.000Z",
        "downloadUri": format!("{base}/files/{path}"), "mimeType": "application/octet-stream", "size": "10",
        "checksums": checksums, "originalChecksums": checksums,
        "uri": format!("{base}/api/storage/files/{path}"),
    })
}

async fn an_artifact_is_stored_fetched_and_deleted(app: &TestApp) {
    repository(app).await;
    let stored = answer(put(&app.operator(), "releases/1.0/app.bin").body(DIGITS)).await;
    let expected = info(app, "releases/1.0/app.bin");
    assert_eq!(
        (stored.ok(201), stored.header("location")),
        (expected.clone(), expected["downloadUri"].as_str().unwrap())
    );
    let fetched = fetch(app, "releases/1.0/app.bin").await;
    assert_eq!((fetched.status, fetched.text.as_str()), (200, DIGITS));
    let head = answer(app.viewer().request(Method::HEAD, "/artifactory/files/releases/1.0/app.bin")).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    for answer in [&fetched, &head] {
        for (name, value) in [
            ("content-length", "10"),
            ("content-type", "application/octet-stream"),
            ("content-disposition", "attachment; filename=\"app.bin\"; filename*=UTF-8''app.bin"),
            ("content-security-policy", "sandbox"),
            ("x-content-type-options", "nosniff"),
            ("accept-ranges", "bytes"),
            ("last-modified", "Mon, 09 Jun 2025 14:10:44 GMT"),
            ("etag", &format!("\"{SHA256}\"")),
            ("x-checksum-sha256", SHA256),
            ("x-checksum-sha1", SHA1),
            ("x-checksum-md5", MD5),
        ] {
            assert_eq!(answer.header(name), value, "{name}");
        }
    }
    let told = app.viewer().get("/artifactory/api/storage/files/releases/1.0/app.bin").await.ok(200);
    assert_eq!(told, expected);
    app.operator().delete("/artifactory/files/releases/1.0/app.bin").await.done();
    let gone = fetch(app, "releases/1.0/app.bin").await;
    assert_eq!(mistake(&gone, 404), "no artifact \"releases/1.0/app.bin\" was found");
    let log = app.audit().await;
    let shown = json!({ "mime_type": "application/octet-stream", "sha256": SHA256, "size": 10 });
    let subject = "artifact:files/releases/1.0/app.bin 127.0.0.1";
    let expected = [
        format!("user:operator StoreArtifact {subject} {}", json!({ "after": shown, "before": null })),
        format!("user:operator DeleteArtifact {subject} {}", json!({ "after": null, "before": shown })),
    ];
    assert_eq!(log[log.len() - 2..], expected);
}

async fn folders_are_told_and_deleted_with_what_lies_in_them(app: &TestApp) {
    repository(app).await;
    for path in ["a/x", "a/b/y", "a/b/c/z", "top"] {
        store(app, path, path).await;
    }
    let base = format!("http://{}/artifactory/api/storage/files", app.address());
    let folder = |path: &str, by: &str, children: &[(&str, bool)]| {
        let children: Vec<Value> =
            children.iter().map(|(name, folder)| json!({ "uri": format!("/{name}"), "folder": folder })).collect();
        json!({
            "repo": "files", "path": format!("/{path}"), "created": "2025-06-09T14:10:44.000Z", "createdBy": by,
            "lastModified": "2025-06-09T14:10:44.000Z", "modifiedBy": by, "lastUpdated": "2025-06-09T14:10:44.000Z",
            "children": children, "uri": if path.is_empty() { base.clone() } else { format!("{base}/{path}") },
        })
    };
    let told = async |path: &str| app.viewer().get(&format!("/artifactory/api/storage/files{path}")).await;
    assert_eq!(told("").await.ok(200), folder("", "admin", &[("a", true), ("top", false)]));
    let expected = folder("a", "operator", &[("b", true), ("x", false)]);
    assert_eq!(told("/a").await.ok(200), expected);
    assert_eq!(told("/a/").await.ok(200), expected);
    app.operator().delete("/artifactory/files/a/b").await.done();
    assert_eq!(told("/a").await.ok(200), folder("a", "operator", &[("x", false)]));
    assert_eq!(mistake(&fetch(app, "a/b/c/z").await, 404), "no artifact \"a/b/c/z\" was found");
    assert_eq!(fetch(app, "a/x").await.text, "a/x");
    store(app, "a/b", "no folder any more").await;
}

async fn a_part_is_fetched(app: &TestApp) {
    repository(app).await;
    store(app, "digits", DIGITS).await;
    let part = async |headers: &[(&str, &str)]| {
        let request = app.viewer().request(Method::GET, "/artifactory/files/digits");
        answer(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    };
    for (range, bytes, told) in [
        ("bytes=3-5", "345", "bytes 3-5/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=0-99", DIGITS, "bytes 0-9/10"),
    ] {
        let answer = part(&[("range", range)]).await;
        assert_eq!((answer.status, answer.text.as_str()), (206, bytes), "{range}");
        assert_eq!(answer.header("content-range"), told);
        assert_eq!(answer.header("content-length"), bytes.len().to_string());
        assert_eq!(answer.header("x-checksum-sha256"), SHA256);
    }
    let beyond = part(&[("range", "bytes=10-")]).await;
    beyond.empty(416);
    assert_eq!(beyond.header("content-range"), "bytes */10");
    let (tag, date) = (format!("\"{SHA256}\""), "Mon, 09 Jun 2025 14:10:44 GMT");
    for (held, status) in [(tag.as_str(), 206), (date, 206), ("\"other\"", 200), ("Mon, 09 Jun 2025 14:10:45 GMT", 200)]
    {
        assert_eq!(part(&[("range", "bytes=3-5"), ("if-range", held)]).await.status, status, "{held}");
    }
    assert_eq!(part(&[("range", "bytes=0-1,4-5")]).await.text, DIGITS, "several are not supported");
    store(app, "empty", "").await;
    assert_eq!(fetch(app, "empty").await.header("content-length"), "0");
}

async fn what_the_client_has_is_not_sent_again(app: &TestApp) {
    repository(app).await;
    store(app, "digits", DIGITS).await;
    let tag = format!("\"{SHA256}\"");
    for (name, value, status) in [
        ("if-none-match", tag.clone(), 304),
        ("if-none-match", format!("\"x\", W/{tag}"), 304),
        ("if-none-match", "*".to_owned(), 304),
        ("if-none-match", "\"x\"".to_owned(), 200),
        ("if-modified-since", "Mon, 09 Jun 2025 14:10:44 GMT".to_owned(), 304),
        ("if-modified-since", "Mon, 09 Jun 2025 14:10:43 GMT".to_owned(), 200),
    ] {
        let request = app.viewer().request(Method::GET, "/artifactory/files/digits").header(name, &value);
        let answer = answer(request).await;
        assert_eq!((answer.status, answer.text.is_empty()), (status, status == 304), "{name}: {value}");
        assert_eq!(answer.header("etag"), tag);
    }
}

async fn checksums_are_compared(app: &TestApp) {
    repository(app).await;
    let with =
        async |name: &str, value: &str| answer(put(&app.operator(), "digits").header(name, value).body(DIGITS)).await;
    let other = "0".repeat(64);
    let refusal = mistake(&with("x-checksum-sha256", &other).await, 409);
    let expected = format!("X-Checksum-Sha256: what arrived has {SHA256}, and not {other}; nothing was stored");
    assert_eq!(refusal, expected);
    mistake(&with("x-checksum-sha1", &"0".repeat(40)).await, 409);
    mistake(&with("x-checksum-md5", &"0".repeat(32)).await, 409);
    let refusal = mistake(&with("x-checksum-md5", "abc").await, 400);
    assert_eq!(refusal, "X-Checksum-Md5: \"abc\" is not 32 hexadecimal digits");
    assert_eq!(fetch(app, "digits").await.status, 404);
    assert_eq!(objects(&app.app().config.artifact_folder), 0, "nothing stays of what was refused");
    for (name, value) in [("x-checksum-sha256", SHA256), ("x-checksum-sha1", SHA1), ("x-checksum-md5", MD5)] {
        with(name, &value.to_uppercase()).await.ok(201);
    }
}

async fn a_known_content_needs_no_body(app: &TestApp) {
    repository(app).await;
    for (name, key) in [("theirs", "second"), ("more", "demo")] {
        let made = json!({ "name": name, "project_key": key });
        app.admin().post("/api/v2/account/repositories", &made).await.ok(201);
    }
    let deploy = async |caller: &Caller<'_>, path: &str, sha256: &str| {
        let request = caller.request(Method::PUT, path).header("x-checksum-deploy", "true");
        answer(request.header("x-checksum-sha256", sha256)).await
    };
    let unknown = mistake(&deploy(&app.operator(), "/artifactory/files/copy", SHA256).await, 404);
    assert_eq!(unknown, format!("no content with the SHA-256 \"{SHA256}\" was found"));
    store(app, "digits", DIGITS).await;
    let mut expected = info(app, "copy");
    assert_eq!(deploy(&app.operator(), "/artifactory/files/copy", SHA256).await.ok(201), expected);
    expected["repo"] = json!("more");
    for (key, part) in [("downloadUri", "/files/"), ("uri", "/files/")] {
        expected[key] = json!(expected[key].as_str().unwrap().replace(part, "/more/"));
    }
    assert_eq!(deploy(&app.operator(), "/artifactory/more/copy", SHA256).await.ok(201), expected);
    // A hash alone opens nothing to whoever may not read what has it.
    assert_eq!(mistake(&deploy(&app.neighbour(), "/artifactory/theirs/copy", SHA256).await, 404), unknown);
    assert_eq!(fetch(app, "copy").await.text, DIGITS);
}

async fn credentials_stand_where_clients_put_them(app: &TestApp) {
    repository(app).await;
    store(app, "digits", DIGITS).await;
    let (viewer, path) = (app.viewer(), "/artifactory/files/digits");
    let token = viewer.keys.access.expose().to_owned();
    let with = async |name: &str, value: &str| {
        let answer = answer(viewer.bare(Method::GET, path).header(name, value)).await;
        if answer.status == 401 {
            assert_eq!(answer.header("www-authenticate"), "Basic realm=\"Muster\"");
            mistake(&answer, 401);
        }
        answer.status
    };
    let basic = |text: String| format!("Basic {}", BASE64_STANDARD.encode(text));
    assert_eq!(with("x-jfrog-art-api", &token).await, 200);
    assert_eq!(with("authorization", &format!("Bearer {token}")).await, 200);
    assert_eq!(with("authorization", &basic(format!("viewer:{token}"))).await, 200);
    assert_eq!(with("authorization", &basic(format!(":{token}"))).await, 200);
    assert_eq!(with("authorization", &basic(format!("operator:{token}"))).await, 401);
    assert_eq!(with("authorization", &basic("viewer:wrong".to_owned())).await, 401);
    assert_eq!(with("x-jfrog-art-api", "wrong").await, 401);
    assert_eq!(with("accept", "*/*").await, 401);
    let in_address = answer(viewer.bare(Method::GET, &format!("{path}?token={token}"))).await;
    assert_eq!(in_address.status, 401, "a token of a user does not belong into an address");
}

async fn refuses_wrong_places(app: &TestApp) {
    repository(app).await;
    store(app, "a/b", DIGITS).await;
    let refused = async |path: &str, status: u16| mistake(&answer(put(&app.operator(), path).body("x")).await, status);
    assert_eq!(refused("a", 409).await, "path: \"a\" is a folder");
    assert_eq!(refused("a/b/c/d", 409).await, "path: \"a/b\" is an artifact, and not a folder");
    assert_eq!(refused("a//b", 400).await, "path: \"a//b\" holds an empty name between slashes");
    assert_eq!(refused("a/%2E%2E%2Fb", 400).await, "path: \"a/../b\" holds \"..\", which is no name");
    assert_eq!(refused("a%00", 400).await, "path: \"a\\0\" holds the control character U+0000");
    assert_eq!(refused("c%3A", 400).await, "path: \"c:\" holds the character :");
    assert_eq!(mistake(&fetch(app, "a").await, 404), "no artifact \"a\" was found", "a folder has no content");
    for path in ["/artifactory", "/artifactory/files", "/artifactory/files/", "/artifactory/api/none"] {
        mistake(&app.operator().get(path).await, 404);
    }
    mistake(&app.operator().post("/artifactory/files/a/b", &json!({})).await, 405);
    // Artifactory's properties are taken, and not kept.
    answer(put(&app.operator(), "app.bin;build.number=7").body(DIGITS)).await.ok(201);
    assert_eq!(fetch(app, "app.bin").await.text, DIGITS);
}

async fn a_larger_artifact_is_refused(app: &TestApp) {
    repository(app).await;
    store(app, "digits", DIGITS).await;
    let told = answer(put(&app.operator(), "more").body(format!("{DIGITS}0"))).await;
    assert_eq!(mistake(&told, 413), "body: is larger than 10 bytes");
    let pieces = stream::iter([DIGITS, "0"].map(Ok::<_, std::io::Error>));
    let untold = answer(put(&app.operator(), "more").body(reqwest::Body::wrap_stream(pieces))).await;
    assert_eq!(mistake(&untold, 413), "body: is larger than 10 bytes");
    assert_eq!(fetch(app, "more").await.status, 404);
    assert_eq!(objects(&app.app().config.artifact_folder), 1);
}

/// Files in the storage.
fn objects(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { objects(&path) } else { 1 }).sum()
}

async fn the_same_content_is_stored_once_and_removed_after_its_last_artifact(app: &TestApp) {
    repository(app).await;
    for path in ["one", "two", "a/three"] {
        store(app, path, DIGITS).await;
    }
    store(app, "other", "other").await;
    let folder = &app.app().config.artifact_folder;
    let pass = async |time: Duration| {
        app.app().clock().advance(time);
        collection::collect(app.app()).await.unwrap();
        objects(folder)
    };
    assert_eq!(objects(folder), 2);
    app.operator().delete("/artifactory/files/one").await.done();
    app.operator().delete("/artifactory/files/a").await.done();
    assert_eq!((pass(BLOB_GRACE).await, pass(BLOB_GRACE).await), (2, 2), "one artifact has it still");
    store(app, "two", "other").await;
    assert_eq!((pass(Duration::ZERO).await, pass(BLOB_GRACE).await), (2, 2), "for a while it stays");
    // Whoever stores it again in the meantime keeps it.
    store(app, "again", DIGITS).await;
    assert_eq!(pass(BLOB_GRACE).await, 2);
    app.operator().delete("/artifactory/files/again").await.done();
    assert_eq!((pass(Duration::ZERO).await, pass(BLOB_GRACE + Duration::from_secs(1)).await), (2, 1));
    assert_eq!(fetch(app, "two").await.text, "other");
    store(app, "again", DIGITS).await;
    assert_eq!((objects(folder), fetch(app, "again").await.text.as_str()), (2, DIGITS));
}

/// The server dies between the bytes and the row: nothing is visible, and the bytes go.
async fn what_a_crash_left_of_an_upload_is_removed(app: &TestApp) {
    repository(app).await;
    let order = StoreOrder {
        path: ArtifactPath::parse("digits").unwrap(),
        mime_type: storing::MIME_TYPE.to_owned(),
        expected: Expected::default(),
        bytes_max: 1_000,
        bytes_said: None,
    };
    let id = storing::begin(app.app()).await.unwrap();
    let pieces = stream::iter([Ok::<_, OpError>(DIGITS.into())]);
    let blob = storing::receive(app.app(), id, &order, pieces).await.unwrap();
    assert_eq!((blob.checksums.sha256.as_str(), blob.size), (SHA256, 10));
    let folder = &app.app().config.artifact_folder;
    collection::collect(app.app()).await.unwrap();
    assert_eq!((fetch(app, "digits").await.status, objects(folder)), (404, 1), "it may be under way");
    app.app().clock().advance(ARTIFACT_UPLOAD_TIMEOUT + Duration::from_secs(60 * 60));
    collection::collect(app.app()).await.unwrap();
    assert_eq!(objects(folder), 0);
    // Nor is it taken any more, should it come back from the dead.
    assert_eq!(app.store().read().find_blob(id).await.unwrap(), None);
    store(app, "digits", DIGITS).await;
}

async fn grant(app: &TestApp, path: &str, right: Right) -> String {
    let name = RepositoryName::parse("files").unwrap();
    let found = app.store().read().find_repository(app.house().account_id, &name).await.unwrap().unwrap();
    let ends_at = app.app().clock().now().after(ARTIFACT_GRANT_LIFETIME);
    let grant = Grant { repository: found.id, path: path.to_owned(), right, holder: "device:d-1".to_owned(), ends_at };
    grants::issue(app.app(), &grant).0
}

async fn a_grant_is_for_one_artifact_and_a_while(app: &TestApp) {
    repository(app).await;
    store(app, "digits", DIGITS).await;
    store(app, "other", "other").await;
    let (nobody, token) = (app.anon(), grant(app, "digits", Right::Fetch).await);
    let get = async |path: &str, token: &str| {
        answer(nobody.bare(Method::GET, &format!("/artifactory/{path}?token={token}"))).await
    };
    assert_eq!(get("files/digits", &token).await.text, DIGITS);
    let borne =
        nobody.bare(Method::GET, "/artifactory/files/digits").header("authorization", format!("Bearer {token}"));
    assert_eq!(answer(borne).await.text, DIGITS);
    mistake(&get("files/other", &token).await, 404);
    mistake(&get("api/storage/files/digits", &token).await, 404);
    let write = async |method: Method, token: &str| {
        answer(nobody.bare(method, &format!("/artifactory/files/digits?token={token}")).body("new")).await
    };
    mistake(&write(Method::PUT, &token).await, 404);
    mistake(&write(Method::DELETE, &token).await, 404);
    let (text, signature) = token.rsplit_once('.').unwrap();
    let forged = format!("{text}.{}", signature.chars().rev().collect::<String>());
    for wrong in [forged.as_str(), text, "mg1.", "mg1.e30.e30"] {
        let refusal = mistake(&get("files/digits", wrong).await, 401);
        assert!(!refusal.contains("mg1"), "{refusal}");
    }
    let writer = grant(app, "digits", Right::Store).await;
    mistake(&get("files/digits", &writer).await, 404);
    let stored = write(Method::PUT, &writer).await.ok(201);
    assert_eq!((&stored["modifiedBy"], &stored["createdBy"]), (&json!("device:d-1"), &json!("operator")));
    assert_eq!(get("files/digits", &token).await.text, "new");
    app.app().clock().advance(ARTIFACT_GRANT_LIFETIME);
    mistake(&get("files/digits", &token).await, 401);
}

async fn a_grant_is_for_what_lay_there(app: &TestApp) {
    repository(app).await;
    store(app, "digits", DIGITS).await;
    let blob = app.store().read().find_blob_by_sha256(SHA256).await.unwrap().unwrap();
    let token = grant(app, "digits", Right::FetchContent(blob.id)).await;
    store(app, "digits", "other").await;
    let path = format!("/artifactory/files/digits?token={token}");
    assert_eq!(fetch(app, "digits").await.text, "other");
    let held = answer(app.anon().bare(Method::GET, &path).header("range", "bytes=4-")).await;
    assert_eq!(
        (held.status, held.text.as_str(), held.header("etag")),
        (206, "456789", format!("\"{SHA256}\"").as_str())
    );
    app.operator().delete("/artifactory/files/digits").await.done();
    assert_eq!(answer(app.anon().bare(Method::GET, &path)).await.text, DIGITS);
}
