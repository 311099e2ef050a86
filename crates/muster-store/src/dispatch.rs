//! What must be sent to which device over which link: the engine's question.
//!
//! A target is due when its device's link is held by the asking server and is
//! newer than the last sending. So a device that reconnects is told again, and
//! nothing about a sending needs to be remembered anywhere but in the row.

use muster_core::clock::Timestamp;
use muster_core::flow::Flow;
use muster_core::flow::inputs::InputValues;
use muster_core::ids::RowId;
use muster_core::window;
use sea_orm::sea_query::{
    Alias, Condition, Expr, ExprTrait, IntoIden, IntoValueTuple, Order, Query, SelectStatement, TableRef,
    UpdateStatement,
};
use sea_orm::{ConnectionTrait, EntityTrait, FromQueryResult};

use crate::db::{Db, Result, Tx};
use crate::entities::{deployments, device_presence, devices, fleets, targets};
use crate::error::StoreError;
use crate::fleets::windows_of;
use crate::page::subquery;
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
    /// The account whose it is.
    pub account_id: RowId,
    /// The fleet that it is for.
    pub fleet_id: RowId,
    /// What to do.
    pub flow: Flow,
    /// What its inputs stand for.
    pub inputs: InputValues,
}

/// What decides whether, and when, a device hears of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// A server holds the device's link.
    pub is_linked: bool,
    /// The device was told to run it, over this link or one before.
    pub is_sent: bool,
    /// The device takes no new updates.
    pub is_update_trigger_set: bool,
    /// An older deployment is still open on the device.
    pub is_behind_another: bool,
    /// A person asked for the abort.
    pub is_abort_requested: bool,
    /// Its rollout has not let it go yet.
    pub is_held: bool,
    /// The device said not now, and is not asked again yet.
    pub is_put_off: bool,
    /// No update window of the device's fleet is open where the device is.
    pub is_outside_window: bool,
    /// Which wave of the rollout it is in, from 0.
    pub wave: u32,
}

#[derive(FromQueryResult)]
struct StandingRow {
    dispatched_epoch: i64,
    is_abort_requested: bool,
    is_update_trigger_set: bool,
    link_server: String,
    online_until_at: i64,
    older_open: i64,
    newer_started: i64,
    is_released: bool,
    ask_again_at: i64,
    wave: i32,
    update_windows: String,
    time_zone: String,
}

impl<C: ConnectionTrait> Db<C> {
    /// How a target stands with the question that [`Db::due`] asks.
    pub async fn standing(&self, deployment_id: RowId, device_id: RowId) -> Result<Option<Standing>> {
        let Some(row) = self.conn.query_one(&select_standing(deployment_id, device_id)).await? else {
            return Ok(None);
        };
        let row = StandingRow::from_query_result(&row, "")?;
        Ok(Some(Standing {
            // A server that was killed has left its name behind.
            is_linked: !row.link_server.is_empty() && row.online_until_at > self.now().as_millis(),
            is_sent: row.dispatched_epoch > 0,
            is_update_trigger_set: row.is_update_trigger_set,
            is_behind_another: row.older_open > 0 || row.newer_started > 0,
            is_abort_requested: row.is_abort_requested,
            is_held: !row.is_released,
            is_put_off: row.ask_again_at > self.now().as_millis(),
            is_outside_window: !window::is_open(&windows_of(&row.update_windows), &row.time_zone, self.now()),
            wave: row.wave.try_into().unwrap_or(0),
        }))
    }

    /// What is due over the links of `server`, at most `limit`: to the given
    /// devices, or to any.
    pub async fn due(&self, server: &str, device_ids: Option<&[RowId]>, limit: u64) -> Result<Vec<Due>> {
        let closed = self.closed_zones(&from_targets().and_where(is_waiting(server, device_ids)).take()).await?;
        let query = select_due(server, &Gate { now: self.now(), closed }, device_ids, limit);
        let rows = self.conn.query_all(&query).await?;
        Ok(rows.iter().map(|row| Due::from_query_result(row, "")).collect::<Result<_, _>>()?)
    }

    /// What a deployment tells its devices.
    pub async fn deployment_order(&self, deployment_id: RowId) -> Result<DeploymentOrder> {
        let corrupt = |problem: String| StoreError::Corrupt { table: "deployments", problem };
        let row = deployments::Entity::find_by_id(deployment_id).one(&self.conn).await?;
        let row = row.ok_or_else(|| corrupt(format!("{deployment_id} is missing")))?;
        let inputs = serde_json::from_str(&row.inputs).map_err(|error| corrupt(error.to_string()))?;
        let fleet = fleets::Entity::find_by_id(row.fleet_id).one(&self.conn).await?;
        let fleet = fleet.ok_or_else(|| corrupt(format!("{deployment_id} has no fleet")))?;
        let flow = self.flow(row.flow_id).await?.flow;
        Ok(DeploymentOrder { uuid: row.uuid, account_id: fleet.account_id, fleet_id: fleet.id, flow, inputs })
    }
}

