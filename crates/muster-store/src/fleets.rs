//! Fleets: looked up, listed, made, changed, deleted.

use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::deadlines::WireDeadlines;
use muster_core::ids::RowId;
use muster_core::limits::{ACCESS_GRANT_LIFE_DEFAULT, HEARTBEAT_DEFAULT};
use muster_core::names::{FleetName, GroupName, ProjectKey};
use muster_core::window::{self, UpdateWindow, WireUpdateWindow};
use sea_orm::sea_query::{Alias, Condition, Expr, ExprTrait, Func, Query, SelectStatement};
use sea_orm::{
    ActiveModelTrait, ActiveValue::NotSet, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait,
    FromQueryResult, PaginatorTrait, QueryFilter, QueryOrder,
};

use crate::accounts::User;
use crate::db::{Db, Result, Tx};
use crate::entities::{accounts, deployments, devices, fleets, groups, targets, user_roles};
use crate::groups::NEW_FLEET_GROUPS;
use crate::page::{count, cut, page, subquery};

/// A fleet; "project" in the Connect API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The row.
    pub id: RowId,
    /// Whose it is.
    pub account_id: RowId,
    /// Its short name, in the paths of API v2.
    pub project_key: String,
    /// Its name, in the bodies of API v1.
    pub name: String,
    /// Time between two keepalives of its devices.
    pub heartbeat: Duration,
    /// When its deployments' targets end by themselves, where the fleet says so.
    pub deadlines: WireDeadlines,
    /// When its devices may begin an update; at any time where there are none.
    pub update_windows: Vec<WireUpdateWindow>,
    /// Whether port tunnels may end at other hosts of a device's network.
    pub tunnels_to_network: bool,
    /// How long an access grant in it holds at most.
    pub access_grant_max: Duration,
}

/// The windows of a row. One that cannot be read limits nothing.
pub(crate) fn windows_of(stored: &str) -> Vec<UpdateWindow> {
    window::checked(&wire_windows(stored)).unwrap_or_default()
}

fn wire_windows(stored: &str) -> Vec<WireUpdateWindow> {
    serde_json::from_str(stored).unwrap_or_default()
}

fn millis(stored: i64) -> Duration {
    Duration::from_millis(stored.try_into().unwrap_or(0))
}

fn in_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What three columns say of the fleet's deadlines: 0 for nothing.
fn fleet_deadlines([pending, run, abort]: [i64; 3]) -> WireDeadlines {
    let minutes = |millis: i64| u64::try_from(millis / 60_000).ok().filter(|minutes| *minutes > 0);
    WireDeadlines { pending_minutes: minutes(pending), run_minutes: minutes(run), abort_minutes: minutes(abort) }
}

impl From<fleets::Model> for Fleet {
    fn from(row: fleets::Model) -> Self {
        Self {
            id: row.id,
            account_id: row.account_id,
            project_key: row.project_key,
            name: row.name,
            heartbeat: millis(row.heartbeat_ms),
            deadlines: fleet_deadlines([row.pending_deadline_ms, row.run_deadline_ms, row.abort_deadline_ms]),
            update_windows: wire_windows(&row.update_windows),
            tunnels_to_network: row.tunnels_to_network,
            access_grant_max: millis(row.access_grant_max_ms),
        }
    }
}

/// A fleet as the catalogue shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetView {
    /// The fleet.
    pub fleet: Fleet,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many devices are in it.
    pub device_count: u64,
    /// How many groups it has.
    pub group_count: u64,
}

/// What changes of a fleet; `None` for what stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetChange {
    /// A new name.
    pub name: Option<FleetName>,
    /// A new time between two keepalives of its devices.
    pub heartbeat: Option<Duration>,
    /// All of its deadlines; what they leave out is the server's to say again.
    pub deadlines: Option<WireDeadlines>,
    /// All of its update windows.
    pub update_windows: Option<Vec<WireUpdateWindow>>,
    /// Whether port tunnels may end at other hosts of a device's network.
    pub tunnels_to_network: Option<bool>,
    /// How long an access grant in it holds at most, from now on.
    pub access_grant_max: Option<Duration>,
}

#[derive(FromQueryResult)]
struct ViewRow {
    id: i64,
    account_id: i64,
    project_key: String,
    name: String,
    heartbeat_ms: i64,
    pending_deadline_ms: i64,
    run_deadline_ms: i64,
    abort_deadline_ms: i64,
    update_windows: String,
    tunnels_to_network: bool,
    access_grant_max_ms: i64,
    created_at: i64,
    device_count: i64,
    group_count: i64,
}

