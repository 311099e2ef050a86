//! The examples of the OpenAPI document: each is what a real server was asked and answered.

use std::collections::BTreeMap;

use muster_core::access::Operation;
use muster_store::testing::Engine;
use serde_json::{Map, Value, json};

use crate::access::{Cell, SOCKETS, Scene, Who, expected};
use crate::app::TestApp;
use crate::caller::{Answer, Sent};
use crate::openapi::assert_published;

/// Longer bodies are no help to a reader.
const BODY_BYTES_MAX: usize = 8_192;

/// How the examples' server says that it is reached.
const ADDRESS: &str = "https://muster.example";

/// Run twice with `MUSTER_UPDATE_DOCS=1` when it fails: the examples are a part of
/// the document, which is published by the next run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_published_examples_are_current() {
    let mut examples = BTreeMap::new();
    for operation in Operation::ALL.iter().filter(|operation| !SOCKETS.contains(operation)) {
        examples.insert(operation.name(), example(*operation).await);
    }
    assert_published("examples.json", &(serde_json::to_string_pretty(&examples).unwrap() + "\n"));
}

/// Asks for the operation as somebody who may, on a server of its own: so an example
/// does not depend on those before it.
async fn example(operation: Operation) -> Value {
    // Addresses in answers have no port that changes from run to run.
    let app = TestApp::start(Engine::Sqlite, |config| config.public_url = Some(ADDRESS.to_owned())).await;
    let callers = [Who::Operator, Who::Admin, Who::Device];
    // What no device can do yet is refused to everybody.
    let may = callers.into_iter().find(|who| matches!(expected(operation, *who), Cell::Done(_)));
    let who = may.unwrap_or(Who::Operator);
    let scene = Scene::set(&app).await;
    let answer = scene.ask(operation, who).await;
    assert!(answer.status < 400 || may.is_none(), "{}: {answer:?}", operation.name());
    let example = json!({
        "parameters": parameters(operation, &answer.sent),
        "request": answer.sent.body.as_deref().map_or(Value::Null, |body| body_of(&masked(body))),
        "status": answer.status,
        "response": response(&answer),
    });
    drop(scene);
    app.stop().await;
    steady(example)
}

fn response(answer: &Answer) -> Value {
    let is_page = answer.headers.contains_key("content-encoding");
    match answer.text.len() {
        1..=BODY_BYTES_MAX if !is_page => body_of(&masked(&answer.text)),
        _ => Value::Null,
    }
}

/// Nobody should copy a token from a page, nor a scanner take one for real.
fn masked(text: &str) -> String {
    let mut pieces = text.split('"').map(|piece| match piece.split_once('_') {
        Some((kind @ ("mu" | "ma" | "mp" | "md" | "ms"), random)) if random.len() == 43 => {
            format!("{kind}_{}", "0".repeat(43))
        }
        _ => match piece.split_once("token=mg1.") {
            Some((address, _)) => format!("{address}token=mg1.{}", "0".repeat(43)),
            None => piece.to_owned(),
        },
    });
    let first = pieces.next().unwrap_or_default();
    pieces.fold(first, |whole, piece| whole + "\"" + &piece)
}

/// Ports that change from run to run are always the same.
fn steady(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(key, value)| steady_member(key, value)).collect(),
        Value::Array(items) => items.into_iter().map(steady).collect(),
        Value::String(text) => json!(steady_text(&text)),
        other => other,
    }
}

fn steady_member(key: String, value: Value) -> (String, Value) {
    match key.as_str() {
        "server_port" | "remote_server_port" => (key, json!(20_000)),
        _ => (key, steady(value)),
    }
}

fn steady_text(text: &str) -> String {
    let mut pieces = text.split("http://127.0.0.1:");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |whole, piece| whole + ADDRESS + piece.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// JSON as such, anything else as a text.
fn body_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

/// The parameters in the path and in the query.
fn parameters(operation: Operation, sent: &Sent) -> Value {
    let of_template = operation.place().split('/');
    let mut found = Map::new();
    for (name, value) in
        of_template.zip(sent.url.path_segments().map(|it| [""].into_iter().chain(it)).into_iter().flatten())
    {
        if let Some(name) = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            found.insert(name.to_owned(), json!(percent_decoded(value)));
        }
    }
    for (name, value) in sent.url.query_pairs() {
        found.insert(name.into_owned(), body_of(&value));
    }
    Value::Object(found)
}

fn percent_decoded(text: &str) -> String {
    let plus_kept = text.replace('+', "%2B");
    let as_query = format!("http://host/?text={plus_kept}").parse::<reqwest::Url>().unwrap();
    as_query.query_pairs().next().unwrap().1.into_owned()
}
