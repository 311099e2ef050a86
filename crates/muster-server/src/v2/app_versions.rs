//! Versions of an app that the account knows: those that devices have had, and those
//! that were made known before.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::names::Version;
use muster_store::apps::VersionView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::apps::ForceQuery;
use super::wire::{Error, PageQuery, PaginationInfo, flag};
use crate::app::App;
use crate::fleet::apps;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};

/// A version of an app.
#[derive(Debug, Serialize, ToSchema)]
pub struct VersionBody {
    version: String,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    /// Devices that have the app in this version, of the fleets that the caller sees.
    device_count: u64,
}

impl From<VersionView> for VersionBody {
    fn from(view: VersionView) -> Self {
        Self {
            version: view.version,
            created_time: Timestamp::to_rfc3339(view.created_at),
            device_count: view.device_count,
        }
    }
}

/// A page of versions.
#[derive(Debug, Serialize, ToSchema)]
pub struct VersionPage {
    versions: Vec<VersionBody>,
    pagination_info: PaginationInfo,
}

/// The known versions of an app, in the order of their text.
#[utoipa::path(
    get, path = "/api/v2/account/apps/{app_name}/versions", operation_id = "ListAppVersions", tag = "Catalogues",
    params(
        ("app_name" = String, Path, description = "The app, percent-encoded"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of versions", body = VersionPage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such app", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<VersionPage>, ApiError> {
    let permitted = bearer.account(Operation::ListAppVersions).await?;
    let (page, store) = (query.page_by::<Version>()?, app.store.read());
    let of = apps::find(store, &permitted, &name).await?;
    let after = page.after.as_ref().map(Version::as_str);
    let (rows, is_more) = store.app_versions_page(permitted.user(), of.id, after, page.limit).await?;
    let last = rows.last().map(|view| Version::parse(view.version.as_str())).transpose()?;
    let after = page.next(last, is_more);
    let versions = rows.into_iter().map(VersionBody::from).collect();
    Ok(Json(VersionPage { versions, pagination_info: PaginationInfo { after, total: of.version_count } }))
}

/// Body of the creation of a version.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVersionBody {
    version: String,
}

/// Make a version of an app known.
///
/// By whoever may modify devices in any fleet of the account. A version that a device
/// is given becomes known by itself.
#[utoipa::path(
    post, path = "/api/v2/account/apps/{app_name}/versions", operation_id = "CreateAppVersion", tag = "Catalogues",
    params(("app_name" = String, Path, description = "The app, percent-encoded")),
    request_body = CreateVersionBody,
    responses(
        (status = 201, description = "The version is there", body = VersionBody),
        (status = 400, description = "The version is wrong", body = Error),
        (status = 404, description = "No such app", body = Error),
        (status = 409, description = "The version is known", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(name): ApiPath<String>,
    ApiBody(body): ApiBody<CreateVersionBody>,
) -> Result<(StatusCode, Json<VersionBody>), ApiError> {
    let permitted = bearer.account(Operation::CreateAppVersion).await?;
    let version = Version::parse(body.version).map_err(|refusal| refusal.within("version"))?;
    let made = apps::create_version(&app, &permitted, &name, &version).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Delete a version of an app.
///
/// While devices or deployments have it only with `force`, which takes the app off the
/// devices that have it in this version. Deployments keep their version: one that
/// succeeds later makes it known again.
#[utoipa::path(
    delete, path = "/api/v2/account/apps/{app_name}/versions/{version}", operation_id = "DeleteAppVersion",
    tag = "Catalogues",
    params(
        ("app_name" = String, Path, description = "The app, percent-encoded"),
        ("version" = String, Path, description = "The version, percent-encoded"),
        ("force" = Option<bool>, Query, description = "Even though devices or deployments have it"),
    ),
    responses(
        (status = 204, description = "The version is gone"),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such app or version", body = Error),
        (status = 409, description = "Devices or deployments have the version", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((name, version)): ApiPath<(String, String)>,
    ApiQuery(query): ApiQuery<ForceQuery>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.account(Operation::DeleteAppVersion).await?;
    apps::delete_version(&app, &permitted, &name, &version, flag("force", query.force.as_deref())?).await?;
    Ok(StatusCode::NO_CONTENT)
}
