//! Which waiting devices of a rollout may start: one statement, however many they are.

use muster_core::ids::RowId;
use muster_core::rollout::plan::Plan;
use muster_core::rollout::policy::Disruption;
use muster_core::target::TargetStatus;
use sea_orm::ConnectionTrait;
use sea_orm::sea_query::{
    CaseStatement, Expr, ExprTrait, Func, JoinType, Order, OverStatement, Query, SelectStatement, UnionType,
    WindowStatement,
};

use super::{Rollout, held_up_to, named};
use crate::db::{Db, Result, Tx};
use crate::dispatch::{Gate, could_start, from_targets, is_linked_to};
use crate::entities::{deployments, device_tags, rollouts, tags, targets};
use crate::targets::is_open;

impl<C: ConnectionTrait> Db<C> {
    /// What decides whether a rollout's devices may begin.
    pub(super) async fn gate(&self, rollout: &Rollout) -> Result<Gate> {
        let open = from_targets()
            .and_where(is_open())
            .and_where(of(targets::Column::DeploymentId).eq(rollout.deployment_id))
            .and_where(of(targets::Column::DispatchedEpoch).eq(0))
            .take();
        Ok(Gate { now: self.now(), closed: self.closed_zones(&open).await? })
    }
}

impl Tx {
    /// Lets as many start as the plan allows, of those that could: their devices have
    /// their links here, and nothing else holds them back. In the order of their waves
    /// and of their devices' enrolment. From now on they have no longer to begin than
    /// a run may take, so that one that vanishes does not keep its place for ever.
    pub(super) async fn release(&self, rollout: &Rollout, plan: &Plan, server: &str) -> Result<u64> {
        use targets::Column as T;
        let ready = ready(rollout, plan.state.wave, server, &self.gate(rollout).await?);
        let at_most = Ord::min(plan.may_start, i64::MAX.unsigned_abs());
        let chosen = match &rollout.policy.disruption {
            None => first(ready, at_most),
            Some(disruption) => spread(ready, rollout, disruption, at_most),
        };
        let soonest = self.now().after(rollout.deadlines.run).as_millis();
        let deadline = CaseStatement::new().case(of(T::DeadlineAt).gt(soonest), soonest).finally(of(T::DeadlineAt));
        let update = Query::update()
            .table(targets::Entity)
            .value(T::IsReleased, true)
            .value(T::DeadlineAt, deadline)
            .and_where(is_open())
            .and_where(of(T::DeploymentId).eq(rollout.deployment_id))
            .and_where(of(T::DeviceId).in_subquery(chosen))
            .take();
        Ok(self.conn.execute(&update).await?.rows_affected())
    }

    /// Takes their places back from those that were let go, have not been told, and
    /// could not start any more: their links broke, or something holds them back since.
    pub(super) async fn take_back(&self, rollout: &Rollout, server: &str) -> Result<u64> {
        use targets::Column as T;
        let gate = self.gate(rollout).await?;
        let kept = from_targets()
            .column((targets::Entity, T::DeviceId))
            .and_where(is_unsent(rollout))
            .and_where(is_linked_to(server).or(is_linked_elsewhere(self.now().as_millis(), server)))
            .cond_where(could_start(&gate))
            .take();
        let update = Query::update()
            .table(targets::Entity)
            .value(T::IsReleased, false)
            .value(T::DeadlineAt, of(T::PendingUntilAt))
            .and_where(is_unsent(rollout))
            .and_where(of(T::DeviceId).not_in_subquery(kept))
            .take();
        Ok(self.conn.execute(&update).await?.rows_affected())
    }
}

/// Devices that could start now, of the waves up to that one.
pub(super) fn ready(rollout: &Rollout, wave: u32, server: &str, gate: &Gate) -> SelectStatement {
    from_targets()
        .and_where(held_up_to(rollout.deployment_id, wave))
        .and_where(of(targets::Column::Status).eq(TargetStatus::Pending.code()))
        .and_where(is_linked_to(server))
        .cond_where(could_start(gate))
        .take()
}

