//! Runs of remote commands: made for every device that a filter matches, in a fixed number
//! of statements; looked up; aborted; forgotten.

use std::time::Duration;

use muster_core::access_grant::Reach;
use muster_core::clock::Timestamp;
use muster_core::command::{CommandStatus, CommandTarget, aborted_before_start, without_agent};
use muster_core::ids::{CommandRunUuid, RowId};
use muster_core::limits::COMMAND_ABORT_DEADLINE;
use sea_orm::sea_query::{CaseStatement, Condition, Expr, ExprTrait, Order, Query};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::Value;

use crate::db::{Db, Result, Tx};
use crate::entities::{command_outputs, command_runs, command_targets, devices};
use crate::error::StoreError;
use crate::filter::{Matching, SetForm, column};
use crate::page::{cut, subquery};
use crate::saved_commands::{duration, millis};
use crate::targets::Aborted;

/// A run of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandRun {
    /// The row.
    pub id: RowId,
    /// As every API names it.
    pub uuid: String,
    /// The name of the saved command, as it was then; empty for a script of its own.
    pub command_name: String,
    /// What is run.
    pub script: String,
    /// The user of the device who runs it; empty for the one that the device chooses.
    pub user: String,
    /// How long it may run on each device.
    pub timeout: Duration,
    /// Which devices were meant, in the words of the APIs.
    pub device_filter: Value,
    /// How many those were.
    pub device_count: u64,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When no further device begins.
    pub expires_at: Timestamp,
}

/// A run to be made.
#[derive(Clone, Debug)]
pub struct NewCommandRun {
    /// The fleet.
    pub fleet_id: RowId,
    /// The name of the saved command; empty for a script of its own.
    pub command_name: String,
    /// What is run.
    pub script: String,
    /// The user of the device who runs it; empty for the one that the device chooses.
    pub user: String,
    /// How long it may run on each device.
    pub timeout: Duration,
    /// Which devices are meant, in the words of the APIs.
    pub device_filter: Value,
    /// Who makes it.
    pub created_by: String,
    /// When no further device begins.
    pub expires_at: Timestamp,
}

impl TryFrom<command_runs::Model> for CommandRun {
    type Error = StoreError;

