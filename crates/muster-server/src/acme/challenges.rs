//! How the server shows the authority that a name is its own: over plain HTTP (http-01).
//! What is shown in a TLS handshake (tls-alpn-01) is with the certificates.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;

/// What is answered at present, by token.
#[derive(Clone, Debug, Default)]
pub(super) struct HttpChallenges(Arc<RwLock<BTreeMap<String, String>>>);

impl HttpChallenges {
    /// Answers the token with that from now on.
    pub(super) fn answer(&self, token: String, words: String) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(token, words);
    }

    /// Answers nothing any more.
    pub(super) fn clear(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What listens for it: it knows nothing else.
    pub(super) fn router(&self) -> Router {
        Router::new().route("/.well-known/acme-challenge/{token}", get(show)).with_state(self.clone())
    }
}

async fn show(
    State(challenges): State<HttpChallenges>,
    Path(token): Path<String>,
) -> Result<String, (StatusCode, &'static str)> {
    let known = challenges.0.read().unwrap_or_else(PoisonError::into_inner).get(&token).cloned();
    known.ok_or((StatusCode::NOT_FOUND, "no such challenge\n"))
}
