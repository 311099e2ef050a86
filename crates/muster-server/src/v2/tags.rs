//! Tags of the account. Connect keeps these in its web console; the calls are Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::invalid::Invalid;
use muster_core::names::TagName;
use muster_store::tags::TagView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, Named, PageQuery, PaginationInfo};
use crate::app::App;
use crate::fleet::tags;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// A tag.
#[derive(Debug, Serialize, ToSchema)]
pub struct TagBody {
    #[schema(example = "site=London")]
    name: String,
    /// The name before its first `=`.
    #[schema(example = "site")]
    key: String,
    /// The name behind its first `=`; may be empty.
    #[schema(example = "London")]
    value: String,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    /// Devices that bear it, of the fleets that the caller sees.
    device_count: u64,
    /// Other resources that bear it, as the Tag Service names them.
    resource_count: u64,
}

impl From<TagView> for TagBody {
    fn from(view: TagView) -> Self {
        Self {
            name: view.name,
            key: view.key,
            value: view.value,
            created_time: Timestamp::to_rfc3339(view.created_at),
            device_count: view.device_count,
            resource_count: view.resource_count,
        }
    }
}

/// A page of tags.
#[derive(Debug, Serialize, ToSchema)]
pub struct TagPage {
    tags: Vec<TagBody>,
    pagination_info: PaginationInfo,
}

/// Where a tag's bearers go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeBody {
    /// The tag that stays.
    #[schema(example = "site=London")]
    into: String,
}

/// Tags that might be deleted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewBody {
    /// Their names.
    #[schema(min_items = 1, max_items = 1000)]
    tags: Vec<String>,
}

/// What tags would leave if they were deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Preview {
    /// The tags that are there, in the order of their making, with what bears them.
    tags: Vec<TagBody>,
    /// The names that no tag has.
    missing: Vec<String>,
}

/// The account's tags, in the order of their making.
#[utoipa::path(
    get, path = "/api/v2/account/tags", operation_id = "ListTags", tag = "Catalogues",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of tags", body = TagPage),
        (status = 400, description = "A parameter is wrong", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<TagPage>, ApiError> {
    let permitted = bearer.account(Operation::ListTags).await?;
    let (page, store) = (query.page()?, app.store.read());
    let (rows, is_more) = store.tags_page(permitted.user(), page.after, page.limit).await?;
    let after = page.next(rows.last().map(|view| view.id), is_more);
    let total = store.tags_count(permitted.account_id()).await?;
    let tags = rows.into_iter().map(TagBody::from).collect();
    Ok(Json(TagPage { tags, pagination_info: PaginationInfo { after, total } }))
}

/// Create a tag.
///
/// By whoever may modify devices in any fleet of the account. A tag that a device is
/// given is made by itself.
#[utoipa::path(
    post, path = "/api/v2/account/tags", operation_id = "CreateTag", tag = "Catalogues",
    request_body = Named,
    responses(
        (status = 201, description = "The tag is there", body = TagBody),
        (status = 400, description = "The name is wrong", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiBody(body): ApiBody<Named>,
) -> Result<(StatusCode, Json<TagBody>), ApiError> {
    let permitted = bearer.account(Operation::CreateTag).await?;
    let made = tags::create(&app, &permitted, &body.checked(TagName::parse)?).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// One tag.
#[utoipa::path(
    get, path = "/api/v2/account/tags/{tag_name}", operation_id = "GetTag", tag = "Catalogues",
    params(("tag_name" = String, Path, description = "The tag, percent-encoded")),
    responses(
        (status = 200, description = "The tag", body = TagBody),
        (status = 404, description = "No such tag", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<TagBody>, ApiError> {
    let permitted = bearer.account(Operation::GetTag).await?;
    Ok(Json(tags::find(app.store.read(), &permitted, &name).await?.into()))
}

/// Rename a tag.
///
/// Devices keep it under its new name.
#[utoipa::path(
    patch, path = "/api/v2/account/tags/{tag_name}", operation_id = "PatchTag", tag = "Catalogues",
    params(("tag_name" = String, Path, description = "The tag, percent-encoded")),
    request_body = Named,
    responses(
        (status = 200, description = "The whole tag as it is now", body = TagBody),
        (status = 400, description = "The name is wrong", body = Error),
        (status = 404, description = "No such tag", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn patch(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
    ApiBody(body): ApiBody<Named>,
) -> Result<Json<TagBody>, ApiError> {
    let permitted = bearer.account(Operation::PatchTag).await?;
    Ok(Json(tags::rename(&app, &permitted, &name, &body.checked(TagName::parse)?).await?.into()))
}

/// Delete a tag.
///
/// From the catalogue, and from every device and other resource of the account.
#[utoipa::path(
    delete, path = "/api/v2/account/tags/{tag_name}", operation_id = "DeleteTag", tag = "Catalogues",
    params(("tag_name" = String, Path, description = "The tag, percent-encoded")),
    responses(
        (status = 204, description = "The tag is gone"),
        (status = 404, description = "No such tag", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.account(Operation::DeleteTag).await?;
    tags::delete(&app, &permitted, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Merge a tag into another.
///
/// Everything that bears the tag bears the other one then, and the tag is gone. Device
/// filters that name it find no such tag any more.
#[utoipa::path(
    post, path = "/api/v2/account/tags/{tag_name}/merge", operation_id = "MergeTag", tag = "Catalogues",
    params(("tag_name" = String, Path, description = "The tag that goes, percent-encoded")),
    request_body = MergeBody,
    responses(
        (status = 200, description = "The whole tag that stays", body = TagBody),
        (status = 400, description = "There is no tag to merge into, or it is the same", body = Error),
        (status = 404, description = "No such tag", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn merge(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
    ApiBody(body): ApiBody<MergeBody>,
) -> Result<Json<TagBody>, ApiError> {
    let permitted = bearer.account(Operation::MergeTag).await?;
    let into = TagName::parse(body.into).map_err(|refusal| refusal.within("into"))?;
    Ok(Json(tags::merge(&app, &permitted, &name, &into).await?.into()))
}

/// Preview the deletion of tags.
///
/// Says how many devices and other resources each would leave, and changes nothing.
#[utoipa::path(
    post, path = "/api/v2/account/tag-deletions/preview", operation_id = "PreviewTagDeletion", tag = "Catalogues",
    request_body = PreviewBody,
    responses(
        (status = 200, description = "What would happen", body = Preview),
        (status = 400, description = "A name is wrong", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn preview_deletion(
    State(app): State<App>,
    bearer: Bearer,
    ApiBody(body): ApiBody<PreviewBody>,
) -> Result<Json<Preview>, ApiError> {
    let permitted = bearer.account(Operation::PreviewTagDeletion).await?;
    let parsed = |(i, name)| TagName::parse(name).map_err(|refusal: Invalid| refusal.within(&format!("tags[{i}]")));
    let names = body.tags.into_iter().enumerate().map(parsed).collect::<Result<Vec<_>, _>>()?;
    let (tags, missing) = tags::preview_deletion(&app, &permitted, &names).await?;
    let tags = tags.into_iter().map(TagBody::from).collect();
    Ok(Json(Preview { tags, missing: missing.into_iter().map(TagName::into_string).collect() }))
}
