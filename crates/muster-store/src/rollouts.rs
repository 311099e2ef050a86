//! Rollouts: how a deployment goes over its devices. What is next is
//! [`muster_core::rollout::plan`]; here its question is counted, its answer stored and
//! carried out, each in statements whose number does not depend on that of the devices.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::limits::FOLLOW_PERIOD;
use muster_core::rollout::plan::{Phase, Plan, Progress, State, WaveCounts, plan};
use muster_core::rollout::policy::{Policy, Share, WireRollout};
use muster_core::target::{Deadlines, TargetStatus};
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter};

use crate::db::{Db, Result, Tx};
use crate::deployments::{deadlines, targets_in};
use crate::entities::{attempts, deployments, fleets, rollouts, targets};
use crate::error::StoreError;
use crate::filter::{Matching, SetForm};
use crate::targets::is_open;

mod cut;
mod release;

/// A rollout to be made with its deployment.
#[derive(Clone, Debug)]
pub struct NewRollout {
    /// What was asked, as it was asked.
    pub wire: WireRollout,
    /// The same, checked.
    pub policy: Policy,
    /// The waves of the policy, with the names in their filters looked up.
    pub waves: Vec<NewWave>,
}

/// Which devices are in a wave, of those that are in none before it.
#[derive(Clone, Debug)]
pub enum NewWave {
    /// Those that enrolled first.
    Share(Share),
    /// Those that match.
    Matching(Matching),
}

/// A rollout as it stands.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// The deployment's row.
    pub deployment_id: RowId,
    /// The deployment.
    pub deployment_uuid: String,
    /// What was asked, as it was asked.
    pub wire: WireRollout,
    /// The same, checked.
    pub policy: Policy,
    /// What has become of its devices.
    pub progress: Progress,
    /// When the deployment's targets end by themselves.
    pub deadlines: Deadlines,
    /// Whose it is.
    pub account_id: RowId,
    /// The fleet that it was made in.
    pub fleet_id: RowId,
    /// Which devices are included that come later.
    follow: Option<Matching>,
    followed_at: Timestamp,
}

impl Rollout {
    /// What is next.
    pub fn plan(&self, now: Timestamp) -> Plan {
        plan(&self.policy, &self.progress, now)
    }

    /// Whether devices that came later are to be looked for now.
    pub fn is_follow_due(&self, now: Timestamp) -> bool {
        let is_open = self.policy.follow_until.is_some_and(|until| now < until);
        is_open && self.follow.is_some() && now >= self.followed_at.after(FOLLOW_PERIOD)
    }
}

/// What a round of the engine did for a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advanced {
    /// How it stood.
    pub before: State,
    /// How it stands.
    pub after: State,
    /// Devices that were added since they match by now.
    pub followed: u64,
    /// Devices that may start since now.
    pub released: u64,
}

#[derive(FromQueryResult)]
struct RolloutRow {
    deployment_id: i64,
    uuid: String,
    account_id: i64,
    fleet_id: i64,
    policy: String,
    phase: i16,
    wave: i32,
    wave_began_at: i64,
    next_wave_at: i64,
    failures_forgiven: i64,
    follow_filter: String,
    followed_at: i64,
    pending_deadline_ms: i64,
    run_deadline_ms: i64,
    abort_deadline_ms: i64,
}

#[derive(FromQueryResult)]
struct CountRow {
    deployment_id: i64,
    wave: i32,
    status: i16,
    is_released: bool,
    devices: i64,
}

fn corrupt(problem: &impl ToString) -> StoreError {
    StoreError::Corrupt { table: "rollouts", problem: problem.to_string() }
}

