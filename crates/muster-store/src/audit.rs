//! The audit log: who did what, when and from where. Written in the transaction
//! of what it tells, so that neither exists without the other.

use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::db::{Db, Result, Tx};
use crate::entities::audit_events;

/// One entry to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAuditEvent {
    /// Whose log it is in.
    pub account_id: RowId,
    /// The fleet that was acted on.
    pub fleet_id: Option<RowId>,
    /// Who acted: `user:NAME`, `device:UUID`, `pairing-token`.
    pub actor: String,
    /// What was done.
    pub action: Operation,
    /// What it was done to: `device:d-…`, `tag:London`.
    pub subject: String,
    /// Where the request came from.
    pub source_ip: String,
    /// More about it, as JSON; no secrets.
    pub detail: serde_json::Value,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// The row.
    pub id: RowId,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub subject: String,
    /// From where.
    pub source_ip: String,
    /// More, as JSON.
    pub detail: String,
}

impl<C: ConnectionTrait> Db<C> {
    /// The newest `limit` entries of an account's log before the row `before`.
    pub async fn audit_page(&self, account_id: RowId, before: Option<RowId>, limit: u64) -> Result<Vec<AuditEvent>> {
        let mut query = audit_events::Entity::find()
            .filter(audit_events::Column::AccountId.eq(account_id))
            .order_by_desc(audit_events::Column::Id)
            .limit(limit);
        if let Some(before) = before {
            query = query.filter(audit_events::Column::Id.lt(before));
        }
        let rows = query.all(&self.conn).await?.into_iter();
        Ok(rows
            .map(|row| AuditEvent {
                id: row.id,
                at: Timestamp::from_millis(row.at),
                actor: row.actor,
                action: row.action,
                subject: row.subject,
                source_ip: row.source_ip,
                detail: row.detail,
            })
            .collect())
    }
}

impl Tx {
    /// Writes an entry.
    pub async fn audit(&self, event: &NewAuditEvent) -> Result<()> {
        let row = audit_events::Model {
            id: self.next_id(),
            account_id: event.account_id,
            fleet_id: event.fleet_id,
            at: self.now().as_millis(),
            actor: event.actor.clone(),
            action: event.action.name().to_owned(),
            subject: event.subject.clone(),
            source_ip: event.source_ip.clone(),
            detail: event.detail.to_string(),
        };
        audit_events::Entity::insert(audit_events::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(())
    }
}
