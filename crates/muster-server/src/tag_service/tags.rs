//! `/v1/tag`: the catalogue of tags, and what bears them.

use axum::response::Response;
use muster_core::access::Operation;
use muster_core::names::Tag;
use muster_core::resource::Assignment;
use muster_store::tags::TagFilter;

use super::done;
use super::error::{Refusal, TagServiceError};
use super::lists::{AssociationList, ByTag, Links, TagList, TagResourceList, Tags, answer};
use super::request::Signed;
use super::wire::{AssignBody, ChangeTagsBody, ClearBody, QueryBody, TagsBody, check_known, check_namable};
use crate::fleet::tag_links::{self, LinkFilter};
use crate::fleet::{resources, tags};
use crate::http::ApiError;

/// Create tags, delete tags, or take every tag off a resource: what the flag says.
///
/// Exactly one flag must be given, with `=` or without. Tags that exist are not created
/// again, and tags that do not exist are not missed. A deleted tag leaves all its
/// resources; the default tag stays.
#[utoipa::path(
    put, path = "/v1/tag", operation_id = "TagServiceCreate", tag = "Tag Service",
    params(
        ("create" = Option<String>, Query, description = "Flag: create the tags in the body"),
        ("delete" = Option<String>, Query, description = "Flag: delete the tags in the body; for administrators"),
        ("deleteTagAssociation" = Option<String>, Query, description = "Flag: take every tag off the resource in the body"),
    ),
    request_body = ChangeTagsBody,
    responses(
        (status = 200, description = "It is done"),
        (status = 400, description = "The signature, the flag or a field is wrong", body = TagServiceError),
        (status = 413, description = "The account would have too many tags, or the body is too large", body = TagServiceError),
    ),
)]
pub async fn change(signed: Signed) -> Result<Response, ApiError> {
    match signed.flag(&["create", "delete", "deleteTagAssociation"])? {
        "create" => create(&signed).await,
        "delete" => delete(&signed).await,
        _ => clear(&signed).await,
    }
}

async fn create(signed: &Signed) -> Result<Response, ApiError> {
    let permitted = signed.account(Operation::TagServiceCreate).await?;
    let tags = signed.body::<TagsBody>()?.tags()?;
    check_namable(&tags)?;
    tags::create_all(signed.app(), &permitted, &tags).await?;
    Ok(done())
}

async fn delete(signed: &Signed) -> Result<Response, ApiError> {
    let permitted = signed.account(Operation::TagServiceDelete).await?;
    let tags = signed.body::<TagsBody>()?.tags()?;
    check_known(&tags)?;
    tags::delete_all(signed.app(), &permitted, &tags).await?;
    Ok(done())
}

async fn clear(signed: &Signed) -> Result<Response, ApiError> {
    let permitted = signed.account(Operation::TagServiceUntag).await?;
    let resource = signed.body::<ClearBody>()?.check()?;
    let cleared = resources::clear(signed.app(), &permitted, &resource).await;
    signed.told(Operation::TagServiceUntag, cleared).await?;
    Ok(done())
}

/// Replace all tags of resources, or look tags and resources up: what the flag says.
///
/// Exactly one flag must be given, with `=` or without. What is assigned replaces all that
/// a resource bore before; tags that do not exist are created.
#[utoipa::path(
    post, path = "/v1/tag", operation_id = "TagServiceAssign", tag = "Tag Service",
    params(
        ("createAndAssign" = Option<String>, Query, description = "Flag: replace the tags of the resources in the body"),
        ("queryFullList" = Option<String>, Query, description = "Flag: the same as `/v1/tag/queryFullList`, with its body and answer"),
        ("strongAssociation" = Option<String>, Query, description = "`true` for tags that have resources, and no others"),
    ),
    request_body = AssignBody,
    responses(
        (status = 200, description = "It is done"),
        (status = 400, description = "The signature, the flag or a field is wrong", body = TagServiceError),
        (status = 413, description = "The account would have too many tags, or the body is too large", body = TagServiceError),
    ),
)]
pub async fn assign_or_query(signed: Signed) -> Result<Response, ApiError> {
    match signed.flag(&["createAndAssign", "queryFullList"])? {
        "createAndAssign" => assign(&signed).await,
        _ => full_list(&signed).await,
    }
}

