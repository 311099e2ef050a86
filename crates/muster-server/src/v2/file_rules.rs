//! Which files of a fleet's devices people may reach. Muster's own.

use axum::Json;
use axum::extract::State;
use muster_core::access::Operation;
use muster_core::file_rules::{FileAccess, FileRule, FileRules};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::Error;
use crate::app::App;
use crate::http::{ApiBody, ApiError, ApiPath};
use crate::remote::files;

/// The rules of a fleet: the first whose path matches decides, and what none matches is not
/// served.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRulesBody {
    /// In their order, at most 100
    file_rules: Vec<FileRuleBody>,
}

/// One rule.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRuleBody {
    /// An absolute path; `*` and `?` stand for characters of one name, `**` for any folders
    #[schema(example = "/var/log/**")]
    path: String,
    /// `none`, `read`, or `write`, which is to read as well
    #[schema(value_type = String, example = "read")]
    access: FileAccess,
}

impl From<&FileRules> for FileRulesBody {
    fn from(rules: &FileRules) -> Self {
        let rule = |rule: &FileRule| FileRuleBody { path: rule.path.clone(), access: rule.access };
        Self { file_rules: rules.as_slice().iter().map(rule).collect() }
    }
}

/// Which files of a fleet's devices people may reach.
///
/// A fleet without rules of its own lets people read what lies below `/var/log`, without
/// what is known to hold secrets, and write nothing. Each device can allow less.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/file_rules", operation_id = "GetFileRules", tag = "Remote sessions",
    params(("project_key" = String, Path, description = "The fleet's key")),
    responses(
        (status = 200, description = "The rules", body = FileRulesBody),
        (status = 404, description = "No such fleet", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
) -> Result<Json<FileRulesBody>, ApiError> {
    let permitted = bearer.fleet(Operation::GetFileRules, &key).await?;
    let rules = app.store.read().file_rules(permitted.fleet().id).await?;
    Ok(Json((&rules).into()))
}

/// Change which files of a fleet's devices people may reach.
#[utoipa::path(
    put, path = "/api/v2/{project_key}/file_rules", operation_id = "ReplaceFileRules", tag = "Remote sessions",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = FileRulesBody,
    responses(
        (status = 200, description = "The rules from now on", body = FileRulesBody),
        (status = 400, description = "A rule is wrong; nothing was changed", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn replace(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<FileRulesBody>,
) -> Result<Json<FileRulesBody>, ApiError> {
    let permitted = bearer.fleet(Operation::ReplaceFileRules, &key).await?;
    let rule = |rule: FileRuleBody| FileRule { path: rule.path, access: rule.access };
    let rules = FileRules::new(body.file_rules.into_iter().map(rule).collect());
    let rules = rules.map_err(|refusal| refusal.within("file_rules"))?;
    files::replace_rules(&app, &permitted, &rules).await?;
    Ok(Json((&rules).into()))
}
