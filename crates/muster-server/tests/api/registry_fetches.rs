//! What this server fetches of registries for devices.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use muster_core::artifact::{Grant, Right};
use muster_core::names::RegistryName;
use muster_server::artifacts::grants;
use reqwest::header::LOCATION;
use serde_json::json;

use crate::app::TestApp;
use crate::caller::{Answer, answer};

on_both_engines!(
    a_registry_is_asked_with_the_account_s_secret,
    a_grant_is_for_one_place_and_a_while,
    a_registry_may_lead_elsewhere,
    what_a_registry_refuses_is_told,
    a_repository_of_git_is_read_and_not_written,
);

/// What a registry was asked: method, path and query, credential, body.
pub(crate) type Asked = Arc<Mutex<Vec<String>>>;

/// A registry that leads to `elsewhere` where it is asked to.
pub(crate) async fn registry(elsewhere: &str) -> (String, Asked) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, elsewhere) = (Asked::default(), elsewhere.to_owned());
    let noted = Arc::clone(&asked);
    let router = Router::new().fallback(async move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        let body = String::from_utf8(body.to_vec()).unwrap();
        noted.lock().unwrap().push(format!("{method} {uri} {} {body}", text("authorization")));
        told(uri.path(), &elsewhere, &text("range"))
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

fn told(path: &str, elsewhere: &str, range: &str) -> Response {
    let to = |place: String| (StatusCode::FOUND, [(LOCATION, place)]).into_response();
    match path.rsplit('/').next().unwrap_or_default() {
        "moved" => to("app.bin".to_owned()),
        "away" => to(format!("{elsewhere}/signed")),
        "cloud" => to("http://169.254.169.254/latest/meta-data".to_owned()),
        "circle" => to("circle".to_owned()),
        "denied" => StatusCode::UNAUTHORIZED.into_response(),
        "none" => StatusCode::NOT_FOUND.into_response(),
        "broken" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ if range == "bytes=3-" => {
            (StatusCode::PARTIAL_CONTENT, [("content-range", "bytes 3-9/10"), ("set-cookie", "a=b")], "3456789")
                .into_response()
        }
        "git-upload-pack" => ([("content-type", "application/x-git-upload-pack-result")], "pack").into_response(),
        _ => {
            let headers = [("etag", "\"1\""), ("set-cookie", "a=b"), ("content-type", "application/octet-stream")];
            (headers, "0123456789").into_response()
        }
    }
}

/// Makes the registry `ship` of the account.
pub(crate) async fn add(app: &TestApp, url: &str) {
    let made = json!({ "name": "ship", "kind": "artifactory", "url": format!("{url}/base/"), "username": "robot", "secret": "hunter2" });
    app.admin().post("/api/v2/account/registries", &made).await.ok(201);
}

/// A grant of a device.
pub(crate) async fn grant(app: &TestApp, right: Right, path: &str) -> String {
    let read = app.store().read();
    let ship = RegistryName::parse("ship").unwrap();
    let registry = read.find_registry(app.house().account_id, &ship).await.unwrap().unwrap();
    let ends_at = app.app().clock().now().after(std::time::Duration::from_secs(60));
    let grant =
        Grant { repository: registry.id, path: path.to_owned(), right, holder: "device:#1".to_owned(), ends_at };
    grants::issue(app.app(), &grant).0
}

async fn fetch(app: &TestApp, granted: &str, path: &str, range: Option<&str>) -> Answer {
    let bearer = grant(app, Right::FetchFromRegistry, granted).await;
    let request =
        app.http().get(format!("http://{}/link/v1/registries/ship/{path}", app.address())).bearer_auth(bearer);
    answer(range.into_iter().fold(request, |request, range| request.header("range", range))).await
}

/// `robot:hunter2`
const SECRET: &str = "Basic cm9ib3Q6aHVudGVyMg==";

async fn a_registry_is_asked_with_the_account_s_secret(app: &TestApp) {
    let (url, asked) = registry("").await;
    add(app, &url).await;
    let whole = fetch(app, "generic/a b.bin", "generic/a%20b.bin", None).await;
    assert_eq!((whole.status, whole.text.as_str()), (200, "0123456789"));
    let part = fetch(app, "app.bin", "app.bin", Some("bytes=3-")).await;
    assert_eq!((part.status, part.text.as_str()), (206, "3456789"));
    assert_eq!(part.headers["content-range"], "bytes 3-9/10");
    assert!(!part.headers.contains_key("set-cookie"));
    assert_eq!(part.headers["content-security-policy"], "sandbox");
    let seen = asked.lock().unwrap().clone();
    assert_eq!(seen, [format!("GET /base/generic/a%20b.bin {SECRET} "), format!("GET /base/app.bin {SECRET} ")]);
}

async fn a_grant_is_for_one_place_and_a_while(app: &TestApp) {
    let (url, asked) = registry("").await;
    add(app, &url).await;
    assert_eq!(fetch(app, "app.bin", "other.bin", None).await.status, 404);
    assert_eq!(fetch(app, "app.bin", "app.bin/more", None).await.status, 404);
    let place = format!("http://{}/link/v1/registries/ship/app.bin", app.address());
    let bearing = async |token: &str| answer(app.http().get(&place).bearer_auth(token)).await.status;
    let good = grant(app, Right::FetchFromRegistry, "app.bin").await;
    let own = grant(app, Right::Fetch, "app.bin").await;
    assert_eq!((bearing("mg1.x.y").await, bearing(&own).await), (401, 404));
    assert_eq!(answer(app.admin().request(Method::GET, "/link/v1/registries/ship/app.bin")).await.status, 401);
    let elsewhere = format!("http://{}/artifactory/ship/app.bin", app.address());
    assert_eq!(answer(app.http().get(elsewhere).bearer_auth(&good)).await.status, 404);
    assert!(asked.lock().unwrap().is_empty());
    assert_eq!(bearing(&good).await, 200);
    app.wait(std::time::Duration::from_secs(60)).await;
    assert_eq!(bearing(&good).await, 401);
}

async fn a_registry_may_lead_elsewhere(app: &TestApp) {
    let (other, seen_there) = registry("").await;
    let (url, asked) = registry(&other).await;
    add(app, &url).await;
    assert_eq!(fetch(app, "moved", "moved", None).await.text, "0123456789");
    assert_eq!(asked.lock().unwrap().last().unwrap(), &format!("GET /base/app.bin {SECRET} "));
    assert_eq!(fetch(app, "away", "away", None).await.text, "0123456789");
    assert_eq!(*seen_there.lock().unwrap(), ["GET /signed - "], "without the credential");
    for (path, problem) in [("cloud", "leads into a network that it does not stand in"), ("circle", "leads on and on")]
    {
        let told = fetch(app, path, path, None).await;
        assert_eq!(told.v2_error(), (424, "registry_refused".to_owned(), format!("registry ship {problem}")));
    }
}

async fn what_a_registry_refuses_is_told(app: &TestApp) {
    let (url, _) = registry("").await;
    add(app, &url).await;
    for (path, status, code, text) in [
        ("denied", 424, "registry_refused", "registry ship answered 401 Unauthorized"),
        ("none", 404, "not_found", "registry ship has nothing there: it answered 404 Not Found"),
        ("broken", 502, "registry_failed", "registry ship answered 503 Service Unavailable"),
    ] {
        assert_eq!(fetch(app, path, path, None).await.v2_error(), (status, code.to_owned(), text.to_owned()));
    }
}

async fn a_repository_of_git_is_read_and_not_written(app: &TestApp) {
    let (url, asked) = registry("").await;
    add(app, &url).await;
    let bearer = grant(app, Right::CloneFromRegistry, "team/a.git").await;
    let place = |path: &str| format!("http://{}/link/v1/registries/ship/team/a.git{path}", app.address());
    let get = async |path: &str| answer(app.http().get(place(path)).bearer_auth(&bearer)).await.status;
    let post = async |path: &str| answer(app.http().post(place(path)).bearer_auth(&bearer).body("want")).await.status;
    assert_eq!(get("/info/refs?service=git-upload-pack").await, 200);
    assert_eq!(post("/git-upload-pack").await, 200);
    assert_eq!((get("/info/refs?service=git-receive-pack").await, post("/git-receive-pack").await), (404, 404));
    assert_eq!(get("/config").await, 404);
    let seen = asked.lock().unwrap().clone();
    let refs = format!("GET /team/a.git/info/refs?service=git-upload-pack {SECRET} ");
    assert_eq!(seen, [refs, format!("POST /team/a.git/git-upload-pack {SECRET} want")]);
}
