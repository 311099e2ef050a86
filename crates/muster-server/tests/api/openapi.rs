//! The OpenAPI document: published, valid, and in step with the table of operations.

use std::collections::BTreeSet;
use std::path::PathBuf;

use muster_core::access::{Credential, Operation};
use muster_server::openapi::flow_schema_text;
use muster_server::router::openapi_document;
use serde_json::{Value, json};

use crate::access::{SOCKETS, documented_cells};
use crate::app::TestApp;
use crate::device::SimulatedDevice;
use crate::orders::{Order, create};
use crate::schema::Schemas;

on_both_engines!(what_enriches_an_answer_is_documented, the_reference_page_needs_no_other_host);

/// The calls of the Connect API; all others but the Tag Service's are Muster's own.
const CONNECT: &[Operation] = &[
    Operation::DeleteDeviceTags,
    Operation::DeleteDeviceApps,
    Operation::GetDevicesDetails,
    Operation::ChangeDevicesDetails,
    Operation::GetDeviceState,
    Operation::GetDevicesState,
    Operation::SetUpdateTrigger,
    Operation::DeployUpdate,
    Operation::DeployUpdateV1,
    Operation::SendAppMonitor,
    Operation::GetAppMonitorDetails,
    Operation::SendLogFile,
    Operation::RegisterDevice,
    Operation::GetProjectParameters,
    Operation::SendDeviceStatus,
    Operation::ListDevices,
    Operation::GetDevice,
    Operation::PatchDevice,
    Operation::MoveDevice,
    Operation::CreateUpdateFlows,
    Operation::ListUpdateFlows,
    Operation::GetUpdateFlow,
    Operation::CreateDeployment,
    Operation::ListDeployments,
    Operation::GetDeployment,
    Operation::ListDeploymentDevices,
    Operation::GetDeploymentDevice,
    Operation::AbortDeployment,
    Operation::AbortDeploymentDevice,
    Operation::RequestDeviceLogs,
    Operation::CreatePortTunnel,
    Operation::ListPortTunnels,
    Operation::GetPortTunnel,
    Operation::DeletePortTunnel,
    Operation::SendMonitor,
];

/// A page of `docs/` must hold exactly this; with `MUSTER_UPDATE_DOCS=1` it is written.
pub(crate) fn assert_published(file: &str, current: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file);
    if std::env::var_os("MUSTER_UPDATE_DOCS").is_some() {
        std::fs::write(&path, current).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(published == current, "docs/{file} is out of date; set MUSTER_UPDATE_DOCS=1 and run this test again");
}

fn document() -> Value {
    openapi_document()
}

/// Every operation of the document, with its method and its path.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    found
}

#[test]
fn the_published_document_is_current() {
    assert_published("openapi.json", &(serde_json::to_string_pretty(&document()).unwrap() + "\n"));
}

#[test]
fn the_published_schema_of_flows_is_current() {
    assert_published("flow.schema.json", &flow_schema_text());
}

