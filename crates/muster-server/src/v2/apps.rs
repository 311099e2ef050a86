//! Apps of the account. Connect keeps these in its web console; the calls are Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::names::AppName;
use muster_store::apps::AppView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, Named, PageQuery, PaginationInfo, flag};
use crate::access::PermittedAccount;
use crate::app::App;
use crate::fleet::apps;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// An app.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppBody {
    name: String,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    /// Devices that have it, of the fleets that the caller sees.
    device_count: u64,
    version_count: u64,
}

impl From<AppView> for AppBody {
    fn from(view: AppView) -> Self {
        Self {
            name: view.name,
            created_time: Timestamp::to_rfc3339(view.created_at),
            device_count: view.device_count,
            version_count: view.version_count,
        }
    }
}

/// A page of apps.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppPage {
    apps: Vec<AppBody>,
    pagination_info: PaginationInfo,
}

/// The account's apps, in the order of their making.
#[utoipa::path(
    get, path = "/api/v2/account/apps", operation_id = "ListApps", tag = "Catalogues",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of apps", body = AppPage),
        (status = 400, description = "A parameter is wrong", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<AppPage>, ApiError> {
    let permitted = bearer.account(Operation::ListApps).await?;
    let (page, store) = (query.page()?, app.store.read());
    let (rows, is_more) = store.apps_page(permitted.user(), page.after, page.limit).await?;
    let after = page.next(rows.last().map(|view| view.id), is_more);
    let total = store.apps_count(permitted.account_id()).await?;
    let apps = rows.into_iter().map(AppBody::from).collect();
    Ok(Json(AppPage { apps, pagination_info: PaginationInfo { after, total } }))
}

/// Create an app in the account of a fleet.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/apps", operation_id = "CreateApp", tag = "Catalogues",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = Named,
    responses(
        (status = 201, description = "The app is there", body = AppBody),
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
) -> Result<(StatusCode, Json<AppBody>), ApiError> {
    let permitted = bearer.fleet(Operation::CreateApp, &key).await?;
    made(&app, permitted.into(), body).await
}

/// Create an app in the account.
///
/// By whoever may modify devices in any of its fleets.
#[utoipa::path(
    post, path = "/api/v2/account/apps", operation_id = "CreateAccountApp", tag = "Catalogues",
    request_body = Named,
    responses(
        (status = 201, description = "The app is there", body = AppBody),
        (status = 400, description = "The name is wrong", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create_in_account(
    State(app): State<App>,
    bearer: Bearer,
    ApiBody(body): ApiBody<Named>,
) -> Result<(StatusCode, Json<AppBody>), ApiError> {
    let permitted = bearer.account(Operation::CreateAccountApp).await?;
    made(&app, permitted, body).await
}

async fn made(app: &App, permitted: PermittedAccount, body: Named) -> Result<(StatusCode, Json<AppBody>), ApiError> {
    let made = apps::create(app, &permitted, &body.checked(AppName::parse)?).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// One app.
#[utoipa::path(
    get, path = "/api/v2/account/apps/{app_name}", operation_id = "GetApp", tag = "Catalogues",
    params(("app_name" = String, Path, description = "The app, percent-encoded")),
    responses(
        (status = 200, description = "The app", body = AppBody),
        (status = 404, description = "No such app", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<AppBody>, ApiError> {
    let permitted = bearer.account(Operation::GetApp).await?;
    Ok(Json(apps::find(app.store.read(), &permitted, &name).await?.into()))
}

/// Rename an app.
///
/// Devices keep it, and so do deployments.
#[utoipa::path(
    patch, path = "/api/v2/account/apps/{app_name}", operation_id = "PatchApp", tag = "Catalogues",
    params(("app_name" = String, Path, description = "The app, percent-encoded")),
    request_body = Named,
    responses(
        (status = 200, description = "The whole app as it is now", body = AppBody),
        (status = 400, description = "The name is wrong", body = Error),
        (status = 404, description = "No such app", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn patch(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
    ApiBody(body): ApiBody<Named>,
) -> Result<Json<AppBody>, ApiError> {
    let permitted = bearer.account(Operation::PatchApp).await?;
    Ok(Json(apps::rename(&app, &permitted, &name, &body.checked(AppName::parse)?).await?.into()))
}

/// What the address of a deletion asks for.
#[derive(Debug, Deserialize)]
pub struct ForceQuery {
    pub(crate) force: Option<String>,
}

/// Delete an app.
///
/// While devices or deployments have it only with `force`, which takes it off every
/// device. Deployments keep its name, and set nothing any more when they succeed.
#[utoipa::path(
    delete, path = "/api/v2/account/apps/{app_name}", operation_id = "DeleteApp", tag = "Catalogues",
    params(
        ("app_name" = String, Path, description = "The app, percent-encoded"),
        ("force" = Option<bool>, Query, description = "Even though devices or deployments have it"),
    ),
    responses(
        (status = 204, description = "The app is gone"),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such app", body = Error),
        (status = 409, description = "Devices or deployments have the app", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
    ApiQuery(query): ApiQuery<ForceQuery>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.account(Operation::DeleteApp).await?;
    apps::delete(&app, &permitted, &name, flag("force", query.force.as_deref())?).await?;
    Ok(StatusCode::NO_CONTENT)
}
