//! Update flows: created from YAML, listed, given back byte for byte.

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::invalid::Invalid;
use muster_store::flows::StoredFlow;
use serde::Serialize;
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo};
use crate::app::App;
use crate::deploy::flows;
use crate::http::{ApiError, ApiPath, ApiQuery, read_body};

/// Content types that are taken for YAML.
const YAML_TYPES: [&str; 4] = ["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"];

/// A YAML body.
#[derive(Debug)]
pub struct YamlBody(String);

impl<S: Send + Sync> FromRequest<S> for YamlBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        if !YAML_TYPES.contains(&essence.as_str()) {
            return Err(ApiError::UnsupportedMediaType("Content-Type must be application/yaml".to_owned()));
        }
        let bytes = read_body(request).await?;
        let text = String::from_utf8(bytes);
        Ok(Self(text.map_err(|error| Invalid::new("", format!("the document is not UTF-8: {error}")))?))
    }
}

/// A flow that has just been created.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedFlow {
    name: String,
    #[schema(example = "f-g584-cc21")]
    uuid: String,
}

/// Answer of the creation of update flows.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedFlows {
    #[schema(example = "success")]
    status: &'static str,
    #[schema(example = "Update flows created successfully.")]
    message: &'static str,
    update_flows: Vec<CreatedFlow>,
}

/// Create update flows.
///
/// The body is a flow document in YAML; it may hold several flows.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/update-flows", operation_id = "CreateUpdateFlows", tag = "Update flows",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body(content = Object, content_type = "application/yaml"),
    responses(
        (status = 201, description = "The flows are there", body = CreatedFlows),
        (status = 400, description = "Invalid YAML format or data", body = Error),
        (status = 404, description = "No such fleet", body = Error),
        (status = 415, description = "Content-Type must be application/yaml", body = Error),
    ),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    YamlBody(document): YamlBody,
) -> Result<(StatusCode, Json<CreatedFlows>), ApiError> {
    let permitted = bearer.fleet(Operation::CreateUpdateFlows, &key).await?;
    let created = flows::create(&app, &permitted, &document).await?.into_iter();
    let answer = CreatedFlows {
        status: "success",
        message: "Update flows created successfully.",
        update_flows: created.map(|(name, uuid)| CreatedFlow { name, uuid: uuid.into() }).collect(),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// A flow in the list.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListedFlow {
    name: String,
    uuid: String,
    update_parameters: Vec<String>,
    #[schema(example = "2023-05-15 10:30:00")]
    created_time: String,
    /// Null: nothing has been scanned.
    #[schema(required = true)]
    cve_severity: Option<String>,
}

impl From<StoredFlow> for ListedFlow {
    fn from(stored: StoredFlow) -> Self {
        Self {
            update_parameters: stored.flow.inputs.iter().map(|input| input.name.clone()).collect(),
            name: stored.flow.name.into_string(),
            uuid: stored.uuid,
            created_time: Timestamp::to_spaced(stored.created_at),
            cve_severity: None,
        }
    }
}

/// A page of update flows.
#[derive(Debug, Serialize, ToSchema)]
pub struct FlowPage {
    #[schema(example = "success")]
    status: &'static str,
    update_flows: Vec<ListedFlow>,
    pagination_info: PaginationInfo,
}

/// A fleet's update flows, oldest first.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/update-flows", operation_id = "ListUpdateFlows", tag = "Update flows",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of update flows", body = FlowPage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<FlowPage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListUpdateFlows, &key).await?;
    let (page, store) = (query.page()?, app.store.read());
    let (flows, is_more) = store.flows_page(permitted.fleet().id, page.after, page.limit).await?;
    let after = page.next(flows.last().map(|flow| flow.id), is_more);
    let total = store.flows_count(permitted.fleet().id).await?;
    Ok(Json(FlowPage {
        status: "success",
        update_flows: flows.into_iter().map(ListedFlow::from).collect(),
        pagination_info: PaginationInfo { after, total },
    }))
}

/// The YAML document of an update flow, byte for byte as it was sent.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/update-flows/{update_flow_uuid}", operation_id = "GetUpdateFlow",
    tag = "Update flows",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("update_flow_uuid" = String, Path, description = "The update flow"),
    ),
    responses(
        (status = 200, description = "The document", body = Object, content_type = "application/yaml"),
        (status = 404, description = "No such fleet or update flow", body = Error),
    ),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<Response, ApiError> {
    let permitted = bearer.fleet(Operation::GetUpdateFlow, &key).await?;
    let document = flows::document(&app, &permitted, &uuid).await?;
    Ok(([(CONTENT_TYPE, "application/yaml")], document).into_response())
}