impl RolloutRow {
    fn rollout(self, counts: &[CountRow]) -> Result<Rollout> {
        let wire: WireRollout = serde_json::from_str(&self.policy).map_err(|error| corrupt(&error))?;
        let policy = Policy::try_from(wire.clone())?;
        let state = State {
            phase: Phase::from_code(self.phase).ok_or_else(|| corrupt(&format!("phase {}", self.phase)))?,
            wave: self.wave.try_into().unwrap_or(0),
            wave_began_at: Timestamp::from_millis(self.wave_began_at),
            next_wave_at: Timestamp::from_millis(self.next_wave_at),
            failures_forgiven: self.failures_forgiven.try_into().unwrap_or(0),
        };
        let deadlines = deadlines(self.pending_deadline_ms, self.run_deadline_ms, self.abort_deadline_ms);
        let mut waves = vec![WaveCounts::default(); usize::try_from(policy.waves_count()).unwrap_or(1)];
        for count in counts.iter().filter(|count| count.deployment_id == self.deployment_id) {
            if let Some(wave) = usize::try_from(count.wave).ok().and_then(|wave| waves.get_mut(wave)) {
                count.add_to(wave);
            }
        }
        let wave_time = policy.wave_time(deadlines.pending);
        Ok(Rollout {
            deployment_id: self.deployment_id,
            deployment_uuid: self.uuid,
            wire,
            policy,
            progress: Progress { state, waves, wave_time },
            deadlines,
            account_id: self.account_id,
            fleet_id: self.fleet_id,
            follow: if self.follow_filter.is_empty() { None } else { Some(Matching::stored(&self.follow_filter)?) },
            followed_at: Timestamp::from_millis(self.followed_at),
        })
    }
}

impl CountRow {
    fn add_to(&self, wave: &mut WaveCounts) {
        let kind = match TargetStatus::from_code(self.status) {
            Some(TargetStatus::Pending | TargetStatus::InProgress) if self.is_released => &mut wave.in_progress,
            Some(TargetStatus::Pending | TargetStatus::InProgress) => &mut wave.waiting,
            Some(TargetStatus::Succeeded) => &mut wave.succeeded,
            Some(TargetStatus::Failed) if self.is_released => &mut wave.failed,
            _ => &mut wave.ended_otherwise,
        };
        *kind += u64::try_from(self.devices).unwrap_or(0);
    }
}

fn of(column: rollouts::Column) -> Expr {
    Expr::col((rollouts::Entity, column))
}

fn select_rollouts() -> SelectStatement {
    use deployments::Column as D;
    use rollouts::Column as R;
    let columns = [
        R::DeploymentId,
        R::Policy,
        R::Phase,
        R::Wave,
        R::WaveBeganAt,
        R::NextWaveAt,
        R::FailuresForgiven,
        R::FollowFilter,
        R::FollowedAt,
    ];
    Query::select()
        .columns(columns.map(|column| (rollouts::Entity, column)))
        .columns(
            [D::Uuid, D::FleetId, D::PendingDeadlineMs, D::RunDeadlineMs, D::AbortDeadlineMs]
                .map(|column| (deployments::Entity, column)),
        )
        .column((fleets::Entity, fleets::Column::AccountId))
        .from(rollouts::Entity)
        .inner_join(
            deployments::Entity,
            Expr::col((deployments::Entity, D::Id)).equals((rollouts::Entity, R::DeploymentId)),
        )
        .inner_join(
            fleets::Entity,
            Expr::col((fleets::Entity, fleets::Column::Id)).equals((deployments::Entity, D::FleetId)),
        )
        .take()
}

fn select_counts(deployment_ids: &[RowId]) -> SelectStatement {
    use targets::Column as T;
    let of = |column: T| (targets::Entity, column);
    let kinds = [T::DeploymentId, T::Wave, T::Status, T::IsReleased].map(of);
    Query::select()
        .columns(kinds)
        .expr_as(Expr::cust("COUNT(*)"), "devices")
        .from(targets::Entity)
        .and_where(Expr::col(of(T::DeploymentId)).is_in(deployment_ids.iter().copied()))
        .group_by_columns(kinds)
        .take()
}

impl<C: ConnectionTrait> Db<C> {
    /// The rollouts of these deployments, of those that have one, oldest first.
    pub async fn rollouts_of(&self, deployment_ids: &[RowId]) -> Result<Vec<Rollout>> {
        if deployment_ids.is_empty() {
            return Ok(Vec::new());
        }
        let which = of(rollouts::Column::DeploymentId).is_in(deployment_ids.iter().copied());
        self.rollouts(select_rollouts().and_where(which).take()).await
    }

