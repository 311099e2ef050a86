//! One device in one run of a remote command. The rule of its life is
//! [`muster_core::command::CommandTarget::apply`]; here it is loaded, applied and stored.

use muster_core::clock::Timestamp;
use muster_core::command::{
    CommandEvent, CommandResult, CommandStatus, CommandTarget, Followed, Happened, Unchanged, deadline_verdict,
};
use muster_core::ids::{CommandRunUuid, RowId};
use muster_core::limits::{COMMAND_OUTPUT_BYTES_MAX, NAME_CHARS_MAX, SHOWN_OUTPUT_CHARS_MAX, TEXT_CHARS_MAX};
use muster_core::target::Reason;
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait, OnConflict, Order, Query};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, PaginatorTrait, QueryFilter,
};

use crate::db::{Db, Result, Tx};
use crate::entities::{command_outputs, command_runs, command_targets, devices};
use crate::error::StoreError;
use crate::printable::printable;
use crate::saved_commands::duration;
use crate::targets::{ReportOutcome, moment};

/// Where one device of a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandTargetView {
    /// The device's row.
    pub device_id: RowId,
    /// The device.
    pub device_uuid: String,
    /// Its name.
    pub device_name: String,
    /// Where it stands.
    pub status: CommandStatus,
    /// Why, where it is final.
    pub reason: Reason,
    /// When the device began.
    pub started_at: Option<Timestamp>,
    /// When it became final.
    pub finished_at: Option<Timestamp>,
    /// The exit code, when the command exited.
    pub exit_code: Option<i32>,
    /// How long it ran, in milliseconds, by the device's clock.
    pub duration_ms: u64,
    /// How many bytes it has put out.
    pub output_bytes: u64,
    /// Whether not all of that is kept.
    pub is_truncated: bool,
    /// The beginning of what is kept.
    pub output_head: String,
    /// The end of what is kept, where the beginning is not all.
    pub output_tail: String,
}

/// What a device says of a command, as its link delivered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandReport {
    /// Whose it is.
    pub device_id: RowId,
    /// The run.
    pub run: CommandRunUuid,
    /// What it says.
    pub event: CommandEvent,
}

#[derive(FromQueryResult)]
struct ViewRow {
    device_id: i64,
    uuid: String,
    name: String,
    status: i16,
    reason_code: String,
    reason: String,
    started_at: i64,
    finished_at: i64,
    exit_code: Option<i32>,
    duration_ms: i64,
    output_bytes: i64,
    is_truncated: bool,
    output_head: String,
    output_tail: String,
}

impl TryFrom<ViewRow> for CommandTargetView {
    type Error = StoreError;

    fn try_from(row: ViewRow) -> Result<Self> {
        Ok(Self {
            device_id: row.device_id,
            device_uuid: row.uuid,
            device_name: row.name,
            status: status(row.status)?,
            reason: Reason { code: row.reason_code, text: row.reason },
            started_at: moment(row.started_at),
            finished_at: moment(row.finished_at),
            exit_code: row.exit_code,
            duration_ms: row.duration_ms.try_into().unwrap_or(0),
            output_bytes: row.output_bytes.try_into().unwrap_or(0),
            is_truncated: row.is_truncated,
            output_head: row.output_head,
            output_tail: row.output_tail,
        })
    }
}

pub(crate) fn status(code: i16) -> Result<CommandStatus> {
    let unknown = || StoreError::Corrupt { table: "command_targets", problem: format!("status {code}") };
    CommandStatus::from_code(code).ok_or_else(unknown)
}