    fn try_from(row: command_runs::Model) -> Result<Self> {
        let corrupt =
            |error: serde_json::Error| StoreError::Corrupt { table: "command_runs", problem: error.to_string() };
        Ok(Self {
            id: row.id,
            uuid: row.uuid,
            command_name: row.command_name,
            script: row.script,
            user: row.device_user,
            timeout: duration(row.timeout_ms),
            device_filter: serde_json::from_str(&row.device_filter).map_err(corrupt)?,
            device_count: row.device_count.try_into().unwrap_or(0),
            created_by: row.created_by,
            created_at: Timestamp::from_millis(row.created_at),
            expires_at: Timestamp::from_millis(row.expires_at),
        })
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// A run of that fleet.
    pub async fn find_command_run(&self, fleet_id: RowId, uuid: &CommandRunUuid) -> Result<Option<CommandRun>> {
        let query = command_runs::Entity::find()
            .filter(command_runs::Column::Uuid.eq(uuid.as_str()))
            .filter(command_runs::Column::FleetId.eq(fleet_id));
        query.one(&self.conn).await?.map(CommandRun::try_from).transpose()
    }

    /// Whether every device of a run is reached.
    pub async fn is_command_run_within(&self, run_id: RowId, reach: &Reach) -> Result<bool> {
        let query = command_runs::Entity::find_by_id(run_id).filter(within(reach));
        Ok(query.count(&self.conn).await? > 0)
    }

    /// Of the runs of a fleet that act on nothing but what is reached, the next `limit` before
    /// the row `before`, newest first, and whether there are more.
    pub async fn command_runs_page(
        &self,
        fleet_id: RowId,
        reach: &Reach,
        before: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<CommandRun>, bool)> {
        let query = command_runs::Entity::find()
            .filter(command_runs::Column::FleetId.eq(fleet_id))
            .filter(within(reach))
            .filter(command_runs::Column::Id.lt(before.unwrap_or(RowId::MAX)))
            .order_by_desc(command_runs::Column::Id)
            .limit(limit + 1);
        let (rows, is_more) = cut(query.all(&self.conn).await?, limit);
        Ok((rows.into_iter().map(CommandRun::try_from).collect::<Result<_>>()?, is_more))
    }

    /// How many of them are kept.
    pub async fn command_runs_count(&self, fleet_id: RowId, reach: &Reach) -> Result<u64> {
        let query =
            command_runs::Entity::find().filter(command_runs::Column::FleetId.eq(fleet_id)).filter(within(reach));
        Ok(query.count(&self.conn).await?)
    }

    /// How many devices of a run stand how: the statuses that some have.
    pub async fn command_statuses(&self, run_id: RowId) -> Result<Vec<(CommandStatus, u64)>> {
        use command_targets::Column as T;
        let query = Query::select()
            .column(T::Status)
            .expr_as(Expr::cust("COUNT(*)"), "devices")
            .from(command_targets::Entity)
            .and_where(Expr::col(T::RunId).eq(run_id))
            .group_by_col(T::Status)
            .order_by(T::Status, Order::Asc)
            .take();
        let rows = self.conn.query_all(&query).await?;
        let counted = |row: &sea_orm::QueryResult| {
            let devices: i64 = row.try_get("", "devices")?;
            Ok((crate::command_targets::status(row.try_get("", "status")?)?, devices.try_into().unwrap_or(0)))
        };
        rows.iter().map(counted).collect()
    }
}

impl Tx {
    /// Makes a run, with a pending target for every matching device, in a fixed number of
    /// statements.
    pub async fn insert_command_run(&self, new: &NewCommandRun, matching: &Matching) -> Result<CommandRun> {
        let uuid = self.random(CommandRunUuid::random);
        let id = self.next_id();
        let row = command_runs::Model {
            id,
            uuid: uuid.as_str().to_owned(),
            fleet_id: new.fleet_id,
            command_name: new.command_name.clone(),
            script: new.script.clone(),
            device_user: new.user.clone(),
            timeout_ms: millis(new.timeout),
            device_filter: new.device_filter.to_string(),
            device_count: 0,
            created_by: new.created_by.clone(),
            created_at: self.now().as_millis(),
            expires_at: new.expires_at.as_millis(),
        };
        let insert = command_runs::Entity::insert(command_runs::ActiveModel::from(row.clone()));
        insert.exec_without_returning(&self.conn).await?;
        let device_count = self.insert_command_targets(id, new.expires_at, matching).await?;
        let count = i64::try_from(device_count).unwrap_or(i64::MAX);
        let counted = command_runs::ActiveModel { device_count: Set(count), ..Default::default() };
        let which = command_runs::Column::Id.eq(id);
        command_runs::Entity::update_many().set(counted).filter(which).exec(&self.conn).await?;
        CommandRun::try_from(command_runs::Model { device_count: count, ..row })
    }

    async fn insert_command_targets(&self, run_id: RowId, expires_at: Timestamp, matching: &Matching) -> Result<u64> {
        use command_targets::Column as T;
        let (first, never) = (CommandTarget::pending(expires_at), Timestamp::NEVER.as_millis());
        let reason = without_agent();
        let (columns, values): (Vec<_>, Vec<_>) = [
            (T::RunId, Expr::value(run_id)),
            (T::DeviceId, column(devices::Column::Id)),
            (T::Status, by_agent(CommandStatus::Pending.code(), CommandStatus::Failed.code())),
            (T::ReasonCode, by_agent("", reason.code)),
            (T::Reason, by_agent("", reason.text)),
            (T::DispatchedEpoch, Expr::value(0_i64)),
            (T::AbortEpoch, Expr::value(0_i64)),
            (T::IsAbortRequested, Expr::value(false)),
            (T::StartedAt, Expr::value(never)),
            (T::FinishedAt, by_agent(never, self.now().as_millis())),
            (T::DeadlineAt, Expr::value(first.deadline_at.as_millis())),
            (T::DurationMs, Expr::value(0_i64)),
            (T::OutputBytes, Expr::value(0_i64)),
            (T::IsTruncated, Expr::value(false)),
            (T::OutputHead, Expr::value("")),
            (T::OutputTail, Expr::value("")),
        ]
        .into_iter()
        .unzip();
        let matched =
            Query::select().exprs(values).from(devices::Entity).cond_where(matching.condition(SetForm::In)).take();
        let mut insert = Query::insert();
        insert
            .into_table(command_targets::Entity)
            .columns(columns)
            .select_from(matched)
            .map_err(|error| StoreError::Corrupt { table: "command_targets", problem: error.to_string() })?;
        Ok(self.conn.execute(&insert).await?.rows_affected())
    }

