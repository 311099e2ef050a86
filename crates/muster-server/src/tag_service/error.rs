//! The documented errors, and how every error is printed. The SDKs need all three fields.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use muster_core::tag_rules::TagFault;
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::bce_auth::Fault;
use crate::access::signed::SignatureError;
use crate::error::OpError;
use crate::http::ApiError;

/// The answer to every mistake.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagServiceError {
    /// Names the request in the server's log.
    request_id: String,
    /// A stable word for programs.
    #[schema(example = "TagExceptions.TagKeyEmpty")]
    code: &'static str,
    /// What is wrong.
    message: String,
}

/// A documented error of the Tag Service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no signature, or its user may not do this.
    #[error("Access denied.")]
    AccessDenied,
    /// The JSON says something else than what is asked for; with what is wrong.
    #[error("The JSON you provided was well-formed and valid, but not appropriate for this operation: {0}.")]
    InappropriateJson(String),
    /// There is no such access key.
    #[error("The Access Key ID you provided does not exist in our records.")]
    InvalidAccessKeyId,
    /// The signature cannot be read.
    #[error("The HTTP authorization header is invalid. Consult the service documentation for details.")]
    InvalidHttpAuthHeader,
    /// The body is not the one that was signed.
    #[error("There was an error in the body of your HTTP request.")]
    InvalidHttpRequest,
    /// The address means nothing.
    #[error("Could not parse the specified URI.")]
    InvalidUri,
    /// The body is no JSON.
    #[error("The JSON you provided was not well-formed.")]
    MalformedJson,
    /// The signature is too old, or from the future.
    #[error("Request has expired. Timestamp date is {0}.")]
    RequestExpired(String),
    /// The signature is another.
    #[error(
        "The request signature we calculated does not match the signature you provided. \
         Check your Secret Access Key and signing method. Consult the service documentation for details."
    )]
    SignatureDoesNotMatch,
    /// A tag has no key.
    #[error("Tag key should not be empty.")]
    TagKeyEmpty,
    /// A tag's key breaks the rules.
    #[error("Tag key contains invalid characters or length exceeds limit.")]
    TagKeyInvalid,
    /// A tag's value breaks the rules.
    #[error("Tag value contains invalid characters or length exceeds limit.")]
    TagValueInvalid,
    /// There is no tag at all.
    #[error("Tag should not be empty.")]
    TagEmpty,
}

impl Refusal {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::AccessDenied | Self::InvalidAccessKeyId | Self::SignatureDoesNotMatch => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Its documented name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDenied",
            Self::InappropriateJson(_) => "InappropriateJSON",
            Self::InvalidAccessKeyId => "InvalidAccessKeyId",
            Self::InvalidHttpAuthHeader => "InvalidHTTPAuthHeader",
            Self::InvalidHttpRequest => "InvalidHTTPRequest",
            Self::InvalidUri => "InvalidURI",
            Self::MalformedJson => "MalformedJSON",
            Self::RequestExpired(_) => "RequestExpired",
            Self::SignatureDoesNotMatch => "SignatureDoesNotMatch",
            Self::TagKeyEmpty => "TagExceptions.TagKeyEmpty",
            Self::TagKeyInvalid => "TagExceptions.TagKeyInvalid",
            Self::TagValueInvalid => "TagExceptions.TagValueInvalid",
            Self::TagEmpty => "TagExceptions.TagEmpty",
        }
    }
}

impl From<TagFault> for Refusal {
    fn from(fault: TagFault) -> Self {
        match fault {
            TagFault::KeyEmpty => Self::TagKeyEmpty,
            TagFault::KeyInvalid => Self::TagKeyInvalid,
            TagFault::ValueInvalid => Self::TagValueInvalid,
        }
    }
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        let refusal = match error {
            SignatureError::Op(error) => return error.into(),
            SignatureError::UnknownKey => Refusal::InvalidAccessKeyId,
            SignatureError::Fault(fault) => match fault {
                Fault::Missing => Refusal::AccessDenied,
                Fault::Malformed(_) => Refusal::InvalidHttpAuthHeader,
                Fault::Expired { timestamp } => Refusal::RequestExpired(timestamp),
                Fault::WrongSignature => Refusal::SignatureDoesNotMatch,
                Fault::OtherBody => Refusal::InvalidHttpRequest,
            },
        };
        refusal.into()
    }
}

/// Any error as this face prints it: where the Tag Service has none of its own, by HTTP's
/// status and in the same form.
pub fn rendered(error: &ApiError, request_id: &str) -> Response {
    let (status, code, message) = told(error);
    let body = TagServiceError { request_id: request_id.to_owned(), code, message };
    (status, Json(body)).into_response()
}

fn told(error: &ApiError) -> (StatusCode, &'static str, String) {
    let of = |refusal: &Refusal| (refusal.status(), refusal.code(), refusal.to_string());
    let other = |code| (error.status(), code, error.to_string());
    match error {
        ApiError::TagService(refusal) => of(refusal),
        ApiError::NoSuchPath => of(&Refusal::InvalidUri),
        ApiError::MethodNotAllowed => (
            error.status(),
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.".to_owned(),
        ),
        ApiError::TooSlow => other("RequestTimeout"),
        ApiError::TooLarge { .. } | ApiError::Op(OpError::TooLarge { .. }) => other("EntityTooLarge"),
        ApiError::Op(error) => match error {
            OpError::Invalid(invalid) => of(&Refusal::InappropriateJson(invalid.to_string())),
            OpError::Forbidden(_)
            | OpError::ForbiddenAnywhere(_)
            | OpError::GrantNeeded { .. }
            | OpError::NotAdmin
            | OpError::Refused(_) => of(&Refusal::AccessDenied),
            OpError::TagRule(fault) => of(&Refusal::from(*fault)),
            OpError::TagQuota { .. } => {
                let message = "Limit exceeded for current request.".to_owned();
                (StatusCode::PAYLOAD_TOO_LARGE, "TagExceptions.LimitExceeded", message)
            }
            OpError::RateLimited(_) => other("TooManyRequests"),
            OpError::Unavailable | OpError::Unconfirmed => other("ServiceUnavailable"),
            OpError::Internal(_) => {
                let message = "We encountered an internal error. Please try again.".to_owned();
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
            }
            _ => other("InvalidHTTPRequest"),
        },
        _ => other("InvalidHTTPRequest"),
    }
}
