//! The audit log: who did what, when and from where. Written in the transaction
//! of what it tells, so that neither exists without the other.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::invalid::Invalid;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use crate::db::{Db, Result, Tx};
use crate::entities::{audit_events, fleets};

/// One entry to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAuditEvent {
    /// Whose log it is in.
    pub account_id: RowId,
    /// The fleet that was acted on.
    pub fleet_id: Option<RowId>,
    /// Who acted: `user:NAME`, `device:UUID`, `pairing-token`, `anonymous`; `muster-admin` for
    /// that command, `server` for the clock.
    pub actor: String,
    /// What was done.
    pub action: Operation,
    /// What it was done to: `device:d-…`, `tag:London`.
    pub subject: String,
    /// Where the request came from; empty when nobody asked.
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
    /// The key of the fleet that was acted on; empty for none.
    pub project_key: String,
    /// From where.
    pub source_ip: String,
    /// More, as JSON.
    pub detail: String,
}

/// Which entries are meant: those of which everything that is named here is so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AuditFilter {
    /// Who acted.
    pub actor: Option<String>,
    /// The name of an operation.
    pub action: Option<String>,
    /// What was acted on.
    pub subject: Option<String>,
    /// The key of the fleet, which may be gone by now.
    pub project_key: Option<String>,
    /// Where the request came from.
    pub source_ip: Option<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

impl AuditFilter {
    fn condition(&self, account_id: RowId) -> Condition {
        use audit_events::Column as A;
        let texts = [
            (A::Actor, &self.actor),
            (A::Action, &self.action),
            (A::Subject, &self.subject),
            (A::ProjectKey, &self.project_key),
            (A::SourceIp, &self.source_ip),
        ];
        let texts = texts.into_iter().filter_map(|(column, value)| value.as_ref().map(|value| column.eq(value)));
        texts
            .fold(Condition::all().add(A::AccountId.eq(account_id)), Condition::add)
            .add_option(self.from.map(|from| A::At.gte(from.as_millis())))
            .add_option(self.to.map(|to| A::At.lt(to.as_millis())))
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// The newest `limit` matching entries of an account's log behind the row `after`,
    /// newest first.
    pub async fn audit_page(
        &self,
        account_id: RowId,
        filter: &AuditFilter,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<Vec<AuditEvent>> {
        use audit_events::Column as A;
        let mut query = audit_events::Entity::find()
            .filter(filter.condition(account_id))
            .order_by_desc(A::At)
            .order_by_desc(A::Id)
            .limit(limit);
        if let Some(after) = after {
            let at = self.audited_at(account_id, after).await?;
            let place = Expr::tuple([Expr::col(A::At), Expr::col(A::Id)]);
            query = query.filter(place.lt(Expr::tuple([Expr::val(at), Expr::val(after)])));
        }
        let rows = query.all(&self.conn).await?.into_iter();
        Ok(rows
            .map(|row| AuditEvent {
                id: row.id,
                at: Timestamp::from_millis(row.at),
                actor: row.actor,
                action: row.action,
                subject: row.subject,
                project_key: row.project_key,
                source_ip: row.source_ip,
                detail: row.detail,
            })
            .collect())
    }

    /// The moment of an entry, in milliseconds since 1970.
    async fn audited_at(&self, account_id: RowId, id: RowId) -> Result<i64> {
        let query = audit_events::Entity::find()
            .select_only()
            .column(audit_events::Column::At)
            .filter(audit_events::Column::Id.eq(id))
            .filter(audit_events::Column::AccountId.eq(account_id));
        let at: Option<i64> = query.into_tuple().one(&self.conn).await?;
        Ok(at.ok_or_else(|| Invalid::new("after", "is not the \"after\" of an earlier page"))?)
    }

    /// How many entries match.
    pub async fn audit_count(&self, account_id: RowId, filter: &AuditFilter) -> Result<u64> {
        Ok(audit_events::Entity::find().filter(filter.condition(account_id)).count(&self.conn).await?)
    }
}

impl Tx {
    /// Writes an entry.
    pub async fn audit(&self, event: &NewAuditEvent) -> Result<()> {
        self.audit_all(std::slice::from_ref(event)).await
    }

    /// Writes entries: two statements, whatever the number.
    pub async fn audit_all(&self, events: &[NewAuditEvent]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let keys = self.keys_of_fleets(events.iter().filter_map(|event| event.fleet_id)).await?;
        let key = |fleet_id: Option<RowId>| fleet_id.and_then(|id| keys.get(&id)).cloned().unwrap_or_default();
        let rows =
            events.iter().map(|event| audit_events::ActiveModel::from(self.audit_row(event, key(event.fleet_id))));
        audit_events::Entity::insert_many(rows).exec_without_returning(&self.conn).await?;
        Ok(())
    }

    fn audit_row(&self, event: &NewAuditEvent, project_key: String) -> audit_events::Model {
        audit_events::Model {
            id: self.next_id(),
            account_id: event.account_id,
            fleet_id: event.fleet_id,
            at: self.now().as_millis(),
            actor: event.actor.clone(),
            action: event.action.name().to_owned(),
            subject: event.subject.clone(),
            source_ip: event.source_ip.clone(),
            detail: event.detail.to_string(),
            project_key,
        }
    }

    /// The keys are written down, since a log outlives the fleets that it tells of.
    async fn keys_of_fleets(&self, ids: impl Iterator<Item = RowId>) -> Result<BTreeMap<RowId, String>> {
        let ids: BTreeSet<RowId> = ids.collect();
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let query = fleets::Entity::find()
            .select_only()
            .columns([fleets::Column::Id, fleets::Column::ProjectKey])
            .filter(fleets::Column::Id.is_in(ids));
        let keys: Vec<(RowId, String)> = query.into_tuple().all(&self.conn).await?;
        Ok(keys.into_iter().collect())
    }
}
