//! The handshake of a WebSocket whose frames this program reads itself.

use std::future::Future;
use std::io;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use muster_link::stream::{Carrier, Side};
use sha1::{Digest, Sha1};

use super::ApiError;
use crate::error::OpError;
use crate::listener::Accepted;

/// What RFC 6455 puts behind a client's key before it is hashed.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// This end of a WebSocket whose handshake is done.
pub type ServerCarrier = Carrier<Accepted>;

/// A client's handshake, not answered yet.
pub struct Handshake {
    accept: String,
    upgrade: OnUpgrade,
}

impl Handshake {
    /// The answer, and what the connection becomes behind it.
    pub fn accept(
        self,
    ) -> Result<(Response, impl Future<Output = io::Result<ServerCarrier>> + Send + 'static), OpError> {
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_ACCEPT, self.accept)
            .body(Body::empty());
        let response = response.map_err(|error| OpError::Internal(error.to_string()))?;
        let upgraded = async { carrier(self.upgrade.await.map_err(io::Error::other)?) };
        Ok((response, upgraded))
    }
}

/// Takes a connection out of the layers that HTTP has put around it, which would cost
/// every byte behind the handshake a little.
fn carrier(upgraded: Upgraded) -> io::Result<ServerCarrier> {
    let parts = downcast::<TokioIo<Accepted>>(upgraded);
    let parts = parts.map_err(|_| io::Error::other("a connection that this server did not accept"))?;
    Ok(Carrier::new(parts.io.into_inner(), Side::Server, 0).with_input(parts.read_buf.into()))
}

impl<S: Sync> FromRequestParts<S> for Handshake {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let needed = || ApiError::UpgradeRequired("this needs the handshake of a WebSocket, version 13".to_owned());
        let key = key(&parts.headers).ok_or_else(needed)?;
        let accept = BASE64_STANDARD.encode(Sha1::digest(format!("{key}{KEY_SUFFIX}")));
        let upgrade = parts.extensions.remove::<OnUpgrade>().ok_or_else(needed)?;
        Ok(Self { accept, upgrade })
    }
}

/// The key of a client's handshake, if that is what it is.
fn key(headers: &HeaderMap) -> Option<&str> {
    let has = |name: &HeaderName, word: &str| {
        let words = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        words.flat_map(|line| line.split(',')).any(|it| it.trim().eq_ignore_ascii_case(word))
    };
    let is_handshake = has(&CONNECTION, "upgrade") && has(&UPGRADE, "websocket") && has(&SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::to_str);
    key.and_then(Result::ok).filter(|_| is_handshake)
}
