//! One error type at the rim. A handler answers with an [`ApiError`]; the face's
//! own layer ([`render_errors`]) turns it into that face's status and body. So a
//! handler is the same for every face, and what the router itself refuses (an
//! unknown path, a wrong method) looks like everything else.

use std::any::Any;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use muster_core::invalid::Invalid;
use rand::RngExt;
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;

use super::body::BodyLimit;
use super::source::{source_of, tell};
use crate::access::rate::network_of;
use crate::app::App;
use crate::error::{OpError, whole_seconds};
use crate::tag_service::{self, error::Refusal};

/// Why a request was not answered as it hoped.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The operation was not done.
    #[error(transparent)]
    Op(#[from] OpError),
    /// An error that only the Tag Service knows.
    #[error(transparent)]
    TagService(#[from] Refusal),
    /// The path means nothing.
    #[error("no such path")]
    NoSuchPath,
    /// The path is known, the method is not.
    #[error("this path does not take that method")]
    MethodNotAllowed,
    /// The body is of a type that is not taken here.
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// The path is for WebSockets alone.
    #[error("this path takes WebSockets only: {0}")]
    UpgradeRequired(String),
    /// The body came too slowly.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The body is larger than the limit.
    #[error("the body is larger than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::Op(invalid.into())
    }
}

impl From<muster_store::StoreError> for ApiError {
    fn from(error: muster_store::StoreError) -> Self {
        Self::Op(error.into())
    }
}

/// The Connect API's own status for a device that was deleted; HTTP has none of that number.
const DEVICE_DELETED: u16 = 350;

