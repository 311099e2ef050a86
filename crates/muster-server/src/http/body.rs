//! Bodies: bounded, JSON, and refused with the name of the field at fault.
//!
//! API v1 has its tokens in the body on every method, GET and DELETE included,
//! and real clients do not always name the content type: so the body is read as
//! JSON whatever it is called.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use http_body_util::BodyExt;
use muster_core::invalid::Invalid;
use muster_core::limits::BODY_BYTES_MAX;
use muster_core::wire::Object;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::ApiError;

/// The JSON body of a request, which is an object.
#[derive(Clone, Copy, Debug)]
pub struct ApiBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = read_body(request).await?;
        let Object(body) = parse_json(&bytes)?;
        Ok(Self(body))
    }
}

/// The largest body that this server takes, as every request carries it.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit {
    /// In bytes.
    pub bytes_max: usize,
}

/// Of a body that is too large, so many times the limit is read and thrown away: a client
/// that is still sending would otherwise see its connection break, and not the answer.
const DRAINED_TIMES_MAX: usize = 16;

/// How long the next piece of a body may be on its way.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// The whole of a body, if it keeps to the limit.
pub async fn read_body(request: Request) -> Result<Vec<u8>, ApiError> {
    let limit = request.extensions().get::<BodyLimit>().map_or(BODY_BYTES_MAX, |limit| limit.bytes_max);
    let (mut body, mut kept, mut received) = (request.into_body(), Vec::new(), 0);
    while received <= limit.saturating_mul(DRAINED_TIMES_MAX) {
        let piece = timeout(PIECE_TIMEOUT, body.frame()).await.map_err(|_| ApiError::TooSlow)?;
        let Some(frame) = piece else { break };
        let frame = frame.map_err(|error| Invalid::new("", format!("the body did not arrive whole: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        received += data.len();
        if received <= limit {
            kept.extend_from_slice(data);
        }
    }
    if received > limit { Err(ApiError::TooLarge { bytes_max: limit }) } else { Ok(kept) }
}

/// Reads JSON into `T`; the refusal names the field and what was wrong with it.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Invalid> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| refusal(&error))?;
    json.end().map_err(|error| Invalid::new("", format!("the body is not one JSON value: {error}")))?;
    Ok(value)
}

/// Reads an object within a body that was kept as it came, and stood in `field`.
pub fn parse_value<T: DeserializeOwned>(field: &str, value: serde_json::Value) -> Result<T, Invalid> {
    let read = serde_path_to_error::deserialize(value).map_err(|error| refusal(&error).within(field));
    read.map(|Object(value)| value)
}

fn refusal(error: &serde_path_to_error::Error<serde_json::Error>) -> Invalid {
    let inner = error.inner();
    if inner.is_syntax() || inner.is_eof() || inner.is_io() {
        return Invalid::new("", format!("the body is not JSON: {inner}"));
    }
    let path = Some(error.path().to_string()).filter(|path| path != ".").unwrap_or_default();
    let text = inner.to_string();
    let problem = text.split_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
    if let Some(field) = problem.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return if path.is_empty() { Invalid::missing(field) } else { Invalid::missing(field).within(&path) };
    }
    Invalid::new(path, without_type_names(problem))
}

/// What serde says of a struct, without the name that it has in this program.
pub(crate) fn without_type_names(problem: &str) -> String {
    match problem.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected an object"),
        None => problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "list")]
        _list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "name")]
        _name: String,
    }

    #[test]
    fn names_the_field_at_fault() {
        let cases = [
            ("", "the body is not JSON: EOF"),
            ("{", "the body is not JSON: EOF"),
            ("nonsense", "the body is not JSON: expected ident"),
            (r#"{"list": []} x"#, "the body is not one JSON value"),
            ("null", "invalid type: null, expected an object"),
            ("[[]]", "invalid type: sequence, expected an object"),
            ("{}", "list: is required"),
            (r#"{"list": 5}"#, "list: invalid type: integer `5`, expected a sequence"),
            (r#"{"list": [{}]}"#, "list[0].name: is required"),
            (r#"{"list": [{"name": "a"}, {"name": null}]}"#, "list[1].name: invalid type: null, expected a string"),
            (r#"{"list": [], "x": 1}"#, "x: unknown field `x`"),
        ];
        for (body, expected) in cases {
            let refusal = parse_json::<Object<Outer>>(body.as_bytes()).unwrap_err().to_string();
            assert!(refusal.starts_with(expected), "{body} gave {refusal}");
        }
    }

    #[test]
    fn survives_deep_nesting() {
        let deep = "[".repeat(100_000);
        assert!(parse_json::<serde_json::Value>(deep.as_bytes()).is_err());
    }
}
