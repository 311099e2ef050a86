//! What every call has in common: ids of requests, and errors in the words of its API.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use muster_core::limits::BODY_BYTES_MAX;
use muster_server::http::ErrorStyle;
use muster_server::http::error::in_style;
use reqwest::Method;
use serde_json::json;

use crate::app::TestApp;
use crate::caller::{Answer, answer};
use crate::device::SimulatedDevice;

on_both_engines!(
    every_answer_has_an_id_of_its_own,
    unknown_paths_are_refused_in_the_words_of_the_api,
    unknown_methods_are_refused_in_the_words_of_the_api,
    what_cannot_be_decoded_is_refused_in_the_words_of_the_api,
    a_head_is_a_get_without_its_body,
    bodies_are_bounded,
    a_panic_is_an_internal_error,
    bearer_tokens_are_read_as_the_rfc_says,
    wrong_tokens_are_refused,
);

async fn every_answer_has_an_id_of_its_own(app: &TestApp) {
    let mut ids = Vec::new();
    for path in ["/healthz", "/api/openapi.json", "/nowhere", "/v1/nowhere", "devices", "/api/v2/x/devices"] {
        ids.push(app.viewer().get(path).await.header("x-request-id").to_owned());
    }
    ids.push(app.anon().v1_get("/v1/devices_details", &json!({})).await.header("x-request-id").to_owned());
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 7);
}

/// The text and status of a v1 error, whatever its status is.
#[track_caller]
fn v1(answer: &Answer) -> (u16, String) {
    let body = answer.json();
    let text = body["error_message"].as_str().unwrap().to_owned();
    assert_eq!(body, json!({ "error_message": text }));
    (answer.status, text)
}

async fn unknown_paths_are_refused_in_the_words_of_the_api(app: &TestApp) {
    let viewer = app.viewer();
    for path in ["/v1/", "/v1/nowhere", "/v1/devices_details/", "/v1/a/b/c"] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let refusal = v1(&viewer.v1(method, path, &json!({})).await);
            assert_eq!(refusal, (404, "no such path".to_owned()), "{path}");
        }
    }
    for path in ["/", "/v1", "/nowhere", "/api/v2/demo", "/api/v2/demo/devices/", "/link/v1/x"] {
        let refusal = viewer.get(path).await.v2_error();
        assert_eq!(refusal, (404, "no_such_path".to_owned(), "no such path".to_owned()), "{path}");
    }
}

async fn unknown_methods_are_refused_in_the_words_of_the_api(app: &TestApp) {
    let text = "this path does not take that method".to_owned();
    for method in [Method::PUT, Method::PATCH, Method::OPTIONS] {
        let answer = app.viewer().v1(method, "/v1/devices_details", &json!({})).await;
        assert_eq!(v1(&answer), (405, text.clone()));
        assert_eq!(answer.header("allow"), "GET,HEAD,POST");
    }
    for (path, allowed) in [("devices", "GET,HEAD"), ("update-flows", "POST,GET,HEAD"), ("/link/v1/enroll", "POST")] {
        for method in [Method::PUT, Method::OPTIONS, Method::TRACE] {
            let answer = answer(app.viewer().request(method, path)).await;
            assert_eq!(answer.v2_error(), (405, "method_not_allowed".to_owned(), text.clone()));
            assert_eq!(sorted(answer.header("allow")), sorted(allowed), "{path}");
        }
    }
}

fn sorted(list: &str) -> Vec<&str> {
    let mut items: Vec<&str> = list.split(',').collect();
    items.sort_unstable();
    items
}