/// Devices that were let go and have not been told.
pub(super) fn unsent(rollout: &Rollout) -> SelectStatement {
    from_targets().and_where(is_unsent(rollout)).take()
}

fn is_unsent(rollout: &Rollout) -> Expr {
    use targets::Column as T;
    let waves = 0..=i32::try_from(rollout.progress.state.wave).unwrap_or(i32::MAX);
    of(T::DeploymentId)
        .eq(rollout.deployment_id)
        .and(of(T::Wave).is_in(waves))
        .and(of(T::Status).eq(TargetStatus::Pending.code()))
        .and(Expr::cust(r#""targets"."is_released""#))
        .and(of(T::DispatchedEpoch).eq(0))
}

fn of(column: targets::Column) -> Expr {
    Expr::col((targets::Entity, column))
}

/// Another server's link counts while its device is heard of: that server sends.
fn is_linked_elsewhere(now: i64, server: &str) -> Expr {
    use crate::entities::device_presence::{Column as P, Entity as Presence};
    let presence = |column: P| Expr::col((Presence, column));
    presence(P::LinkServer).ne("").and(presence(P::LinkServer).ne(server)).and(presence(P::OnlineUntilAt).gt(now))
}

fn first(mut ready: SelectStatement, at_most: u64) -> SelectStatement {
    use targets::Column as T;
    ready
        .column((targets::Entity, T::DeviceId))
        .order_by((targets::Entity, T::Wave), Order::Asc)
        .order_by((targets::Entity, T::DeviceId), Order::Asc)
        .limit(at_most)
        .take()
}

/// [`muster_core::rollout::choose`] in one statement. From the inside: every ready
/// device with each of its tags of the key and how many of that tag are at it; without
/// those of which one is full; with its place in each of its tags; those that fit
/// everywhere.
fn spread(ready: SelectStatement, rollout: &Rollout, disruption: &Disruption, at_most: u64) -> SelectStatement {
    let max = i64::try_from(disruption.in_progress_max).unwrap_or(i64::MAX);
    let keyed = || tags_of_key(rollout, disruption);
    let (tag, busy, fullest, place) = (named("tag_id"), named("busy"), named("fullest"), named("place"));
    let (device, wave) = (targets::Column::DeviceId, targets::Column::Wave);
    let col = |table: &'static str, column: &'static str| Expr::col((named(table), named(column)));
    let tagged = with_tags(ready, rollout, keyed());
    let by_device = WindowStatement::new().partition_by((named("tagged"), named("device_id"))).take();
    let measured = Query::select()
        .columns(["device_id", "wave", "tag_id", "busy"].map(|column| (named("tagged"), named(column))))
        .expr_window_as(Func::max(col("tagged", "busy")), by_device, fullest)
        .from_subquery(tagged, named("tagged"))
        .take();
    let by_tag = WindowStatement::new()
        .partition_by((named("free"), tag.clone()))
        .order_by((named("free"), wave), Order::Asc)
        .order_by((named("free"), device), Order::Asc)
        .take();
    let placed = Query::select()
        .columns(["device_id", "wave", "tag_id", "busy"].map(|column| (named("free"), named(column))))
        .expr_window_as(Expr::cust("ROW_NUMBER()"), by_tag, place)
        .from_subquery(measured, named("free"))
        .and_where(col("free", "fullest").lt(max))
        .take();
    let needed = CaseStatement::new()
        .case(Expr::col((named("placed"), tag)).is_null(), Expr::value(0_i64))
        .finally(Expr::col((named("placed"), busy)).add(col("placed", "place")));
    Query::select()
        .column((named("placed"), device))
        .from_subquery(placed, named("placed"))
        .group_by_columns([(named("placed"), wave), (named("placed"), device)])
        .and_having(Expr::expr(Func::max(needed)).lte(max))
        .order_by((named("placed"), wave), Order::Asc)
        .order_by((named("placed"), device), Order::Asc)
        .limit(at_most)
        .take()
}

/// The account's tags of the budget's key.
fn tags_of_key(rollout: &Rollout, disruption: &Disruption) -> SelectStatement {
    Query::select()
        .column((tags::Entity, tags::Column::Id))
        .from(tags::Entity)
        .and_where(Expr::col((tags::Entity, tags::Column::AccountId)).eq(rollout.account_id))
        .and_where(Expr::col((tags::Entity, tags::Column::Key)).eq(&disruption.tag_key))
        .take()
}

fn with_tags(mut ready: SelectStatement, rollout: &Rollout, keyed: SelectStatement) -> SelectStatement {
    let worn = |column: device_tags::Column| (device_tags::Entity, column);
    let its_own = Expr::col(worn(device_tags::Column::DeviceId))
        .equals((targets::Entity, targets::Column::DeviceId))
        .and(Expr::col(worn(device_tags::Column::TagId)).in_subquery(keyed.clone()));
    let at_it = busy_tags(rollout.fleet_id, keyed);
    let same = Expr::col((named("at_it"), named("tag_id"))).equals(worn(device_tags::Column::TagId));
    let busy = Func::coalesce([Expr::col((named("at_it"), named("devices"))), Expr::value(0_i64)]);
    ready
        .columns([targets::Column::DeviceId, targets::Column::Wave].map(|column| (targets::Entity, column)))
        .column(worn(device_tags::Column::TagId))
        .expr_as(busy, named("busy"))
        .left_join(device_tags::Entity, its_own)
        .join_subquery(JoinType::LeftJoin, at_it, named("at_it"), same)
        .take()
}

/// How many devices of each tag are at it, whichever deployment of the fleet they are at.
fn busy_tags(fleet_id: RowId, keyed: SelectStatement) -> SelectStatement {
    let worn = |column: device_tags::Column| (device_tags::Entity, column);
    let same = Expr::col(worn(device_tags::Column::DeviceId)).equals((named("changing"), named("device_id")));
    Query::select()
        .column(worn(device_tags::Column::TagId))
        .expr_as(Expr::cust("COUNT(*)"), named("devices"))
        .from_subquery(changing(fleet_id), named("changing"))
        .inner_join(device_tags::Entity, same)
        .and_where(Expr::col(worn(device_tags::Column::TagId)).in_subquery(keyed))
        .group_by_col(worn(device_tags::Column::TagId))
        .take()
}

/// The devices of a fleet that are at it, each once: those that any deployment told to
/// begin, and those that a rollout let go. What a plain deployment may tell once its
/// device is there is not at it yet.
fn changing(fleet_id: RowId) -> SelectStatement {
    use deployments::Column as D;
    let of_fleet = Query::select()
        .column((deployments::Entity, D::Id))
        .from(deployments::Entity)
        .and_where(Expr::col((deployments::Entity, D::FleetId)).eq(fleet_id))
        .take();
    let rollouts = of_fleet
        .clone()
        .inner_join(
            rollouts::Entity,
            Expr::col((rollouts::Entity, rollouts::Column::DeploymentId)).equals((deployments::Entity, D::Id)),
        )
        // In the words of the partial index, as are those below.
        .and_where(Expr::cust(r#""rollouts"."phase" < 3"#))
        .take();
    let open = || {
        let device = (targets::Entity, targets::Column::DeviceId);
        Query::select().column(device).from(targets::Entity).and_where(is_open()).take()
    };
    let let_go = open()
        .and_where(Expr::cust(r#""targets"."is_released""#))
        .and_where(of(targets::Column::DeploymentId).in_subquery(rollouts))
        .take();
    open()
        .and_where(Expr::cust(r#""targets"."dispatched_epoch" > 0"#))
        .and_where(of(targets::Column::DeploymentId).in_subquery(of_fleet))
        .union(UnionType::Distinct, let_go)
        .take()
}
