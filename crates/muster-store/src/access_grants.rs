//! Access grants: asked for, answered, ended; and what users may do by their roles and by
//! what was let go for them.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::access::Permission;
use muster_core::access_grant::{GrantState, GrantStatus, Held, Reach};
use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use rand::RngExt;
use sea_orm::sea_query::{Condition, Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, JoinType, PaginatorTrait, QueryFilter, QuerySelect,
};

use crate::db::{Db, Result, Tx};
use crate::entities::{
    access_grant_devices, access_grant_permissions, access_grants, devices, fleets, role_permissions, user_roles, users,
};
use crate::error::StoreError;
use crate::page::{cut, page};

/// An access grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessGrant {
    /// The row.
    pub id: RowId,
    /// As every API names it.
    pub uuid: String,
    /// The account of its fleet.
    pub account_id: RowId,
    /// Its fleet.
    pub fleet_id: RowId,
    /// Who asked for it, how it was left, and until when that lasts.
    pub state: GrantState,
    /// The name of who asked for it.
    pub user: String,
    /// What it lets go, in the order of [`Permission::ALL`].
    pub permissions: Vec<Permission>,
    /// The devices that it is for; `None` for the whole fleet.
    pub devices: Option<Vec<String>>,
    /// Why, in the words of who asked.
    pub reason: String,
    /// How long it holds once it is approved, in milliseconds.
    pub duration: Duration,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was approved or denied; [`Timestamp::NEVER`] while it was not.
    pub answered_at: Timestamp,
    /// By whom, as the audit log names them.
    pub answered_by: String,
    /// What they said.
    pub comment: String,
    /// When it became final; [`Timestamp::NEVER`] while it is not.
    pub finished_at: Timestamp,
    /// Who made it final, as the audit log names them.
    pub finished_by: String,
}

/// An access grant that is asked for.
#[derive(Clone, Debug)]
pub struct NewAccessGrant {
    /// The fleet.
    pub fleet_id: RowId,
    /// Who asks.
    pub user_id: RowId,
    /// What for.
    pub permissions: BTreeSet<Permission>,
    /// The devices that it is to be for; `None` for the whole fleet.
    pub devices: Option<Vec<RowId>>,
    /// Why.
    pub reason: String,
    /// How long it is to hold.
    pub duration: Duration,
    /// When it lapses unless somebody has answered.
    pub answer_by: Timestamp,
}

/// Whose access grants somebody sees.
#[derive(Clone, Debug)]
pub struct GrantViewer {
    /// The user: what they asked for.
    pub user_id: RowId,
    /// What they may answer for: what others asked for of it.
    pub answers: BTreeSet<Permission>,
}

/// Which of them are listed.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub struct GrantFilter {
    /// Only what the viewer asked for, or only what others did.
    pub is_own: Option<bool>,
    /// The number of the only status.
    pub status: Option<i16>,
}

/// What is noted of an answer, or of an end.
#[derive(Clone, Debug)]
pub struct GrantNote<'a> {
    /// Who, as the audit log names them.
    pub by: &'a str,
    /// What they say.
    pub comment: &'a str,
}

#[derive(FromQueryResult)]
struct Row {
    id: i64,
    uuid: String,
    account_id: i64,
    fleet_id: i64,
    user_id: i64,
    user: String,
    is_for_fleet: bool,
    reason: String,
    duration_ms: i64,
    status: i16,
    created_at: i64,
    ends_at: i64,
    answered_at: i64,
    answered_by: String,
    comment: String,
    finished_at: i64,
    finished_by: String,
}

impl Row {
    fn grant(self, permissions: Vec<Permission>, devices: Vec<String>) -> Result<AccessGrant> {
        let corrupt = || StoreError::Corrupt { table: "access_grants", problem: "status".to_owned() };
        let status = GrantStatus::from_code(self.status).ok_or_else(corrupt)?;
        let ends_at = Timestamp::from_millis(self.ends_at);
        Ok(AccessGrant {
            id: self.id,
            uuid: self.uuid,
            account_id: self.account_id,
            fleet_id: self.fleet_id,
            state: GrantState { asker: self.user_id, status, ends_at },
            user: self.user,
            permissions,
            devices: (!self.is_for_fleet).then_some(devices),
            reason: self.reason,
            duration: Duration::from_millis(self.duration_ms.try_into().unwrap_or(0)),
            created_at: Timestamp::from_millis(self.created_at),
            answered_at: Timestamp::from_millis(self.answered_at),
            answered_by: self.answered_by,
            comment: self.comment,
            finished_at: Timestamp::from_millis(self.finished_at),
            finished_by: self.finished_by,
        })
    }
}

