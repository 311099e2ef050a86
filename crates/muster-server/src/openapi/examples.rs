//! An example of every operation, taken from the tests: `docs/examples.json` is
//! written by a run of the suite against a real server, and checked by each later one.

use serde_json::{Map, Value, json};

/// What the suite wrote: for each operation's name, what was asked and what was answered.
const RECORDED: &str = include_str!("../../../../docs/examples.json");

/// Puts the recorded examples where readers of the document look for them.
pub(super) fn put_into(document: &mut Value) {
    // The file is a part of the program, and a test reads it.
    let recorded: Map<String, Value> = serde_json::from_str(RECORDED).unwrap_or_default();
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for operation in paths.values_mut().filter_map(Value::as_object_mut).flat_map(|path| path.values_mut()) {
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        if let Some(example) = recorded.get(&id) {
            show(operation, example);
        }
    }
}

fn show(operation: &mut Value, example: &Value) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let shown = &example["parameters"][parameter["name"].as_str().unwrap_or_default()];
        if !shown.is_null() {
            parameter["example"] = shown.clone();
        }
    }
    show_body(operation.get_mut("requestBody"), &example["request"]);
    let status = example["status"].to_string();
    show_body(operation["responses"].get_mut(status), &example["response"]);
}

/// The body as an example of the first media type that is documented.
fn show_body(place: Option<&mut Value>, body: &Value) {
    let media = place
        .and_then(|place| place.get_mut("content")?.as_object_mut())
        .and_then(|content| content.values_mut().next());
    if let (Some(media), false) = (media, body.is_null()) {
        media["example"] = json!(body);
    }
}