/// Not final, in the very words of the partial indexes.
pub(crate) fn is_open() -> Expr {
    Expr::cust(r#""command_targets"."status" < 2"#)
}

impl From<&command_targets::Model> for CommandTarget {
    fn from(row: &command_targets::Model) -> Self {
        Self {
            status: CommandStatus::from_code(row.status).unwrap_or(CommandStatus::Failed),
            reason: Reason { code: row.reason_code.clone(), text: row.reason.clone() },
            is_sent: row.dispatched_epoch > 0,
            is_abort_requested: row.is_abort_requested,
            started_at: Timestamp::from_millis(row.started_at),
            finished_at: Timestamp::from_millis(row.finished_at),
            deadline_at: Timestamp::from_millis(row.deadline_at),
        }
    }
}

fn select_views(run_id: RowId) -> sea_orm::sea_query::SelectStatement {
    use command_targets::Column as T;
    let of = |column: T| (command_targets::Entity, column);
    Query::select()
        .columns(
            [
                T::DeviceId,
                T::Status,
                T::ReasonCode,
                T::Reason,
                T::StartedAt,
                T::FinishedAt,
                T::ExitCode,
                T::DurationMs,
                T::OutputBytes,
                T::IsTruncated,
                T::OutputHead,
                T::OutputTail,
            ]
            .map(of),
        )
        .columns([devices::Column::Uuid, devices::Column::Name].map(|column| (devices::Entity, column)))
        .from(command_targets::Entity)
        .inner_join(devices::Entity, Expr::col((devices::Entity, devices::Column::Id)).equals(of(T::DeviceId)))
        .and_where(Expr::col(of(T::RunId)).eq(run_id))
        .take()
}

impl<C: ConnectionTrait> Db<C> {
    /// The next `limit` devices of a run behind the device row `after`, of those that stand
    /// so or of all, and whether there are more.
    pub async fn command_targets_page(
        &self,
        run_id: RowId,
        status: Option<CommandStatus>,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<CommandTargetView>, bool)> {
        use command_targets::Column as T;
        let of = |column: T| (command_targets::Entity, column);
        let query = select_views(run_id)
            .and_where_option(status.map(|status| Expr::col(of(T::Status)).eq(status.code())))
            .and_where(Expr::col(of(T::DeviceId)).gt(after.unwrap_or(0)))
            .order_by(of(T::DeviceId), Order::Asc)
            .limit(limit + 1)
            .take();
        let rows = self.conn.query_all(&query).await?;
        let is_more = rows.len() as u64 > limit;
        let rows = rows.iter().take(usize::try_from(limit).unwrap_or(usize::MAX));
        let views = rows.map(|row| CommandTargetView::try_from(ViewRow::from_query_result(row, "")?));
        Ok((views.collect::<Result<_>>()?, is_more))
    }

    /// How many devices a run has, of those that stand so or of all.
    pub async fn command_targets_count(&self, run_id: RowId, status: Option<CommandStatus>) -> Result<u64> {
        let mut query = command_targets::Entity::find().filter(command_targets::Column::RunId.eq(run_id));
        if let Some(status) = status {
            query = query.filter(command_targets::Column::Status.eq(status.code()));
        }
        Ok(query.count(&self.conn).await?)
    }

    /// One device of a run, wherever that device is by now.
    pub async fn find_command_target(&self, run_id: RowId, device_uuid: &str) -> Result<Option<CommandTargetView>> {
        let query =
            select_views(run_id).and_where(Expr::col((devices::Entity, devices::Column::Uuid)).eq(device_uuid)).take();
        let row = self.conn.query_one(&query).await?;
        row.map(|row| CommandTargetView::try_from(ViewRow::from_query_result(&row, "")?)).transpose()
    }

    /// What is kept of the output of a command on one device.
    pub async fn command_output(&self, run_id: RowId, device_id: RowId) -> Result<String> {
        let row = command_outputs::Entity::find_by_id((run_id, device_id)).one(&self.conn).await?;
        Ok(row.map_or_else(String::new, |row| row.output))
    }
}

/// What is stored of output: all that is kept, and what lists show of it.
struct Kept<'a> {
    output: &'a str,
    bytes: u64,
    is_truncated: bool,
}