impl From<ViewRow> for FleetView {
    fn from(row: ViewRow) -> Self {
        Self {
            fleet: Fleet {
                id: row.id,
                account_id: row.account_id,
                project_key: row.project_key,
                name: row.name,
                heartbeat: millis(row.heartbeat_ms),
                deadlines: fleet_deadlines([row.pending_deadline_ms, row.run_deadline_ms, row.abort_deadline_ms]),
                update_windows: wire_windows(&row.update_windows),
                tunnels_to_network: row.tunnels_to_network,
                access_grant_max: millis(row.access_grant_max_ms),
            },
            created_at: Timestamp::from_millis(row.created_at),
            device_count: row.device_count.try_into().unwrap_or(0),
            group_count: row.group_count.try_into().unwrap_or(0),
        }
    }
}

fn select_views() -> SelectStatement {
    use fleets::Column as F;
    let of = |column: F| (fleets::Entity, column);
    let devices = count(devices::Entity, Expr::col((devices::Entity, devices::Column::FleetId)).equals(of(F::Id)));
    let groups = count(groups::Entity, Expr::col((groups::Entity, groups::Column::FleetId)).equals(of(F::Id)));
    Query::select()
        .columns([F::Id, F::AccountId, F::ProjectKey, F::Name, F::HeartbeatMs, F::CreatedAt].map(of))
        .columns([F::PendingDeadlineMs, F::RunDeadlineMs, F::AbortDeadlineMs, F::UpdateWindows].map(of))
        .columns([F::TunnelsToNetwork, F::AccessGrantMaxMs].map(of))
        .expr_as(devices, "device_count")
        .expr_as(groups, "group_count")
        .from(fleets::Entity)
        .take()
}

/// The fleets that a user sees, as a condition over `fleets`.
fn seen_by(user: &User) -> Condition {
    let of = |column: fleets::Column| Expr::col((fleets::Entity, column));
    let account = Condition::all().add(of(fleets::Column::AccountId).eq(user.account_id));
    if user.is_admin { account } else { account.add(of(fleets::Column::Id).in_subquery(fleets_of(user))) }
}

/// The fleets in which a user has a role.
fn fleets_of(user: &User) -> SelectStatement {
    Query::select()
        .column((user_roles::Entity, user_roles::Column::FleetId))
        .from(user_roles::Entity)
        .and_where(Expr::col((user_roles::Entity, user_roles::Column::UserId)).eq(user.id))
        .take()
}

/// That the device of a row lies in a fleet that the user sees. An administrator sees
/// every device of the account, and so need not be asked about each.
pub(crate) fn device_is_seen_by(user: &User, device_id: Expr) -> Expr {
    if user.is_admin {
        return Expr::value(true);
    }
    let seen = Query::select()
        .expr(Expr::value(1))
        .from(devices::Entity)
        .and_where(device_id.eq(Expr::col((devices::Entity, devices::Column::Id))))
        .and_where(Expr::col((devices::Entity, devices::Column::FleetId)).in_subquery(fleets_of(user)))
        .take();
    Expr::exists(seen)
}

