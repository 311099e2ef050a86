//! The data monitor: values of a device, and the names under which they come.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::names::ParameterName;
use muster_core::wire::objects;
use muster_store::monitor;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, Message, Named, PageQuery, PaginationInfo};
use crate::app::App;
use crate::fleet::devices;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};
use crate::telemetry::monitor::{self as operations, SentValue, ValueFields};

/// Body of the sending of values.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorBody {
    #[serde(deserialize_with = "objects")]
    app_parameters: Vec<MonitorValue>,
}

/// One value.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorValue {
    /// It must exist in the fleet.
    name: String,
    /// A string, a number, true or false.
    value: Value,
}

const FIELDS: ValueFields = ValueFields { name: "name", value: "value" };

/// Send values of a device to the data monitor.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/monitor/{device_uuid}", operation_id = "SendMonitor", tag = "Data monitor",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
    ),
    request_body = MonitorBody,
    responses(
        (status = 201, description = "The values are stored", body = Message),
        (status = 400, description = "A field is wrong; nothing was stored", body = Error),
        (status = 404, description = "No such fleet or device", body = Error),
    ),
)]
pub async fn send(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    ApiBody(body): ApiBody<MonitorBody>,
) -> Result<(StatusCode, Json<Message>), ApiError> {
    let permitted = bearer.fleet(Operation::SendMonitor, &key).await?;
    let device = devices::find(app.store.read(), &permitted, &uuid).await?;
    let sent = body.app_parameters.into_iter().map(|sent| SentValue { name: sent.name, value: sent.value });
    operations::record(&app, &permitted, &device, sent.collect(), FIELDS).await?;
    Ok((StatusCode::CREATED, Json(Message { message: "Success" })))
}

/// A name under which a fleet's devices may send values.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppParameter {
    name: String,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_at: String,
}

impl From<monitor::AppParameter> for AppParameter {
    fn from(parameter: monitor::AppParameter) -> Self {
        Self { name: parameter.name, created_at: parameter.created_at.to_rfc3339() }
    }
}

/// A page of names.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppParameterPage {
    app_parameters: Vec<AppParameter>,
    pagination_info: PaginationInfo,
}

/// The names of a fleet's values in the data monitor.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/app-parameters", operation_id = "ListAppParameters", tag = "Data monitor",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of names", body = AppParameterPage),
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
) -> Result<Json<AppParameterPage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListAppParameters, &key).await?;
    let (page, store, fleet_id) = (query.page()?, app.store.read(), permitted.fleet().id);
    let (rows, is_more) = store.app_parameters_page(fleet_id, page.after, page.limit).await?;
    let after = page.next(rows.last().map(|parameter| parameter.id), is_more);
    let total = store.app_parameters_count(fleet_id).await?;
    let app_parameters = rows.into_iter().map(AppParameter::from).collect();
    Ok(Json(AppParameterPage { app_parameters, pagination_info: PaginationInfo { after, total } }))
}

/// Make a name for values in the data monitor.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/app-parameters", operation_id = "CreateAppParameter", tag = "Data monitor",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = Named,
    responses(
        (status = 201, description = "The name may be used", body = AppParameter),
        (status = 400, description = "The name is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<Named>,
) -> Result<(StatusCode, Json<AppParameter>), ApiError> {
    let permitted = bearer.fleet(Operation::CreateAppParameter, &key).await?;
    let name = ParameterName::parse(body.name).map_err(|refusal| refusal.within("name"))?;
    let made = operations::create(&app, &permitted, &name).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Delete a name of the data monitor with all its values.
#[utoipa::path(
    delete, path = "/api/v2/{project_key}/app-parameters/{name}", operation_id = "DeleteAppParameter",
    tag = "Data monitor",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("name" = String, Path, description = "The name"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such fleet or name", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, name)): ApiPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.fleet(Operation::DeleteAppParameter, &key).await?;
    operations::delete(&app, &permitted, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