impl Kept<'_> {
    /// The first characters, and the last of what is behind them.
    fn shown(&self) -> (String, String) {
        let head_end = self.output.char_indices().nth(SHOWN_OUTPUT_CHARS_MAX).map_or(self.output.len(), |(at, _)| at);
        let (head, rest) = self.output.split_at(head_end);
        let from_end = rest.char_indices().rev().nth(SHOWN_OUTPUT_CHARS_MAX - 1).map_or(0, |(at, _)| at);
        (head.to_owned(), rest[from_end..].to_owned())
    }
}

impl Tx {
    /// Lets what a device says of a command take effect, at most once.
    pub async fn store_command_report(&self, report: &CommandReport) -> Result<ReportOutcome> {
        let Some((run, row)) = self.target_of_command(&report.run, report.device_id).await? else {
            return Ok(ReportOutcome::MustStop);
        };
        let happened = match &report.event {
            CommandEvent::Started => Happened::Started,
            CommandEvent::Ended(result) => Happened::Ended(result),
            CommandEvent::Output { from, to, text } => {
                self.follow_output(&row, *from, *to, text).await?;
                return Ok(ReportOutcome::Stored { is_final: false });
            }
            CommandEvent::Unknown => return Ok(ReportOutcome::Stored { is_final: false }),
        };
        match CommandTarget::from(&row).apply(happened, self.now(), duration(run.timeout_ms)) {
            Ok(next) => {
                self.store_command_target(&row, &next).await?;
                if let CommandEvent::Ended(result) = &report.event {
                    self.store_command_result(&row, result).await?;
                }
                Ok(ReportOutcome::Stored { is_final: next.status.is_final() })
            }
            Err(Unchanged::AlreadyFinal) => Ok(ReportOutcome::MustStop),
            Err(Unchanged::Repeated) => Ok(ReportOutcome::Stored { is_final: false }),
        }
    }

    async fn target_of_command(
        &self,
        run: &CommandRunUuid,
        device_id: RowId,
    ) -> Result<Option<(command_runs::Model, command_targets::Model)>> {
        let run =
            command_runs::Entity::find().filter(command_runs::Column::Uuid.eq(run.as_str())).one(&self.conn).await?;
        let Some(run) = run else { return Ok(None) };
        let row = command_targets::Entity::find_by_id((run.id, device_id)).one(&self.conn).await?;
        Ok(row.map(|row| (run, row)))
    }

    async fn follow_output(&self, row: &command_targets::Model, from: u64, to: u64, text: &str) -> Result<()> {
        if row.status != CommandStatus::Running.code() {
            return Ok(());
        }
        let before = Followed {
            text: self.command_output(row.run_id, row.device_id).await?,
            bytes: row.output_bytes.try_into().unwrap_or(0),
            is_truncated: row.is_truncated,
        };
        let Some(after) = before.with(from, to, text) else { return Ok(()) };
        let kept = Kept { output: &after.text, bytes: after.bytes, is_truncated: after.is_truncated };
        self.store_output(row, &kept).await?;
        Ok(())
    }

    async fn store_command_target(&self, row: &command_targets::Model, next: &CommandTarget) -> Result<()> {
        let change = command_targets::ActiveModel {
            status: Set(next.status.code()),
            // From the device, where it says how the command ended.
            reason_code: Set(printable(&next.reason.code, NAME_CHARS_MAX)),
            reason: Set(printable(&next.reason.text, TEXT_CHARS_MAX)),
            is_abort_requested: Set(next.is_abort_requested),
            started_at: Set(next.started_at.as_millis()),
            finished_at: Set(next.finished_at.as_millis()),
            deadline_at: Set(next.deadline_at.as_millis()),
            ..Default::default()
        };
        self.update_command_target(row, change).await
    }

