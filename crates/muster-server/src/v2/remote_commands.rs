//! Saved commands of a fleet: scripts with a name, which can be run on devices.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::invalid::Invalid;
use muster_core::limits::{COMMAND_TIMEOUT_DEFAULT, COMMAND_TIMEOUT_MAX};
use muster_core::names::{CommandName, DeviceUser, Script, Text};
use muster_store::saved_commands::{NewSavedCommand, SavedCommand};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo, given};
use crate::app::App;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};
use crate::remote::saved_commands::{self, Patch};

/// A saved command.
#[derive(Debug, Serialize, ToSchema)]
pub struct RemoteCommandBody {
    name: String,
    description: String,
    /// For `sh`.
    script: String,
    /// The user of the device who runs it; null for the one that the device chooses.
    #[schema(required = true)]
    user: Option<String>,
    timeout_seconds: u64,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    /// When it was last changed.
    #[schema(example = "2025-06-09T14:10:44Z")]
    updated_time: String,
}

impl From<SavedCommand> for RemoteCommandBody {
    fn from(command: SavedCommand) -> Self {
        Self {
            name: command.name,
            description: command.description,
            script: command.script,
            user: Some(command.user).filter(|user| !user.is_empty()),
            timeout_seconds: command.timeout.as_secs(),
            created_time: Timestamp::to_rfc3339(command.created_at),
            updated_time: Timestamp::to_rfc3339(command.updated_at),
        }
    }
}

/// A page of saved commands.
#[derive(Debug, Serialize, ToSchema)]
pub struct RemoteCommandPage {
    commands: Vec<RemoteCommandBody>,
    pagination_info: PaginationInfo,
}

/// How long a command may run, from `timeout_seconds`.
pub(super) fn timeout(seconds: u64) -> Result<Duration, Invalid> {
    let max = COMMAND_TIMEOUT_MAX.as_secs();
    if !(1..=max).contains(&seconds) {
        return Err(Invalid::new("timeout_seconds", format!("{seconds} is not a number of seconds from 1 to {max}")));
    }
    Ok(Duration::from_secs(seconds))
}

/// Reads a field by its type's rule.
pub(super) fn field<T>(
    name: &str,
    value: String,
    parse: impl FnOnce(String) -> Result<T, Invalid>,
) -> Result<T, Invalid> {
    parse(value).map_err(|refusal| refusal.within(name))
}

/// A command to be saved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRemoteCommandBody {
    /// Unique in the fleet.
    name: String,
    /// For people.
    #[serde(default)]
    description: String,
    /// For `sh`.
    #[schema(min_length = 1, max_length = 65_536)]
    script: String,
    /// The user of the device who runs it, by default the one that the device chooses.
    #[serde(default)]
    #[schema(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.$-]{0,31}$")]
    user: Option<String>,
    /// How long it may run on each device, by default 60.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86_400)]
    timeout_seconds: Option<u64>,
}

impl NewRemoteCommandBody {
    fn checked(self) -> Result<NewSavedCommand, Invalid> {
        Ok(NewSavedCommand {
            name: field("name", self.name, CommandName::parse)?,
            description: field("description", self.description, Text::parse)?,
            script: field("script", self.script, Script::parse)?,
            user: self.user.map(|user| field("user", user, DeviceUser::parse)).transpose()?,
            timeout: self.timeout_seconds.map_or(Ok(COMMAND_TIMEOUT_DEFAULT), timeout)?,
        })
    }
}

/// What is to change about a saved command; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoteCommandChangeBody {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    /// For `sh`.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 65_536)]
    script: Option<String>,
    /// Null for the user that the device chooses.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_][A-Za-z0-9_.$-]{0,31}$")]
    user: Option<Option<String>>,
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86_400)]
    timeout_seconds: Option<u64>,
}

