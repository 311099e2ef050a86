//! The parts of an address, as axum reads them, but refused like everything else:
//! axum's own refusals are plain text.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use muster_core::invalid::Invalid;

use super::error::ApiError;

/// The parameters in the path of a request.
#[derive(Clone, Copy, Debug, FromRequestParts)]
#[from_request(via(Path), rejection(ApiError))]
pub struct ApiPath<T>(pub T);

/// What follows the question mark in the address of a request.
#[derive(Clone, Copy, Debug, FromRequestParts)]
#[from_request(via(Query), rejection(ApiError))]
pub struct ApiQuery<T>(pub T);

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Invalid::new("path", rejection.body_text()).into()
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Invalid::new("query", rejection.body_text()).into()
    }
}
