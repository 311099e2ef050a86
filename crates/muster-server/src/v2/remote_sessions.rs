//! Sessions of people on devices. Muster's own.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use muster_core::access::Operation;
use muster_core::access_grant::Reach;
use muster_core::invalid::{Invalid, quoted};
use muster_core::remote_session::SessionKind;
use muster_store::remote_sessions::{RemoteSession, SessionFilter};
use muster_store::terminals::Terminal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Bearer;
use super::wire::{Error, PaginationInfo, flag};
use crate::app::App;
use crate::fleet::devices;
use crate::http::cursor::PageRequest;
use crate::http::{ApiError, ApiPath, ApiQuery};
use crate::remote::sessions;

/// A session of a person on a device.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionV2 {
    session_id: String,
    #[schema(example = "d-1a2b-3c4d")]
    device_uuid: String,
    /// `stream`, `terminal` or `files`.
    kind: &'static str,
    /// Where it ends in the device's network; empty for the device itself.
    host: String,
    /// Of a stream the port, of a terminal the user, of files the path.
    target: String,
    #[schema(example = "user:admin")]
    actor: String,
    source_ip: String,
    /// `open` or `ended`.
    status: &'static str,
    /// Why it is over, in a word; empty while it is not.
    #[schema(example = "finished")]
    reason: String,
    /// The same as a sentence.
    reason_text: String,
    #[schema(example = "2025-06-09T14:10:44Z")]
    created_time: String,
    #[schema(example = "2025-06-09T16:10:44Z")]
    expires_time: String,
    /// Null while it is open.
    #[schema(required = true)]
    ended_time: Option<String>,
    /// Told at its end.
    bytes_to_device: u64,
    /// Told at its end.
    bytes_from_device: u64,
    /// Of a terminal; null for other kinds.
    #[schema(required = true)]
    terminal: Option<TerminalV2>,
}

/// What a session has more that is a terminal.
#[derive(Debug, Serialize, ToSchema)]
pub struct TerminalV2 {
    /// With what its shell ended; null while it runs, and where something else ended it.
    #[schema(required = true)]
    exit_code: Option<i64>,
    /// The signal that ended its shell.
    #[schema(required = true)]
    exit_signal: Option<i64>,
    /// `kept`, `cut_short` where it reached its limit, or `deleted`.
    recording: &'static str,
}

impl From<Terminal> for TerminalV2 {
    fn from(terminal: Terminal) -> Self {
        let recording = match (terminal.is_kept, terminal.is_cut_short) {
            (false, _) => "deleted",
            (true, true) => "cut_short",
            (true, false) => "kept",
        };
        Self { exit_code: terminal.exit_code, exit_signal: terminal.exit_signal, recording }
    }
}

impl From<RemoteSession> for SessionV2 {
    fn from(session: RemoteSession) -> Self {
        Self {
            session_id: session.uuid,
            device_uuid: session.device_uuid,
            kind: session.kind.word(),
            host: session.host,
            target: session.target,
            actor: session.created_by,
            source_ip: session.source_ip,
            status: if session.is_open { "open" } else { "ended" },
            reason: session.reason_code,
            reason_text: session.reason,
            created_time: session.created_at.to_rfc3339(),
            expires_time: session.ends_at.to_rfc3339(),
            ended_time: session.finished_at.map(muster_core::clock::Timestamp::to_rfc3339),
            bytes_to_device: session.bytes_to_device,
            bytes_from_device: session.bytes_from_device,
            terminal: session.terminal.map(Into::into),
        }
    }
}

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionPage {
    remote_sessions: Vec<SessionV2>,
    pagination_info: PaginationInfo,
}

/// Which sessions are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SessionQuery {
    /// Of this device alone
    #[param(value_type = String, required = false)]
    device_uuid: Option<String>,
    /// `stream`, `terminal` or `files`
    #[param(value_type = String, required = false)]
    kind: Option<String>,
    /// `true` for those that are not over
    #[param(value_type = bool, required = false)]
    open: Option<String>,
    /// `pagination_info.after` of the page before
    #[param(value_type = String, required = false)]
    after: Option<String>,
    /// 1 to 1000, by default 100
    #[param(value_type = u64, required = false)]
    limit: Option<String>,
}

fn kind(word: &str) -> Result<SessionKind, Invalid> {
    let unknown = || Invalid::new("kind", format!("{} is none of stream, terminal, files", quoted(word)));
    SessionKind::from_word(word).ok_or_else(unknown)
}

/// A fleet's remote sessions, the newest first.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/remote_sessions", operation_id = "ListRemoteSessions",
    tag = "Remote sessions",
    params(("project_key" = String, Path, description = "The fleet's key"), SessionQuery),
    responses(
        (status = 200, description = "A page of sessions", body = SessionPage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet or device", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiQuery(query): ApiQuery<SessionQuery>,
) -> Result<Json<SessionPage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListRemoteSessions, &key).await?;
    let page = PageRequest::parse(query.after.as_deref(), query.limit.as_deref())?;
    let store = app.store.read();
    let device_id = match &query.device_uuid {
        Some(uuid) => Some(devices::find(store, &permitted, uuid).await?.id),
        None => None,
    };
    let is_open = query.open.as_deref().map(|open| flag("open", Some(open))).transpose()?;
    let device_ids = match permitted.reach() {
        Reach::Fleet => None,
        Reach::Devices(reached) => Some(reached.clone()),
    };
    let filter = SessionFilter { device_id, device_ids, kind: query.kind.as_deref().map(kind).transpose()?, is_open };
    let fleet_id = permitted.fleet().id;
    let (found, is_more) = store.remote_sessions(fleet_id, &filter, page.after, page.limit).await?;
    let after = page.next(found.last().map(|session| session.id), is_more);
    let total = store.remote_sessions_count(fleet_id, &filter).await?;
    let remote_sessions = found.into_iter().map(SessionV2::from).collect();
    Ok(Json(SessionPage { remote_sessions, pagination_info: PaginationInfo { after, total } }))
}

/// One remote session.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/remote_sessions/{session_id}", operation_id = "GetRemoteSession",
    tag = "Remote sessions",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("session_id" = String, Path, description = "The session"),
    ),
    responses(
        (status = 200, description = "The session", body = SessionV2),
        (status = 404, description = "No such fleet or session", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn get(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<Json<SessionV2>, ApiError> {
    let permitted = bearer.fleet(Operation::GetRemoteSession, &key).await?;
    Ok(Json(sessions::find(&app, &permitted, &uuid).await?.into()))
}

/// End a remote session, whoever opened it.
#[utoipa::path(
    delete, path = "/api/v2/{project_key}/remote_sessions/{session_id}", operation_id = "EndRemoteSession",
    tag = "Remote sessions",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("session_id" = String, Path, description = "The session"),
    ),
    responses(
        (status = 204, description = "It is over"),
        (status = 404, description = "No such fleet or session", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn end(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let permitted = bearer.fleet(Operation::EndRemoteSession, &key).await?;
    sessions::end(&app, &permitted, &uuid).await?;
    Ok(StatusCode::NO_CONTENT)
}
