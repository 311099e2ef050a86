//! Deployments: a flow sent to the devices that a filter matched.

use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::flow::inputs::InputValues;
use muster_core::ids::{DeploymentUuid, RowId};
use muster_core::target::{Deadlines, Target, TargetStatus, without_agent};
use sea_orm::sea_query::{CaseStatement, Condition, Expr, ExprTrait, InsertStatement, Query, SelectStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::db::{Db, Result, Tx};
use crate::entities::{deployments, devices, targets};
use crate::error::StoreError;
use crate::filter::{Matching, SetForm, column};
use crate::rollouts::NewRollout;

/// A deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// The row; API v1's `update_id`.
    pub id: RowId,
    /// As every API names it.
    pub uuid: String,
    /// How it was made.
    pub kind: DeploymentKind,
    /// What a person said of it.
    pub comment: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// How a deployment was made; the words of the Connect API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentKind {
    /// By a person in the console.
    Manual,
    /// Through an API.
    Api,
}

impl DeploymentKind {
    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Api => "api-deployment",
        }
    }

    fn from_word(word: &str) -> Self {
        if word == Self::Manual.as_str() { Self::Manual } else { Self::Api }
    }
}

/// A deployment to be made.
#[derive(Clone, Debug)]
pub struct NewDeployment {
    /// The fleet.
    pub fleet_id: RowId,
    /// What is deployed.
    pub flow_id: RowId,
    /// How it is made.
    pub kind: DeploymentKind,
    /// What a person says of it.
    pub comment: String,
    /// The app and the version that a device has once it succeeded.
    pub app: Option<(RowId, String)>,
    /// What the flow's inputs stand for.
    pub inputs: InputValues,
    /// When its targets end by themselves.
    pub deadlines: Deadlines,
    /// How it goes over its devices; `None` for all of them at once.
    pub rollout: Option<NewRollout>,
    /// What tells its request from others, where its sender said so.
    pub request: Option<Request>,
    /// Who makes it.
    pub created_by: String,
}

/// What tells a request from others: the same one, sent again, makes nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Made by its sender, one of its kind in the fleet.
    pub key: String,
    /// Of what was asked.
    pub hash: String,
}

/// A deployment that has just been made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedDeployment {
    /// As every API names it.
    pub uuid: DeploymentUuid,
    /// How many devices it has.
    pub target_count: u64,
}