#[test]
fn the_document_and_the_table_have_the_same_operations() {
    // Those that only a flag tells apart are one in the document, under the first one's name.
    let is_first = |op: &&Operation| {
        Operation::ALL.iter().find(|other| (other.method(), other.place()) == (op.method(), op.place())) == Some(*op)
    };
    let in_table = Operation::ALL.iter().filter(is_first).map(|op| (op.method(), op.place(), op.name()));
    let in_table: BTreeSet<_> = in_table.map(|(m, p, n)| (m.to_owned(), p.to_owned(), n.to_owned())).collect();
    let in_document = operations(&document()).into_iter();
    let in_document: BTreeSet<_> = in_document
        .map(|(method, path, operation)| (method, path, operation["operationId"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(in_document, in_table);
}

#[test]
fn own_calls_are_marked_and_no_others() {
    let document = document();
    for (.., operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        let is_tag_service = operation["tags"] == json!(["Tag Service"]);
        let is_own = !is_tag_service && CONNECT.iter().all(|call| call.name() != id);
        assert_eq!(operation.get("x-muster"), is_own.then_some(&json!(true)), "{id}");
    }
}

#[test]
fn every_operation_is_described() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    for (method, path, operation) in operations(&document) {
        let place = format!("{method} {path}");
        for key in ["summary", "operationId"] {
            assert!(operation[key].as_str().is_some_and(|text| !text.is_empty()), "{place}: {key}");
        }
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{place}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{place}: {status}");
        }
        assert_parameters(&place, &path, &operation);
    }
}

#[track_caller]
fn assert_parameters(place: &str, path: &str, operation: &Value) {
    let declared = operation["parameters"].as_array().cloned().unwrap_or_default();
    let of = |kind: &str| declared.iter().filter(|parameter| parameter["in"] == kind).cloned().collect::<Vec<_>>();
    let names: Vec<String> = of("path").iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect();
    let in_path: Vec<&str> = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
    assert_eq!(names, in_path, "{place}");
    assert!(of("path").iter().all(|it| it["required"] == true), "{place}");
    let others = [of("query"), of("header")].concat();
    assert_eq!(of("path").len() + others.len(), declared.len(), "{place}");
    assert!(declared.iter().all(|it| it["description"].as_str().is_some() && it["schema"].is_object()), "{place}");
}

#[test]
fn credentials_and_bodies_stand_where_they_are_looked_for() {
    let document = document();
    assert_eq!(document["components"]["securitySchemes"]["access_token"]["scheme"], "bearer");
    for operation in Operation::ALL {
        let documented = &document["paths"][operation.place()][operation.method().to_lowercase()];
        let security = match operation.credential() {
            Credential::AccessToken => Some(json!([{ "access_token": [] }])),
            Credential::AccessKey => Some(json!([{ "bce_auth_v1": [] }])),
            _ => None,
        };
        assert_eq!(documented.get("security"), security.as_ref(), "{}", operation.name());
        if operation.credential() == Credential::UserToken {
            let content = &documented["requestBody"]["content"];
            let named = |schema: &Value| {
                let name = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/components/schemas/")).unwrap();
                document["components"]["schemas"][name].clone()
            };
            // Beside a file the body is a part of a form.
            let body = match content.get("multipart/form-data") {
                Some(form) => named(&named(&form["schema"])["properties"]["json"]),
                None => named(&content["application/json"]["schema"]),
            };
            assert_eq!(body["properties"]["user_token"]["type"], "string", "{}", operation.name());
            assert!(body["required"].as_array().unwrap().contains(&json!("user_token")), "{}", operation.name());
        }
    }
}

#[test]
fn every_status_of_the_access_table_is_documented() {
    for operation in Operation::ALL {
        let (statuses, responses) = documented_cells(*operation);
        for status in statuses {
            assert!(responses.contains(&status), "{} answers {status}: {responses:?}", operation.name());
        }
    }
}

/// What each example says is recorded from a real server: see `examples.rs`.
#[test]
fn every_operation_has_an_example() {
    for (method, path, operation) in operations(&document()) {
        let place = format!("{method} {path}");
        if SOCKETS.iter().any(|socket| operation["operationId"] == socket.name()) {
            continue;
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten().filter(|it| it["in"] == "path") {
            assert!(!parameter["example"].is_null(), "{place}: {}", parameter["name"]);
        }
        if let Some(content) = operation["requestBody"]["content"].as_object() {
            assert!(content.values().any(|media| !media["example"].is_null()), "{place}: its request");
        }
    }
}

async fn the_reference_page_needs_no_other_host(app: &TestApp) {
    let way = app.anon().get("/api/docs").await;
    assert_eq!((way.status, way.header("location")), (303, "/api/docs/index.html"));
    let page = app.anon().get("/api/docs/index.html").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html"));
    assert!(page.header("content-security-policy").starts_with("default-src 'self';"));
    let start = app.anon().get("/api/docs/swagger-initializer.js").await;
    assert!(start.text.contains("/api/openapi.json") && start.text.contains(r#""validatorUrl": "none""#));
    assert!(!start.text.contains("http://") && !start.text.contains("https://"), "{}", start.text);
    assert_eq!(app.anon().get("/api/docs/nothing.js").await.refused(404), "no file \"nothing.js\" was found");
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut references = Vec::new();
    collect(&document, &mut |key, value| {
        if key == "$ref" {
            references.push(value.as_str().unwrap().to_owned());
        }
    });
    assert!(references.len() > 50);
    for reference in &references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let used: BTreeSet<&str> = references.iter().filter_map(|it| it.rsplit('/').next()).collect();
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(used.contains(name.as_str()), "{name} is used nowhere");
    }
}

/// Calls `see` with every key and value of the document.
fn collect(value: &Value, see: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                see(key, value);
                collect(value, see);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, see)),
        _ => {}
    }
}

#[test]
fn nothing_in_it_speaks_of_the_program() {
    let document = document();
    collect(&document, &mut |key, value| {
        for word in ["::", "Option<", "Vec<", "serde", "[`", "Rust", "struct", "enum "] {
            assert!(!key.contains(word), "{key}");
            assert!(value.as_str().is_none_or(|text| !text.contains(word)), "{key}: {value}");
        }
    });
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let is_described = ["type", "allOf", "oneOf", "$ref"].iter().any(|key| schema.get(key).is_some());
        assert!(is_described, "{name} says nothing: {schema}");
    }
}

async fn what_enriches_an_answer_is_documented(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order { app: Some(("firmware", "1")), ..Order::default() }).await;
    device.connect().await.succeed().await;
    let tags = json!([{ "op": "add", "path": "tags", "value": ["a"] }]);
    app.admin().change(device.uuid.as_str(), &tags).await;
    let schemas = Schemas::published();
    for (operation, path) in [
        (Operation::ListDevices, "devices".to_owned()),
        (Operation::GetDevice, format!("devices/{}", device.uuid)),
        (Operation::GetDeployment, format!("deployments/{}", deployment.uuid)),
        (Operation::GetDeploymentDevice, format!("deployments/{}/devices/{}", deployment.uuid, device.uuid)),
    ] {
        for enrich in [true, false] {
            let answer = app.viewer().get(&format!("{path}?enrich_info={enrich}")).await;
            let problems = schemas.problems(operation, &answer);
            assert!(answer.status == 200 && problems.is_empty(), "{path}: {problems:?}");
        }
    }
}
