//! Sessions of people on devices: begun, ended, and whether an open one still has the right
//! to be.

use std::collections::BTreeSet;

use muster_core::access::Permission;
use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::remote_session::{EndReason, SessionKind};
use muster_core::tunnel::Standing;
use rand::RngExt;
use sea_orm::sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter};

use crate::db::{Db, Result, Tx};
use crate::entities::{devices, remote_sessions, terminals};
use crate::error::StoreError;
use crate::page::cut;
use crate::standing::{StandingRow, with_standing};
use crate::terminals::Terminal;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSession {
    /// The row.
    pub id: RowId,
    /// As the API names it.
    pub uuid: String,
    /// Whose it is.
    pub account_id: RowId,
    /// Which fleet's it is.
    pub fleet_id: RowId,
    /// The device's row.
    pub device_id: RowId,
    /// The device.
    pub device_uuid: String,
    /// What it is for.
    pub kind: SessionKind,
    /// Where it ends in the device's network; empty for the device itself.
    pub host: String,
    /// What it reaches there, in the words of its kind.
    pub target: String,
    /// Who opened it.
    pub created_by: String,
    /// From where.
    pub source_ip: String,
    /// Not over.
    pub is_open: bool,
    /// Why it is over; empty while it is not.
    pub reason_code: String,
    /// The same as a sentence.
    pub reason: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub ends_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Bytes to the device; told at its end.
    pub bytes_to_device: u64,
    /// Bytes from the device; told at its end.
    pub bytes_from_device: u64,
    /// Where it is a terminal.
    pub terminal: Option<Terminal>,
}

/// A session to be made.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The fleet of its device.
    pub fleet_id: RowId,
    /// Its device.
    pub device_id: RowId,
    /// What it is for.
    pub kind: SessionKind,
    /// What its user must be allowed for as long as it is open.
    pub permission: Permission,
    /// Where it ends in the device's network; empty for the device itself.
    pub host: String,
    /// What it reaches there, in the words of its kind.
    pub target: String,
    /// Who opens it.
    pub created_by: String,
    /// From where.
    pub source_ip: String,
    /// The token with which they do.
    pub token_id: RowId,
    /// The server that holds it, by a name that outlives its process.
    pub home: String,
    /// When it ends by itself.
    pub ends_at: Timestamp,
    /// Where it is a terminal, until when its recording is kept.
    pub recording_until: Option<Timestamp>,
}

/// What a session has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionBytes {
    /// To the device.
    pub to_device: u64,
    /// From the device.
    pub from_device: u64,
}

/// Which sessions are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Of that device alone.
    pub device_id: Option<RowId>,
    /// Of these devices alone.
    pub device_ids: Option<BTreeSet<RowId>>,
    /// Of that kind alone.
    pub kind: Option<SessionKind>,
    /// Open ones alone, or those that are over.
    pub is_open: Option<bool>,
}

#[derive(FromQueryResult)]
struct Row {
    id: i64,
    uuid: String,
    account_id: i64,
    fleet_id: i64,
    device_id: i64,
    device_uuid: String,
    kind: i16,
    host: String,
    target: String,
    created_by: String,
    source_ip: String,
    is_open: bool,
    reason_code: String,
    reason: String,
    created_at: i64,
    ends_at: i64,
    finished_at: i64,
    bytes_to_device: i64,
    bytes_from_device: i64,
    exit_code: Option<i64>,
    exit_signal: Option<i64>,
    is_cut_short: Option<bool>,
    is_kept: Option<bool>,
}

impl TryFrom<Row> for RemoteSession {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let terminal = row.is_kept.map(|is_kept| Terminal {
            exit_code: row.exit_code,
            exit_signal: row.exit_signal,
            is_cut_short: row.is_cut_short.unwrap_or(false),
            is_kept,
        });
        let corrupt = || StoreError::Corrupt { table: "remote_sessions", problem: "kind".to_owned() };
        Ok(Self {
            id: row.id,
            uuid: row.uuid,
            account_id: row.account_id,
            fleet_id: row.fleet_id,
            device_id: row.device_id,
            device_uuid: row.device_uuid,
            kind: SessionKind::from_code(row.kind).ok_or_else(corrupt)?,
            host: row.host,
            target: row.target,
            created_by: row.created_by,
            source_ip: row.source_ip,
            is_open: row.is_open,
            reason_code: row.reason_code,
            reason: row.reason,
            created_at: Timestamp::from_millis(row.created_at),
            ends_at: Timestamp::from_millis(row.ends_at),
            finished_at: crate::targets::moment(row.finished_at),
            bytes_to_device: row.bytes_to_device.try_into().unwrap_or(0),
            bytes_from_device: row.bytes_from_device.try_into().unwrap_or(0),
            terminal,
        })
    }
}

