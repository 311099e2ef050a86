//! Updates of a device: its newest targets, as the APIs show them.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::target::TargetStatus;
use sea_orm::sea_query::{Expr, ExprTrait, Order, OverStatement, Query, WindowStatement};
use sea_orm::{ConnectionTrait, FromQueryResult};

use crate::db::{Db, Result};
use crate::entities::{apps, deployments, flows, targets};
use crate::error::StoreError;
use crate::targets::{moment, status};

/// One of the newest updates of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateView {
    /// The device's row.
    pub device_id: RowId,
    /// The deployment's row.
    pub deployment_id: RowId,
    /// The flow.
    pub flow_name: String,
    /// Where the device stands in it.
    pub status: TargetStatus,
    /// What a person said of the deployment.
    pub comment: String,
    /// How the deployment was made.
    pub kind: String,
    /// The app that it sets, and to which version.
    pub app: Option<(String, String)>,
    /// When the deployment was made.
    pub created_at: Timestamp,
    /// When the device accepted.
    pub started_at: Option<Timestamp>,
    /// When it became final.
    pub finished_at: Option<Timestamp>,
}

impl<C: ConnectionTrait> Db<C> {
    /// The newest updates of each device, newest first, at most `each_max` for a device.
    pub async fn updates_of(&self, device_ids: &[RowId], each_max: u64) -> Result<Vec<UpdateView>> {
        if device_ids.is_empty() {
            return Ok(Vec::new());
        }
        let query = select_updates(device_ids, each_max);
        let rows = self.conn.query_all(&query).await?;
        rows.iter().map(|row| UpdateView::try_from(UpdateRow::from_query_result(row, "")?)).collect()
    }
}

#[derive(FromQueryResult)]
struct UpdateRow {
    device_id: i64,
    deployment_id: i64,
    status: i16,
    started_at: i64,
    finished_at: i64,
    flow_name: String,
    comment: String,
    kind: String,
    app_name: Option<String>,
    deleted_app: String,
    app_version: String,
    created_at: i64,
}

impl TryFrom<UpdateRow> for UpdateView {
    type Error = StoreError;

    fn try_from(row: UpdateRow) -> Result<Self> {
        Ok(Self {
            device_id: row.device_id,
            deployment_id: row.deployment_id,
            flow_name: row.flow_name,
            status: status(row.status)?,
            comment: row.comment,
            kind: row.kind,
            app: row
                .app_name
                .or(Some(row.deleted_app).filter(|name| !name.is_empty()))
                .map(|name| (name, row.app_version)),
            created_at: Timestamp::from_millis(row.created_at),
            started_at: moment(row.started_at),
            finished_at: moment(row.finished_at),
        })
    }
}

fn select_updates(device_ids: &[RowId], each_max: u64) -> sea_orm::sea_query::SelectStatement {
    use targets::Column as T;
    let of = |column: T| (targets::Entity, column);
    let ranked = |column: T| ("ranked", column);
    let newest_first =
        WindowStatement::new().partition_by(of(T::DeviceId)).order_by(of(T::DeploymentId), Order::Desc).take();
    let inner = Query::select()
        .columns([T::DeviceId, T::DeploymentId, T::Status, T::StartedAt, T::FinishedAt].map(of))
        .expr_window_as(Expr::cust("ROW_NUMBER()"), newest_first, "place")
        .from(targets::Entity)
        .and_where(Expr::col(of(T::DeviceId)).is_in(device_ids.iter().copied()))
        .take();
    let deployment = |column: deployments::Column| (deployments::Entity, column);
    Query::select()
        .columns([T::DeviceId, T::DeploymentId, T::Status, T::StartedAt, T::FinishedAt].map(ranked))
        .columns([
            deployment(deployments::Column::Comment),
            deployment(deployments::Column::Kind),
            deployment(deployments::Column::AppVersion),
            deployment(deployments::Column::DeletedApp),
            deployment(deployments::Column::CreatedAt),
        ])
        .expr_as(Expr::col((flows::Entity, flows::Column::Name)), "flow_name")
        .expr_as(Expr::col((apps::Entity, apps::Column::Name)), "app_name")
        .from_subquery(inner, "ranked")
        .inner_join(deployments::Entity, Expr::col(deployment(deployments::Column::Id)).equals(ranked(T::DeploymentId)))
        .inner_join(
            flows::Entity,
            Expr::col((flows::Entity, flows::Column::Id)).equals(deployment(deployments::Column::FlowId)),
        )
        .left_join(
            apps::Entity,
            Expr::col((apps::Entity, apps::Column::Id)).equals(deployment(deployments::Column::AppId)),
        )
        .and_where(Expr::col(("ranked", "place")).lte(i64::try_from(each_max).unwrap_or(i64::MAX)))
        .order_by(ranked(T::DeviceId), Order::Asc)
        .order_by(ranked(T::DeploymentId), Order::Desc)
        .take()
}
