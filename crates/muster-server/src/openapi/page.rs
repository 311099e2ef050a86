//! The reference page: Swagger UI from within the executable, on this server's own
//! document. It asks nothing of any other host.

use std::sync::{Arc, LazyLock};

use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use utoipa_swagger_ui::Config;

use crate::error::OpError;
use crate::http::{ApiError, ApiPath};

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::new(["/api/openapi.json"]).deep_linking(true).filter(true).show_extensions(true);
    // Swagger UI would otherwise send the document's address to a checker elsewhere.
    Arc::new(config.validator_url("none"))
});

/// Whatever the page's files may say, a browser loads nothing for them from elsewhere.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The way to the reference page.
#[utoipa::path(
    get, path = "/api/docs", operation_id = "GetDocs", tag = "Server",
    responses((status = 303, description = "The page's address")),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get() -> Redirect {
    Redirect::to("/api/docs/index.html")
}

/// The reference page and its files.
#[utoipa::path(
    get, path = "/api/docs/{file}", operation_id = "GetDocsFile", tag = "Server",
    params(("file" = String, Path, description = "The file's name; the page itself is index.html")),
    responses(
        (status = 200, description = "The file", content_type = "text/html", body = String),
        (status = 404, description = "No such file", body = crate::v2::wire::Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get_file(ApiPath(file): ApiPath<String>) -> Result<Response, ApiError> {
    let found = utoipa_swagger_ui::serve(&file, CONFIG.clone());
    let found = found.map_err(|error| OpError::Internal(format!("the reference page: {error}")))?;
    let found = found.ok_or_else(|| OpError::not_found("file", &file))?;
    let mut response = (StatusCode::OK, found.bytes.into_owned()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(kind) = HeaderValue::from_str(&found.content_type) {
        headers.insert(CONTENT_TYPE, kind);
    }
    if found.gzpipped {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
