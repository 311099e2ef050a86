//! What must be sent to which device over which link: the engine's question.
//!
//! A target is due when its device's link is held by the asking server and is
//! newer than the last sending. So a device that reconnects is told again, and
//! nothing about a sending needs to be remembered anywhere but in the row.

use std::collections::BTreeMap;

use muster_core::flow::Flow;
use muster_core::flow::inputs::InputValues;
use muster_core::ids::RowId;
use sea_orm::sea_query::{Alias, Condition, Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter};

use crate::db::{Db, Result, Tx};
use crate::entities::{deployments, device_presence, devices, targets};
use crate::error::StoreError;
use crate::targets::is_open;

/// Something that must be sent to a device.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Due {
    /// The deployment's row.
    pub deployment_id: RowId,
    /// The device's row.
    pub device_id: RowId,
    /// Which attempt.
    pub attempt: i32,
    /// The link to send it over.
    pub link_epoch: i64,
    /// To be aborted, rather than run.
    pub is_abort_requested: bool,
}

/// What a deployment tells every one of its devices.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentOrder {
    /// The deployment.
    pub uuid: String,
    /// What to do.
    pub flow: Flow,
    /// What its inputs stand for.
    pub inputs: InputValues,
}

impl<C: ConnectionTrait> Db<C> {
    /// What is due over the links of `server`, at most `limit`: to the given
    /// devices, or to any.
    pub async fn due(&self, server: &str, device_ids: Option<&[RowId]>, limit: u64) -> Result<Vec<Due>> {
        let query = select_due(server, device_ids, limit);
        let rows = self.conn.query_all(&query).await?;
        Ok(rows.iter().map(|row| Due::from_query_result(row, "")).collect::<Result<_, _>>()?)
    }

    /// What a deployment tells its devices.
    pub async fn deployment_order(&self, deployment_id: RowId) -> Result<DeploymentOrder> {
        let corrupt = |problem: String| StoreError::Corrupt { table: "deployments", problem };
        let row = deployments::Entity::find_by_id(deployment_id).one(&self.conn).await?;
        let row = row.ok_or_else(|| corrupt(format!("{deployment_id} is missing")))?;
        let inputs = serde_json::from_str(&row.inputs).map_err(|error| corrupt(error.to_string()))?;
        Ok(DeploymentOrder { uuid: row.uuid, flow: self.flow(row.flow_id).await?.flow, inputs })
    }
}

fn of(column: targets::Column) -> Expr {
    Expr::col((targets::Entity, column))
}

fn epoch() -> Expr {
    Expr::col((device_presence::Entity, device_presence::Column::LinkEpoch))
}

fn select_due(server: &str, device_ids: Option<&[RowId]>, limit: u64) -> SelectStatement {
    use targets::Column as T;
    let presence = |column: device_presence::Column| (device_presence::Entity, column);
    let to_run = Condition::all()
        .add(of(T::IsAbortRequested).eq(false))
        .add(of(T::DispatchedEpoch).lt(epoch()))
        .add(Condition::any().add(has_started()).add(may_start()));
    let to_abort = Condition::all().add(of(T::IsAbortRequested)).add(of(T::AbortEpoch).lt(epoch()));
    let mut query = Query::select()
        .columns(
            [T::DeploymentId, T::DeviceId, T::Attempt, T::IsAbortRequested].map(|column| (targets::Entity, column)),
        )
        .column(presence(device_presence::Column::LinkEpoch))
        .from(targets::Entity)
        .inner_join(
            device_presence::Entity,
            Expr::col(presence(device_presence::Column::DeviceId)).equals((targets::Entity, T::DeviceId)),
        )
        .inner_join(
            devices::Entity,
            Expr::col((devices::Entity, devices::Column::Id)).equals((targets::Entity, T::DeviceId)),
        )
        .and_where(is_open())
        .and_where(Expr::col(presence(device_presence::Column::LinkServer)).eq(server))
        .cond_where(Condition::any().add(to_run).add(to_abort))
        .order_by((targets::Entity, T::DeploymentId), Order::Asc)
        .limit(limit)
        .take();
    if let Some(device_ids) = device_ids {
        query.and_where(of(T::DeviceId).is_in(device_ids.iter().copied()));
    }
    query
}

/// The device has heard of it: it must be told again over each new link.
fn has_started() -> Expr {
    of(targets::Column::DispatchedEpoch).gt(0)
}

/// The device takes updates, and none of its older targets is open: one at a
/// time, in the order of their making.
fn may_start() -> Condition {
    use targets::Column as T;
    let older = Alias::new("older");
    let older_open = Query::select()
        .expr(Expr::value(1))
        .from_as(targets::Entity, older.clone())
        .and_where(Expr::col((older.clone(), T::DeviceId)).equals((targets::Entity, T::DeviceId)))
        .and_where(Expr::cust(r#""older"."status" < 2"#))
        .and_where(Expr::col((older, T::DeploymentId)).lt(of(T::DeploymentId)))
        .take();
    Condition::all()
        .add(Expr::col((devices::Entity, devices::Column::IsUpdateTriggerSet)).eq(false))
        .add(Expr::exists(older_open).not())
}

impl Tx {
    /// Notes that what is due is being sent over the present links. Written before
    /// the sending: what was perhaps sent is never taken for unsent.
    pub async fn mark_sent(&self, due: &[Due]) -> Result<()> {
        for (column, is_abort) in [(targets::Column::DispatchedEpoch, false), (targets::Column::AbortEpoch, true)] {
            let mut by_deployment: BTreeMap<RowId, Vec<RowId>> = BTreeMap::new();
            for due in due.iter().filter(|due| due.is_abort_requested == is_abort) {
                by_deployment.entry(due.deployment_id).or_default().push(due.device_id);
            }
            for (deployment_id, device_ids) in by_deployment {
                self.set_epoch(column, deployment_id, &device_ids).await?;
            }
        }
        Ok(())
    }

    async fn set_epoch(&self, column: targets::Column, deployment_id: RowId, device_ids: &[RowId]) -> Result<()> {
        let epoch_of_device = Query::select()
            .expr(epoch())
            .from(device_presence::Entity)
            .and_where(
                Expr::col((device_presence::Entity, device_presence::Column::DeviceId))
                    .equals((targets::Entity, targets::Column::DeviceId)),
            )
            .take();
        targets::Entity::update_many()
            .col_expr(column, Expr::SubQuery(None, Box::new(epoch_of_device.into())))
            .filter(is_open())
            .filter(targets::Column::DeploymentId.eq(deployment_id))
            .filter(targets::Column::DeviceId.is_in(device_ids.iter().copied()))
            .exec(&self.conn)
            .await?;
        Ok(())
    }
}
