//! What must be said of remote commands to which device over which link.
//!
//! A device that has not begun is told again over each new link, one that has begun is not:
//! it says by itself how the command stands. So a device that lost its memory does not run
//! a command twice.

use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::command::{CommandStatus, CommandTarget, Happened, start_deadline};
use muster_core::ids::{CommandRunUuid, RowId};
use sea_orm::sea_query::{
    Alias, Condition, Expr, ExprTrait, IntoIden, IntoValueTuple, Order, Query, SelectStatement, TableRef,
};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter};

use crate::command_targets::is_open;
use crate::db::{Db, Result, Tx};
use crate::dispatch::is_linked_to;
use crate::entities::{command_runs, command_targets, device_presence, devices};
use crate::error::StoreError;
use crate::page::subquery;
use crate::saved_commands::duration;

/// Commands that a device is told of at once: more would fill its link.
const TOLD_AT_ONCE_MAX: i64 = 16;

/// Something that must be said to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueCommand {
    /// The run's row.
    pub run_id: RowId,
    /// The device's row.
    pub device_id: RowId,
    /// The link to say it over.
    pub link_epoch: i64,
    /// To be aborted, rather than run.
    pub is_abort_requested: bool,
    /// What its agent can do.
    pub capabilities: Vec<String>,
}

/// What a run tells every one of its devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandTold {
    /// The run.
    pub uuid: CommandRunUuid,
    /// What is run.
    pub script: String,
    /// The user of the device who runs it; may be empty.
    pub user: String,
    /// How long it may run.
    pub timeout: Duration,
    /// When no device begins any more.
    pub expires_at: Timestamp,
}

#[derive(FromQueryResult)]
struct DueRow {
    run_id: i64,
    device_id: i64,
    link_epoch: i64,
    is_abort_requested: bool,
    capabilities: String,
}

fn of(column: command_targets::Column) -> Expr {
    Expr::col((command_targets::Entity, column))
}

fn select_due(server: &str, device_ids: Option<&[RowId]>, now: Timestamp, limit: u64) -> SelectStatement {
    use command_targets::Column as T;
    use device_presence::Column as P;
    let epoch = || Expr::col((device_presence::Entity, P::LinkEpoch));
    let run = |column: command_runs::Column| Expr::col((command_runs::Entity, column));
    let to_run = Condition::all()
        .add(of(T::IsAbortRequested).eq(false))
        .add(of(T::Status).eq(CommandStatus::Pending.code()))
        .add(of(T::DispatchedEpoch).lt(epoch()))
        .add(run(command_runs::Column::ExpiresAt).gt(now.as_millis()))
        // A device that was moved since is none of the fleet's: there it expires.
        .add(run(command_runs::Column::FleetId).equals((devices::Entity, devices::Column::FleetId)))
        .add(subquery(older_open()).lt(TOLD_AT_ONCE_MAX));
    let to_abort = Condition::all().add(of(T::IsAbortRequested)).add(of(T::AbortEpoch).lt(epoch()));
    let mut query = Query::select()
        .columns([T::RunId, T::DeviceId, T::IsAbortRequested].map(|column| (command_targets::Entity, column)))
        .column((device_presence::Entity, P::LinkEpoch))
        .column((devices::Entity, devices::Column::Capabilities))
        .from(command_targets::Entity)
        .inner_join(
            device_presence::Entity,
            Expr::col((device_presence::Entity, P::DeviceId)).equals((command_targets::Entity, T::DeviceId)),
        )
        .inner_join(
            devices::Entity,
            Expr::col((devices::Entity, devices::Column::Id)).equals((command_targets::Entity, T::DeviceId)),
        )
        .inner_join(command_runs::Entity, run(command_runs::Column::Id).equals((command_targets::Entity, T::RunId)))
        .and_where(is_open())
        .and_where(is_linked_to(server))
        .cond_where(Condition::any().add(to_run).add(to_abort))
        // As the partial index has them, so that a batch needs no sorting of all that is due.
        .order_by((command_targets::Entity, T::DeviceId), Order::Asc)
        .order_by((command_targets::Entity, T::RunId), Order::Asc)
        .limit(limit)
        .take();
    if let Some(device_ids) = device_ids {
        query.and_where(of(T::DeviceId).is_in(device_ids.iter().copied()));
    }
    query
}

