//! The devices of a run of a command: how each ended, and what the command put out.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::IntoResponse;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::command::CommandStatus;
use muster_core::invalid::{Invalid, quoted};
use muster_store::command_targets::CommandTargetView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo};
use crate::app::App;
use crate::http::{ApiError, ApiPath, ApiQuery};
use crate::remote::command_runs;

/// Says how many bytes the command has put out, kept or not.
const OUTPUT_BYTES: HeaderName = HeaderName::from_static("x-output-bytes");
/// Says whether not all of them are kept.
const OUTPUT_TRUNCATED: HeaderName = HeaderName::from_static("x-output-truncated");
/// Says how the device stands.
const COMMAND_STATUS: HeaderName = HeaderName::from_static("x-command-status");

/// Where a device stands in a run of a command.
#[derive(Debug, Serialize, ToSchema)]
pub struct CommandTargetBody {
    device_uuid: String,
    device_name: String,
    /// `pending`, `running`, `succeeded`, `failed`, `timed_out`, `aborted` or `expired`.
    #[schema(example = "failed")]
    status: &'static str,
    /// A stable word for programs; null for what needs none.
    #[schema(example = "exit_code", required = true)]
    reason_code: Option<String>,
    /// One sentence.
    #[schema(required = true)]
    reason: Option<String>,
    /// Null where it was ended, or never began.
    #[schema(required = true)]
    exit_code: Option<i32>,
    #[schema(example = "2025-06-09T14:10:44Z", required = true)]
    started_time: Option<String>,
    #[schema(example = "2025-06-09T14:10:44Z", required = true)]
    finished_time: Option<String>,
    /// By the device's clock; null before the end.
    #[schema(required = true)]
    duration_ms: Option<u64>,
    /// The beginning of standard output and standard error, as they came.
    output_head: String,
    /// The end of what is kept of them, where the beginning is not all.
    output_tail: String,
    /// How many bytes the command put out.
    output_bytes: u64,
    /// Whether not all of them are kept.
    truncated: bool,
}

impl From<CommandTargetView> for CommandTargetBody {
    fn from(target: CommandTargetView) -> Self {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let is_run = target.status.is_final() && target.started_at.is_some();
        Self {
            device_uuid: target.device_uuid,
            device_name: target.device_name,
            status: target.status.word(),
            reason_code: some(target.reason.code),
            reason: some(target.reason.text),
            exit_code: target.exit_code,
            started_time: target.started_at.map(Timestamp::to_rfc3339),
            finished_time: target.finished_at.map(Timestamp::to_rfc3339),
            duration_ms: is_run.then_some(target.duration_ms),
            output_head: target.output_head,
            output_tail: target.output_tail,
            output_bytes: target.output_bytes,
            truncated: target.is_truncated,
        }
    }
}

/// A page of a run's devices.
#[derive(Debug, Serialize, ToSchema)]
pub struct CommandTargetPage {
    devices: Vec<CommandTargetBody>,
    pagination_info: PaginationInfo,
}

/// Which devices of a run.
#[derive(Debug, Default, Deserialize)]
pub struct CommandStatusQuery {
    status: Option<String>,
}

impl CommandStatusQuery {
    fn status(&self) -> Result<Option<CommandStatus>, Invalid> {
        let Some(word) = self.status.as_deref() else { return Ok(None) };
        let words = || CommandStatus::ALL.map(CommandStatus::word).join(", ");
        let unknown = || Invalid::new("status", format!("{} is none of {}", quoted(word), words()));
        CommandStatus::from_word(word).map(Some).ok_or_else(unknown)
    }
}

/// Where each device of a run stands.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/command_runs/{run_id}/devices", operation_id = "ListCommandRunDevices",
    tag = "Remote commands",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("run_id" = String, Path, description = "The run"),
        ("status" = Option<String>, Query, description = "Only devices that stand so"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of devices", body = CommandTargetPage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet or run", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    ApiQuery(which): ApiQuery<CommandStatusQuery>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> Result<Json<CommandTargetPage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListCommandRunDevices, &key).await?;
    let (page, status, store) = (query.page()?, which.status()?, app.store.read());
    let run = command_runs::find(store, &permitted, &uuid).await?;
    let (targets, is_more) = store.command_targets_page(run.id, status, page.after, page.limit).await?;
    let after = page.next(targets.last().map(|target| target.device_id), is_more);
    let total = store.command_targets_count(run.id, status).await?;
    let devices = targets.into_iter().map(CommandTargetBody::from).collect();
    Ok(Json(CommandTargetPage { devices, pagination_info: PaginationInfo { after, total } }))
}

/// What a command has put out on one device.
///
/// Standard output and standard error, as they came, while it runs as well. A line stands
/// for what was left out. What is no UTF-8 was replaced.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/command_runs/{run_id}/devices/{device_uuid}/output",
    operation_id = "GetCommandOutput", tag = "Remote commands",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("run_id" = String, Path, description = "The run"),
        ("device_uuid" = String, Path, description = "The device"),
    ),
    responses(
        (status = 200, description = "The output", content_type = "text/plain; charset=utf-8", body = String,
            headers(
                ("x-command-status" = String, description = "How the device stands"),
                ("x-output-bytes" = u64, description = "How many bytes the command has put out, kept or not"),
                ("x-output-truncated" = bool, description = "Whether not all of them are kept"),
            )),
        (status = 404, description = "No such fleet or run, or the device is not in it", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn output(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid, device)): ApiPath<(String, String, String)>,
) -> Result<impl IntoResponse, ApiError> {
    let permitted = bearer.fleet(Operation::GetCommandOutput, &key).await?;
    let store = app.store.read();
    let run = command_runs::find(store, &permitted, &uuid).await?;
    let target = command_runs::find_target(store, &run, &device).await?;
    let output = store.command_output(run.id, target.device_id).await?;
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (COMMAND_STATUS, target.status.word().to_owned()),
        (OUTPUT_BYTES, target.output_bytes.to_string()),
        (OUTPUT_TRUNCATED, target.is_truncated.to_string()),
    ];
    Ok((headers, output))
}
