//! The audit log: pages, and one file. The calls are Muster's own.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::invalid::{Invalid, quoted};
use muster_store::audit::AuditFilter;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Bearer;
use super::wire::{Error, PageQuery, PaginationInfo};
use crate::access::audit_log::{self, Entry};
use crate::app::App;
use crate::error::OpError;
use crate::http::cursor::PageRequest;
use crate::http::{ApiError, ApiQuery};

/// An entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub struct EntryV2 {
    event_id: i64,
    #[schema(example = "2025-06-09T14:10:44Z")]
    time: String,
    /// `user:…`, `device:…`, `pairing-token`, `anonymous` for a failed login, `muster-admin`
    /// for that command, or `server` for what the clock did.
    #[schema(example = "user:admin")]
    actor: String,
    /// The `operationId` of what was asked.
    #[schema(example = "PatchDevice")]
    action: String,
    #[schema(example = "device:d-1a2b-3c4d")]
    subject: String,
    /// Null for what concerns the account as a whole.
    #[schema(required = true)]
    project_key: Option<String>,
    source_ip: String,
    /// What was before; null where there was nothing.
    #[schema(value_type = Option<Object>, required = true)]
    before: Value,
    /// What is now; null where nothing is.
    #[schema(value_type = Option<Object>, required = true)]
    after: Value,
    /// What else there is to tell. `refused` says why nothing was done.
    #[schema(value_type = Object)]
    detail: Value,
}

impl From<Entry> for EntryV2 {
    fn from(entry: Entry) -> Self {
        Self {
            event_id: entry.id,
            time: entry.at.to_rfc3339(),
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            project_key: entry.project_key,
            source_ip: entry.source_ip,
            before: entry.before,
            after: entry.after,
            detail: entry.detail,
        }
    }
}

/// A page of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    events: Vec<EntryV2>,
    pagination_info: PaginationInfo,
}

/// What the address of the audit log asks for.
#[derive(Debug, Deserialize)]
pub struct AuditQuery {
    actor: Option<String>,
    action: Option<String>,
    subject: Option<String>,
    fleet: Option<String>,
    from: Option<String>,
    to: Option<String>,
    source_ip: Option<String>,
    after: Option<String>,
    limit: Option<String>,
    format: Option<String>,
}

impl AuditQuery {
    fn filter(&self) -> Result<AuditFilter, Invalid> {
        if let Some(action) = self.action.as_deref().filter(|action| Operation::from_name(action).is_none()) {
            return Err(Invalid::new("action", format!("{} is no operation", quoted(action))));
        }
        Ok(AuditFilter {
            actor: text("actor", self.actor.as_deref())?,
            action: self.action.clone(),
            subject: text("subject", self.subject.as_deref())?,
            project_key: text("fleet", self.fleet.as_deref())?,
            source_ip: text("source_ip", self.source_ip.as_deref())?,
            from: moment("from", self.from.as_deref())?,
            to: moment("to", self.to.as_deref())?,
        })
    }
}

/// A word of a filter, as no database refuses it.
fn text(field: &str, value: Option<&str>) -> Result<Option<String>, Invalid> {
    match value {
        Some(value) if value.is_empty() || value.contains('\0') => {
            Err(Invalid::new(field, format!("{} is nothing that the log could hold", quoted(value))))
        }
        other => Ok(other.map(str::to_owned)),
    }
}

fn moment(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, Invalid> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || Invalid::new(field, format!("{} is no moment like 2025-06-09T14:10:44Z", quoted(text)));
    Timestamp::from_rfc3339(text).map(Some).ok_or_else(wrong)
}

/// The account's audit log, newest first.
///
/// Of several filters all must fit. `from` is the first moment that is meant, `to` the
/// first that is not.
#[utoipa::path(
    get, path = "/api/v2/account/audit-log", operation_id = "ListAuditLog", tag = "Account",
    params(
        ("actor" = Option<String>, Query, description = "Who acted, like `user:admin`"),
        ("action" = Option<String>, Query, description = "The `operationId` of what was asked"),
        ("subject" = Option<String>, Query, description = "What was acted on, like `device:d-1a2b-3c4d`"),
        ("fleet" = Option<String>, Query, description = "The key of a fleet, which may be gone by now"),
        ("from" = Option<String>, Query, description = "Not before this moment, like `2025-06-09T14:10:44Z`"),
        ("to" = Option<String>, Query, description = "Before this moment"),
        ("source_ip" = Option<String>, Query, description = "The address that the request came from"),
        PageQuery,
    ),
    responses(
        (status = 200, description = "A page of entries", body = AuditPage),
        (status = 400, description = "A parameter is wrong", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiQuery(query): ApiQuery<AuditQuery>,
) -> Result<Json<AuditPage>, ApiError> {
    let permitted = bearer.account(Operation::ListAuditLog).await?;
    let (filter, page) = (query.filter()?, PageRequest::parse(query.after.as_deref(), query.limit.as_deref())?);
    let (entries, is_more) = audit_log::page(&app, &permitted, &filter, page.after, page.limit).await?;
    let question = (permitted.account_id(), &filter);
    let counted = page.total(question, app.store.read().audit_count(permitted.account_id(), &filter)).await?;
    let after = page.next_counted(entries.last().map(|entry| entry.id), is_more, counted);
    let events = entries.into_iter().map(EntryV2::from).collect();
    Ok(Json(AuditPage { events, pagination_info: PaginationInfo { after, total: counted.total } }))
}

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Csv,
    JsonLines,
}

