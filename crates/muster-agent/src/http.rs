//! The one kind of HTTP request that an agent makes: JSON there, JSON back.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;

use crate::net::Stream;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// An answer of any status.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Vec<u8>,
}

/// Posts `body` to `path` over `stream`. Bounded by the caller's time-out.
pub async fn post(stream: Stream, authority: &str, path: &str, body: &impl Serialize) -> Result<Answer, HttpError> {
    let body = serde_json::to_vec(body).map_err(|error| HttpError(error.to_string()))?;
    let request = Request::post(path)
        .header("host", authority)
        .header("content-type", "application/json")
        .header("user-agent", concat!("muster-agent/", env!("CARGO_PKG_VERSION")))
        .body(Full::<Bytes>::from(body))
        .map_err(|error| HttpError(error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| HttpError(format!("the answer cannot be read: {error}")))?;
        Ok(Answer { status, body: body.to_bytes().to_vec() })
    };
    // The connection does its work while it is polled, and ends after the exchange.
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HttpError(String);

impl From<hyper::Error> for HttpError {
    fn from(error: hyper::Error) -> Self {
        Self(error.to_string())
    }
}
