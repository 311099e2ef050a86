//! Terminals: how they ended, and which recordings are kept.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use sea_orm::sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait, QueryFilter};

use crate::db::{Db, Result, Tx};
use crate::entities::{remote_sessions, terminals};

/// What a session has more that is a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// With what its shell ended by itself.
    pub exit_code: Option<i64>,
    /// The signal that ended it.
    pub exit_signal: Option<i64>,
    /// Its recording reached its limit before the terminal ended.
    pub is_cut_short: bool,
    /// Its recording was not deleted.
    pub is_kept: bool,
}

/// How a terminal ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalEnd {
    /// With what its shell ended by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub exit_signal: Option<i32>,
    /// Its recording reached its limit before.
    pub is_cut_short: bool,
}

/// In the very words of the partial index.
fn is_kept() -> Expr {
    Expr::cust(r#""terminals"."is_kept" = TRUE"#)
}

fn ids_of(uuids: &[String]) -> SelectStatement {
    use remote_sessions::Column as S;
    Query::select().column(S::Id).from(remote_sessions::Entity).and_where(Expr::col(S::Uuid).is_in(uuids)).take()
}

fn is_of(uuids: &[String]) -> Expr {
    Expr::col((terminals::Entity, terminals::Column::SessionId)).in_subquery(ids_of(uuids))
}

impl<C: ConnectionTrait> Db<C> {
    /// Sessions of that server whose recordings are to be deleted by now, the oldest first.
    pub async fn recordings_due(&self, home: &str, limit: u64) -> Result<Vec<String>> {
        use {remote_sessions::Column as S, terminals::Column as T};
        let is_its = Expr::col((remote_sessions::Entity, S::Id)).equals((terminals::Entity, T::SessionId));
        let query = Query::select()
            .column((remote_sessions::Entity, S::Uuid))
            .from(terminals::Entity)
            .inner_join(remote_sessions::Entity, is_its)
            .and_where(is_kept())
            .and_where(Expr::col((terminals::Entity, T::DeleteAt)).lte(self.now().as_millis()))
            .and_where(Expr::col((remote_sessions::Entity, S::Home)).eq(home))
            .order_by((terminals::Entity, T::DeleteAt), Order::Asc)
            .order_by((terminals::Entity, T::SessionId), Order::Asc)
            .limit(limit)
            .take();
        let rows = self.conn.query_all(&query).await?;
        rows.iter().map(|row| Ok(row.try_get("", "uuid")?)).collect()
    }

    /// Which of those sessions there are.
    pub async fn known_remote_sessions(&self, uuids: &[String]) -> Result<Vec<String>> {
        use remote_sessions::Column as S;
        let query = Query::select()
            .column(S::Uuid)
            .from(remote_sessions::Entity)
            .and_where(Expr::col(S::Uuid).is_in(uuids))
            .take();
        let rows = self.conn.query_all(&query).await?;
        rows.iter().map(|row| Ok(row.try_get("", "uuid")?)).collect()
    }
}

impl Tx {
    /// Notes that a session is a terminal, whose recording is kept until then.
    pub(crate) async fn insert_terminal(&self, session_id: RowId, delete_at: Timestamp) -> Result<()> {
        let row = terminals::Model {
            session_id,
            exit_code: None,
            exit_signal: None,
            is_cut_short: false,
            is_kept: true,
            delete_at: delete_at.as_millis(),
        };
        terminals::Entity::insert(terminals::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(())
    }

    /// Notes how a terminal ended.
    pub async fn end_terminal(&self, session: &str, end: TerminalEnd) -> Result<()> {
        let ended = terminals::ActiveModel {
            exit_code: Set(end.exit_code.map(i64::from)),
            exit_signal: Set(end.exit_signal.map(i64::from)),
            is_cut_short: Set(end.is_cut_short),
            ..Default::default()
        };
        terminals::Entity::update_many().set(ended).filter(is_of(&[session.to_owned()])).exec(&self.conn).await?;
        Ok(())
    }

    /// Notes that the recordings of those sessions are deleted.
    pub async fn forget_recordings(&self, sessions: &[String]) -> Result<()> {
        let forgotten = terminals::ActiveModel { is_kept: Set(false), ..Default::default() };
        terminals::Entity::update_many().set(forgotten).filter(is_of(sessions)).exec(&self.conn).await?;
        Ok(())
    }
}