/// In the words of the partial index.
fn has_windows() -> Expr {
    Expr::cust(r#""fleets"."update_windows" <> '[]'"#)
}

fn json(windows: &[WireUpdateWindow]) -> String {
    serde_json::to_string(windows).unwrap_or_else(|_| "[]".to_owned())
}

impl<C: ConnectionTrait> Db<C> {
    /// Every fleet that has update windows, with those.
    pub(crate) async fn fleets_with_windows(&self) -> Result<Vec<(RowId, Vec<UpdateWindow>)>> {
        let rows = fleets::Entity::find().filter(has_windows()).all(&self.conn).await?;
        Ok(rows.into_iter().map(|row| (row.id, windows_of(&row.update_windows))).collect())
    }

    /// The fleet with that key.
    pub async fn find_fleet_by_key(&self, account_id: RowId, key: &ProjectKey) -> Result<Option<Fleet>> {
        self.fleet(account_id, fleets::Column::ProjectKey.eq(key.as_str())).await
    }

    /// The fleet with that name.
    pub async fn find_fleet_by_name(&self, account_id: RowId, name: &FleetName) -> Result<Option<Fleet>> {
        self.fleet(account_id, fleets::Column::Name.eq(name.as_str())).await
    }

    /// The fleet of a row that refers to it.
    pub async fn find_fleet(&self, account_id: RowId, id: RowId) -> Result<Option<Fleet>> {
        self.fleet(account_id, fleets::Column::Id.eq(id)).await
    }

    /// Every fleet that a user may see, in the order they were made.
    pub async fn visible_fleets(&self, user: &User) -> Result<Vec<Fleet>> {
        let query = fleets::Entity::find().filter(seen_by(user)).order_by_asc(fleets::Column::Id);
        Ok(query.all(&self.conn).await?.into_iter().map(Fleet::from).collect())
    }

    /// The next `limit` fleets that a user sees behind the row `after`, oldest first, and whether there are more.
    pub async fn fleets_page(&self, user: &User, after: Option<RowId>, limit: u64) -> Result<(Vec<FleetView>, bool)> {
        let query = select_views().cond_where(seen_by(user)).take();
        let query = page(query, (fleets::Entity, fleets::Column::Id), after, limit);
        let (rows, is_more) = cut(self.conn.query_all(&query).await?, limit);
        let views = rows.iter().map(|row| Ok(ViewRow::from_query_result(row, "")?.into()));
        Ok((views.collect::<Result<_>>()?, is_more))
    }

    /// How many fleets a user sees.
    pub async fn fleets_count(&self, user: &User) -> Result<u64> {
        Ok(fleets::Entity::find().filter(seen_by(user)).count(&self.conn).await?)
    }

    /// A fleet as the catalogue shows it.
    pub async fn fleet_view(&self, fleet_id: RowId) -> Result<Option<FleetView>> {
        let query = select_views().and_where(Expr::col((fleets::Entity, fleets::Column::Id)).eq(fleet_id)).take();
        let row = self.conn.query_one(&query).await?;
        row.map(|row| Ok(ViewRow::from_query_result(&row, "")?.into())).transpose()
    }

    /// How many fleets an account has.
    pub async fn account_fleets_count(&self, account_id: RowId) -> Result<u64> {
        Ok(fleets::Entity::find().filter(fleets::Column::AccountId.eq(account_id)).count(&self.conn).await?)
    }

    async fn fleet(&self, account_id: RowId, which: sea_orm::sea_query::Expr) -> Result<Option<Fleet>> {
        let query = fleets::Entity::find().filter(fleets::Column::AccountId.eq(account_id)).filter(which);
        Ok(query.one(&self.conn).await?.map(Fleet::from))
    }
}

impl Tx {
    /// Makes a fleet with its first groups. The key and the name must be free.
    pub async fn insert_fleet(&self, account_id: RowId, key: &ProjectKey, name: &FleetName) -> Result<Fleet> {
        let row = fleets::Model {
            id: self.next_id(),
            account_id,
            project_key: key.as_str().to_owned(),
            name: name.as_str().to_owned(),
            heartbeat_ms: in_millis(HEARTBEAT_DEFAULT),
            created_at: self.now().as_millis(),
            pending_deadline_ms: 0,
            run_deadline_ms: 0,
            abort_deadline_ms: 0,
            update_windows: "[]".to_owned(),
            tunnels_to_network: false,
            access_grant_max_ms: in_millis(ACCESS_GRANT_LIFE_DEFAULT),
        };
        fleets::Entity::insert(fleets::ActiveModel::from(row.clone())).exec_without_returning(&self.conn).await?;
        for group in NEW_FLEET_GROUPS {
            self.insert_group(row.id, &GroupName::parse(group)?).await?;
        }
        Ok(row.into())
    }

    /// Changes a fleet. A new name must be free in the account.
    pub async fn change_fleet(&self, fleet_id: RowId, change: &FleetChange) -> Result<()> {
        let deadline_ms = |minutes: Option<u64>| i64::try_from(minutes.unwrap_or(0) * 60_000).unwrap_or(i64::MAX);
        let row = fleets::ActiveModel {
            name: change.name.as_ref().map_or(NotSet, |name| Set(name.as_str().to_owned())),
            heartbeat_ms: change.heartbeat.map_or(NotSet, |heartbeat| Set(in_millis(heartbeat))),
            pending_deadline_ms: change.deadlines.map_or(NotSet, |wish| Set(deadline_ms(wish.pending_minutes))),
            run_deadline_ms: change.deadlines.map_or(NotSet, |wish| Set(deadline_ms(wish.run_minutes))),
            abort_deadline_ms: change.deadlines.map_or(NotSet, |wish| Set(deadline_ms(wish.abort_minutes))),
            update_windows: change.update_windows.as_ref().map_or(NotSet, |windows| Set(json(windows))),
            tunnels_to_network: change.tunnels_to_network.map_or(NotSet, Set),
            access_grant_max_ms: change.access_grant_max.map_or(NotSet, |max| Set(in_millis(max))),
            ..Default::default()
        };
        if row.is_changed() {
            fleets::Entity::update_many().set(row).filter(fleets::Column::Id.eq(fleet_id)).exec(&self.conn).await?;
        }
        Ok(())
    }

    /// Makes this transaction the only one of its moment that takes a part of the fleet
    /// away. Of two that each leave the other's as the last one, neither sees what the
    /// other does: only where both write one row does PostgreSQL notice.
    pub async fn claim_fleet(&self, fleet_id: RowId) -> Result<()> {
        fleets::Entity::update_many()
            .col_expr(fleets::Column::HeartbeatMs, Expr::col(fleets::Column::HeartbeatMs))
            .filter(fleets::Column::Id.eq(fleet_id))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    /// The same for an account: its fleets, and who administers it.
    pub async fn claim_account(&self, account_id: RowId) -> Result<()> {
        accounts::Entity::update_many()
            .col_expr(accounts::Column::CreatedAt, Expr::col(accounts::Column::CreatedAt))
            .filter(accounts::Column::Id.eq(account_id))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    /// Deletes a fleet that has no devices, with its groups, flows and deployments, its
    /// pairing tokens and the roles in it, in a number of statements that does not
    /// depend on theirs. Devices that have been moved away lose their part in its
    /// deployments.
    pub async fn delete_fleet(&self, fleet_id: RowId) -> Result<()> {
        self.promote_older_targets(fleet_id).await?;
        deployments::Entity::delete_many().filter(deployments::Column::FleetId.eq(fleet_id)).exec(&self.conn).await?;
        self.delete_flows_of(fleet_id).await?;
        fleets::Entity::delete_by_id(fleet_id).exec(&self.conn).await?;
        Ok(())
    }

    /// Lets devices that were moved away have another newest target than one of this
    /// fleet's deployments, where they have another.
    async fn promote_older_targets(&self, fleet_id: RowId) -> Result<()> {
        use targets::Column as T;
        let of = |column: T| Expr::col((targets::Entity, column));
        let deployments = || {
            Query::select()
                .column((deployments::Entity, deployments::Column::Id))
                .from(deployments::Entity)
                .and_where(Expr::col((deployments::Entity, deployments::Column::FleetId)).eq(fleet_id))
                .take()
        };
        let devices = Query::select()
            .column(T::DeviceId)
            .from(targets::Entity)
            .and_where(of(T::DeploymentId).in_subquery(deployments()))
            .take();
        let retired = targets::Entity::update_many()
            .col_expr(T::IsLatest, Expr::value(false))
            .filter(Expr::col(T::IsLatest))
            .filter(of(T::DeploymentId).in_subquery(deployments()));
        retired.exec(&self.conn).await?;
        let other = Alias::new("other");
        let newest = Query::select()
            .expr(Func::max(Expr::col((other.clone(), T::DeploymentId))))
            .from_as(targets::Entity, other.clone())
            .and_where(Expr::col((other.clone(), T::DeviceId)).equals((targets::Entity, T::DeviceId)))
            .and_where(Expr::col((other, T::DeploymentId)).not_in_subquery(deployments()))
            .take();
        let latest = Alias::new("latest");
        let has_newest = Query::select()
            .expr(Expr::value(1))
            .from_as(targets::Entity, latest.clone())
            .and_where(Expr::col((latest.clone(), T::DeviceId)).equals((targets::Entity, T::DeviceId)))
            .and_where(Expr::col((latest, T::IsLatest)))
            .take();
        targets::Entity::update_many()
            .col_expr(T::IsLatest, Expr::value(true))
            .filter(of(T::DeviceId).in_subquery(devices))
            .filter(of(T::DeploymentId).eq(subquery(newest)))
            .filter(Expr::exists(has_newest).not())
            .exec(&self.conn)
            .await?;
        Ok(())
    }
}