fn of(column: targets::Column) -> Expr {
    Expr::col((targets::Entity, column))
}

fn epoch() -> Expr {
    Expr::col((device_presence::Entity, device_presence::Column::LinkEpoch))
}

fn select_standing(deployment_id: RowId, device_id: RowId) -> SelectStatement {
    use device_presence::Column as P;
    use targets::Column as T;
    let older_open = older_open(Expr::cust("COUNT(*)"));
    let newer_started = newer_started(Expr::cust("COUNT(*)"));
    from_targets()
        .columns(
            [T::DispatchedEpoch, T::IsAbortRequested, T::IsReleased, T::AskAgainAt, T::Wave]
                .map(|column| (targets::Entity, column)),
        )
        .columns(
            [devices::Column::IsUpdateTriggerSet, devices::Column::TimeZone].map(|column| (devices::Entity, column)),
        )
        .column((fleets::Entity, fleets::Column::UpdateWindows))
        .inner_join(
            fleets::Entity,
            Expr::col((fleets::Entity, fleets::Column::Id)).equals((devices::Entity, devices::Column::FleetId)),
        )
        .columns([P::LinkServer, P::OnlineUntilAt].map(|column| (device_presence::Entity, column)))
        .expr_as(subquery(older_open), "older_open")
        .expr_as(subquery(newer_started), "newer_started")
        .and_where(of(T::DeploymentId).eq(deployment_id))
        .and_where(of(T::DeviceId).eq(device_id))
        .take()
}

/// Targets with their devices and the devices' links.
pub(crate) fn from_targets() -> SelectStatement {
    use targets::Column as T;
    Query::select()
        .from(targets::Entity)
        .inner_join(
            device_presence::Entity,
            Expr::col((device_presence::Entity, device_presence::Column::DeviceId))
                .equals((targets::Entity, T::DeviceId)),
        )
        .inner_join(
            devices::Entity,
            Expr::col((devices::Entity, devices::Column::Id)).equals((targets::Entity, T::DeviceId)),
        )
        .take()
}

