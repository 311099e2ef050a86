//! Runs of remote commands: a saved command, or a script, on every device that a filter
//! matches.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::command::CommandStatus;
use muster_core::filter::WireDeviceFilter;
use muster_core::invalid::Invalid;
use muster_core::limits::COMMAND_EXPIRY_MAX;
use muster_core::names::{CommandName, DeviceUser, Script};
use muster_store::command_runs::CommandRun;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Bearer;
use super::remote_commands::{field, timeout};
use super::saved_filters::parse;
use super::wire::{Error, PageQuery, PaginationInfo, life};
use crate::app::App;
use crate::http::{ApiBody, ApiError, ApiPath, ApiQuery};
use crate::remote::command_runs::{self, Order, What};

/// A run of a command.
#[derive(Debug, Serialize, ToSchema)]
pub struct CommandRunBody {
    #[schema(example = "cr-1a2b-3c4d")]
    run_id: String,
    /// The name of the saved command, as it was then; null for a script of its own.
    #[schema(required = true)]
    command: Option<String>,
    script: String,
    /// The user of the device who runs it; null for the one that the device chooses.
    #[schema(required = true)]
    user: Option<String>,
    timeout_seconds: u64,
    /// As it was written.
    #[schema(value_type = WireDeviceFilter)]
    device_filter: Value,
    /// How many devices it matched.
    device_count: u64,
    /// Who made the run.
    #[schema(example = "user:ada")]
    created_by: String,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    /// When no further device begins.
    #[schema(example = "2025-06-09T14:10:44Z")]
    expires_time: String,
}

impl From<CommandRun> for CommandRunBody {
    fn from(run: CommandRun) -> Self {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            run_id: run.uuid,
            command: some(run.command_name),
            script: run.script,
            user: some(run.user),
            timeout_seconds: run.timeout.as_secs(),
            device_filter: run.device_filter,
            device_count: run.device_count,
            created_by: run.created_by,
            created_time: run.created_at.to_rfc3339(),
            expires_time: run.expires_at.to_rfc3339(),
        }
    }
}

/// How the devices of a run stand. Those of devices that were deleted are not counted.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct CommandCounts {
    pending: u64,
    running: u64,
    succeeded: u64,
    failed: u64,
    timed_out: u64,
    aborted: u64,
    expired: u64,
}

impl CommandCounts {
    fn new(statuses: &[(CommandStatus, u64)]) -> Self {
        let of = |wanted| statuses.iter().filter(|(status, _)| *status == wanted).map(|(_, count)| count).sum();
        Self {
            pending: of(CommandStatus::Pending),
            running: of(CommandStatus::Running),
            succeeded: of(CommandStatus::Succeeded),
            failed: of(CommandStatus::Failed),
            timed_out: of(CommandStatus::TimedOut),
            aborted: of(CommandStatus::Aborted),
            expired: of(CommandStatus::Expired),
        }
    }
}

/// A run of a command, and how its devices stand.
#[derive(Debug, Serialize, ToSchema)]
pub struct CommandRunWithCounts {
    #[serde(flatten)]
    run: CommandRunBody,
    /// Whether every device has ended.
    is_over: bool,
    devices: CommandCounts,
}

async fn with_counts(app: &App, run: CommandRun) -> Result<CommandRunWithCounts, ApiError> {
    let statuses = app.store.read().command_statuses(run.id).await?;
    let devices = CommandCounts::new(&statuses);
    Ok(CommandRunWithCounts { is_over: devices.pending + devices.running == 0, devices, run: run.into() })
}

/// A page of runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct CommandRunPage {
    runs: Vec<CommandRunBody>,
    pagination_info: PaginationInfo,
}

/// What is to be run, and where: either `command` or `script`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCommandRunBody {
    /// The name of a saved command.
    #[serde(default)]
    command: Option<String>,
    /// For `sh`. Needs `edit_remote_commands` as well.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 65_536)]
    script: Option<String>,
    /// The user of the device who runs it, by default as the command was saved. Needs
    /// `edit_remote_commands` as well.
    #[serde(default)]
    #[schema(pattern = "^[A-Za-z0-9_][A-Za-z0-9_.$-]{0,31}$")]
    user: Option<String>,
    /// How long it may run on each device, by default as the command was saved, or 60.
    /// Needs `edit_remote_commands` as well.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86_400)]
    timeout_seconds: Option<u64>,
    /// In the words of a deployment.
    #[schema(value_type = WireDeviceFilter)]
    device_filter: Value,
    /// How long a device that is offline or busy may take to begin, by default an hour.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 2_592_000)]
    expires_in_seconds: Option<u64>,
}

