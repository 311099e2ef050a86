//! The BCE Tag Service: requests signed with an access key, flags in the query, errors
//! with `requestId`, `code` and `message`. Translates, and nothing else.

pub mod error;
pub mod lists;
pub mod request;
pub mod resources;
pub mod tags;
pub mod wire;

use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};

use crate::http::ApiError;
use error::Refusal;

/// What is answered to a change: no body, but the type of one.
fn done() -> Response {
    // A text has the documented type, `text/plain; charset=utf-8`.
    let mut response = "".into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// For what is below the paths of the Tag Service and is none of them.
pub async fn no_such_path() -> ApiError {
    Refusal::InvalidUri.into()
}
