//! `/v1/resource`: one tag, on many resources.

use axum::response::Response;
use muster_core::access::Operation;

use super::done;
use super::error::TagServiceError;
use super::request::Signed;
use super::wire::{BindBody, check_known, check_namable};
use crate::fleet::resources;
use crate::http::ApiError;

/// Put one tag on resources. A tag that does not exist is created.
#[utoipa::path(
    post, path = "/v1/resource", operation_id = "TagServiceBind", tag = "Tag Service",
    request_body = BindBody,
    responses(
        (status = 200, description = "It is done"),
        (status = 400, description = "The signature or a field is wrong, or there is no such device", body = TagServiceError),
        (status = 413, description = "The account would have too many tags, or the body is too large", body = TagServiceError),
    ),
)]
pub async fn bind(signed: Signed) -> Result<Response, ApiError> {
    signed.flag(&[""])?;
    let permitted = signed.account(Operation::TagServiceBind).await?;
    let (tag, resources) = signed.body::<BindBody>()?.check()?;
    check_namable(std::slice::from_ref(&tag))?;
    let bound = resources::bind(signed.app(), &permitted, &tag, &resources).await;
    signed.told(Operation::TagServiceBind, bound).await?;
    Ok(done())
}

/// Take one tag off resources. What does not bear it is not missed.
#[utoipa::path(
    put, path = "/v1/resource", operation_id = "TagServiceUnbind", tag = "Tag Service",
    request_body = BindBody,
    responses(
        (status = 200, description = "It is done"),
        (status = 400, description = "The signature or a field is wrong", body = TagServiceError),
        (status = 413, description = "The body is too large", body = TagServiceError),
    ),
)]
pub async fn unbind(signed: Signed) -> Result<Response, ApiError> {
    signed.flag(&[""])?;
    let permitted = signed.account(Operation::TagServiceUnbind).await?;
    let (tag, resources) = signed.body::<BindBody>()?.check()?;
    check_known(std::slice::from_ref(&tag))?;
    let unbound = resources::unbind(signed.app(), &permitted, &tag, &resources).await;
    signed.told(Operation::TagServiceUnbind, unbound).await?;
    Ok(done())
}
