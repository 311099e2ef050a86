//! Artifactory's REST API, as far as its clients need it to store and fetch files. The
//! paths, headers and bodies are those that Artifactory publishes. Translates, and nothing else.

pub mod content;
pub mod headers;
pub mod storage_info;
pub mod wire;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use muster_core::access::Operation;
use muster_core::artifact::Grant;
use muster_core::token::{Secret, TokenKind};

use crate::access::artifacts::{PermittedRepository, granted};
use crate::access::rate::Source;
use crate::access::{Caller, refusals};
use crate::app::App;
use crate::artifacts::grants;
use crate::error::OpError;
use crate::http::ApiError;

/// Where Artifactory's clients may put a token.
const API_KEY: &str = "x-jfrog-art-api";

/// Who asks.
enum Who {
    Caller(Box<Caller>),
    Bearer(Grant),
}

/// One who asks for artifacts, proven by an access token or a grant.
pub struct Asker {
    app: App,
    who: Who,
    source_ip: String,
    base: String,
}

impl Asker {
    /// The repository with that name, for `operation` at that path in it.
    pub(crate) async fn repository(
        &self,
        operation: Operation,
        name: &str,
        path: &str,
    ) -> Result<PermittedRepository, OpError> {
        match &self.who {
            Who::Bearer(grant) => granted(&self.app, grant, operation, name, path, self.source_ip.clone()).await,
            Who::Caller(caller) => {
                let permitted = caller.repository(self.app.store.read(), operation, name).await;
                if let Err(error) = &permitted {
                    refusals::note(&self.app, caller, operation, None, error).await;
                }
                permitted
            }
        }
    }

    /// What they bear in the place of a token.
    pub(crate) fn grant(&self) -> Option<&Grant> {
        match &self.who {
            Who::Bearer(grant) => Some(grant),
            Who::Caller(_) => None,
        }
    }

    /// How clients reach this server, with the path of this face.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }
}

impl FromRequestParts<App> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let source = Source::from_request_parts(parts, app).await?;
        let (name, token) = borne(&parts.headers, &parts.uri);
        let who = if grants::is_grant(&token) {
            Who::Bearer(grants::open(app, &token)?)
        } else {
            let secret = Secret::received(&token);
            let caller = Caller::from_token(&app.store, TokenKind::Access, &secret, source.address()).await?;
            if name.is_some_and(|name| name != caller.user().name) {
                return Err(OpError::Unauthenticated("the access token is not of that user".to_owned()).into());
            }
            source.count(&app.token_calls, &caller.token_id())?;
            Who::Caller(Box::new(caller))
        };
        let base = format!("{}/artifactory", base_url(app, &parts.headers));
        Ok(Self { app: app.clone(), who, source_ip: source.address().to_string(), base })
    }
}

/// How clients reach the server: as the operator says, else as the request does.
pub(crate) fn base_url(app: &App, headers: &HeaderMap) -> String {
    app.base_url_at(headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost"))
}

/// The token that a request bears, and the user's name where it says one.
fn borne(headers: &HeaderMap, uri: &Uri) -> (Option<String>, String) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some((scheme, rest)) = text(AUTHORIZATION.as_str()).and_then(|value| value.split_once(' ')) {
        if scheme.eq_ignore_ascii_case("bearer") {
            return (None, rest.trim().to_owned());
        }
        let decoded = BASE64_STANDARD.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((name, password)) = decoded.as_deref().and_then(|text| text.split_once(':'))
            && scheme.eq_ignore_ascii_case("basic")
        {
            return (Some(name.to_owned()).filter(|name| !name.is_empty()), password.to_owned());
        }
    }
    if let Some(key) = text(API_KEY) {
        return (None, key.to_owned());
    }
    // Grants alone: a token of a user does not belong into an address, which is logged.
    let query = uri.query().unwrap_or_default();
    let token = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token");
    (None, token.map(|(_, token)| token.into_owned()).filter(|token| grants::is_grant(token)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_may_stand_in_several_places() {
        let read = |name: &'static str, value: &str, uri: &str| {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
            borne(&headers, &uri.parse().unwrap())
        };
        let none = || (None, String::new());
        let token = |text: &str| (None, text.to_owned());
        assert_eq!(read("authorization", "Bearer abc", "/a"), token("abc"));
        assert_eq!(read("authorization", "bearer  abc ", "/a"), token("abc"));
        assert_eq!(read("x-jfrog-art-api", "abc", "/a"), token("abc"));
        // ada:abc, :abc, and no colon at all
        assert_eq!(read("authorization", "Basic YWRhOmFiYw==", "/a"), (Some("ada".to_owned()), "abc".to_owned()));
        assert_eq!(read("authorization", "Basic OmFiYw==", "/a"), token("abc"));
        assert_eq!(read("authorization", "Basic YWJj", "/a"), none());
        assert_eq!(read("authorization", "Digest abc", "/a"), none());
        assert_eq!(read("accept", "*/*", "/a?token=mg1.x.y"), token("mg1.x.y"));
        assert_eq!(read("accept", "*/*", "/a?token=abc"), none());
    }
}
