//! Callers of WebSockets. A browser cannot set headers for one, so its token may come as a
//! subprotocol, which is not shown again.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use axum::http::request::Parts;
use axum::response::Response;
use muster_core::access::Operation;
use muster_core::ids::RowId;
use muster_core::token::{Secret, TokenKind};
use tokio::time::sleep;

use super::Bearer;
use crate::access::Caller;
use crate::access::rate::Source;
use crate::app::App;
use crate::error::OpError;
use crate::http::ApiError;

/// What a caller and the server speak over it.
const PROTOCOL: &str = "muster.terminal.v1";
/// Before a token.
const TOKEN_PREFIX: &str = "muster.bearer.";
/// How often is looked whether a caller still may.
const LOOK_PERIOD: Duration = Duration::from_millis(500);

/// A caller of a WebSocket, proven by its token.
pub struct SocketBearer {
    pub(super) bearer: Bearer,
    secret: Secret,
    source: Source,
    selects: bool,
}

impl SocketBearer {
    /// The answer to its handshake, with the protocol that was chosen of those it offered.
    pub(super) fn answer(&self, mut response: Response) -> Response {
        if self.selects {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
        }
        response
    }

    /// Ends when the caller may no longer do `operation` to that device of the fleet with that key.
    pub(super) async fn while_it_may(self, app: App, operation: Operation, key: String, device_id: RowId) {
        loop {
            sleep(LOOK_PERIOD).await;
            let proven = Caller::from_token(&app.store, TokenKind::Access, &self.secret, self.source.address()).await;
            let may = match proven {
                Ok(caller) => {
                    let permitted = caller.fleet_by_key(app.store.read(), operation, &key).await;
                    permitted.and_then(|permitted| permitted.check_device(device_id))
                }
                Err(error) => Err(error),
            };
            // A database that is away for a moment takes nobody's right.
            if !matches!(may, Ok(()) | Err(OpError::Internal(_) | OpError::Unavailable | OpError::Unconfirmed)) {
                return;
            }
        }
    }
}

impl FromRequestParts<App> for SocketBearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let source = Source::from_request_parts(parts, app).await?;
        let lines = parts.headers.get_all(SEC_WEBSOCKET_PROTOCOL);
        let offered = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
        let offered: Vec<&str> = offered.map(str::trim).collect();
        let selects = offered.contains(&PROTOCOL);
        let token = offered.iter().find_map(|word| word.strip_prefix(TOKEN_PREFIX)).filter(|_| selects);
        let secret = match parts.headers.get(AUTHORIZATION) {
            None => Secret::received(token.unwrap_or_default()),
            Some(_) => super::bearer_secret(parts),
        };
        let bearer = Bearer::of(&secret, &source, app).await?;
        Ok(Self { bearer, secret, source, selects })
    }
}