impl RemoteCommandChangeBody {
    fn checked(self) -> Result<Patch, Invalid> {
        let user = |user: Option<String>| user.map(|user| field("user", user, DeviceUser::parse)).transpose();
        Ok(Patch {
            name: self.name.map(|name| field("name", name, CommandName::parse)).transpose()?,
            description: self.description.map(|text| field("description", text, Text::parse)).transpose()?,
            script: self.script.map(|script| field("script", script, Script::parse)).transpose()?,
            user: self.user.map(user).transpose()?,
            timeout: self.timeout_seconds.map(timeout).transpose()?,
        })
    }
}

/// Save a command.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/remote_commands", operation_id = "CreateRemoteCommand", tag = "Remote commands",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = NewRemoteCommandBody,
    responses(
        (status = 201, description = "The command is saved", body = RemoteCommandBody),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
        (status = 409, description = "The name is taken, or the fleet has as many as it may", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<NewRemoteCommandBody>,
) -> Result<(StatusCode, Json<RemoteCommandBody>), ApiError> {
    let permitted = bearer.fleet(Operation::CreateRemoteCommand, &key).await?;
    let made = saved_commands::create(&app, &permitted, &body.checked()?).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// A fleet's saved commands, in the order of their making.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/remote_commands", operation_id = "ListRemoteCommands", tag = "Remote commands",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of saved commands", body = RemoteCommandPage),
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
) -> Result<Json<RemoteCommandPage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListRemoteCommands, &key).await?;
    let (page, store) = (query.page()?, app.store.read());
    let (rows, is_more) = store.saved_commands_page(permitted.fleet().id, page.after, page.limit).await?;
    let after = page.next(rows.last().map(|command| command.id), is_more);
    let total = store.saved_commands_count(permitted.fleet().id).await?;
    let commands = rows.into_iter().map(RemoteCommandBody::from).collect();
    Ok(Json(RemoteCommandPage { commands, pagination_info: PaginationInfo { after, total } }))
}

/// One saved command.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/remote_commands/{command_name}", operation_id = "GetRemoteCommand",
    tag = "Remote commands",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("command_name" = String, Path, description = "The saved command, percent-encoded"),
    ),
    responses(
        (status = 200, description = "The saved command", body = RemoteCommandBody),
        (status = 404, description = "No such fleet or saved command", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, name)): ApiPath<(String, String)>,
) -> Result<Json<RemoteCommandBody>, ApiError> {
    let permitted = bearer.fleet(Operation::GetRemoteCommand, &key).await?;
    Ok(Json(saved_commands::find(app.store.read(), &permitted, &name).await?.into()))
}

/// Change a saved command. Runs that were made before stay as they were.
#[utoipa::path(
    patch, path = "/api/v2/{project_key}/remote_commands/{command_name}", operation_id = "PatchRemoteCommand",
    tag = "Remote commands",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("command_name" = String, Path, description = "The saved command, percent-encoded"),
    ),
    request_body = RemoteCommandChangeBody,
    responses(
        (status = 200, description = "The whole saved command as it is now", body = RemoteCommandBody),
        (status = 400, description = "A field is wrong", body = Error),
        (status = 404, description = "No such fleet or saved command", body = Error),
        (status = 409, description = "The name is taken", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn patch(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, name)): ApiPath<(String, String)>,
    ApiBody(body): ApiBody<RemoteCommandChangeBody>,
) -> Result<Json<RemoteCommandBody>, ApiError> {
    let permitted = bearer.fleet(Operation::PatchRemoteCommand, &key).await?;
    Ok(Json(saved_commands::change(&app, &permitted, &name, &body.checked()?).await?.into()))
}

/// Delete a saved command. Its runs stay.
#[utoipa::path(
    delete, path = "/api/v2/{project_key}/remote_commands/{command_name}", operation_id = "DeleteRemoteCommand",
    tag = "Remote commands",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("command_name" = String, Path, description = "The saved command, percent-encoded"),
    ),
    responses(
        (status = 204, description = "The saved command is gone"),
        (status = 404, description = "No such fleet or saved command", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn delete(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, name)): ApiPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.fleet(Operation::DeleteRemoteCommand, &key).await?;
    saved_commands::delete(&app, &permitted, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
