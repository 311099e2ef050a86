//! What holds of the right of something that stands open, a port tunnel or a session: the
//! token with which it was asked for, what its user may, where the device is.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::tunnel::Standing;
use sea_orm::FromQueryResult;
use sea_orm::sea_query::{Expr, ExprTrait, IntoColumnRef, SelectStatement};

use crate::access_grants::permitting_roles;
use crate::entities::{devices, fleets, tokens, user_roles, users};
use crate::page::subquery;

/// The columns that [`with_standing`] adds, and `host`.
#[derive(FromQueryResult)]
pub(crate) struct StandingRow {
    revoked_at: Option<i64>,
    token_expires_at: Option<i64>,
    is_admin: Option<bool>,
    permitted: i64,
    device_fleet_id: i64,
    host: String,
    tunnels_to_network: bool,
}

impl StandingRow {
    /// What holds at that moment of something in that fleet.
    pub(crate) fn standing(&self, fleet_id: RowId, now: Timestamp) -> Standing {
        let is_fresh = self.token_expires_at.is_some_and(|expires_at| expires_at > now.as_millis());
        Standing {
            is_token_good: self.revoked_at == Some(Timestamp::NEVER.as_millis()) && is_fresh,
            is_permitted: self.is_admin == Some(true) || (self.is_admin.is_some() && self.permitted > 0),
            is_in_fleet: self.device_fleet_id == fleet_id,
            is_target_allowed: self.host.is_empty() || self.tunnels_to_network,
        }
    }
}

/// Adds to a query of `table`, joined with its devices, the columns of a [`StandingRow`] but
/// `host`, as they are at `now`. Who opened it must have the permission of that name.
pub(crate) fn with_standing<T, C>(
    mut query: SelectStatement,
    table: T,
    token_id: C,
    fleet_id: C,
    permission: &Expr,
    now: Timestamp,
) -> SelectStatement
where
    T: Copy,
    C: Copy,
    (T, C): IntoColumnRef,
{
    let is_its_token = Expr::col((tokens::Entity, tokens::Column::Id)).equals((table, token_id));
    let is_its_user = Expr::col((users::Entity, users::Column::Id)).equals((tokens::Entity, tokens::Column::UserId));
    let is_its_fleet = Expr::col((fleets::Entity, fleets::Column::Id)).equals((table, fleet_id));
    query
        .left_join(tokens::Entity, is_its_token)
        .left_join(users::Entity, is_its_user)
        .inner_join(fleets::Entity, is_its_fleet)
        .column((tokens::Entity, tokens::Column::RevokedAt))
        .expr_as(Expr::col((tokens::Entity, tokens::Column::ExpiresAt)), "token_expires_at")
        .column((users::Entity, users::Column::IsAdmin))
        .expr_as(permitting((table, fleet_id), permission, now), "permitted")
        .expr_as(Expr::col((devices::Entity, devices::Column::FleetId)), "device_fleet_id")
        .column((fleets::Entity, fleets::Column::TunnelsToNetwork))
        .take()
}

/// Roles by which the user of the token that is being selected has that permission for its
/// device.
fn permitting(fleet_id: impl IntoColumnRef, permission: &Expr, now: Timestamp) -> Expr {
    use user_roles::Column as U;
    let device = Expr::col((devices::Entity, devices::Column::Id));
    let roles = permitting_roles(permission, Some(device), now)
        .expr(Expr::cust("COUNT(*)"))
        .and_where(Expr::col((user_roles::Entity, U::UserId)).equals((tokens::Entity, tokens::Column::UserId)))
        .and_where(Expr::col((user_roles::Entity, U::FleetId)).equals(fleet_id))
        .take();
    subquery(roles)
}
