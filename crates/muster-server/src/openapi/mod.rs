//! The OpenAPI document, made from the handlers themselves, and the page that shows it.

mod credentials;
pub mod examples;
mod formats;
pub mod page;

use std::sync::LazyLock;

use axum::Json;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use muster_core::flow::schema;
use serde_json::{Value, json};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, License, OpenApi};

/// Adds to the operations what belongs to the document as a whole, what all of a
/// credential answer alike, the formats of
/// the words that many calls share, and an example of every operation.
pub fn document(operations: OpenApi) -> Value {
    // An `OpenApi` that was made in this program is always JSON.
    let mut document = serde_json::to_value(described(operations)).unwrap_or_else(|_| json!({}));
    name_wildcards(&mut document);
    credentials::tell(&mut document);
    formats::name(&mut document);
    formats::choose(&mut document);
    examples::put_into(&mut document);
    document
}

/// What the router writes as `{*path}`, the rest of an address, OpenAPI has as `{path}`.
fn name_wildcards(document: &mut Value) {
    let Some(paths) = document["paths"].as_object_mut() else { return };
    let wild: Vec<String> = paths.keys().filter(|path| path.contains("{*")).cloned().collect();
    for path in wild {
        if let Some(item) = paths.remove(&path) {
            paths.insert(path.replace("{*", "{"), item);
        }
    }
}

fn described(mut document: OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("Muster")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("A fleet of Linux devices: the JFrog Connect REST API (v1 and v2), the BCE Tag Service, and Muster's own calls, marked x-muster."))
        .license(Some(License::new("Apache-2.0")))
        .build();
    let components = document.components.take().unwrap_or_else(|| ComponentsBuilder::new().build());
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let signature = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
        "Authorization",
        "bce-auth-v1/{access key id}/{moment}/{seconds}/{signed headers}/{signature}, as the SDKs of BCE make it",
    )));
    let components = ComponentsBuilder::from(components).security_scheme("access_token", bearer);
    document.components = Some(components.security_scheme("bce_auth_v1", signature).build());
    document
}

/// The OpenAPI document of this server.
#[utoipa::path(
    get, path = "/api/openapi.json", operation_id = "GetOpenapi", tag = "Server",
    responses((status = 200, description = "The document", body = Object)),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get() -> Json<&'static Value> {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(crate::router::openapi_document);
    Json(&DOCUMENT)
}

/// The JSON Schema (2020-12) of flow documents, for editors and pipelines.
#[utoipa::path(
    get, path = "/api/flow.schema.json", operation_id = "GetFlowSchema", tag = "Server",
    responses((status = 200, description = "The schema", content_type = "application/schema+json", body = Object)),
    extensions(("x-muster" = json!(true))),
)]
pub async fn flow_schema() -> impl IntoResponse {
    static SCHEMA: LazyLock<String> = LazyLock::new(flow_schema_text);
    ([(CONTENT_TYPE, "application/schema+json")], SCHEMA.as_str())
}

/// The schema as it is served and as `docs/flow.schema.json` has it.
pub fn flow_schema_text() -> String {
    format!("{:#}\n", schema::document())
}
