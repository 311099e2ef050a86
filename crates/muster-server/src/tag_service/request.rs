//! A signed request: who sends it, what its query says, and its body.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use muster_core::access::Operation;
use serde::de::DeserializeOwned;

use super::error::Refusal;
use super::wire;
use crate::access::bce_auth::{self, parameters};
use crate::access::rate::Source;
use crate::access::{Caller, PermittedAccount, refusals};
use crate::app::App;
use crate::error::OpError;
use crate::http::ApiError;
use crate::http::body::read_body;

/// Every flag that some operation is told by.
const FLAGS: [&str; 5] = ["create", "delete", "deleteTagAssociation", "createAndAssign", "queryFullList"];

/// A request of the Tag Service, proven by its signature.
pub struct Signed {
    caller: Caller,
    app: App,
    query: Vec<(String, String)>,
    body: Vec<u8>,
}

impl FromRequest<App> for Signed {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let source = Source::from_request_parts(&mut parts, app).await?;
        let copied = parts.clone();
        let body = read_body(Request::from_parts(parts, body)).await?;
        let caller = caller(app, &source, &copied, &body).await?;
        let query = query(copied.uri.query().unwrap_or_default())?;
        Ok(Self { caller, app: app.clone(), query, body })
    }
}

/// The signature is over the request as it stands on the wire.
async fn caller(app: &App, source: &Source, parts: &Parts, body: &[u8]) -> Result<Caller, ApiError> {
    let headers: Vec<_> = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let request = bce_auth::Request {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &headers,
        body,
    };
    Ok(Caller::from_signature(app, source, &request).await?)
}

fn query(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    let text = |bytes| String::from_utf8(bytes).map_err(|_| Refusal::InvalidUri);
    parameters(query).map(|(name, value)| Ok((text(name)?, text(value)?))).collect()
}

impl Signed {
    /// Which of these flags the query has. It must be one and no other, or none where that
    /// is one of the choices.
    pub(super) fn flag<'a>(&self, choices: &[&'a str]) -> Result<&'a str, Refusal> {
        let given: Vec<&str> =
            self.query.iter().map(|(name, _)| name.as_str()).filter(|name| FLAGS.contains(name)).collect();
        let given = match given[..] {
            [] => "",
            [one] => one,
            _ => return Err(Refusal::InvalidUri),
        };
        choices.iter().copied().find(|choice| *choice == given).ok_or(Refusal::InvalidUri)
    }

    /// The parameter of that name.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        self.query.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone())
    }

    /// The same, where an empty one says as little as none.
    pub(super) fn filled(&self, name: &str) -> Option<String> {
        self.parameter(name).filter(|value| !value.is_empty())
    }

    /// The body, which must be an object. Fields that nobody knows are left out.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        wire::read(&self.body)
    }

    /// The server's parts.
    pub(super) fn app(&self) -> &App {
        &self.app
    }

    /// The caller's account, for `operation`.
    pub(super) async fn account(&self, operation: Operation) -> Result<PermittedAccount, OpError> {
        let permitted = self.caller.account(self.app.store.read(), operation).await;
        self.told(operation, permitted).await
    }

    /// What an operation answered; a refusal is noted in the audit log.
    pub(super) async fn told<T>(&self, operation: Operation, answer: Result<T, OpError>) -> Result<T, OpError> {
        if let Err(error) = &answer {
            refusals::note(&self.app, &self.caller, operation, None, error).await;
        }
        answer
    }
}