/// How many older runs are open on the device.
fn older_open() -> SelectStatement {
    use command_targets::Column as T;
    let older = Alias::new("older");
    Query::select()
        .expr(Expr::cust("COUNT(*)"))
        .from_as(command_targets::Entity, older.clone())
        .and_where(Expr::col((older.clone(), T::DeviceId)).equals((command_targets::Entity, T::DeviceId)))
        .and_where(Expr::cust(r#""older"."status" < 2"#))
        .and_where(Expr::col((older, T::RunId)).lt(of(T::RunId)))
        .take()
}

impl<C: ConnectionTrait> Db<C> {
    /// What is due over the links of `server`, at most `limit`: to the given devices, or to
    /// any.
    pub async fn due_commands(
        &self,
        server: &str,
        device_ids: Option<&[RowId]>,
        limit: u64,
    ) -> Result<Vec<DueCommand>> {
        let rows = self.conn.query_all(&select_due(server, device_ids, self.now(), limit)).await?;
        let due = |row: &sea_orm::QueryResult| {
            let row = DueRow::from_query_result(row, "")?;
            let corrupt =
                |error: serde_json::Error| StoreError::Corrupt { table: "devices", problem: error.to_string() };
            Ok(DueCommand {
                run_id: row.run_id,
                device_id: row.device_id,
                link_epoch: row.link_epoch,
                is_abort_requested: row.is_abort_requested,
                capabilities: serde_json::from_str(&row.capabilities).map_err(corrupt)?,
            })
        };
        rows.iter().map(due).collect()
    }

    /// What a run tells its devices.
    pub async fn command_told(&self, run_id: RowId) -> Result<CommandTold> {
        let corrupt = |problem: String| StoreError::Corrupt { table: "command_runs", problem };
        let row = command_runs::Entity::find_by_id(run_id).one(&self.conn).await?;
        let row = row.ok_or_else(|| corrupt(format!("{run_id} is missing")))?;
        let uuid = row.uuid.parse().map_err(|_| corrupt(format!("{} is no id", row.uuid)))?;
        Ok(CommandTold {
            uuid,
            script: row.script,
            user: row.device_user,
            timeout: duration(row.timeout_ms),
            expires_at: Timestamp::from_millis(row.expires_at),
        })
    }
}

impl Tx {
    /// Notes that a run's devices are being told, each over its link. Written before they
    /// are: what was perhaps said is never taken for unsaid. One statement for each kind.
    pub async fn mark_commands_sent(&self, due: &[&DueCommand], expires_at: Timestamp) -> Result<()> {
        use command_targets::Column as T;
        for (column, is_abort) in [(T::DispatchedEpoch, false), (T::AbortEpoch, true)] {
            let sent = due.iter().filter(|due| due.is_abort_requested == is_abort);
            let rows: Vec<_> = sent.map(|due| (due.run_id, due.device_id, due.link_epoch).into_value_tuple()).collect();
            if rows.is_empty() {
                continue;
            }
            // Both engines name the columns of a list of values so.
            let [run, device, epoch] = ["column1", "column2", "column3"].map(|name| ("sent", name));
            let mut update = Query::update()
                .table(command_targets::Entity)
                .value(column, Expr::col(epoch))
                .from(TableRef::ValuesList(rows, "sent".into_iden()))
                .and_where(is_open())
                .and_where(of(T::RunId).equals(run))
                .and_where(of(T::DeviceId).equals(device))
                .and_where(of(column).lt(Expr::col(epoch)))
                .take();
            if !is_abort {
                update.value(T::DeadlineAt, start_deadline(expires_at).as_millis());
            }
            self.conn.execute(&update).await?;
        }
        Ok(())
    }

    /// Ends a run on devices that cannot carry it out, in one statement.
    pub async fn commands_unable(&self, run_id: RowId, device_ids: &[RowId]) -> Result<()> {
        use command_targets::Column as T;
        let pending = CommandTarget::pending(Timestamp::NEVER);
        let Ok(next) = pending.apply(Happened::Unable, self.now(), Duration::ZERO) else { return Ok(()) };
        command_targets::Entity::update_many()
            .set(command_targets::ActiveModel {
                status: Set(next.status.code()),
                reason_code: Set(next.reason.code),
                reason: Set(next.reason.text),
                finished_at: Set(next.finished_at.as_millis()),
                ..Default::default()
            })
            .filter(T::RunId.eq(run_id))
            .filter(T::DeviceId.is_in(device_ids.iter().copied()))
            .filter(is_open())
            .exec(&self.conn)
            .await?;
        Ok(())
    }
}