impl From<deployments::Model> for Deployment {
    fn from(row: deployments::Model) -> Self {
        Self {
            id: row.id,
            uuid: row.uuid,
            kind: DeploymentKind::from_word(&row.kind),
            comment: row.comment,
            created_at: Timestamp::from_millis(row.created_at),
        }
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// The row of a deployment of that fleet.
    pub async fn deployment_id(&self, fleet_id: RowId, uuid: &DeploymentUuid) -> Result<Option<RowId>> {
        Ok(self.find_deployment(fleet_id, uuid).await?.map(|deployment| deployment.id))
    }

    /// A deployment of that fleet.
    pub async fn find_deployment(&self, fleet_id: RowId, uuid: &DeploymentUuid) -> Result<Option<Deployment>> {
        let query = deployments::Entity::find()
            .filter(deployments::Column::Uuid.eq(uuid.as_str()))
            .filter(deployments::Column::FleetId.eq(fleet_id));
        Ok(query.one(&self.conn).await?.map(Deployment::from))
    }

    /// The deployment that a request of that key made, and the hash of what that asked.
    pub async fn find_requested(&self, fleet_id: RowId, key: &str) -> Result<Option<(String, String)>> {
        let query = deployments::Entity::find()
            .filter(deployments::Column::FleetId.eq(fleet_id))
            .filter(deployments::Column::RequestKey.eq(key))
            // In the words of the partial index.
            .filter(Expr::cust(r#""deployments"."request_key" <> ''"#));
        Ok(query.one(&self.conn).await?.map(|row| (row.uuid, row.request_hash)))
    }

    /// The next `limit` deployments of a fleet before the row `before`, newest
    /// first, and whether there are more.
    pub async fn deployments_page(
        &self,
        fleet_id: RowId,
        before: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<Deployment>, bool)> {
        let mut query = deployments::Entity::find()
            .filter(deployments::Column::FleetId.eq(fleet_id))
            .order_by_desc(deployments::Column::Id)
            .limit(limit + 1);
        if let Some(before) = before {
            query = query.filter(deployments::Column::Id.lt(before));
        }
        let mut rows = query.all(&self.conn).await?;
        let is_more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((rows.into_iter().map(Deployment::from).collect(), is_more))
    }

    /// How many deployments a fleet has had.
    pub async fn deployments_count(&self, fleet_id: RowId) -> Result<u64> {
        let query = deployments::Entity::find().filter(deployments::Column::FleetId.eq(fleet_id));
        Ok(query.count(&self.conn).await?)
    }
}

impl Tx {
    /// Makes a deployment, with a pending target for every matching device, in a
    /// fixed number of statements.
    pub async fn insert_deployment(&self, new: &NewDeployment, matching: &Matching) -> Result<CreatedDeployment> {
        let uuid = self.random(DeploymentUuid::random);
        let id = self.next_id();
        let inputs = serde_json::to_string(&new.inputs)
            .map_err(|error| StoreError::Corrupt { table: "deployments", problem: error.to_string() })?;
        let (app_id, app_version) = new.app.clone().unzip();
        let Request { key: request_key, hash: request_hash } =
            new.request.clone().unwrap_or(Request { key: String::new(), hash: String::new() });
        let row = deployments::Model {
            id,
            uuid: uuid.as_str().to_owned(),
            fleet_id: new.fleet_id,
            flow_id: new.flow_id,
            kind: new.kind.as_str().to_owned(),
            comment: new.comment.clone(),
            app_id,
            app_version: app_version.unwrap_or_default(),
            deleted_app: String::new(),
            inputs,
            run_deadline_ms: millis(new.deadlines.run),
            created_by: new.created_by.clone(),
            created_at: self.now().as_millis(),
            pending_deadline_ms: millis(new.deadlines.pending),
            abort_deadline_ms: millis(new.deadlines.abort),
            request_key,
            request_hash,
        };
        deployments::Entity::insert(deployments::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        let target_count = if matching.asks_for_newest() {
            self.insert_then_retire(id, new, matching).await?
        } else {
            self.retire_latest(matching.ids()).await?;
            self.insert_targets(id, new, matching, true).await?
        };
        if let Some(rollout) = &new.rollout {
            self.insert_rollout(id, rollout, matching, target_count).await?;
        }
        Ok(CreatedDeployment { uuid, target_count })
    }

    /// For a filter that asks for the newest target: it must be asked before the new
    /// ones become that. The price is that every new row is written twice.
    async fn insert_then_retire(&self, deployment_id: RowId, new: &NewDeployment, matching: &Matching) -> Result<u64> {
        let target_count = self.insert_targets(deployment_id, new, matching, false).await?;
        let its_devices = Query::select()
            .column(targets::Column::DeviceId)
            .from(targets::Entity)
            .and_where(Expr::col(targets::Column::DeploymentId).eq(deployment_id))
            .take();
        self.retire_latest(its_devices).await?;
        targets::Entity::update_many()
            .col_expr(targets::Column::IsLatest, Expr::value(true))
            .filter(targets::Column::DeploymentId.eq(deployment_id))
            .exec(&self.conn)
            .await?;
        Ok(target_count)
    }

    /// Whatever was the newest target of these devices no longer is.
    pub(crate) async fn retire_latest(&self, device_ids: SelectStatement) -> Result<()> {
        targets::Entity::update_many()
            .col_expr(targets::Column::IsLatest, Expr::value(false))
            .filter(Expr::col(targets::Column::IsLatest))
            .filter(targets::Column::DeviceId.in_subquery(device_ids))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    async fn insert_targets(
        &self,
        deployment_id: RowId,
        new: &NewDeployment,
        matching: &Matching,
        is_latest: bool,
    ) -> Result<u64> {
        let last_wave = new.rollout.as_ref().map_or(0, |rollout| rollout.waves.len());
        let wave = i32::try_from(last_wave).unwrap_or(i32::MAX);
        let is_released = new.rollout.is_none();
        let row = targets_in(deployment_id, new.deadlines.pending, self.now(), wave, is_released, is_latest);
        let insert = row.insert(matching.condition(SetForm::In))?;
        Ok(self.conn.execute(&insert).await?.rows_affected())
    }
}

/// A target for each of many devices.
pub(crate) struct TargetRows(Vec<(targets::Column, Expr)>);

/// New targets of a deployment.
pub(crate) fn targets_in(
    deployment_id: RowId,
    pending: Duration,
    now: Timestamp,
    wave: i32,
    is_released: bool,
    is_latest: bool,
) -> TargetRows {
    use targets::Column as T;
    let first = Target::pending(now, pending);
    let never = Timestamp::NEVER.as_millis();
    let (failed, reason) = without_agent();
    TargetRows(vec![
        (T::DeploymentId, Expr::value(deployment_id)),
        (T::DeviceId, column(devices::Column::Id)),
        (T::Attempt, Expr::value(1)),
        (T::Status, by_agent(TargetStatus::Pending.code(), failed.code())),
        (T::ReasonCode, by_agent("", &*reason.code)),
        (T::Reason, by_agent("", &*reason.text)),
        (T::DispatchedEpoch, Expr::value(0_i64)),
        (T::AbortEpoch, Expr::value(0_i64)),
        (T::ReportedSeq, Expr::value(0_i64)),
        (T::IsAbortRequested, Expr::value(false)),
        (T::IsLatest, Expr::value(is_latest)),
        (T::CreatedAt, Expr::value(now.as_millis())),
        (T::StartedAt, Expr::value(never)),
        (T::FinishedAt, by_agent(never, now.as_millis())),
        (T::DeadlineAt, Expr::value(first.deadline_at.as_millis())),
        (T::PendingUntilAt, Expr::value(first.pending_until_at.as_millis())),
        (T::AskAgainAt, Expr::value(first.ask_again_at.as_millis())),
        (T::Wave, Expr::value(wave)),
        (T::IsReleased, Expr::value(is_released)),
    ])
}

impl TargetRows {
    /// The statement that makes them, for the devices of that condition.
    pub(crate) fn insert(self, which: Condition) -> Result<InsertStatement> {
        let (columns, values): (Vec<_>, Vec<_>) = self.0.into_iter().unzip();
        let matched = Query::select().exprs(values).from(devices::Entity).cond_where(which).take();
        let mut insert = Query::insert();
        insert
            .into_table(targets::Entity)
            .columns(columns)
            .select_from(matched)
            .map_err(|error| StoreError::Corrupt { table: "targets", problem: error.to_string() })?;
        Ok(insert)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The deadlines of a row.
pub(crate) fn deadlines(pending_ms: i64, run_ms: i64, abort_ms: i64) -> Deadlines {
    let [pending, run, abort] =
        [pending_ms, run_ms, abort_ms].map(|millis| Duration::from_millis(millis.try_into().unwrap_or(0)));
    Deadlines { pending, run, abort }
}

/// One value for devices that can run flows, another for those that cannot.
fn by_agent(with: impl Into<sea_orm::Value>, without: impl Into<sea_orm::Value>) -> Expr {
    CaseStatement::new().case(column(devices::Column::HasAgent), Expr::value(with)).finally(Expr::value(without)).into()
}
