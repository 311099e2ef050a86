//! Terminals on devices, and what they showed. Muster's own.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use muster_core::access::Operation;
use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::{NAME_CHARS_MAX, TERMINAL_CHARS_MAX};
use muster_link::stream::TerminalSize;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Bearer;
use super::device_files::pieces;
use super::socket::SocketBearer;
use super::wire::Error;
use crate::app::App;
use crate::http::{ApiError, ApiPath, ApiQuery, Handshake, attachment};
use crate::remote::recordings;
use crate::remote::terminals::{self, TerminalOrder};

const DEFAULT_SIZE: TerminalSize = TerminalSize { columns: 80, rows: 24 };
const DEFAULT_TERM: &str = "xterm-256color";

/// Which terminal.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TerminalQuery {
    /// Its width in characters, 1 to 1000, by default 80
    #[param(value_type = u16, required = false)]
    columns: Option<String>,
    /// Its height in characters, 1 to 1000, by default 24
    #[param(value_type = u16, required = false)]
    rows: Option<String>,
    /// The user of the device, one of those that the device allows; by default the first of them
    #[param(value_type = String, required = false)]
    user: Option<String>,
    /// What understands its output, as the variable `TERM`; by default `xterm-256color`
    #[param(value_type = String, required = false)]
    term: Option<String>,
}

impl TerminalQuery {
    fn check(self, device_uuid: String) -> Result<TerminalOrder, Invalid> {
        let size = TerminalSize {
            columns: chars("columns", self.columns.as_deref(), DEFAULT_SIZE.columns)?,
            rows: chars("rows", self.rows.as_deref(), DEFAULT_SIZE.rows)?,
        };
        let user = word("user", self.user.unwrap_or_default())?;
        let term = word("term", self.term.filter(|term| !term.is_empty()).unwrap_or_else(|| DEFAULT_TERM.to_owned()))?;
        Ok(TerminalOrder { device_uuid, user, size, term })
    }
}

fn chars(field: &str, text: Option<&str>, default: u16) -> Result<u16, Invalid> {
    let Some(text) = text else { return Ok(default) };
    let number = text.parse().ok().filter(|number| (1..=TERMINAL_CHARS_MAX).contains(number));
    number
        .ok_or_else(|| Invalid::new(field, format!("{} is not a number from 1 to {TERMINAL_CHARS_MAX}", quoted(text))))
}

/// A name as systems have them for users and terminals: no option of a program, no path.
fn word(field: &str, text: String) -> Result<String, Invalid> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '@' | '$' | '\\');
    if text.len() <= NAME_CHARS_MAX && text.chars().all(is_good) && !text.starts_with(['-', '.']) {
        return Ok(text);
    }
    Err(Invalid::new(field, format!("{} is no name of a {field}", quoted(&text))))
}

/// A terminal on a device.
///
/// A WebSocket: binary messages are what is typed and what is shown. A text message
/// `{"type":"resize","columns":100,"rows":30}` gives it another size. At its end the server
/// says `{"type":"exited","code":0}`, or `"signal"`; where it must end before,
/// `{"type":"failed"}` with the reason. All that it shows is recorded. A browser, which
/// cannot set headers, offers the subprotocols `muster.terminal.v1` and
/// `muster.bearer.TOKEN`; the first is chosen. `muster terminal` uses it.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/devices/{device_uuid}/terminal", operation_id = "OpenTerminal",
    tag = "Remote sessions",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("device_uuid" = String, Path, description = "The device"),
        TerminalQuery,
    ),
    responses(
        (status = 101, description = "Switching to the WebSocket protocol"),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet or device", body = Error),
        (status = 409, description = "The device cannot do that, does not allow it, or is offline", body = Error),
        (status = 426, description = "Not a WebSocket handshake", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn open(
    State(app): State<App>,
    socket: SocketBearer,
    ApiPath((key, device)): ApiPath<(String, String)>,
    ApiQuery(query): ApiQuery<TerminalQuery>,
    handshake: Result<Handshake, ApiError>,
) -> Result<Response, ApiError> {
    let permitted = socket.bearer.fleet(Operation::OpenTerminal, &key).await?;
    let order = query.check(device)?;
    let (response, upgraded) = handshake?.accept()?;
    let begun = terminals::begin(&app, &permitted, &order).await;
    let begun = socket.bearer.told(Operation::OpenTerminal, begun).await?;
    let tasks = app.tunnels.tasks.clone();
    tasks.spawn(terminals::carry(app, begun, upgraded));
    Ok(socket.answer(response))
}

/// The recording of a terminal.
///
/// An asciicast of version 2, also while the terminal runs: then what there is of it.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/remote_sessions/{session_id}/recording", operation_id = "GetSessionRecording",
    tag = "Remote sessions",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("session_id" = String, Path, description = "The session"),
    ),
    responses(
        (status = 200, description = "The recording", content_type = "application/x-asciicast", body = String),
        (status = 404, description = "No such fleet or session, or no recording of it", body = Error),
        (status = 409, description = "The recording lies on another server", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn recording(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
) -> Result<Response, ApiError> {
    let permitted = bearer.fleet(Operation::GetSessionRecording, &key).await?;
    let opened = recordings::open(&app, &permitted, &uuid).await?;
    let headers = [
        (CONTENT_TYPE, "application/x-asciicast".to_owned()),
        (CONTENT_DISPOSITION, attachment(&format!("{}.cast", opened.session.uuid))),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(pieces(opened.file))).into_response())
}

/// Watch a terminal.
///
/// A WebSocket: binary messages are pieces of the recording, from its begin on and while it
/// grows. When the terminal has ended, a text message `{"type":"end"}`. Who watches cannot
/// type. A browser offers the same subprotocols as for a terminal.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/remote_sessions/{session_id}/watch", operation_id = "WatchSession",
    tag = "Remote sessions",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("session_id" = String, Path, description = "The session"),
    ),
    responses(
        (status = 101, description = "Switching to the WebSocket protocol"),
        (status = 404, description = "No such fleet or session, or no recording of it", body = Error),
        (status = 409, description = "The recording lies on another server", body = Error),
        (status = 426, description = "Not a WebSocket handshake", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn watch(
    State(app): State<App>,
    socket: SocketBearer,
    ApiPath((key, uuid)): ApiPath<(String, String)>,
    handshake: Result<Handshake, ApiError>,
) -> Result<Response, ApiError> {
    let permitted = socket.bearer.fleet(Operation::WatchSession, &key).await?;
    let (response, upgraded) = handshake?.accept()?;
    let opened = recordings::open(&app, &permitted, &uuid).await?;
    let response = socket.answer(response);
    let device_id = opened.session.device_id;
    let may = socket.while_it_may(app.clone(), Operation::WatchSession, key, device_id);
    let tasks = app.tunnels.tasks.clone();
    tasks.spawn(terminals::show(app, opened, upgraded, may));
    Ok(response)
}
