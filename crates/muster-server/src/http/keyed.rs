//! Requests that may be sent twice and take effect once: the header `Idempotency-Key` of
//! the IETF's draft "The Idempotency-Key HTTP Header Field".

use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use muster_core::invalid::Invalid;
use muster_core::limits::NAME_CHARS_MAX;
use muster_core::wire::Object;
use muster_store::deployments;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::body::{parse_json, read_body};
use super::error::ApiError;

const HEADER: &str = "Idempotency-Key";

/// The JSON body of a request, which is an object, and what tells the request from others
/// where its sender said so.
#[derive(Clone, Debug)]
pub struct Keyed<T>(pub T, pub Option<deployments::Request>);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Keyed<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let key = key(request.headers())?;
        let bytes = read_body(request).await?;
        let Object(body) = parse_json(&bytes)?;
        let hash = || Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(body, key.map(|key| deployments::Request { key, hash: hash() })))
    }
}

/// The key, with or without the quotes that the draft writes around it.
fn key(headers: &HeaderMap) -> Result<Option<String>, Invalid> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if key.is_empty() || key.len() > NAME_CHARS_MAX {
        return Err(Invalid::new(HEADER, format!("is not 1 to {NAME_CHARS_MAX} characters of ASCII")));
    }
    Ok(Some(key.to_owned()))
}