async fn what_cannot_be_decoded_is_refused_in_the_words_of_the_api(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let single = |query: &str| format!("devices/{}?{query}", device.uuid);
    let cases = [
        ("devices/%ff".to_owned(), "path: "),
        ("/api/v2/%ff/devices".to_owned(), "path: "),
        ("deployments/%c3%28/devices".to_owned(), "path: "),
        (single("enrich_info=true&enrich_info=false"), "query: "),
        ("deployments?limit=1&limit=2".to_owned(), "query: "),
        ("update-flows?after=&after=".to_owned(), "query: "),
    ];
    for (path, field) in cases {
        let (status, code, message) = app.viewer().get(&path).await.v2_error();
        assert_eq!((status, code.as_str()), (400, "invalid"), "{path}");
        assert!(message.starts_with(field), "{path}: {message}");
    }
    let lossy = app.viewer().get("devices?group_name=%ff").await.refused(400);
    assert!(lossy.starts_with("group_name: no group of the fleet is called"), "{lossy}");
    let (status, code, _) = app.anon().get("/link/v1/control").await.v2_error();
    assert_eq!((status, code.as_str()), (426, "upgrade_required"));
    assert_eq!(app.anon().get("/link/v1/control").await.header("upgrade"), "websocket");
}

async fn a_head_is_a_get_without_its_body(app: &TestApp) {
    for path in ["devices", "/healthz", "deployments/dp-0000-0000"] {
        let (get, head) = (app.viewer().get(path).await, answer(app.viewer().request(Method::HEAD, path)).await);
        assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

async fn bodies_are_bounded(app: &TestApp) {
    let text = format!("the body is larger than {BODY_BYTES_MAX} bytes");
    for bytes in [BODY_BYTES_MAX + 1, 3 * BODY_BYTES_MAX] {
        let body = "x".repeat(bytes);
        let request = app.operator().request(Method::POST, "deployments").body(body.clone());
        let refusal = answer(request).await.v2_error();
        assert_eq!(refusal, (413, "body_too_large".to_owned(), text.clone()));
        assert_eq!(app.operator().post_yaml("update-flows", &body).await.refused(413), text);
        let request = app.anon().bare(Method::POST, "/v1/devices_details").body(body);
        assert_eq!(v1(&answer(request).await), (413, text.clone()));
    }
    let just = format!("\"{}\"", "x".repeat(BODY_BYTES_MAX - 2));
    let request = app.operator().request(Method::POST, "deployments").body(just);
    answer(request).await.refused(400);
}

async fn a_panic_is_an_internal_error(app: &TestApp) {
    async fn boom() -> &'static str {
        panic!("on purpose, {}", "in a test")
    }
    let router = Router::new().route("/v1/boom", get(boom)).route("/boom", get(boom));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let router = in_style(router, app.app(), ErrorStyle::V2).with_state(app.app().clone());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let refusal = answer(app.http().get(format!("http://{address}/boom"))).await.v2_error();
    assert_eq!(refusal, (500, "internal".to_owned(), "internal error".to_owned()));
    serving.abort();
}

async fn bearer_tokens_are_read_as_the_rfc_says(app: &TestApp) {
    let token = app.viewer().keys.access;
    let get = async |header: String| {
        let request = app.anon().bare(Method::GET, "/api/v2/demo/devices").header("authorization", header);
        answer(request).await.status
    };
    for good in [format!("Bearer {}", token.expose()), format!("bearer  {}", token.expose())] {
        assert_eq!(get(good).await, 200);
    }
    for bad in [format!("Basic {}", token.expose()), token.expose().to_owned(), "Bearer".to_owned(), String::new()] {
        assert_eq!(get(bad.clone()).await, 401, "{bad}");
    }
}

async fn wrong_tokens_are_refused(app: &TestApp) {
    let viewer = app.viewer().keys;
    for wrong in [viewer.user.expose(), viewer.pairing.expose(), "x", "ma_' OR '1'='1"] {
        let request = app.anon().bare(Method::GET, "/api/v2/demo/devices").bearer_auth(wrong);
        let refusal = answer(request).await.v2_error();
        let text = "the access token is missing or not valid".to_owned();
        assert_eq!(refusal, (401, "unauthenticated".to_owned(), text));
    }
    for wrong in [viewer.access.expose(), viewer.pairing.expose(), "", "mu_' OR '1'='1"] {
        let answer = app.anon().v1_get("/v1/devices_details", &json!({ "user_token": wrong })).await;
        assert_eq!(answer.v1_error(), "user_token: is not a valid account token");
    }
    let missing = app.anon().v1_get("/v1/devices_details", &json!({})).await;
    assert_eq!(missing.v1_error(), "user_token: is required");
}
