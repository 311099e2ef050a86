//! The audit log as people read it: page by page, or as one file.

use futures_util::{Stream, StreamExt, stream};
use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_store::audit::{AuditEvent, AuditFilter};
use serde_json::Value;

use super::PermittedAccount;
use crate::app::App;
use crate::error::{OpError, Result};

/// Entries that an export reads at once; it holds no more than these.
const EXPORT_PAGE: u64 = 500;

/// One entry, with its detail taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Names the entry.
    pub id: RowId,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What: the name of an operation.
    pub action: String,
    /// To what.
    pub subject: String,
    /// In which fleet; `None` for the account as a whole.
    pub project_key: Option<String>,
    /// From where.
    pub source_ip: String,
    /// What was before; null where nothing was changed that had been there.
    pub before: Value,
    /// What is now; null where nothing is any more.
    pub after: Value,
    /// What else there is to tell.
    pub detail: Value,
}

impl From<AuditEvent> for Entry {
    fn from(event: AuditEvent) -> Self {
        let mut detail = serde_json::from_str(&event.detail).unwrap_or(Value::Null);
        let mut take = |key: &str| detail.as_object_mut().and_then(|map| map.remove(key)).unwrap_or(Value::Null);
        Self {
            before: take("before"),
            after: take("after"),
            detail,
            id: event.id,
            at: event.at,
            actor: event.actor,
            action: event.action,
            subject: event.subject,
            project_key: Some(event.project_key).filter(|key| !key.is_empty()),
            source_ip: event.source_ip,
        }
    }
}

/// A page of the log, newest first, and whether there are more.
pub async fn page(
    app: &App,
    permitted: &PermittedAccount,
    filter: &AuditFilter,
    after: Option<RowId>,
    limit: u64,
) -> Result<(Vec<Entry>, bool)> {
    let mut events = app.store.read().audit_page(permitted.account_id(), filter, after, limit + 1).await?;
    let is_more = events.len() as u64 > limit;
    events.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok((events.into_iter().map(Entry::from).collect(), is_more))
}

/// Everything that matches, newest first, some at a time. What is logged meanwhile is
/// newer than the first entry, and so is not in it.
pub async fn export(
    app: &App,
    permitted: &PermittedAccount,
    filter: AuditFilter,
) -> Result<impl Stream<Item = Result<Vec<Entry>>> + Send + 'static> {
    // The first page is read before anything is answered, so that an error is still an error.
    let (first, is_more) = page(app, permitted, &filter, None, EXPORT_PAGE).await?;
    let rest = first.last().filter(|_| is_more).map(|last| last.id);
    let state = (app.clone(), permitted.clone(), filter);
    let others = stream::unfold(rest.map(|after| (state, after)), |state| async move {
        let ((app, permitted, filter), after) = state?;
        match page(&app, &permitted, &filter, Some(after), EXPORT_PAGE).await {
            Ok((entries, is_more)) => {
                let next = entries.last().filter(|_| is_more).map(|last| last.id);
                let next = next.map(|after| ((app, permitted, filter), after));
                Some((Ok(entries), next))
            }
            Err(error) => Some((Err::<_, OpError>(error), None)),
        }
    });
    Ok(stream::iter([Ok(first)]).chain(others))
}
