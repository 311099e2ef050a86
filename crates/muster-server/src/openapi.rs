//! The OpenAPI document, made from the handlers themselves.

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, License, OpenApi};

/// Adds to the operations what belongs to the document as a whole.
pub fn document(mut document: OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("Muster")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("A fleet of Linux devices: the JFrog Connect REST API (v1 and v2), and Muster's own calls, marked x-muster."))
        .license(Some(License::new("Apache-2.0")))
        .build();
    let components = document.components.take().unwrap_or_else(|| ComponentsBuilder::new().build());
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components = Some(ComponentsBuilder::from(components).security_scheme("access_token", bearer).build());
    document
}
