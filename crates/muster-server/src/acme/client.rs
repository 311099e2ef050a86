//! How the authority is asked: HTTPS, with limits.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::Bytes;
use axum::http::Request;
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer, in bytes: a certificate with those that lead to its authority.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Asks over HTTPS, and of nobody else.
#[derive(Clone)]
pub(super) struct AcmeHttp(reqwest::Client);

impl AcmeHttp {
    /// Believes the authorities of the machine, or those of the file alone.
    pub(super) fn new(root_ca: Option<&Path>) -> Result<Self> {
        let builder = reqwest::Client::builder().https_only(true).timeout(ANSWER_TIMEOUT);
        let builder = match root_ca {
            None => builder,
            Some(path) => {
                let read = || -> Result<_> { Ok(reqwest::Certificate::from_pem_bundle(&std::fs::read(path)?)?) };
                builder.tls_certs_only(read().with_context(|| format!("cannot read {}", path.display()))?)
            }
        };
        Ok(Self(builder.build()?))
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await;
        let body = body.to_bytes();
        let asked = self.0.request(head.method, head.uri.to_string()).headers(head.headers).body(body);
        let mut answer = asked.send().await.map_err(other)?;
        let mut response = axum::http::Response::new(());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        let mut received = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(other)? {
            if received.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(Error::Str("an answer of no more than a megabyte"));
            }
            received.extend_from_slice(&piece);
        }
        Ok(BytesResponse { parts: response.into_parts().0, body: Box::new(Bytes::from(received)) })
    }
}

fn other(error: reqwest::Error) -> Error {
    Error::Other(Box::new(error))
}

impl HttpClient for AcmeHttp {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().ask(request))
    }
}
