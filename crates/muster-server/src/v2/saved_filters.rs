//! Saved device filters of a fleet: a device filter with a name, in the words in which
//! deployments take it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::filter::{DeviceFilter, WireDeviceFilter};
use muster_core::invalid::{Invalid, quoted};
use muster_core::names::{FilterName, Text};
use muster_store::saved_filters::{NewSavedFilter, SavedFilter};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo};
use crate::app::App;
use crate::fleet::saved_filters::{self, Draft};
use crate::http::body::parse_value;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// A saved device filter.
#[derive(Debug, Serialize, ToSchema)]
pub struct FilterBody {
    name: String,
    description: String,
    /// As it was written.
    #[schema(value_type = WireDeviceFilter)]
    device_filter: Value,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    /// When it was last replaced.
    #[schema(example = "2025-06-09T14:10:44Z")]
    updated_time: String,
}

impl From<SavedFilter> for FilterBody {
    fn from(filter: SavedFilter) -> Self {
        Self {
            name: filter.name,
            description: filter.description,
            device_filter: filter.device_filter,
            created_time: Timestamp::to_rfc3339(filter.created_at),
            updated_time: Timestamp::to_rfc3339(filter.updated_at),
        }
    }
}

/// A page of saved filters.
#[derive(Debug, Serialize, ToSchema)]
pub struct FilterPage {
    filters: Vec<FilterBody>,
    pagination_info: PaginationInfo,
}

/// A fleet's saved device filters, in the order of their making.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/filters", operation_id = "ListFilters", tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of saved filters", body = FilterPage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<FilterPage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListFilters, &key).await?;
    let (page, store) = (query.page()?, app.store.read());
    let (rows, is_more) = store.filters_page(permitted.fleet().id, page.after, page.limit).await?;
    let after = page.next(rows.last().map(|filter| filter.id), is_more);
    let total = store.filters_count(permitted.fleet().id).await?;
    let filters = rows.into_iter().map(FilterBody::from).collect();
    Ok(Json(FilterPage { filters, pagination_info: PaginationInfo { after, total } }))
}

/// A device filter to be saved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaveFilterBody {
    /// Unique in the fleet.
    name: String,
    /// For people.
    #[serde(default)]
    description: String,
    /// In the words of a deployment. Everything that it names must exist.
    #[schema(value_type = WireDeviceFilter)]
    device_filter: Value,
}

/// What stands in the place of a saved filter's name in the path of the dry run.
const RESERVED_NAME: &str = "dry-run";

impl SaveFilterBody {
    fn checked(self) -> Result<Draft, Invalid> {
        if self.name == RESERVED_NAME {
            return Err(Invalid::new("name", format!("{} is reserved", quoted(RESERVED_NAME))));
        }
        let filter = parse(&self.device_filter)?;
        let name = FilterName::parse(self.name).map_err(|refusal| refusal.within("name"))?;
        let description = Text::parse(self.description).map_err(|refusal| refusal.within("description"))?;
        Ok(Draft { new: NewSavedFilter { name, description, device_filter: self.device_filter }, filter })
    }
}

/// What a device filter means, in the words of the API.
pub(super) fn parse(words: &Value) -> Result<DeviceFilter, Invalid> {
    let wire: WireDeviceFilter = parse_value("device_filter", words.clone())?;
    DeviceFilter::try_from(wire).map_err(|refusal| refusal.within("device_filter"))
}

/// Save a device filter.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/filters", operation_id = "CreateFilter", tag = "Fleets",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = SaveFilterBody,
    responses(
        (status = 201, description = "The filter is saved", body = FilterBody),
        (status = 400, description = "A field is wrong, or the filter names what does not exist", body = Error),
        (status = 404, description = "No such fleet", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<SaveFilterBody>,
) -> Result<(StatusCode, Json<FilterBody>), ApiError> {
    let permitted = bearer.fleet(Operation::CreateFilter, &key).await?;
    let made = saved_filters::create(&app, &permitted, &body.checked()?).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// One saved device filter.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/filters/{filter_name}", operation_id = "GetFilter", tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("filter_name" = String, Path, description = "The saved filter, percent-encoded"),
    ),
    responses(
        (status = 200, description = "The saved filter", body = FilterBody),
        (status = 404, description = "No such fleet or saved filter", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, name)): ApiPath<(String, String)>,
) -> Result<Json<FilterBody>, ApiError> {
    let permitted = bearer.fleet(Operation::GetFilter, &key).await?;
    Ok(Json(saved_filters::find(app.store.read(), &permitted, &name).await?.into()))
}

/// Replace a saved device filter.
///
/// The whole of it, its name included.
#[utoipa::path(
    put, path = "/api/v2/{project_key}/filters/{filter_name}", operation_id = "ReplaceFilter", tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("filter_name" = String, Path, description = "The saved filter, percent-encoded"),
    ),
    request_body = SaveFilterBody,
    responses(
        (status = 200, description = "The whole saved filter as it is now", body = FilterBody),
        (status = 400, description = "A field is wrong, or the filter names what does not exist", body = Error),
        (status = 404, description = "No such fleet or saved filter", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn replace(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, name)): ApiPath<(String, String)>,
    ApiBody(body): ApiBody<SaveFilterBody>,
) -> Result<Json<FilterBody>, ApiError> {
    let permitted = bearer.fleet(Operation::ReplaceFilter, &key).await?;
    Ok(Json(saved_filters::replace(&app, &permitted, &name, &body.checked()?).await?.into()))
}

/// Delete a saved device filter.
#[utoipa::path(
    delete, path = "/api/v2/{project_key}/filters/{filter_name}", operation_id = "DeleteFilter", tag = "Fleets",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("filter_name" = String, Path, description = "The saved filter, percent-encoded"),
    ),
    responses(
        (status = 204, description = "The saved filter is gone"),
        (status = 404, description = "No such fleet or saved filter", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, name)): ApiPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.fleet(Operation::DeleteFilter, &key).await?;
    saved_filters::delete(&app, &permitted, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