impl NewCommandRunBody {
    fn checked(self) -> Result<Order, Invalid> {
        let what = match (self.command, self.script) {
            (Some(name), None) => What::Saved(field("command", name, CommandName::parse)?),
            (None, Some(script)) => What::Script(field("script", script, Script::parse)?),
            (None, None) => return Err(Invalid::new("command", "is required, or a script in its place")),
            (Some(_), Some(_)) => return Err(Invalid::new("script", "is given, and a command as well")),
        };
        Ok(Order {
            what,
            user: self.user.map(|user| field("user", user, DeviceUser::parse)).transpose()?,
            timeout: self.timeout_seconds.map(timeout).transpose()?,
            filter: parse(&self.device_filter)?,
            filter_words: self.device_filter,
            expires_after: life(self.expires_in_seconds, COMMAND_EXPIRY_MAX)?,
        })
    }
}

/// Run a command on devices.
///
/// A saved command, or a script, on every device that the filter matches now. Devices that
/// are offline begin when they are back, unless the run has expired by then. A command is
/// run at most once on each device, whatever breaks.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/command_runs", operation_id = "CreateCommandRun", tag = "Remote commands",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = NewCommandRunBody,
    responses(
        (status = 201, description = "The run is made", body = CommandRunWithCounts),
        (status = 400, description = "A field is wrong, or names what does not exist", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn create(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<NewCommandRunBody>,
) -> Result<(StatusCode, Json<CommandRunWithCounts>), ApiError> {
    let permitted = bearer.fleet(Operation::CreateCommandRun, &key).await?;
    let run = command_runs::create(&app, &permitted, &body.checked()?).await?;
    Ok((StatusCode::CREATED, Json(with_counts(&app, run).await?)))
}

/// A fleet's runs of commands, the newest first.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/command_runs", operation_id = "ListCommandRuns", tag = "Remote commands",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of runs", body = CommandRunPage),
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
) -> Result<Json<CommandRunPage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListCommandRuns, &key).await?;
    let (page, store) = (query.page()?, app.store.read());
    let (rows, is_more) =
        store.command_runs_page(permitted.fleet().id, permitted.reach(), page.after, page.limit).await?;
    let after = page.next(rows.last().map(|run| run.id), is_more);
    let total = store.command_runs_count(permitted.fleet().id, permitted.reach()).await?;
    let runs = rows.into_iter().map(CommandRunBody::from).collect();
    Ok(Json(CommandRunPage { runs, pagination_info: PaginationInfo { after, total } }))
}

/// One run of a command, and how its devices stand.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/command_runs/{run_id}", operation_id = "GetCommandRun", tag = "Remote commands",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("run_id" = String, Path, description = "The run"),
    ),
    responses(
        (status = 200, description = "The run", body = CommandRunWithCounts),
        (status = 404, description = "No such fleet or run", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<Json<CommandRunWithCounts>, ApiError> {
    let permitted = bearer.fleet(Operation::GetCommandRun, &key).await?;
    let run = command_runs::find(app.store.read(), &permitted, &uuid).await?;
    Ok(Json(with_counts(&app, run).await?))
}

/// Abort a run of a command.
///
/// Devices that have not heard of it are aborted at once, the others when they confirm it.
/// Aborting again changes nothing.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/command_runs/{run_id}/abort", operation_id = "AbortCommandRun",
    tag = "Remote commands",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("run_id" = String, Path, description = "The run"),
    ),
    responses(
        (status = 200, description = "The run", body = CommandRunWithCounts),
        (status = 404, description = "No such fleet or run", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn abort(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<Json<CommandRunWithCounts>, ApiError> {
    let permitted = bearer.fleet(Operation::AbortCommandRun, &key).await?;
    let run = command_runs::abort(&app, &permitted, &uuid).await?;
    Ok(Json(with_counts(&app, run).await?))
}
