//! Targets: one device in one deployment. The rule of its life is
//! [`muster_core::target::Target::apply`]; here it is loaded, applied and stored,
//! and where many targets change at once, said in one statement that must agree.

use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::ids::{DeploymentUuid, RowId};
use muster_core::limits::{NAME_CHARS_MAX, TEXT_CHARS_MAX};
use muster_core::target::{
    Deadlines, Reason, RunEvent, StepResult, Target, TargetEffect, TargetEvent, TargetStatus, Unchanged,
    aborted_before_start, deadline_verdict,
};
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait, OnConflict, Order, Query};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, PaginatorTrait, QueryFilter,
    QueryOrder,
};

use crate::db::{Db, Result, Tx};
use crate::deployments::deadlines;
use crate::entities::{attempts, deployments, devices, steps, targets};
use crate::error::StoreError;
use crate::printable::printable;

/// Where one device of a deployment stands.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetView {
    /// The device's row.
    pub device_id: RowId,
    /// The device.
    pub device_uuid: String,
    /// Which attempt it is at, from 1.
    pub attempt: u32,
    /// Where it stands.
    pub status: TargetStatus,
    /// Why, where it is final.
    pub reason: Reason,
    /// When the device accepted.
    pub started_at: Option<Timestamp>,
    /// When it became final.
    pub finished_at: Option<Timestamp>,
    /// When the present state ends by itself.
    pub deadline_at: Timestamp,
}

/// What an abort did: how many devices of the deployment it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// Ended at once, since they had heard of nothing.
    pub ended: u64,
    /// Have to confirm it first.
    pub asked: u64,
}

/// A report of a device, as its link delivered it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whose it is.
    pub device_id: RowId,
    /// The deployment that it is about.
    pub deployment: DeploymentUuid,
    /// Which attempt at it.
    pub attempt: u32,
    /// Number of the report in its run, from 1.
    pub seq: i64,
    /// What it says.
    pub event: RunEvent,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportOutcome {
    /// It took effect, now or before.
    Stored {
        /// The target is final since this report.
        is_final: bool,
    },
    /// One before it is missing: the device must send that first.
    OutOfOrder,
    /// The target is final otherwise, or there is no such target: the device must stop.
    MustStop,
}

/// Most steps of one run that are kept: twice what a flow may have, for its rollback.
const STORED_STEPS_MAX: u32 = 1_000;

#[derive(FromQueryResult)]
struct ViewRow {
    device_id: i64,
    uuid: String,
    attempt: i32,
    status: i16,
    reason_code: String,
    reason: String,
    started_at: i64,
    finished_at: i64,
    deadline_at: i64,
}

impl TryFrom<ViewRow> for TargetView {
    type Error = StoreError;

    fn try_from(row: ViewRow) -> Result<Self> {
        Ok(Self {
            device_id: row.device_id,
            device_uuid: row.uuid,
            attempt: row.attempt.try_into().unwrap_or(1),
            status: status(row.status)?,
            reason: Reason { code: row.reason_code, text: row.reason },
            started_at: moment(row.started_at),
            finished_at: moment(row.finished_at),
            deadline_at: Timestamp::from_millis(row.deadline_at),
        })
    }
}

pub(crate) fn status(code: i16) -> Result<TargetStatus> {
    let unknown = || StoreError::Corrupt { table: "targets", problem: format!("status {code}") };
    TargetStatus::from_code(code).ok_or_else(unknown)
}

pub(crate) fn moment(millis: i64) -> Option<Timestamp> {
    Some(Timestamp::from_millis(millis)).filter(|at| *at != Timestamp::NEVER)
}