impl Format {
    fn parse(name: Option<&str>) -> Result<Self, Invalid> {
        match name {
            Some("csv") => Ok(Self::Csv),
            Some("jsonl") => Ok(Self::JsonLines),
            None => Err(Invalid::missing("format")),
            Some(other) => Err(Invalid::new("format", format!("{} is neither csv nor jsonl", quoted(other)))),
        }
    }

    const fn headers(self) -> (&'static str, &'static str) {
        match self {
            Self::Csv => ("text/csv", "attachment; filename=\"audit-log.csv\""),
            Self::JsonLines => ("application/x-ndjson", "attachment; filename=\"audit-log.jsonl\""),
        }
    }

    /// What stands before the first entry.
    fn head(self) -> Result<Vec<u8>, OpError> {
        match self {
            Self::Csv => csv_bytes([COLUMNS.map(str::to_owned)].into_iter()),
            Self::JsonLines => Ok(Vec::new()),
        }
    }

    fn write(self, entries: Vec<Entry>) -> Result<Vec<u8>, OpError> {
        let entries = entries.into_iter().map(EntryV2::from);
        match self {
            Self::Csv => csv_bytes(entries.map(cells)),
            Self::JsonLines => {
                let mut lines = Vec::new();
                for entry in entries {
                    serde_json::to_writer(&mut lines, &entry).map_err(|error| OpError::Internal(error.to_string()))?;
                    lines.push(b'\n');
                }
                Ok(lines)
            }
        }
    }
}

const COLUMNS: [&str; 10] =
    ["event_id", "time", "actor", "action", "subject", "project_key", "source_ip", "before", "after", "detail"];

fn cells(entry: EntryV2) -> [String; COLUMNS.len()] {
    let json = |value: Value| if value.is_null() { String::new() } else { value.to_string() };
    [
        entry.event_id.to_string(),
        entry.time,
        entry.actor,
        entry.action,
        entry.subject,
        entry.project_key.unwrap_or_default(),
        entry.source_ip,
        json(entry.before),
        json(entry.after),
        json(entry.detail),
    ]
    .map(harmless)
}

/// A spreadsheet takes what begins with one of these for a formula and carries it
/// out; an apostrophe before it makes it text.
fn harmless(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

fn csv_bytes(rows: impl Iterator<Item = [String; COLUMNS.len()]>) -> Result<Vec<u8>, OpError> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    for row in rows {
        writer.write_record(&row).map_err(|error| OpError::Internal(error.to_string()))?;
    }
    writer.into_inner().map_err(|error| OpError::Internal(error.to_string()))
}

/// The whole audit log, or what a filter leaves of it, as one file, newest first.
///
/// A connection that breaks before the end means that the file is not whole.
#[utoipa::path(
    get, path = "/api/v2/account/audit-log/export", operation_id = "ExportAuditLog", tag = "Account",
    params(
        ("format" = Option<String>, Query, description = "`csv`, or `jsonl` for one JSON object on each line; must be given"),
        ("actor" = Option<String>, Query, description = "Who acted, like `user:admin`"),
        ("action" = Option<String>, Query, description = "The `operationId` of what was asked"),
        ("subject" = Option<String>, Query, description = "What was acted on, like `device:d-1a2b-3c4d`"),
        ("fleet" = Option<String>, Query, description = "The key of a fleet, which may be gone by now"),
        ("from" = Option<String>, Query, description = "Not before this moment, like `2025-06-09T14:10:44Z`"),
        ("to" = Option<String>, Query, description = "Before this moment"),
        ("source_ip" = Option<String>, Query, description = "The address that the request came from"),
    ),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/csv"),
            (String = "application/x-ndjson"),
        )),
        (status = 400, description = "A parameter is wrong", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn export(
    State(app): State<App>,
    bearer: Bearer,
    ApiQuery(query): ApiQuery<AuditQuery>,
) -> Result<Response, ApiError> {
    let permitted = bearer.account(Operation::ExportAuditLog).await?;
    let format = Format::parse(query.format.as_deref())?;
    let pages = audit_log::export(&app, &permitted, query.filter()?).await?;
    let head = format.head();
    let parts = pages.map(move |page| page.and_then(|entries| format.write(entries)));
    let parts = futures_util::stream::iter([head]).chain(parts).map(|part| match part {
        Ok(bytes) => Ok(Bytes::from(bytes)),
        Err(error) => {
            if let OpError::Internal(detail) = &error {
                tracing::error!(detail, "an export of the audit log broke off");
            }
            Err(error)
        }
    });
    let (kind, disposition) = format.headers();
    Ok(([(CONTENT_TYPE, kind), (CONTENT_DISPOSITION, disposition)], Body::from_stream(parts)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (cell, expected) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("user:=1", "user:=1"),
            ("", ""),
        ] {
            assert_eq!(harmless(cell.to_owned()), expected);
        }
    }
}