impl ApiError {
    /// The status that HTTP has for it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TagService(refusal) => refusal.status(),
            Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::UpgradeRequired(_) => StatusCode::UPGRADE_REQUIRED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Op(error) => match error {
                OpError::Invalid(_) | OpError::TagRule(_) => StatusCode::BAD_REQUEST,
                OpError::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
                OpError::Forbidden(_)
                | OpError::ForbiddenAnywhere(_)
                | OpError::GrantNeeded { .. }
                | OpError::NotAdmin
                | OpError::Refused(_) => StatusCode::FORBIDDEN,
                OpError::NotFound { .. } | OpError::NotYet(_) => StatusCode::NOT_FOUND,
                OpError::NoRoom(_) => StatusCode::INSUFFICIENT_STORAGE,
                OpError::RegistryRefused(_) => StatusCode::FAILED_DEPENDENCY,
                OpError::RegistryFailed(_) => StatusCode::BAD_GATEWAY,
                OpError::Conflict(_) | OpError::InUse(_) | OpError::NotNow { .. } => StatusCode::CONFLICT,
                OpError::Deleted => StatusCode::from_u16(DEVICE_DELETED).unwrap_or(StatusCode::GONE),
                OpError::ParametersChanged => StatusCode::MOVED_PERMANENTLY,
                OpError::TooLarge { .. } | OpError::TagQuota { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                OpError::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
                OpError::Unavailable | OpError::Unconfirmed => StatusCode::SERVICE_UNAVAILABLE,
                OpError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// A stable word for programs; listed in `docs/api.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TagService(refusal) => refusal.code(),
            Self::NoSuchPath => "no_such_path",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedMediaType(_) => "unsupported_media_type",
            Self::UpgradeRequired(_) => "upgrade_required",
            Self::TooSlow => "body_too_slow",
            Self::TooLarge { .. } => "body_too_large",
            Self::Op(error) => match error {
                OpError::Invalid(_) | OpError::TagRule(_) => "invalid",
                OpError::Unauthenticated(_) => "unauthenticated",
                OpError::Forbidden(_) | OpError::ForbiddenAnywhere(_) | OpError::NotAdmin | OpError::Refused(_) => {
                    "forbidden"
                }
                OpError::GrantNeeded { .. } => "grant_needed",
                OpError::NotFound { .. } | OpError::NotYet(_) => "not_found",
                OpError::NoRoom(_) => "no_room",
                OpError::RegistryRefused(_) => "registry_refused",
                OpError::RegistryFailed(_) => "registry_failed",
                OpError::Conflict(_) => "conflict",
                OpError::InUse(_) => "in_use",
                OpError::NotNow { code, .. } => code,
                OpError::Deleted => "device_deleted",
                OpError::ParametersChanged => "parameters_changed",
                OpError::TooLarge { .. } => "body_too_large",
                OpError::TagQuota { .. } => "tag_quota",
                OpError::RateLimited(_) => "rate_limited",
                OpError::Unavailable => "unavailable",
                OpError::Unconfirmed => "unconfirmed",
                OpError::Internal(_) => "internal",
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Names one request, in the answer and in the log.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// How a face prints an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorStyle {
    /// API v1: 400 with `error_message` for every mistake of the caller, and an empty object for 429.
    V1,
    /// The Agent API: like API v1, but with the text in `message` as well.
    AgentApi,
    /// API v2: the status that HTTP has, with `message`, `error_message`, `code` and `request_id`.
    V2,
    /// The Tag Service: `requestId`, `code` and `message`; the id in `x-bce-request-id` as well.
    TagService,
    /// Artifactory: the status that HTTP has, with a list of one error.
    Artifactory,
}

/// Puts around every route what each of them needs: an answer of its own to a
/// method that it does not take, an answer to a panic, and errors in the face's style.
pub fn in_style(router: Router<App>, app: &App, style: ErrorStyle) -> Router<App> {
    router
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state((app.clone(), style), render_errors))
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let words = match panic.downcast::<String>() {
        Ok(words) => *words,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or_default().to_owned(),
    };
    ApiError::Op(OpError::Internal(format!("a panic: {words}"))).into_response()
}

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static BCE_REQUEST_ID: HeaderName = HeaderName::from_static("x-bce-request-id");

/// Gives every request an id, and prints the error of its answer in the face's style.
async fn render_errors(State((app, style)): State<(App, ErrorStyle)>, mut request: Request, next: Next) -> Response {
    let id = request_id(&app);
    let what = format!("{} {}", request.method(), request.uri().path());
    request.extensions_mut().insert(RequestId(id.clone()));
    request.extensions_mut().insert(BodyLimit { bytes_max: app.config.body_bytes_max });
    let source = source_of(&request, &app.config.trusted_proxies);
    let admitted = source.as_ref().map_err(|error| OpError::Internal(error.to_string())).and_then(|source| {
        request.extensions_mut().insert(source.clone());
        source.count(&app.address_calls, &network_of(source.address()))
    });
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err(error) => ApiError::from(error).into_response(),
    };
    if let Some(error) = response.extensions_mut().remove::<Arc<ApiError>>() {
        if let ApiError::Op(OpError::Internal(detail)) = error.as_ref() {
            tracing::error!(request_id = id, what, detail, "a request failed");
        }
        response = rendered(style, &error, &id);
    }
    if let Ok(source) = &source {
        tell(source, &mut response);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        if style == ErrorStyle::TagService {
            response.headers_mut().insert(BCE_REQUEST_ID.clone(), value.clone());
        }
        response.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    response
}

fn request_id(app: &App) -> String {
    uuid::Builder::from_random_bytes(app.random(RngExt::random)).into_uuid().to_string()
}

fn rendered(style: ErrorStyle, error: &ApiError, request_id: &str) -> Response {
    let mut response = match style {
        ErrorStyle::V1 => v1(error, json!({ "error_message": text(error) })),
        ErrorStyle::AgentApi => v1(error, json!({ "error_message": text(error), "message": text(error) })),
        ErrorStyle::V2 => v2(error, request_id),
        ErrorStyle::TagService => tag_service::error::rendered(error, request_id),
        ErrorStyle::Artifactory => artifactory(error),
    };
    match error {
        ApiError::Op(OpError::RateLimited(wait)) => {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(*wait)));
        }
        ApiError::UpgradeRequired(_) => {
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        _ => {}
    }
    response
}

fn v1(error: &ApiError, body: serde_json::Value) -> Response {
    let status = match error {
        ApiError::Op(
            OpError::Unauthenticated(_)
            | OpError::Forbidden(_)
            | OpError::ForbiddenAnywhere(_)
            | OpError::GrantNeeded { .. }
            | OpError::NotAdmin
            | OpError::NotFound { .. }
            | OpError::Conflict(_)
            | OpError::InUse(_)
            | OpError::NotNow { .. },
        ) => StatusCode::BAD_REQUEST,
        other => other.status(),
    };
    if status == StatusCode::TOO_MANY_REQUESTS {
        return (status, Json(json!({}))).into_response();
    }
    (status, Json(body)).into_response()
}

fn v2(error: &ApiError, request_id: &str) -> Response {
    let text = text(error);
    let body = json!({ "message": text, "error_message": text, "code": error.code(), "request_id": request_id });
    (error.status(), Json(body)).into_response()
}

fn artifactory(error: &ApiError) -> Response {
    let status = error.status();
    let body = json!({ "errors": [{ "status": status.as_u16(), "message": text(error) }] });
    let mut response = (status, Json(body)).into_response();
    if status == StatusCode::UNAUTHORIZED {
        // Some clients send what they have only when they are asked.
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Muster\""));
    }
    response
}

/// How much of an error's text is shown, from its beginning and from its end: it
/// may quote what the caller sent, which may be very long.
const TEXT_HEAD_CHARS_MAX: usize = 300;
const TEXT_TAIL_CHARS_MAX: usize = 100;

fn text(error: &ApiError) -> String {
    let whole = error.to_string();
    let chars = whole.chars().count();
    if chars <= TEXT_HEAD_CHARS_MAX + TEXT_TAIL_CHARS_MAX {
        return whole;
    }
    let head: String = whole.chars().take(TEXT_HEAD_CHARS_MAX).collect();
    let tail: String = whole.chars().skip(chars - TEXT_TAIL_CHARS_MAX).collect();
    format!("{head}…{tail}")
}

/// For every path that no route has.
pub async fn no_such_path() -> ApiError {
    ApiError::NoSuchPath
}

/// For a known path with another method.
async fn method_not_allowed() -> ApiError {
    ApiError::MethodNotAllowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_in_the_middle() {
        let error = |value: &str| ApiError::from(Invalid::new("field", format!("{value} is wrong")));
        assert_eq!(text(&error("é")), "field: é is wrong");
        let cut = text(&error(&"é".repeat(10_000)));
        assert_eq!(cut.chars().count(), TEXT_HEAD_CHARS_MAX + 1 + TEXT_TAIL_CHARS_MAX);
        assert!(cut.starts_with("field: é") && cut.ends_with("é is wrong"), "{cut}");
    }
}