fn of(column: access_grants::Column) -> Expr {
    Expr::col((access_grants::Entity, column))
}

/// Not final, in the very words of the partial index.
fn is_open() -> Expr {
    Expr::cust(r#""access_grants"."status" < 2"#)
}

/// Roles by which users may use the permission of that name: those that give it at any time, and those
/// that hold it back where an access grant lets it go at `now`: for the device of that
/// expression, or without one for the whole fleet.
///
/// What is selected, and whose roles in which fleet, is the caller's to add, in words of
/// `user_roles`.
pub(crate) fn permitting_roles(permission: &Expr, device: Option<Expr>, now: Timestamp) -> SelectStatement {
    use role_permissions::Column as P;
    let is_its_role =
        Expr::col((role_permissions::Entity, P::RoleId)).equals((user_roles::Entity, user_roles::Column::RoleId));
    let is_let_go = Expr::exists(letting_go(permission, device, now));
    Query::select()
        .from(user_roles::Entity)
        .inner_join(role_permissions::Entity, is_its_role)
        .and_where(Expr::col((role_permissions::Entity, P::Permission)).eq(permission.clone()))
        .cond_where(Condition::any().add(Expr::col((role_permissions::Entity, P::NeedsGrant)).eq(false)).add(is_let_go))
        .take()
}

/// The grants that let the permission of a user's role go.
fn letting_go(permission: &Expr, device: Option<Expr>, now: Timestamp) -> SelectStatement {
    use access_grant_permissions::Column as P;
    use access_grants::Column as G;
    let is_its_grant = Expr::col((access_grant_permissions::Entity, P::GrantId)).equals((access_grants::Entity, G::Id));
    let reaches = Condition::any().add(of(G::IsForFleet).eq(true)).add_option(device.map(is_for));
    Query::select()
        .expr(Expr::value(1))
        .from(access_grants::Entity)
        .inner_join(access_grant_permissions::Entity, is_its_grant)
        .and_where(of(G::UserId).equals((user_roles::Entity, user_roles::Column::UserId)))
        .and_where(of(G::FleetId).equals((user_roles::Entity, user_roles::Column::FleetId)))
        .and_where(of(G::Status).eq(GrantStatus::Approved.code()))
        .and_where(of(G::EndsAt).gt(now.as_millis()))
        .and_where(Expr::col((access_grant_permissions::Entity, P::Permission)).eq(permission.clone()))
        .cond_where(reaches)
        .take()
}

fn is_for(device: Expr) -> Expr {
    use access_grant_devices::Column as D;
    let named = Query::select()
        .expr(Expr::value(1))
        .from(access_grant_devices::Entity)
        .and_where(
            Expr::col((access_grant_devices::Entity, D::GrantId))
                .equals((access_grants::Entity, access_grants::Column::Id)),
        )
        .and_where(device.eq(Expr::col((access_grant_devices::Entity, D::DeviceId))))
        .take();
    Expr::exists(named)
}

fn select_grants() -> SelectStatement {
    use access_grants::Column as G;
    let names = [
        G::Id,
        G::Uuid,
        G::FleetId,
        G::UserId,
        G::IsForFleet,
        G::Reason,
        G::DurationMs,
        G::Status,
        G::CreatedAt,
        G::EndsAt,
        G::AnsweredAt,
        G::AnsweredBy,
        G::Comment,
        G::FinishedAt,
        G::FinishedBy,
    ];
    let is_its_user = Expr::col((users::Entity, users::Column::Id)).equals((access_grants::Entity, G::UserId));
    let is_its_fleet = Expr::col((fleets::Entity, fleets::Column::Id)).equals((access_grants::Entity, G::FleetId));
    Query::select()
        .columns(names.map(|column| (access_grants::Entity, column)))
        .expr_as(Expr::col((users::Entity, users::Column::Name)), "user")
        .column((fleets::Entity, fleets::Column::AccountId))
        .from(access_grants::Entity)
        .inner_join(users::Entity, is_its_user)
        .inner_join(fleets::Entity, is_its_fleet)
        .take()
}

impl GrantViewer {
    /// What they see of the access grants of a fleet.
    fn sees(&self, fleet_id: RowId) -> Condition {
        use access_grant_permissions::Column as P;
        let names = self.answers.iter().map(|permission| permission.as_str());
        let beyond = Query::select()
            .expr(Expr::value(1))
            .from(access_grant_permissions::Entity)
            .and_where(
                Expr::col((access_grant_permissions::Entity, P::GrantId))
                    .equals((access_grants::Entity, access_grants::Column::Id)),
            )
            .and_where(Expr::col((access_grant_permissions::Entity, P::Permission)).is_not_in(names))
            .take();
        let is_own = of(access_grants::Column::UserId).eq(self.user_id);
        Condition::all()
            .add(of(access_grants::Column::FleetId).eq(fleet_id))
            .add(Condition::any().add(is_own).add(Expr::exists(beyond).not()))
    }

    fn listed(&self, fleet_id: RowId, filter: GrantFilter, now: Timestamp) -> Condition {
        use access_grants::Column as G;
        let is_own = filter.is_own.map(|is_own| {
            let own = of(G::UserId).eq(self.user_id);
            if is_own { own } else { own.not() }
        });
        let stands = filter.status.map(|status| {
            let is_over = GrantStatus::from_code(status).is_some_and(GrantStatus::is_final);
            let stands = of(G::Status).eq(status);
            // What is overdue does not stand so any more, though nobody has noted it yet.
            if is_over { stands } else { stands.and(of(G::EndsAt).gt(now.as_millis())) }
        });
        self.sees(fleet_id).add_option(is_own).add_option(stands)
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// What a user may do in a fleet; `None` when they have no role there and so cannot see it.
    pub async fn held_in(&self, user_id: RowId, fleet_id: RowId) -> Result<Option<Held>> {
        let rows: Vec<(RowId, Option<String>, Option<bool>)> = user_roles::Entity::find()
            .select_only()
            .column(user_roles::Column::RoleId)
            .column(role_permissions::Column::Permission)
            .column(role_permissions::Column::NeedsGrant)
            .join(JoinType::LeftJoin, role_to_permissions())
            .filter(user_roles::Column::UserId.eq(user_id))
            .filter(user_roles::Column::FleetId.eq(fleet_id))
            .into_tuple()
            .all(&self.conn)
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut held = Held::default();
        for (_, name, needs_grant) in rows {
            let Some(permission) = name.as_deref().and_then(Permission::from_name) else { continue };
            if needs_grant == Some(true) {
                held.held_back.insert(permission)
            } else {
                held.free.insert(permission)
            };
        }
        if !held.held_back.is_subset(&held.free) {
            held.let_go = self.let_go(user_id, fleet_id).await?;
        }
        Ok(Some(held))
    }

    /// What access grants let go for a user in a fleet now.
    async fn let_go(&self, user_id: RowId, fleet_id: RowId) -> Result<Vec<(Permission, Reach)>> {
        use access_grants::Column as G;
        let holding: Vec<(RowId, bool)> = access_grants::Entity::find()
            .select_only()
            .columns([G::Id, G::IsForFleet])
            .filter(G::UserId.eq(user_id))
            .filter(G::FleetId.eq(fleet_id))
            .filter(G::Status.eq(GrantStatus::Approved.code()))
            .filter(G::EndsAt.gt(self.now().as_millis()))
            .into_tuple()
            .all(&self.conn)
            .await?;
        let ids: Vec<RowId> = holding.iter().map(|(id, _)| *id).collect();
        let (permissions, devices) = (self.permissions_of_grants(&ids).await?, self.devices_of_grants(&ids).await?);
        let reach = |id: RowId| match holding.iter().any(|(grant, is_for_fleet)| *grant == id && *is_for_fleet) {
            true => Reach::Fleet,
            false => Reach::Devices(devices.iter().filter(|row| row.0 == id).map(|row| row.1).collect()),
        };
        Ok(permissions.into_iter().map(|(id, permission)| (permission, reach(id))).collect())
    }

    async fn permissions_of_grants(&self, ids: &[RowId]) -> Result<Vec<(RowId, Permission)>> {
        use access_grant_permissions::Column as P;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = access_grant_permissions::Entity::find().filter(P::GrantId.is_in(ids.iter().copied()));
        let rows = rows.all(&self.conn).await?;
        let known = rows.into_iter().filter_map(|row| Some((row.grant_id, Permission::from_name(&row.permission)?)));
        let mut known: Vec<_> = known.collect();
        known.sort_unstable();
        Ok(known)
    }

    /// Grant, device's row and uuid.
    async fn devices_of_grants(&self, ids: &[RowId]) -> Result<Vec<(RowId, RowId, String)>> {
        use access_grant_devices::Column as D;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let device = Expr::col((devices::Entity, devices::Column::Id));
        let query = Query::select()
            .column((access_grant_devices::Entity, D::GrantId))
            .column((access_grant_devices::Entity, D::DeviceId))
            .column((devices::Entity, devices::Column::Uuid))
            .from(access_grant_devices::Entity)
            .inner_join(devices::Entity, device.equals((access_grant_devices::Entity, D::DeviceId)))
            .and_where(Expr::col((access_grant_devices::Entity, D::GrantId)).is_in(ids.iter().copied()))
            .order_by((access_grant_devices::Entity, D::DeviceId), Order::Asc)
            .take();
        let rows = self.conn.query_all(&query).await?;
        rows.iter()
            .map(|row| Ok((row.try_get("", "grant_id")?, row.try_get("", "device_id")?, row.try_get("", "uuid")?)))
            .collect()
    }

    /// Whether a user may use that permission in the whole of any fleet.
    pub async fn holds_anywhere(&self, user_id: RowId, permission: Permission) -> Result<bool> {
        let query = permitting_roles(&Expr::value(permission.as_str()), None, self.now())
            .expr(Expr::value(1))
            .and_where(Expr::col((user_roles::Entity, user_roles::Column::UserId)).eq(user_id))
            .limit(1)
            .take();
        Ok(self.conn.query_one(&query).await?.is_some())
    }

    /// Whether a role of a user holds that permission back in any fleet; its key.
    pub async fn held_back_anywhere(&self, user_id: RowId, permission: Permission) -> Result<Option<String>> {
        use role_permissions::Column as P;
        let is_its_role =
            Expr::col((role_permissions::Entity, P::RoleId)).equals((user_roles::Entity, user_roles::Column::RoleId));
        let is_its_fleet =
            Expr::col((fleets::Entity, fleets::Column::Id)).equals((user_roles::Entity, user_roles::Column::FleetId));
        let query = Query::select()
            .column((fleets::Entity, fleets::Column::ProjectKey))
            .from(user_roles::Entity)
            .inner_join(role_permissions::Entity, is_its_role)
            .inner_join(fleets::Entity, is_its_fleet)
            .and_where(Expr::col((user_roles::Entity, user_roles::Column::UserId)).eq(user_id))
            .and_where(Expr::col((role_permissions::Entity, P::Permission)).eq(permission.as_str()))
            .and_where(Expr::col((role_permissions::Entity, P::NeedsGrant)).eq(true))
            .order_by((fleets::Entity, fleets::Column::Id), Order::Asc)
            .limit(1)
            .take();
        let row = self.conn.query_one(&query).await?;
        row.map(|row| Ok(row.try_get("", "project_key")?)).transpose()
    }

    /// The fleets in the whole of which a user may use that permission.
    pub async fn fleets_with(&self, user_id: RowId, permission: Permission) -> Result<Vec<RowId>> {
        let query = permitting_roles(&Expr::value(permission.as_str()), None, self.now())
            .distinct()
            .column((user_roles::Entity, user_roles::Column::FleetId))
            .and_where(Expr::col((user_roles::Entity, user_roles::Column::UserId)).eq(user_id))
            .take();
        let rows = self.conn.query_all(&query).await?;
        rows.iter().map(|row| Ok(row.try_get("", "fleet_id")?)).collect()
    }

    /// The next `limit` access grants of a fleet that somebody sees behind the row `after`,
    /// in the order in which they were asked for, and whether there are more.
    pub async fn access_grants_page(
        &self,
        fleet_id: RowId,
        viewer: &GrantViewer,
        filter: GrantFilter,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<AccessGrant>, bool)> {
        let query = select_grants().cond_where(viewer.listed(fleet_id, filter, self.now())).take();
        let query = page(query, (access_grants::Entity, access_grants::Column::Id), after, limit);
        let (rows, is_more) = cut(self.conn.query_all(&query).await?, limit);
        let rows = rows.iter().map(|row| Ok(Row::from_query_result(row, "")?)).collect::<Result<_>>()?;
        Ok((self.whole_grants(rows).await?, is_more))
    }

    /// How many those are in all.
    pub async fn access_grants_count(&self, fleet_id: RowId, viewer: &GrantViewer, filter: GrantFilter) -> Result<u64> {
        let query = access_grants::Entity::find().filter(viewer.listed(fleet_id, filter, self.now()));
        Ok(query.count(&self.conn).await?)
    }

    /// An access grant of a fleet, if it is one that somebody sees.
    pub async fn find_access_grant(
        &self,
        fleet_id: RowId,
        viewer: &GrantViewer,
        uuid: &str,
    ) -> Result<Option<AccessGrant>> {
        let query = select_grants()
            .cond_where(viewer.sees(fleet_id))
            .and_where(of(access_grants::Column::Uuid).eq(uuid))
            .take();
        let row = self.conn.query_one(&query).await?;
        let rows = row.iter().map(|row| Ok(Row::from_query_result(row, "")?)).collect::<Result<_>>()?;
        Ok(self.whole_grants(rows).await?.pop())
    }

    /// How many of a user's requests in a fleet wait for an answer.
    pub async fn pending_access_grants(&self, fleet_id: RowId, user_id: RowId) -> Result<u64> {
        use access_grants::Column as G;
        let query = access_grants::Entity::find()
            .filter(G::UserId.eq(user_id))
            .filter(G::FleetId.eq(fleet_id))
            .filter(G::Status.eq(GrantStatus::Pending.code()))
            .filter(G::EndsAt.gt(self.now().as_millis()));
        Ok(query.count(&self.conn).await?)
    }

    /// Access grants whose time is over and of which that is not noted yet, the most
    /// overdue first.
    pub async fn overdue_access_grants(&self, limit: u64) -> Result<Vec<AccessGrant>> {
        let query = select_grants()
            .and_where(is_open())
            .and_where(of(access_grants::Column::EndsAt).lte(self.now().as_millis()))
            .order_by((access_grants::Entity, access_grants::Column::EndsAt), Order::Asc)
            .limit(limit)
            .take();
        let rows = self.conn.query_all(&query).await?;
        let rows = rows.iter().map(|row| Ok(Row::from_query_result(row, "")?)).collect::<Result<_>>()?;
        self.whole_grants(rows).await
    }

    /// With what they let go and for which devices: two statements, whatever the number.
    async fn whole_grants(&self, rows: Vec<Row>) -> Result<Vec<AccessGrant>> {
        let ids: Vec<RowId> = rows.iter().map(|row| row.id).collect();
        let (permissions, devices) = (self.permissions_of_grants(&ids).await?, self.devices_of_grants(&ids).await?);
        let whole = rows.into_iter().map(|row| {
            let id = row.id;
            let own = permissions.iter().filter(|(grant, _)| *grant == id).map(|(_, permission)| *permission);
            let named = devices.iter().filter(|(grant, ..)| *grant == id).map(|(.., uuid)| uuid.clone());
            row.grant(own.collect(), named.collect())
        });
        whole.collect()
    }
}

fn role_to_permissions() -> sea_orm::RelationDef {
    user_roles::Entity::belongs_to(role_permissions::Entity)
        .from(user_roles::Column::RoleId)
        .to(role_permissions::Column::RoleId)
        .into()
}

impl Tx {
    /// Stores that somebody asks for an access grant, and answers with its uuid.
    pub async fn insert_access_grant(&self, new: &NewAccessGrant) -> Result<String> {
        let uuid = self.random(|rng| uuid::Builder::from_random_bytes(rng.random()).into_uuid().to_string());
        let id = self.next_id();
        let row = access_grants::Model {
            id,
            uuid: uuid.clone(),
            fleet_id: new.fleet_id,
            user_id: new.user_id,
            is_for_fleet: new.devices.is_none(),
            reason: new.reason.clone(),
            duration_ms: i64::try_from(new.duration.as_millis()).unwrap_or(i64::MAX),
            status: GrantStatus::Pending.code(),
            created_at: self.now().as_millis(),
            ends_at: new.answer_by.as_millis(),
            answered_at: Timestamp::NEVER.as_millis(),
            answered_by: String::new(),
            comment: String::new(),
            finished_at: Timestamp::NEVER.as_millis(),
            finished_by: String::new(),
        };
        access_grants::Entity::insert(access_grants::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        let permission = |permission: &Permission| access_grant_permissions::Model {
            grant_id: id,
            permission: permission.as_str().to_owned(),
        };
        let rows = new.permissions.iter().map(permission).map(access_grant_permissions::ActiveModel::from);
        access_grant_permissions::Entity::insert_many(rows).exec_without_returning(&self.conn).await?;
        if let Some(devices) = new.devices.as_ref().filter(|devices| !devices.is_empty()) {
            let device = |device_id: &RowId| access_grant_devices::Model { grant_id: id, device_id: *device_id };
            let rows = devices.iter().map(device).map(access_grant_devices::ActiveModel::from);
            access_grant_devices::Entity::insert_many(rows).exec_without_returning(&self.conn).await?;
        }
        Ok(uuid)
    }

    /// Lets an access grant stand so from now on. Answers false, and changes nothing,
    /// where it does not stand any more as it did when it was read.
    pub async fn change_access_grant(
        &self,
        before: &AccessGrant,
        after: GrantState,
        note: GrantNote<'_>,
    ) -> Result<bool> {
        use access_grants::Column as G;
        let mut update = access_grants::Entity::update_many()
            .col_expr(G::Status, Expr::value(after.status.code()))
            .col_expr(G::EndsAt, Expr::value(after.ends_at.as_millis()));
        if matches!(after.status, GrantStatus::Approved | GrantStatus::Denied) {
            update = update
                .col_expr(G::AnsweredAt, Expr::value(self.now().as_millis()))
                .col_expr(G::AnsweredBy, Expr::value(note.by))
                .col_expr(G::Comment, Expr::value(note.comment));
        }
        if after.status.is_final() {
            update = update
                .col_expr(G::FinishedAt, Expr::value(self.now().as_millis()))
                .col_expr(G::FinishedBy, Expr::value(note.by));
        }
        let changed = update
            .filter(G::Id.eq(before.id))
            .filter(G::Status.eq(before.state.status.code()))
            .exec(&self.conn)
            .await?;
        Ok(changed.rows_affected > 0)
    }

    /// Notes of access grants whose time is over that it is, of at most `limit`, and answers
    /// with how they stood before. Few statements, whatever the number.
    pub async fn expire_access_grants(&self, limit: u64, by: &str) -> Result<Vec<AccessGrant>> {
        use access_grants::Column as G;
        let overdue = self.overdue_access_grants(limit).await?;
        for status in [GrantStatus::Pending, GrantStatus::Approved] {
            let of_it = overdue.iter().filter(|grant| grant.state.status == status);
            let ids: Vec<RowId> = of_it.map(|grant| grant.id).collect();
            if ids.is_empty() {
                continue;
            }
            access_grants::Entity::update_many()
                .col_expr(G::Status, Expr::value(status.when_overdue().code()))
                .col_expr(G::FinishedAt, Expr::col(G::EndsAt))
                .col_expr(G::FinishedBy, Expr::value(by))
                .filter(G::Id.is_in(ids))
                .exec(&self.conn)
                .await?;
        }
        Ok(overdue)
    }
}