fn select_due(server: &str, gate: &Gate, device_ids: Option<&[RowId]>, limit: u64) -> SelectStatement {
    use targets::Column as T;
    let presence = |column: device_presence::Column| (device_presence::Entity, column);
    let to_run = Condition::all()
        .add(of(T::IsAbortRequested).eq(false))
        .add(of(T::DispatchedEpoch).lt(epoch()))
        .add(Condition::any().add(has_started()).add(could_start(gate).add(of(T::IsReleased))));
    let to_abort = Condition::all().add(of(T::IsAbortRequested)).add(of(T::AbortEpoch).lt(epoch()));
    let mut query = from_targets()
        .columns(
            [T::DeploymentId, T::DeviceId, T::Attempt, T::IsAbortRequested].map(|column| (targets::Entity, column)),
        )
        .column(presence(device_presence::Column::LinkEpoch))
        .and_where(is_open())
        .and_where(is_linked_to(server))
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

/// What decides, beside a device's rows, whether it may begin.
pub(crate) struct Gate {
    pub(crate) now: Timestamp,
    pub(crate) closed: ClosedZones,
}

/// The fleets with update windows, each with the time zones in which none is open.
pub(crate) type ClosedZones = Vec<(RowId, Vec<String>)>;

impl Gate {
    /// The device's fleet has no update windows, or one is open where the device is.
    pub(crate) fn is_open(&self) -> Condition {
        let device = |column: devices::Column| Expr::col((devices::Entity, column));
        let closed = self.closed.iter().fold(Condition::any(), |closed, (fleet_id, zones)| {
            let there = device(devices::Column::TimeZone).is_in(zones.iter().map(String::as_str));
            closed.add(device(devices::Column::FleetId).eq(*fleet_id).and(there))
        });
        if self.closed.is_empty() { Condition::all() } else { closed.not() }
    }
}

/// Targets that have not begun, over the links of that server.
fn is_waiting(server: &str, device_ids: Option<&[RowId]>) -> Expr {
    let waiting = is_open().and(of(targets::Column::DispatchedEpoch).eq(0)).and(is_linked_to(server));
    match device_ids {
        Some(device_ids) => waiting.and(of(targets::Column::DeviceId).is_in(device_ids.iter().copied())),
        None => waiting,
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// Where, among the devices of these targets, no update window is open. Nothing is
    /// asked of the devices while no fleet has windows.
    pub(crate) async fn closed_zones(&self, of_targets: &SelectStatement) -> Result<ClosedZones> {
        let fleets = self.fleets_with_windows().await?;
        if fleets.is_empty() {
            return Ok(Vec::new());
        }
        let zones = of_targets
            .clone()
            .distinct()
            .columns([devices::Column::FleetId, devices::Column::TimeZone].map(|column| (devices::Entity, column)))
            .and_where(Expr::col((devices::Entity, devices::Column::FleetId)).is_in(fleets.iter().map(|(id, _)| *id)))
            .take();
        let mut closed: ClosedZones = Vec::new();
        for row in self.conn.query_all(&zones).await? {
            let (fleet_id, zone): (RowId, String) = (row.try_get("", "fleet_id")?, row.try_get("", "time_zone")?);
            let windows = fleets.iter().find(|(id, _)| *id == fleet_id).map_or(&[][..], |(_, windows)| windows);
            if window::is_open(windows, &zone, self.now()) {
                continue;
            }
            match closed.iter_mut().find(|(id, _)| *id == fleet_id) {
                Some((_, zones)) => zones.push(zone),
                None => closed.push((fleet_id, vec![zone])),
            }
        }
        Ok(closed)
    }
}

/// The device's link is held by that server.
pub(crate) fn is_linked_to(server: &str) -> Expr {
    Expr::col((device_presence::Entity, device_presence::Column::LinkServer)).eq(server)
}

/// The device takes updates, it has not said not now, and no other of its targets is
/// in the way: one at a time, in the order of their making. One that is tried again may
/// be older than one that has begun.
pub(crate) fn could_start(gate: &Gate) -> Condition {
    let open = Condition::all().add(gate.is_open());
    open.add(Expr::col((devices::Entity, devices::Column::IsUpdateTriggerSet)).eq(false))
        .add(of(targets::Column::AskAgainAt).lte(gate.now.as_millis()))
        .add(Expr::exists(older_open(Expr::value(1))).not())
        .add(Expr::exists(newer_started(Expr::value(1))).not())
}

/// The open targets of the device from older deployments.
fn older_open(what: Expr) -> SelectStatement {
    use targets::Column as T;
    let older = Alias::new("older");
    Query::select()
        .expr(what)
        .from_as(targets::Entity, older.clone())
        .and_where(Expr::col((older.clone(), T::DeviceId)).equals((targets::Entity, T::DeviceId)))
        .and_where(Expr::cust(r#""older"."status" < 2"#))
        .and_where(Expr::col((older, T::DeploymentId)).lt(of(T::DeploymentId)))
        .take()
}

/// The targets of the device from newer deployments that it has been told of and not ended.
fn newer_started(what: Expr) -> SelectStatement {
    use targets::Column as T;
    let newer = Alias::new("newer");
    Query::select()
        .expr(what)
        .from_as(targets::Entity, newer.clone())
        .and_where(Expr::col((newer.clone(), T::DeviceId)).equals((targets::Entity, T::DeviceId)))
        .and_where(Expr::cust(r#""newer"."status" < 2"#))
        .and_where(Expr::col((newer.clone(), T::DeploymentId)).gt(of(T::DeploymentId)))
        .and_where(Expr::col((newer, T::DispatchedEpoch)).gt(0))
        .take()
}

impl Tx {
    /// Notes that what is due is being sent, over the links for which it was due: a
    /// device that has reconnected since is told again. Written before the sending:
    /// what was perhaps sent is never taken for unsent.
    pub async fn mark_sent(&self, due: &[Due]) -> Result<()> {
        for (column, is_abort) in [(targets::Column::DispatchedEpoch, false), (targets::Column::AbortEpoch, true)] {
            let sent = due.iter().filter(|due| due.is_abort_requested == is_abort);
            let sent: Vec<_> = sent.map(|due| (due.deployment_id, due.device_id, due.link_epoch)).collect();
            if !sent.is_empty() {
                self.conn.execute(&set_epochs(column, sent)).await?;
            }
        }
        Ok(())
    }
}

/// Raises `column` of many targets, each to its own epoch.
fn set_epochs(column: targets::Column, sent: Vec<(RowId, RowId, i64)>) -> UpdateStatement {
    use targets::Column as T;
    let rows = sent.into_iter().map(IntoValueTuple::into_value_tuple).collect();
    // Both engines name the columns of a list of values so.
    let [deployment, device, epoch] = ["column1", "column2", "column3"].map(|name| ("sent", name));
    Query::update()
        .table(targets::Entity)
        .value(column, Expr::col(epoch))
        .from(TableRef::ValuesList(rows, "sent".into_iden()))
        .and_where(is_open())
        .and_where(of(T::DeploymentId).equals(deployment))
        .and_where(of(T::DeviceId).equals(device))
        .and_where(of(column).lt(Expr::col(epoch)))
        .take()
}