    /// Asks for the abort of a run: what no device has heard of is aborted at once, the rest
    /// when its device confirms. Doing it again changes nothing.
    pub async fn abort_command_run(&self, run_id: RowId) -> Result<Aborted> {
        use command_targets::Column as T;
        let open = || {
            command_targets::Entity::update_many()
                .filter(T::RunId.eq(run_id))
                .filter(crate::command_targets::is_open())
                .filter(T::IsAbortRequested.eq(false))
        };
        let (now, reason) = (self.now(), aborted_before_start());
        let ended = open()
            .set(command_targets::ActiveModel {
                status: Set(CommandStatus::Aborted.code()),
                reason_code: Set(reason.code),
                reason: Set(reason.text),
                is_abort_requested: Set(true),
                finished_at: Set(now.as_millis()),
                ..Default::default()
            })
            .filter(T::DispatchedEpoch.eq(0))
            .exec(&self.conn)
            .await?;
        let latest = now.after(COMMAND_ABORT_DEADLINE).as_millis();
        let deadline = Expr::col((command_targets::Entity, T::DeadlineAt));
        let sooner = CaseStatement::new().case(deadline.clone().gt(latest), latest).finally(deadline);
        let asked = open()
            .col_expr(T::IsAbortRequested, Expr::value(true))
            .col_expr(T::DeadlineAt, sooner.into())
            .exec(&self.conn)
            .await?;
        Ok(Aborted { ended: ended.rows_affected, asked: asked.rows_affected })
    }

    /// Forgets the oldest run if it was made before that moment and is over on all of its
    /// devices, or at most `limit` of its devices. Whether there may be more to forget.
    pub async fn forget_command_run(&self, before: Timestamp, limit: u64) -> Result<bool> {
        use command_targets::Column as T;
        let oldest = command_runs::Entity::find().order_by_asc(command_runs::Column::Id).one(&self.conn).await?;
        let Some(run) = oldest.filter(|run| run.created_at < before.as_millis()) else { return Ok(false) };
        let open = command_targets::Entity::find()
            .filter(T::RunId.eq(run.id))
            .filter(T::Status.is_in([CommandStatus::Pending.code(), CommandStatus::Running.code()]));
        if open.count(&self.conn).await? > 0 {
            return Ok(false);
        }
        let some = Query::select()
            .column(T::DeviceId)
            .from(command_targets::Entity)
            .and_where(Expr::col(T::RunId).eq(run.id))
            .order_by(T::DeviceId, Order::Asc)
            .limit(limit)
            .take();
        command_outputs::Entity::delete_many()
            .filter(command_outputs::Column::RunId.eq(run.id))
            .filter(command_outputs::Column::DeviceId.in_subquery(some.clone()))
            .exec(&self.conn)
            .await?;
        let gone = command_targets::Entity::delete_many()
            .filter(T::RunId.eq(run.id))
            .filter(T::DeviceId.in_subquery(some))
            .exec(&self.conn)
            .await?;
        if gone.rows_affected < limit {
            command_runs::Entity::delete_by_id(run.id).exec(&self.conn).await?;
        }
        Ok(true)
    }
}

/// That a run acts on nothing but what is reached. Devices that were deleted since count, too:
/// nobody can say that they were reached.
fn within(reach: &Reach) -> Condition {
    use command_targets::Column as T;
    let Reach::Devices(device_ids) = reach else { return Condition::all() };
    let of = |column: T| Expr::col((command_targets::Entity, column));
    let run_id = || Expr::col((command_runs::Entity, command_runs::Column::Id));
    let reached = || of(T::DeviceId).is_in(device_ids.iter().copied());
    let some = Query::select().column(T::RunId).from(command_targets::Entity).and_where(reached()).take();
    let number = Query::select()
        .expr(Expr::cust("COUNT(*)"))
        .from(command_targets::Entity)
        .and_where(of(T::RunId).eq(run_id()))
        .and_where(reached())
        .take();
    let devices = Expr::col((command_runs::Entity, command_runs::Column::DeviceCount));
    Condition::all().add(run_id().in_subquery(some)).add(devices.eq(subquery(number)))
}

/// One value for devices that can run commands, another for those that cannot.
fn by_agent(with: impl Into<sea_orm::Value>, without: impl Into<sea_orm::Value>) -> Expr {
    CaseStatement::new().case(column(devices::Column::HasAgent), Expr::value(with)).finally(Expr::value(without)).into()
}