/// Not final, in the very words of the partial indexes.
pub(crate) fn is_open() -> Expr {
    Expr::cust(r#""targets"."status" < 2"#)
}

impl From<&targets::Model> for Target {
    fn from(row: &targets::Model) -> Self {
        Self {
            status: TargetStatus::from_code(row.status).unwrap_or(TargetStatus::Failed),
            reason: Reason { code: row.reason_code.clone(), text: row.reason.clone() },
            dispatched_epoch: row.dispatched_epoch,
            reported_seq: row.reported_seq,
            is_abort_requested: row.is_abort_requested,
            started_at: Timestamp::from_millis(row.started_at),
            finished_at: Timestamp::from_millis(row.finished_at),
            deadline_at: Timestamp::from_millis(row.deadline_at),
            pending_until_at: Timestamp::from_millis(row.pending_until_at),
            ask_again_at: Timestamp::from_millis(row.ask_again_at),
        }
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// The next `limit` targets of a deployment behind the device row `after`, of those that stand so or
    /// of all, and whether there are more.
    pub async fn targets_page(
        &self,
        deployment_id: RowId,
        status: Option<TargetStatus>,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<TargetView>, bool)> {
        let after = after.unwrap_or(0);
        let query = select_views(deployment_id)
            .and_where_option(
                status.map(|status| Expr::col((targets::Entity, targets::Column::Status)).eq(status.code())),
            )
            .and_where(Expr::col((targets::Entity, targets::Column::DeviceId)).gt(after))
            .order_by((targets::Entity, targets::Column::DeviceId), Order::Asc)
            .limit(limit + 1)
            .take();
        let rows = self.conn.query_all(&query).await?;
        let is_more = rows.len() as u64 > limit;
        let rows = rows.iter().take(usize::try_from(limit).unwrap_or(usize::MAX));
        let views = rows.map(|row| TargetView::try_from(ViewRow::from_query_result(row, "")?));
        Ok((views.collect::<Result<_>>()?, is_more))
    }

    /// How many devices of a deployment stand how: the statuses that some have.
    pub async fn target_statuses(&self, deployment_id: RowId) -> Result<Vec<(TargetStatus, u64)>> {
        use targets::Column as T;
        let query = Query::select()
            .column((targets::Entity, T::Status))
            .expr_as(Expr::cust("COUNT(*)"), "devices")
            .from(targets::Entity)
            .and_where(Expr::col((targets::Entity, T::DeploymentId)).eq(deployment_id))
            .group_by_col((targets::Entity, T::Status))
            .order_by((targets::Entity, T::Status), Order::Asc)
            .take();
        let rows = self.conn.query_all(&query).await?;
        let counted = |row: &sea_orm::QueryResult| {
            let devices: i64 = row.try_get("", "devices")?;
            Ok((status(row.try_get("", "status")?)?, devices.try_into().unwrap_or(0)))
        };
        rows.iter().map(counted).collect()
    }

    /// Why the devices of a deployment ended that did not succeed, and how many for each
    /// reason's code, the most first.
    pub async fn target_reasons(&self, deployment_id: RowId) -> Result<Vec<(TargetStatus, String, u64)>> {
        use targets::Column as T;
        let of = |column: T| Expr::col((targets::Entity, column));
        let bad = [TargetStatus::Failed, TargetStatus::Aborted].map(TargetStatus::code);
        let query = Query::select()
            .columns([T::Status, T::ReasonCode].map(|column| (targets::Entity, column)))
            .expr_as(Expr::cust("COUNT(*)"), "devices")
            .from(targets::Entity)
            .and_where(of(T::DeploymentId).eq(deployment_id))
            .and_where(of(T::Status).is_in(bad))
            .group_by_columns([T::Status, T::ReasonCode].map(|column| (targets::Entity, column)))
            .order_by_expr(Expr::cust("COUNT(*)"), Order::Desc)
            .order_by((targets::Entity, T::ReasonCode), Order::Asc)
            .take();
        let rows = self.conn.query_all(&query).await?;
        let counted = |row: &sea_orm::QueryResult| {
            let devices: i64 = row.try_get("", "devices")?;
            Ok((status(row.try_get("", "status")?)?, row.try_get("", "reason_code")?, devices.try_into().unwrap_or(0)))
        };
        rows.iter().map(counted).collect()
    }

    /// How many devices a deployment has, of those that stand so or of all.
    pub async fn targets_count(&self, deployment_id: RowId, status: Option<TargetStatus>) -> Result<u64> {
        let mut query = targets::Entity::find().filter(targets::Column::DeploymentId.eq(deployment_id));
        if let Some(status) = status {
            query = query.filter(targets::Column::Status.eq(status.code()));
        }
        Ok(query.count(&self.conn).await?)
    }

    /// One device of a deployment, wherever that device is by now.
    pub async fn find_target(&self, deployment_id: RowId, device_uuid: &str) -> Result<Option<TargetView>> {
        let query = select_views(deployment_id)
            .and_where(Expr::col((devices::Entity, devices::Column::Uuid)).eq(device_uuid))
            .take();
        let row = self.conn.query_one(&query).await?;
        row.map(|row| TargetView::try_from(ViewRow::from_query_result(&row, "")?)).transpose()
    }

    /// How an attempt of a target stands: itself for the present one, and for one before how
    /// that ended.
    pub async fn find_attempt(
        &self,
        deployment_id: RowId,
        target: &TargetView,
        attempt: u32,
    ) -> Result<Option<TargetView>> {
        if attempt == target.attempt {
            return Ok(Some(target.clone()));
        }
        let Ok(number) = i32::try_from(attempt) else { return Ok(None) };
        let row = attempts::Entity::find_by_id((deployment_id, target.device_id, number)).one(&self.conn).await?;
        let ended = |row: attempts::Model| {
            Ok(TargetView {
                attempt,
                status: status(row.status)?,
                reason: Reason { code: row.reason_code, text: row.reason },
                started_at: moment(row.started_at),
                finished_at: moment(row.finished_at),
                ..target.clone()
            })
        };
        row.map(ended).transpose()
    }

    /// The steps that a device has reported in an attempt at a deployment, in order.
    pub async fn steps_of(&self, deployment_id: RowId, device_id: RowId, attempt: u32) -> Result<Vec<StepResult>> {
        let rows = steps::Entity::find()
            .filter(steps::Column::DeploymentId.eq(deployment_id))
            .filter(steps::Column::DeviceId.eq(device_id))
            .filter(steps::Column::Attempt.eq(i64::from(attempt)))
            .order_by_asc(steps::Column::StepIndex)
            .all(&self.conn)
            .await?;
        let corrupt = |problem: String| StoreError::Corrupt { table: "steps", problem };
        let step = |row: steps::Model| {
            Ok(StepResult {
                index: row.step_index.try_into().unwrap_or(0),
                name: row.name.try_into().map_err(|error: muster_core::invalid::Invalid| corrupt(error.to_string()))?,
                exit_code: row.exit_code,
                stdout: row.stdout,
                stderr: row.stderr,
                started_at: Timestamp::from_millis(row.started_at),
                finished_at: Timestamp::from_millis(row.finished_at),
            })
        };
        rows.into_iter().map(step).collect()
    }
}

fn select_views(deployment_id: RowId) -> sea_orm::sea_query::SelectStatement {
    use targets::Column as T;
    let of = |column: T| (targets::Entity, column);
    Query::select()
        .columns(
            [T::DeviceId, T::Attempt, T::Status, T::ReasonCode, T::Reason, T::StartedAt, T::FinishedAt, T::DeadlineAt]
                .map(of),
        )
        .column((devices::Entity, devices::Column::Uuid))
        .from(targets::Entity)
        .inner_join(devices::Entity, Expr::col((devices::Entity, devices::Column::Id)).equals(of(T::DeviceId)))
        .and_where(Expr::col(of(T::DeploymentId)).eq(deployment_id))
        .take()
}

impl Tx {
    /// Lets a report take effect: at most once, and in the order of its number.
    pub async fn store_report(&self, report: &Report) -> Result<ReportOutcome> {
        let found = self.target_of_run(&report.deployment, report.device_id, report.attempt).await?;
        let Some((deployment, row)) = found else { return Ok(ReportOutcome::MustStop) };
        let event = TargetEvent::Reported { seq: report.seq, event: &report.event };
        match Target::from(&row).apply(&event, self.now(), deadlines_of(&deployment)) {
            Ok((next, effects)) => {
                self.store_target(&row, &next, row.is_released).await?;
                self.carry_out(&row, &deployment, &effects).await?;
                Ok(ReportOutcome::Stored { is_final: next.status.is_final() })
            }
            Err(Unchanged::OutOfOrder) => Ok(ReportOutcome::OutOfOrder),
            Err(Unchanged::AlreadyFinal) => Ok(ReportOutcome::MustStop),
            Err(Unchanged::Repeated | Unchanged::NothingToDo) => Ok(ReportOutcome::Stored { is_final: false }),
        }
    }

    /// Lets a device's "not now" take effect: its target waits as if it had not been
    /// told, and gives back its place in a rollout. False where that changes nothing.
    pub async fn put_off(
        &self,
        deployment: &DeploymentUuid,
        device_id: RowId,
        attempt: u32,
        reason: &str,
    ) -> Result<bool> {
        let Some((deployment, row)) = self.target_of_run(deployment, device_id, attempt).await? else {
            return Ok(false);
        };
        match Target::from(&row).apply(&TargetEvent::PutOff { reason }, self.now(), deadlines_of(&deployment)) {
            Ok((next, _)) => {
                let is_released = !self.has_rollout(deployment.id).await?;
                self.store_target(&row, &next, is_released).await?;
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    async fn target_of_run(
        &self,
        deployment: &DeploymentUuid,
        device_id: RowId,
        attempt: u32,
    ) -> Result<Option<(deployments::Model, targets::Model)>> {
        let deployment = deployments::Entity::find()
            .filter(deployments::Column::Uuid.eq(deployment.as_str()))
            .one(&self.conn)
            .await?;
        let Some(deployment) = deployment else { return Ok(None) };
        let row = targets::Entity::find_by_id((deployment.id, device_id)).one(&self.conn).await?;
        let row = row.filter(|row| u32::try_from(row.attempt).is_ok_and(|of_row| of_row == attempt));
        Ok(row.map(|row| (deployment, row)))
    }

    async fn store_target(&self, row: &targets::Model, next: &Target, is_released: bool) -> Result<()> {
        let change = targets::ActiveModel {
            status: Set(next.status.code()),
            // From the device, where it reported the end.
            reason_code: Set(printable(&next.reason.code, NAME_CHARS_MAX)),
            reason: Set(printable(&next.reason.text, TEXT_CHARS_MAX)),
            dispatched_epoch: Set(next.dispatched_epoch),
            reported_seq: Set(next.reported_seq),
            is_abort_requested: Set(next.is_abort_requested),
            started_at: Set(next.started_at.as_millis()),
            finished_at: Set(next.finished_at.as_millis()),
            deadline_at: Set(next.deadline_at.as_millis()),
            ask_again_at: Set(next.ask_again_at.as_millis()),
            is_released: Set(is_released),
            ..Default::default()
        };
        targets::Entity::update_many()
            .set(change)
            .filter(targets::Column::DeploymentId.eq(row.deployment_id))
            .filter(targets::Column::DeviceId.eq(row.device_id))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    async fn carry_out(
        &self,
        row: &targets::Model,
        deployment: &deployments::Model,
        effects: &[TargetEffect<'_>],
    ) -> Result<()> {
        for effect in effects {
            match effect {
                TargetEffect::StoreStep(step) => self.store_step(row, step).await?,
                TargetEffect::SetApp => {
                    if let Some(app_id) = deployment.app_id {
                        self.set_device_app(row.device_id, app_id, &deployment.app_version).await?;
                    }
                }
                // The engine sends it: it looks for targets whose abort is requested.
                TargetEffect::SendAbort => {}
            }
        }
        Ok(())
    }

    async fn store_step(&self, row: &targets::Model, step: &StepResult) -> Result<()> {
        if step.index >= STORED_STEPS_MAX {
            return Ok(());
        }
        let step = step.clone().bounded();
        let row = steps::Model {
            deployment_id: row.deployment_id,
            device_id: row.device_id,
            attempt: row.attempt,
            step_index: i32::try_from(step.index).unwrap_or(i32::MAX),
            name: step.name.into_string(),
            exit_code: step.exit_code,
            stdout: step.stdout,
            stderr: step.stderr,
            started_at: step.started_at.as_millis(),
            finished_at: step.finished_at.as_millis(),
        };
        let key =
            [steps::Column::DeploymentId, steps::Column::DeviceId, steps::Column::Attempt, steps::Column::StepIndex];
        let insert = steps::Entity::insert(steps::ActiveModel::from(row))
            .on_conflict(OnConflict::columns(key).do_nothing().to_owned());
        insert.exec_without_returning(&self.conn).await?;
        Ok(())
    }

    /// Asks for the abort of a deployment on one device, or on all of them: what no
    /// device has heard of is aborted at once, the rest when its device confirms.
    /// Doing it again changes nothing.
    pub async fn abort_targets(&self, deployment_id: RowId, device_id: Option<RowId>) -> Result<Aborted> {
        let of = |update: sea_orm::UpdateMany<targets::Entity>| {
            let update = update
                .filter(targets::Column::DeploymentId.eq(deployment_id))
                .filter(is_open())
                .filter(targets::Column::IsAbortRequested.eq(false));
            match device_id {
                Some(device_id) => update.filter(targets::Column::DeviceId.eq(device_id)),
                None => update,
            }
        };
        let (now, reason) = (self.now().as_millis(), aborted_before_start());
        let ended = of(targets::Entity::update_many())
            .set(targets::ActiveModel {
                status: Set(TargetStatus::Aborted.code()),
                reason_code: Set(reason.code),
                reason: Set(reason.text),
                is_abort_requested: Set(true),
                finished_at: Set(now),
                ..Default::default()
            })
            .filter(targets::Column::DispatchedEpoch.eq(0))
            .exec(&self.conn)
            .await?;
        let deployment = deployments::Entity::find_by_id(deployment_id).one(&self.conn).await?;
        let within = deployment.map_or(Duration::ZERO, |deployment| deadlines_of(&deployment).abort);
        let latest = self.now().after(within).as_millis();
        let deadline = Expr::col((targets::Entity, targets::Column::DeadlineAt));
        let sooner = CaseStatement::new().case(deadline.clone().gt(latest), latest).finally(deadline);
        let asked = of(targets::Entity::update_many())
            .col_expr(targets::Column::IsAbortRequested, Expr::value(true))
            .col_expr(targets::Column::DeadlineAt, sooner.into())
            .exec(&self.conn)
            .await?;
        Ok(Aborted { ended: ended.rows_affected, asked: asked.rows_affected })
    }

    /// Ends targets whose deadline has passed, at most `limit`, the most overdue
    /// first, in one statement, and says how many.
    pub async fn expire_targets(&self, limit: u64) -> Result<u64> {
        use targets::Column as T;
        let now = self.now().as_millis();
        let key = [T::DeploymentId, T::DeviceId].map(|column| (targets::Entity, column));
        let overdue = Query::select()
            .columns(key)
            .from(targets::Entity)
            .and_where(is_open())
            .and_where(Expr::col((targets::Entity, T::DeadlineAt)).lte(now))
            .order_by((targets::Entity, T::DeadlineAt), Order::Asc)
            .limit(limit)
            .take();
        let update = Query::update()
            .table(targets::Entity)
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

fn deadlines_of(deployment: &deployments::Model) -> Deadlines {
    deadlines(deployment.pending_deadline_ms, deployment.run_deadline_ms, deployment.abort_deadline_ms)
}

/// [`deadline_verdict`] as an expression over `targets`.
fn verdict(pick: impl Fn((TargetStatus, Reason)) -> Expr) -> CaseStatement {
    use TargetStatus::{InProgress, Pending};
    use targets::Column as T;
    let of = |column: T| Expr::col((targets::Entity, column));
    let is_pending = of(T::Status).eq(Pending.code());
    CaseStatement::new()
        .case(of(T::IsAbortRequested), pick(deadline_verdict(Pending, true, true)))
        .case(is_pending.clone().and(of(T::DispatchedEpoch).gt(0)), pick(deadline_verdict(Pending, true, false)))
        .case(is_pending, pick(deadline_verdict(Pending, false, false)))
        .finally(pick(deadline_verdict(InProgress, true, false)))
}