    /// The rollout of a deployment, if it has one.
    pub async fn find_rollout(&self, deployment_id: RowId) -> Result<Option<Rollout>> {
        Ok(self.rollouts_of(&[deployment_id]).await?.pop())
    }

    /// Every rollout that is not over: two statements.
    pub async fn open_rollouts(&self) -> Result<Vec<Rollout>> {
        // In the words of the partial index.
        self.rollouts(select_rollouts().and_where(Expr::cust(r#""rollouts"."phase" < 3"#)).take()).await
    }

    async fn rollouts(&self, mut query: SelectStatement) -> Result<Vec<Rollout>> {
        use sea_orm::sea_query::Order;
        query.order_by((rollouts::Entity, rollouts::Column::DeploymentId), Order::Asc);
        let rows = self.conn.query_all(&query).await?;
        let rows: Vec<RolloutRow> =
            rows.iter().map(|row| RolloutRow::from_query_result(row, "")).collect::<Result<_, _>>()?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<RowId> = rows.iter().map(|row| row.deployment_id).collect();
        let counts = self.conn.query_all(&select_counts(&ids)).await?;
        let counts: Vec<CountRow> =
            counts.iter().map(|row| CountRow::from_query_result(row, "")).collect::<Result<_, _>>()?;
        let mut rollouts = Vec::with_capacity(rows.len());
        for row in rows {
            let id = row.deployment_id;
            match row.rollout(&counts) {
                Ok(rollout) => rollouts.push(rollout),
                // It must not keep the others from going on. Its targets end by their deadlines.
                Err(error) => tracing::error!(%error, deployment_id = id, "a rollout cannot be read"),
            }
        }
        Ok(rollouts)
    }

    /// Whether a round would do anything for a rollout over the links of `server`.
    pub async fn is_rollout_due(&self, rollout: &Rollout, server: &str) -> Result<bool> {
        let plan = rollout.plan(self.now());
        if plan.state != rollout.progress.state || rollout.is_follow_due(self.now()) {
            return Ok(true);
        }
        if rollout.progress.waves.iter().all(|wave| wave.waiting == 0) {
            return Ok(false);
        }
        let mut look = if plan.may_start > 0 {
            release::ready(rollout, plan.state.wave, server, &self.gate(rollout).await?)
        } else {
            release::unsent(rollout)
        };
        let query = look.expr(Expr::value(1)).limit(1).take();
        Ok(self.conn.query_one(&query).await?.is_some())
    }

    /// Whether a deployment has a rollout.
    pub(crate) async fn has_rollout(&self, deployment_id: RowId) -> Result<bool> {
        Ok(rollouts::Entity::find_by_id(deployment_id).one(&self.conn).await?.is_some())
    }
}

impl Tx {
    /// Makes the rollout of a deployment whose targets have just been made, all of them
    /// in its last wave: one statement for each wave.
    pub(crate) async fn insert_rollout(
        &self,
        deployment_id: RowId,
        new: &NewRollout,
        matching: &Matching,
        devices: u64,
    ) -> Result<()> {
        let follow = new.policy.follow_until.map(|_| matching.to_stored()).transpose()?;
        let row = rollouts::Model {
            deployment_id,
            policy: serde_json::to_string(&new.wire).map_err(|error| corrupt(&error))?,
            phase: State::NEW.phase.code(),
            wave: 0,
            wave_began_at: State::NEW.wave_began_at.as_millis(),
            next_wave_at: State::NEW.next_wave_at.as_millis(),
            failures_forgiven: 0,
            follow_filter: follow.unwrap_or_default(),
            followed_at: self.now().as_millis(),
            turn: 0,
        };
        rollouts::Entity::insert(rollouts::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        let last = last_wave(&new.policy);
        for (number, wave) in (0..).zip(&new.waves) {
            self.fill_wave(deployment_id, number, last, wave, devices).await?;
        }
        Ok(())
    }

    async fn fill_wave(
        &self,
        deployment_id: RowId,
        number: i32,
        last: i32,
        wave: &NewWave,
        devices: u64,
    ) -> Result<()> {
        use targets::Column as T;
        let of = |column: T| (targets::Entity, column);
        let members = match wave {
            NewWave::Matching(matching) => matching.ids(),
            NewWave::Share(share) => Query::select()
                .column(of(T::DeviceId))
                .from(targets::Entity)
                .and_where(Expr::col(of(T::DeploymentId)).eq(deployment_id))
                .and_where(Expr::col(of(T::Wave)).eq(last))
                .order_by(of(T::DeviceId), sea_orm::sea_query::Order::Asc)
                .limit(share.at_least(devices))
                .take(),
        };
        targets::Entity::update_many()
            .col_expr(T::Wave, Expr::value(number))
            .filter(T::DeploymentId.eq(deployment_id))
            .filter(T::Wave.eq(last))
            .filter(T::DeviceId.in_subquery(members))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    /// One round for one rollout, as it is in this transaction: devices that came later
    /// are added, the plan is stored, and those that may start are let go, over the
    /// links of `server`. `None` where nothing is to be done.
    pub async fn advance_rollout(&self, deployment_id: RowId, server: &str) -> Result<Option<Advanced>> {
        let Some(mut rollout) = self.find_rollout(deployment_id).await? else { return Ok(None) };
        let mut followed = 0;
        if rollout.is_follow_due(self.now()) {
            followed = self.follow(&rollout).await?;
            if followed > 0
                && let Some(grown) = self.find_rollout(deployment_id).await?
            {
                rollout = grown;
            }
        }
        let before = rollout.progress.state;
        self.take_back(&rollout, server).await?;
        let Some(rollout) = self.find_rollout(deployment_id).await? else { return Ok(None) };
        let plan = rollout.plan(self.now());
        if rollout.policy.disruption.is_some() && plan.may_start > 0 {
            self.take_turn_in_fleet(rollout.fleet_id).await?;
        }
        // Always, so that two servers which plan at once do not both spend one budget.
        self.store_state(deployment_id, plan.state).await?;
        let released = if plan.may_start > 0 { self.release(&rollout, &plan, server).await? } else { 0 };
        Ok(Some(Advanced { before, after: plan.state, followed, released }))
    }

    /// Writes how a rollout stands, and lets every other transaction notice that does
    /// the same at this moment.
    async fn store_state(&self, deployment_id: RowId, state: State) -> Result<()> {
        use rollouts::Column as R;
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        rollouts::Entity::update_many()
            .col_expr(R::Phase, Expr::value(state.phase.code()))
            .col_expr(R::Wave, Expr::value(i32::try_from(state.wave).unwrap_or(i32::MAX)))
            .col_expr(R::WaveBeganAt, Expr::value(state.wave_began_at.as_millis()))
            .col_expr(R::NextWaveAt, Expr::value(state.next_wave_at.as_millis()))
            .col_expr(R::FailuresForgiven, Expr::value(number(state.failures_forgiven)))
            .col_expr(R::Turn, Expr::col((rollouts::Entity, R::Turn)).add(1))
            .filter(R::DeploymentId.eq(deployment_id))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    /// Lets every other rollout of the fleet notice, whose round is at this moment: two of
    /// them must not both spend the places of one site.
    async fn take_turn_in_fleet(&self, fleet_id: RowId) -> Result<()> {
        use rollouts::Column as R;
        let of_fleet = Query::select()
            .column((deployments::Entity, deployments::Column::Id))
            .from(deployments::Entity)
            .and_where(Expr::col((deployments::Entity, deployments::Column::FleetId)).eq(fleet_id))
            .take();
        rollouts::Entity::update_many()
            .col_expr(R::Turn, Expr::col((rollouts::Entity, R::Turn)).add(1))
            .filter(Expr::cust(r#""rollouts"."phase" < 3"#))
            .filter(R::DeploymentId.in_subquery(of_fleet))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    /// Adds the devices that match by now and are not in the deployment, to its last wave.
    async fn follow(&self, rollout: &Rollout) -> Result<u64> {
        use targets::Column as T;
        let Some(matching) = &rollout.follow else { return Ok(0) };
        let (id, now) = (rollout.deployment_id, self.now());
        let in_it = Query::select()
            .expr(Expr::value(1))
            .from(targets::Entity)
            .and_where(Expr::col((targets::Entity, T::DeploymentId)).eq(id))
            .and_where(
                Expr::col((targets::Entity, T::DeviceId))
                    .eq(crate::filter::column(crate::entities::devices::Column::Id)),
            )
            .take();
        let new = matching.at(now).condition(SetForm::In).add(Expr::exists(in_it).not());
        let insert = targets_in(id, rollout.deadlines.pending, now, last_wave(&rollout.policy), false, false);
        let followed = self.conn.execute(&insert.insert(new)?).await?.rows_affected();
        rollouts::Entity::update_many()
            .col_expr(rollouts::Column::FollowedAt, Expr::value(now.as_millis()))
            .filter(rollouts::Column::DeploymentId.eq(id))
            .exec(&self.conn)
            .await?;
        if followed > 0 {
            self.make_latest(id, now).await?;
        }
        Ok(followed)
    }

    /// Lets the targets that a deployment got at that moment be the newest of their devices.
    async fn make_latest(&self, deployment_id: RowId, created_at: Timestamp) -> Result<()> {
        use targets::Column as T;
        let joined = Query::select()
            .column(T::DeviceId)
            .from(targets::Entity)
            .and_where(Expr::col(T::DeploymentId).eq(deployment_id))
            .and_where(Expr::col(T::CreatedAt).eq(created_at.as_millis()))
            .take();
        self.retire_latest(joined).await?;
        targets::Entity::update_many()
            .col_expr(T::IsLatest, Expr::value(true))
            .filter(T::DeploymentId.eq(deployment_id))
            .filter(T::CreatedAt.eq(created_at.as_millis()))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    /// Pauses a deployment: what has not been told to begin does not. One that was made
    /// without a rollout gets one that goes to all devices at once. `None` when nothing
    /// is left to pause.
    pub async fn pause_rollout(&self, deployment_id: RowId) -> Result<Option<Rollout>> {
        if self.find_rollout(deployment_id).await?.is_none() {
            let plain = NewRollout { wire: WireRollout::default(), policy: Policy::default(), waves: Vec::new() };
            let nobody = self.everything_in(Vec::new());
            self.insert_rollout(deployment_id, &plain, &nobody, 0).await?;
        }
        let Some(rollout) = self.find_rollout(deployment_id).await? else { return Ok(None) };
        let Some(paused) = rollout.plan(self.now()).state.paused() else { return Ok(None) };
        self.store_state(deployment_id, paused).await?;
        self.hold(deployment_id).await?;
        self.find_rollout(deployment_id).await
    }

    /// Holds back what has not been told to begin.
    async fn hold(&self, deployment_id: RowId) -> Result<()> {
        use targets::Column as T;
        targets::Entity::update_many()
            .col_expr(T::IsReleased, Expr::value(false))
            .col_expr(T::DeadlineAt, Expr::col((targets::Entity, T::PendingUntilAt)))
            .filter(T::DeploymentId.eq(deployment_id))
            .filter(T::Status.eq(TargetStatus::Pending.code()))
            .filter(Expr::col((targets::Entity, T::IsReleased)))
            .filter(T::DispatchedEpoch.eq(0))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    /// Lets a paused deployment go on; its failures until now are forgiven. `None` when
    /// it is not paused.
    pub async fn resume_rollout(&self, deployment_id: RowId) -> Result<Option<Rollout>> {
        let Some(rollout) = self.find_rollout(deployment_id).await? else { return Ok(None) };
        let Some(resumed) = rollout.progress.state.resumed(rollout.progress.failures()) else { return Ok(None) };
        self.store_state(deployment_id, resumed).await?;
        self.find_rollout(deployment_id).await
    }

    /// Makes a new attempt for every failed device of a deployment, and says for how
    /// many. How the failed attempt ended is kept, and what its steps said.
    pub async fn retry_failed(&self, deployment_id: RowId) -> Result<u64> {
        use targets::Column as T;
        let Some(deployment) = deployments::Entity::find_by_id(deployment_id).one(&self.conn).await? else {
            return Ok(0);
        };
        let has_rollout = self.has_rollout(deployment_id).await?;
        self.keep_failed(deployment_id).await?;
        let pending = deadlines(deployment.pending_deadline_ms, 0, 0).pending;
        let until = self.now().after(pending).as_millis();
        let retried = targets::Entity::update_many()
            .col_expr(T::Attempt, Expr::col((targets::Entity, T::Attempt)).add(1))
            .col_expr(T::Status, Expr::value(TargetStatus::Pending.code()))
            .col_expr(T::ReasonCode, Expr::value(""))
            .col_expr(T::Reason, Expr::value(""))
            .col_expr(T::DispatchedEpoch, Expr::value(0_i64))
            .col_expr(T::AbortEpoch, Expr::value(0_i64))
            .col_expr(T::ReportedSeq, Expr::value(0_i64))
            .col_expr(T::IsAbortRequested, Expr::value(false))
            .col_expr(T::StartedAt, Expr::value(Timestamp::NEVER.as_millis()))
            .col_expr(T::FinishedAt, Expr::value(Timestamp::NEVER.as_millis()))
            .col_expr(T::AskAgainAt, Expr::value(Timestamp::NEVER.as_millis()))
            .col_expr(T::DeadlineAt, Expr::value(until))
            .col_expr(T::PendingUntilAt, Expr::value(until))
            .col_expr(T::IsReleased, Expr::value(!has_rollout))
            .filter(failed_of(deployment_id))
            .exec(&self.conn)
            .await?
            .rows_affected;
        if has_rollout && retried > 0 {
            self.reopen(deployment_id).await?;
        }
        Ok(retried)
    }

    /// Notes how the attempts ended that are followed by another: one statement.
    async fn keep_failed(&self, deployment_id: RowId) -> Result<()> {
        use attempts::Column as A;
        use targets::Column as T;
        let ended = Query::select()
            .columns(
                [
                    T::DeploymentId,
                    T::DeviceId,
                    T::Attempt,
                    T::Status,
                    T::ReasonCode,
                    T::Reason,
                    T::StartedAt,
                    T::FinishedAt,
                ]
                .map(|column| (targets::Entity, column)),
            )
            .from(targets::Entity)
            .and_where(failed_of(deployment_id))
            .take();
        let mut keep = Query::insert();
        keep.into_table(attempts::Entity)
            .columns([
                A::DeploymentId,
                A::DeviceId,
                A::Attempt,
                A::Status,
                A::ReasonCode,
                A::Reason,
                A::StartedAt,
                A::FinishedAt,
            ])
            .select_from(ended)
            .map_err(|error| StoreError::Corrupt { table: "attempts", problem: error.to_string() })?;
        self.conn.execute(&keep).await?;
        Ok(())
    }

    /// A rollout that was over goes on, and what failed no longer counts.
    async fn reopen(&self, deployment_id: RowId) -> Result<()> {
        let Some(rollout) = self.find_rollout(deployment_id).await? else { return Ok(()) };
        let state = State { failures_forgiven: 0, ..rollout.plan(self.now()).state };
        self.store_state(deployment_id, state).await
    }
}

/// Targets that a new attempt may help: not those of devices that have no agent.
fn failed_of(deployment_id: RowId) -> Expr {
    use targets::Column as T;
    let (_, no_agent) = muster_core::target::without_agent();
    let of = |column: T| Expr::col((targets::Entity, column));
    of(T::DeploymentId)
        .eq(deployment_id)
        .and(of(T::Status).eq(TargetStatus::Failed.code()))
        .and(of(T::ReasonCode).ne(no_agent.code))
}

fn last_wave(policy: &Policy) -> i32 {
    i32::try_from(policy.waves.len()).unwrap_or(i32::MAX)
}

/// The waiting targets of the waves that have begun.
fn held_up_to(deployment_id: RowId, wave: u32) -> Expr {
    use targets::Column as T;
    is_open()
        // In the words of the partial index.
        .and(Expr::cust(r#"NOT "targets"."is_released""#))
        .and(Expr::col((targets::Entity, T::DeploymentId)).eq(deployment_id))
        .and(Expr::col((targets::Entity, T::Wave)).lte(i32::try_from(wave).unwrap_or(i32::MAX)))
}

fn named(alias: &'static str) -> Alias {
    Alias::new(alias)
}