async fn assign(signed: &Signed) -> Result<Response, ApiError> {
    let permitted = signed.account(Operation::TagServiceAssign).await?;
    let assignments: Vec<Assignment> = signed.body::<AssignBody>()?.check()?;
    let tags: Vec<Tag> = assignments.iter().flat_map(|assignment| assignment.tags.clone()).collect();
    check_namable(&tags)?;
    let assigned = resources::assign(signed.app(), &permitted, &assignments).await;
    signed.told(Operation::TagServiceAssign, assigned).await?;
    Ok(done())
}

/// The tags of the account.
#[utoipa::path(
    get, path = "/v1/tag", operation_id = "TagServiceList", tag = "Tag Service",
    params(
        ("tagKey" = Option<String>, Query, description = "Only tags with this key; empty for all"),
        ("tagValue" = Option<String>, Query, description = "Only tags with this value; empty for the empty value"),
    ),
    responses(
        (status = 200, description = "The tags", body = TagList),
        (status = 400, description = "The signature or a flag is wrong", body = TagServiceError),
    ),
)]
pub async fn list(signed: Signed) -> Result<Response, ApiError> {
    signed.flag(&[""])?;
    let permitted = signed.account(Operation::TagServiceList).await?;
    let filter = TagFilter { key: signed.filled("tagKey"), value: signed.parameter("tagValue") };
    Ok(answer(tag_links::tags(signed.app(), &permitted, filter).await?, Tags::default()))
}

/// The resources under tags, of those that the caller sees. Tags without any are left out.
#[utoipa::path(
    get, path = "/v1/tag/tagResources", operation_id = "TagServiceListResources", tag = "Tag Service",
    params(
        ("tagKey" = Option<String>, Query, description = "Only tags with this key; empty for all"),
        ("tagValue" = Option<String>, Query, description = "Only tags with this value; empty for the empty value"),
        ("region" = Option<String>, Query, description = "Only resources there; empty for all"),
        ("resourceType" = Option<String>, Query, description = "Only resources of this kind; empty for all"),
    ),
    responses(
        (status = 200, description = "The tags with their resources", body = TagResourceList),
        (status = 400, description = "The signature or a flag is wrong", body = TagServiceError),
    ),
)]
pub async fn list_resources(signed: Signed) -> Result<Response, ApiError> {
    signed.flag(&[""])?;
    let permitted = signed.account(Operation::TagServiceListResources).await?;
    let filter = LinkFilter {
        tags: TagFilter { key: signed.filled("tagKey"), value: signed.parameter("tagValue") },
        regions: signed.filled("region").into_iter().collect(),
        service_types: signed.filled("resourceType").into_iter().collect(),
        resource_ids: Vec::new(),
        only_borne: true,
    };
    Ok(answer(tag_links::links(signed.app(), &permitted, filter).await?, ByTag::default()))
}

/// Tags with their resources, and resources with their tags.
///
/// `POST /v1/tag?queryFullList` is the same.
#[utoipa::path(
    post, path = "/v1/tag/queryFullList", operation_id = "TagServiceQuery", tag = "Tag Service",
    params(("strongAssociation" = Option<String>, Query, description = "`true` for tags that have resources, and no others")),
    request_body = QueryBody,
    responses(
        (status = 200, description = "The links", body = AssociationList),
        (status = 400, description = "The signature, a parameter or a field is wrong", body = TagServiceError),
        (status = 413, description = "The body is too large", body = TagServiceError),
    ),
)]
pub async fn query(signed: Signed) -> Result<Response, ApiError> {
    signed.flag(&["", "queryFullList"])?;
    full_list(&signed).await
}

async fn full_list(signed: &Signed) -> Result<Response, ApiError> {
    let permitted = signed.account(Operation::TagServiceQuery).await?;
    let is_strong = match signed.filled("strongAssociation").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Refusal::InvalidUri.into()),
    };
    let QueryBody { tag_key, tag_value, regions, service_types, resource_ids } = signed.body()?;
    let filter = LinkFilter {
        tags: TagFilter { key: tag_key.filter(|key| !key.is_empty()), value: tag_value },
        regions: regions.unwrap_or_default(),
        service_types: service_types.unwrap_or_default(),
        resource_ids: resource_ids.unwrap_or_default(),
        only_borne: is_strong,
    };
    let links = tag_links::links(signed.app(), &permitted, filter).await?;
    Ok(answer(links, Links::of(permitted.account_id())))
}
