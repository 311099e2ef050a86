//! Roles: listed, changed, deleted.

use std::collections::BTreeMap;

use muster_core::access::{Permission, RoleRights};
use muster_core::ids::RowId;
use muster_core::names::RoleName;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use crate::db::{Db, Result, Tx};
use crate::entities::{role_permissions, roles, user_roles};

/// A role with what it gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The row.
    pub id: RowId,
    /// Its name.
    pub name: String,
    /// What it gives.
    pub rights: RoleRights,
    /// How many users have it in some fleet.
    pub user_count: u64,
}

impl<C: ConnectionTrait> Db<C> {
    /// The next `limit` roles of an account behind the row `after`, in the order they
    /// were made, and whether there are more.
    pub async fn roles_page(&self, account_id: RowId, after: Option<RowId>, limit: u64) -> Result<(Vec<Role>, bool)> {
        let which = Condition::all()
            .add(roles::Column::AccountId.eq(account_id))
            .add_option(after.map(|after| roles::Column::Id.gt(after)));
        let mut found = self.listed_roles(which, limit + 1).await?;
        let is_more = found.len() as u64 > limit;
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((found, is_more))
    }

    /// How many roles an account has.
    pub async fn roles_count(&self, account_id: RowId) -> Result<u64> {
        Ok(roles::Entity::find().filter(roles::Column::AccountId.eq(account_id)).count(&self.conn).await?)
    }

    /// The role of an account with that name, and what it gives.
    pub async fn find_whole_role(&self, account_id: RowId, name: &RoleName) -> Result<Option<Role>> {
        let which =
            Condition::all().add(roles::Column::AccountId.eq(account_id)).add(roles::Column::Name.eq(name.as_str()));
        Ok(self.listed_roles(which, 1).await?.pop())
    }

    async fn listed_roles(&self, which: Condition, limit: u64) -> Result<Vec<Role>> {
        let rows = roles::Entity::find().filter(which).order_by_asc(roles::Column::Id).limit(limit);
        let rows = rows.all(&self.conn).await?;
        let ids: Vec<RowId> = rows.iter().map(|row| row.id).collect();
        let permissions = role_permissions::Entity::find()
            .filter(role_permissions::Column::RoleId.is_in(ids.iter().copied()))
            .all(&self.conn)
            .await?;
        let counts = self.users_with_roles(&ids).await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let own = |needs_grant: bool| {
                    let own = permissions.iter().filter(|own| own.role_id == row.id && own.needs_grant == needs_grant);
                    let mut held: Vec<_> = own.filter_map(|own| Permission::from_name(&own.permission)).collect();
                    held.sort();
                    held
                };
                let rights = RoleRights { permissions: own(false), needs_grant: own(true) };
                let user_count = counts.get(&row.id).copied().unwrap_or(0);
                Role { id: row.id, name: row.name, rights, user_count }
            })
            .collect())
    }

    async fn users_with_roles(&self, role_ids: &[RowId]) -> Result<BTreeMap<RowId, u64>> {
        let counts: Vec<(RowId, i64)> = user_roles::Entity::find()
            .select_only()
            .column(user_roles::Column::RoleId)
            .column_as(Expr::col(user_roles::Column::UserId).count_distinct(), "users")
            .filter(user_roles::Column::RoleId.is_in(role_ids.iter().copied()))
            .group_by(user_roles::Column::RoleId)
            .into_tuple()
            .all(&self.conn)
            .await?;
        Ok(counts.into_iter().map(|(role, count)| (role, count.try_into().unwrap_or(0))).collect())
    }
}

impl Tx {
    /// Lets a role give these rights, in place of all that it does.
    pub async fn replace_role_rights(&self, role_id: RowId, rights: &RoleRights) -> Result<()> {
        // Two replacements at once would leave the rights of both.
        roles::Entity::update_many()
            .col_expr(roles::Column::CreatedAt, Expr::col(roles::Column::CreatedAt))
            .filter(roles::Column::Id.eq(role_id))
            .exec(&self.conn)
            .await?;
        let own = role_permissions::Column::RoleId.eq(role_id);
        role_permissions::Entity::delete_many().filter(own).exec(&self.conn).await?;
        self.insert_role_rights(role_id, rights).await
    }

    /// Gives these rights to a role that has none.
    pub(crate) async fn insert_role_rights(&self, role_id: RowId, rights: &RoleRights) -> Result<()> {
        let row = |permission: &Permission, needs_grant: bool| {
            let permission = permission.as_str().to_owned();
            role_permissions::ActiveModel::from(role_permissions::Model { role_id, permission, needs_grant })
        };
        let free = rights.permissions.iter().map(|permission| row(permission, false));
        let rows: Vec<_> = free.chain(rights.needs_grant.iter().map(|permission| row(permission, true))).collect();
        if !rows.is_empty() {
            role_permissions::Entity::insert_many(rows).exec_without_returning(&self.conn).await?;
        }
        Ok(())
    }

    /// Deletes a role. Users who have it lose it.
    pub async fn delete_role(&self, role_id: RowId) -> Result<()> {
        roles::Entity::delete_by_id(role_id).exec(&self.conn).await?;
        Ok(())
    }
}