    async fn update_command_target(
        &self,
        row: &command_targets::Model,
        change: command_targets::ActiveModel,
    ) -> Result<()> {
        command_targets::Entity::update_many()
            .set(change)
            .filter(command_targets::Column::RunId.eq(row.run_id))
            .filter(command_targets::Column::DeviceId.eq(row.device_id))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    async fn store_command_result(&self, row: &command_targets::Model, result: &CommandResult) -> Result<()> {
        let change = command_targets::ActiveModel {
            exit_code: Set(result.exit_code),
            duration_ms: Set(i64::try_from(result.duration_ms).unwrap_or(i64::MAX)),
            ..Default::default()
        };
        self.update_command_target(row, change).await?;
        let mut output = result.output.clone();
        output.retain(|c| c != '\0');
        output.truncate(output.floor_char_boundary(COMMAND_OUTPUT_BYTES_MAX * 2));
        // A device that lost it has perhaps told of it before.
        if output.is_empty() {
            return Ok(());
        }
        let is_truncated = result.left_out_bytes > 0;
        let bytes = result.left_out_bytes.saturating_add(result.output.len() as u64);
        self.store_output(row, &Kept { output: &output, bytes, is_truncated }).await
    }

    async fn store_output(&self, row: &command_targets::Model, kept: &Kept<'_>) -> Result<()> {
        let (head, tail) = kept.shown();
        let change = command_targets::ActiveModel {
            output_bytes: Set(i64::try_from(kept.bytes).unwrap_or(i64::MAX)),
            is_truncated: Set(kept.is_truncated),
            output_head: Set(head),
            output_tail: Set(tail),
            ..Default::default()
        };
        self.update_command_target(row, change).await?;
        let output =
            command_outputs::Model { run_id: row.run_id, device_id: row.device_id, output: kept.output.to_owned() };
        let key = [command_outputs::Column::RunId, command_outputs::Column::DeviceId];
        let replace = OnConflict::columns(key).update_column(command_outputs::Column::Output).to_owned();
        let insert = command_outputs::Entity::insert(command_outputs::ActiveModel::from(output)).on_conflict(replace);
        insert.exec_without_returning(&self.conn).await?;
        Ok(())
    }

    /// Ends devices of runs whose deadline has passed, at most `limit`, the most overdue
    /// first, in one statement, and says how many.
    pub async fn expire_command_targets(&self, limit: u64) -> Result<u64> {
        use command_targets::Column as T;
        let now = self.now().as_millis();
        let key = [T::RunId, T::DeviceId].map(|column| (command_targets::Entity, column));
        let overdue = Query::select()
            .columns(key)
            .from(command_targets::Entity)
            .and_where(is_open())
            .and_where(Expr::col((command_targets::Entity, T::DeadlineAt)).lte(now))
            .order_by((command_targets::Entity, T::DeadlineAt), Order::Asc)
            .limit(limit)
            .take();
        let update = Query::update()
            .table(command_targets::Entity)
            .value(T::Status, verdict(|(status, _)| Expr::value(status.code())))
            .value(T::ReasonCode, verdict(|(_, reason)| Expr::value(reason.code)))
            .value(T::Reason, verdict(|(_, reason)| Expr::value(reason.text)))
            .value(T::FinishedAt, now)
            .and_where(is_open())
            .and_where(Expr::tuple(key.map(Expr::col)).in_subquery(overdue))
            .take();
        Ok(self.conn.execute(&update).await?.rows_affected())
    }
}

/// [`deadline_verdict`] as an expression over `command_targets`.
fn verdict(pick: impl Fn((CommandStatus, Reason)) -> Expr) -> CaseStatement {
    use CommandStatus::{Pending, Running};
    use command_targets::Column as T;
    let of = |column: T| Expr::col((command_targets::Entity, column));
    CaseStatement::new()
        .case(of(T::IsAbortRequested), pick(deadline_verdict(Pending, true, true)))
        .case(of(T::Status).eq(Running.code()), pick(deadline_verdict(Running, true, false)))
        .case(of(T::DispatchedEpoch).gt(0), pick(deadline_verdict(Pending, true, false)))
        .finally(pick(deadline_verdict(Pending, false, false)))
}