/// Not over, in the very words of the partial index.
fn is_open() -> Expr {
    Expr::cust(r#""remote_sessions"."is_open" = TRUE"#)
}

/// Over, in the very words of the partial index.
fn is_over() -> Expr {
    Expr::cust(r#""remote_sessions"."is_open" = FALSE"#)
}

fn of(column: remote_sessions::Column) -> Expr {
    Expr::col((remote_sessions::Entity, column))
}

fn is_its_device() -> Expr {
    Expr::col((devices::Entity, devices::Column::Id))
        .equals((remote_sessions::Entity, remote_sessions::Column::DeviceId))
}

fn select_sessions() -> SelectStatement {
    use {remote_sessions::Column as S, terminals::Column as T};
    let names = [
        S::Id,
        S::Uuid,
        S::FleetId,
        S::DeviceId,
        S::Kind,
        S::Host,
        S::Target,
        S::CreatedBy,
        S::SourceIp,
        S::IsOpen,
        S::ReasonCode,
        S::Reason,
        S::CreatedAt,
        S::EndsAt,
        S::FinishedAt,
        S::BytesToDevice,
        S::BytesFromDevice,
    ];
    Query::select()
        .columns(names.map(|column| (remote_sessions::Entity, column)))
        .column((devices::Entity, devices::Column::AccountId))
        .expr_as(Expr::col((devices::Entity, devices::Column::Uuid)), "device_uuid")
        .from(remote_sessions::Entity)
        .columns([T::ExitCode, T::ExitSignal, T::IsCutShort, T::IsKept].map(|column| (terminals::Entity, column)))
        .inner_join(devices::Entity, is_its_device())
        .left_join(
            terminals::Entity,
            Expr::col((terminals::Entity, T::SessionId)).equals((remote_sessions::Entity, S::Id)),
        )
        .take()
}

impl<C: ConnectionTrait> Db<C> {
    /// A page of a fleet's sessions, the newest first, behind the row `after`; and whether
    /// there are more.
    pub async fn remote_sessions(
        &self,
        fleet_id: RowId,
        filter: &SessionFilter,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<RemoteSession>, bool)> {
        use remote_sessions::Column as S;
        let mut query = self.of_fleet(select_sessions(), fleet_id, filter);
        if let Some(after) = after {
            query.and_where(of(S::Id).lt(after));
        }
        let query = query.order_by((remote_sessions::Entity, S::Id), Order::Desc).limit(limit + 1).take();
        let rows = self.conn.query_all(&query).await?;
        let all: Result<Vec<_>> =
            rows.iter().map(|row| RemoteSession::try_from(Row::from_query_result(row, "")?)).collect();
        Ok(cut(all?, limit))
    }

    /// How many sessions of a fleet that filter lets through.
    pub async fn remote_sessions_count(&self, fleet_id: RowId, filter: &SessionFilter) -> Result<u64> {
        let all = Query::select().expr_as(Expr::cust("COUNT(*)"), "number").from(remote_sessions::Entity).take();
        let row = self.conn.query_one(&self.of_fleet(all, fleet_id, filter)).await?;
        let number: i64 = row.map(|row| row.try_get("", "number")).transpose()?.unwrap_or(0);
        Ok(number.try_into().unwrap_or(0))
    }

    fn of_fleet(&self, mut query: SelectStatement, fleet_id: RowId, filter: &SessionFilter) -> SelectStatement {
        use remote_sessions::Column as S;
        query.and_where(of(S::FleetId).eq(fleet_id));
        if let Some(device_id) = filter.device_id {
            query.and_where(of(S::DeviceId).eq(device_id));
        }
        if let Some(device_ids) = &filter.device_ids {
            query.and_where(of(S::DeviceId).is_in(device_ids.iter().copied()));
        }
        if let Some(kind) = filter.kind {
            query.and_where(of(S::Kind).eq(kind.code()));
        }
        if let Some(is_open) = filter.is_open {
            query.and_where(of(S::IsOpen).eq(is_open));
        }
        query
    }

    /// A session of that fleet.
    pub async fn find_remote_session(&self, fleet_id: RowId, uuid: &str) -> Result<Option<RemoteSession>> {
        use remote_sessions::Column as S;
        let query = select_sessions().and_where(of(S::FleetId).eq(fleet_id)).and_where(of(S::Uuid).eq(uuid)).take();
        let row = self.conn.query_one(&query).await?;
        row.map(|row| RemoteSession::try_from(Row::from_query_result(&row, "")?)).transpose()
    }

    /// The open sessions of that server: the uuid of each, and what holds of its right to
    /// be. One statement.
    pub async fn standing_remote_sessions(&self, home: &str) -> Result<Vec<(String, Standing)>> {
        use remote_sessions::Column as S;
        let open = Query::select()
            .columns([S::Uuid, S::FleetId, S::Host].map(|column| (remote_sessions::Entity, column)))
            .from(remote_sessions::Entity)
            .inner_join(devices::Entity, is_its_device())
            .and_where(is_open())
            .and_where(of(S::Home).eq(home))
            .take();
        let query =
            with_standing(open, remote_sessions::Entity, S::TokenId, S::FleetId, &of(S::Permission), self.now());
        let rows = self.conn.query_all(&query).await?;
        let read = |row| {
            let fleet_id: i64 = sea_orm::QueryResult::try_get(row, "", "fleet_id")?;
            let standing = StandingRow::from_query_result(row, "")?.standing(fleet_id, self.now());
            Ok((row.try_get("", "uuid")?, standing))
        };
        rows.iter().map(read).collect()
    }

    /// The open sessions of that server.
    pub async fn remote_sessions_held_by(&self, home: &str) -> Result<Vec<RemoteSession>> {
        let query = select_sessions().and_where(is_open()).and_where(of(remote_sessions::Column::Home).eq(home)).take();
        let rows = self.conn.query_all(&query).await?;
        rows.iter().map(|row| RemoteSession::try_from(Row::from_query_result(row, "")?)).collect()
    }
}

impl Tx {
    /// Begins a session, and answers with its uuid.
    pub async fn insert_remote_session(&self, new: &NewSession) -> Result<String> {
        let uuid = self.random(|rng| uuid::Builder::from_random_bytes(rng.random()).into_uuid().to_string());
        let row = remote_sessions::Model {
            id: self.next_id(),
            uuid: uuid.clone(),
            fleet_id: new.fleet_id,
            device_id: new.device_id,
            kind: new.kind.code(),
            permission: new.permission.as_str().to_owned(),
            host: new.host.clone(),
            target: new.target.clone(),
            created_by: new.created_by.clone(),
            source_ip: new.source_ip.clone(),
            token_id: new.token_id,
            home: new.home.clone(),
            is_open: true,
            reason_code: String::new(),
            reason: String::new(),
            created_at: self.now().as_millis(),
            ends_at: new.ends_at.as_millis(),
            finished_at: Timestamp::NEVER.as_millis(),
            bytes_to_device: 0,
            bytes_from_device: 0,
        };
        let id = row.id;
        let row = remote_sessions::ActiveModel::from(row);
        remote_sessions::Entity::insert(row).exec_without_returning(&self.conn).await?;
        if let Some(until) = new.recording_until {
            self.insert_terminal(id, until).await?;
        }
        Ok(uuid)
    }

    /// Ends a session. Answers whether it was open.
    pub async fn end_remote_session(&self, uuid: &str, reason: EndReason, bytes: SessionBytes) -> Result<bool> {
        use remote_sessions::Column as S;
        let number = |bytes: u64| Set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let ended = remote_sessions::ActiveModel {
            is_open: Set(false),
            reason_code: Set(reason.code.to_owned()),
            reason: Set(reason.text.to_owned()),
            finished_at: Set(self.now().as_millis()),
            bytes_to_device: number(bytes.to_device),
            bytes_from_device: number(bytes.from_device),
            ..Default::default()
        };
        let ended = remote_sessions::Entity::update_many()
            .set(ended)
            .filter(S::Uuid.eq(uuid))
            .filter(is_open())
            .exec(&self.conn)
            .await?;
        Ok(ended.rows_affected > 0)
    }

    /// Forgets sessions that ended before that moment, the oldest first, at most `limit`; but
    /// none whose recording is kept. Answers how many those were.
    pub async fn forget_remote_sessions(&self, before: Timestamp, limit: u64) -> Result<u64> {
        use {remote_sessions::Column as S, terminals::Column as T};
        let recording = Query::select()
            .expr(Expr::value(1))
            .from(terminals::Entity)
            .and_where(Expr::col((terminals::Entity, T::SessionId)).equals((remote_sessions::Entity, S::Id)))
            .and_where(Expr::col((terminals::Entity, T::IsKept)).eq(true))
            .take();
        let some = Query::select()
            .column(S::Id)
            .from(remote_sessions::Entity)
            .and_where(is_over())
            .and_where(of(S::FinishedAt).lt(before.as_millis()))
            .and_where(Expr::exists(recording).not())
            .order_by((remote_sessions::Entity, S::FinishedAt), Order::Asc)
            .limit(limit)
            .take();
        let gone = remote_sessions::Entity::delete_many().filter(S::Id.in_subquery(some)).exec(&self.conn).await?;
        Ok(gone.rows_affected)
    }
}
