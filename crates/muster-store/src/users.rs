//! Users, as an administrator looks at them and changes them.

use muster_core::access::Permission;
use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::names::UserName;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, JoinType, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, RelationDef,
};

use crate::accounts::User;
use crate::db::{Db, Result, Tx};
use crate::entities::{fleets, role_permissions, roles, user_roles, users};

/// A user with their roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUser {
    /// The row.
    pub id: RowId,
    /// The name with which they log in.
    pub name: String,
    /// May do everything in the account.
    pub is_admin: bool,
    /// Whether they can log in.
    pub has_password: bool,
    /// When they were made.
    pub created_at: Timestamp,
    /// The keys of fleets, with the name of a role in each.
    pub roles: Vec<(String, String)>,
}

/// A fleet's id, key and name, and a permission there with whether that needs a grant.
type HeldRow = (RowId, String, String, Option<String>, Option<bool>);

/// A fleet that a user has a role in, with what that permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldFleet {
    /// The row.
    pub fleet_id: RowId,
    /// Its key.
    pub project_key: String,
    /// Its name.
    pub name: String,
    /// What the user's roles in it give together, at any time.
    pub permissions: Vec<Permission>,
    /// What they hold back until there is an access grant.
    pub needs_grant: Vec<Permission>,
}

impl<C: ConnectionTrait> Db<C> {
    /// The next `limit` users of an account behind the row `after`, in the order they
    /// were made, and whether there are more.
    pub async fn users_page(
        &self,
        account_id: RowId,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<ListedUser>, bool)> {
        let which = Condition::all()
            .add(users::Column::AccountId.eq(account_id))
            .add_option(after.map(|after| users::Column::Id.gt(after)));
        let mut found = self.listed_users(which, limit + 1).await?;
        let is_more = found.len() as u64 > limit;
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((found, is_more))
    }

    /// How many users an account has.
    pub async fn users_count(&self, account_id: RowId) -> Result<u64> {
        Ok(users::Entity::find().filter(users::Column::AccountId.eq(account_id)).count(&self.conn).await?)
    }

    /// The user of an account with that name.
    pub async fn find_listed_user(&self, account_id: RowId, name: &UserName) -> Result<Option<ListedUser>> {
        let which =
            Condition::all().add(users::Column::AccountId.eq(account_id)).add(users::Column::Name.eq(name.as_str()));
        Ok(self.listed_users(which, 1).await?.pop())
    }

    async fn listed_users(&self, which: Condition, limit: u64) -> Result<Vec<ListedUser>> {
        let rows = users::Entity::find().filter(which).order_by_asc(users::Column::Id).limit(limit);
        let rows = rows.all(&self.conn).await?;
        let ids: Vec<RowId> = rows.iter().map(|row| row.id).collect();
        let held = self.roles_of_users(&ids).await?;
        Ok(rows
            .into_iter()
            .map(|row| ListedUser {
                roles: held
                    .iter()
                    .filter(|role| role.0 == row.id)
                    .map(|role| (role.1.clone(), role.2.clone()))
                    .collect(),
                has_password: !row.password_hash.is_empty(),
                id: row.id,
                name: row.name,
                is_admin: row.is_admin,
                created_at: Timestamp::from_millis(row.created_at),
            })
            .collect())
    }

    /// User, key of the fleet, name of the role.
    async fn roles_of_users(&self, ids: &[RowId]) -> Result<Vec<(RowId, String, String)>> {
        let query = user_roles::Entity::find()
            .select_only()
            .column(user_roles::Column::UserId)
            .column(fleets::Column::ProjectKey)
            .column(roles::Column::Name)
            .join(JoinType::InnerJoin, to_fleet())
            .join(JoinType::InnerJoin, to_role())
            .filter(user_roles::Column::UserId.is_in(ids.iter().copied()))
            .order_by_asc(user_roles::Column::UserId)
            .order_by_asc(user_roles::Column::FleetId)
            .order_by_asc(user_roles::Column::RoleId);
        Ok(query.into_tuple().all(&self.conn).await?)
    }

    /// Every fleet that a user has a role in, with what it permits, in the order of the fleets.
    pub async fn held_fleets(&self, user_id: RowId) -> Result<Vec<HeldFleet>> {
        let to_permissions: RelationDef = user_roles::Entity::belongs_to(role_permissions::Entity)
            .from(user_roles::Column::RoleId)
            .to(role_permissions::Column::RoleId)
            .into();
        let query = user_roles::Entity::find()
            .select_only()
            .column(user_roles::Column::FleetId)
            .column(fleets::Column::ProjectKey)
            .column(fleets::Column::Name)
            .column(role_permissions::Column::Permission)
            .column(role_permissions::Column::NeedsGrant)
            .join(JoinType::InnerJoin, to_fleet())
            .join(JoinType::LeftJoin, to_permissions)
            .filter(user_roles::Column::UserId.eq(user_id))
            .order_by_asc(user_roles::Column::FleetId);
        let mut held: Vec<HeldFleet> = Vec::new();
        for row in query.into_tuple().all(&self.conn).await? {
            let (fleet_id, project_key, name, permission, needs_grant): HeldRow = row;
            if held.last().is_none_or(|last| last.fleet_id != fleet_id) {
                held.push(HeldFleet { fleet_id, project_key, name, permissions: Vec::new(), needs_grant: Vec::new() });
            }
            let permission = permission.as_deref().and_then(Permission::from_name);
            if let (Some(last), Some(permission)) = (held.last_mut(), permission) {
                let list = if needs_grant == Some(true) { &mut last.needs_grant } else { &mut last.permissions };
                list.push(permission);
            }
        }
        for fleet in &mut held {
            fleet.permissions.sort();
            fleet.permissions.dedup();
            // What one role gives at any time, no other holds back.
            fleet.needs_grant.retain(|permission| !fleet.permissions.contains(permission));
            fleet.needs_grant.sort();
            fleet.needs_grant.dedup();
        }
        Ok(held)
    }

    /// The user with that name and the hash of their password, which is empty when they have none.
    pub async fn find_login(&self, name: &UserName) -> Result<Option<(User, String)>> {
        let row = users::Entity::find().filter(users::Column::Name.eq(name.as_str())).one(&self.conn).await?;
        Ok(row.map(|row| (User::from(row.clone()), row.password_hash)))
    }

    /// How many administrators an account has.
    pub async fn admin_count(&self, account_id: RowId) -> Result<u64> {
        let query = users::Entity::find()
            .filter(users::Column::AccountId.eq(account_id))
            .filter(users::Column::IsAdmin.eq(true));
        Ok(query.count(&self.conn).await?)
    }
}

fn to_fleet() -> RelationDef {
    user_roles::Entity::belongs_to(fleets::Entity).from(user_roles::Column::FleetId).to(fleets::Column::Id).into()
}

fn to_role() -> RelationDef {
    user_roles::Entity::belongs_to(roles::Entity).from(user_roles::Column::RoleId).to(roles::Column::Id).into()
}

impl Tx {
    /// Sets whether a user is an administrator.
    pub async fn set_admin(&self, user_id: RowId, is_admin: bool) -> Result<()> {
        self.update_user(user_id, users::ActiveModel { is_admin: Set(is_admin), ..Default::default() }).await
    }

    /// Sets the hash of a user's password, in PHC form.
    pub async fn set_password_hash(&self, user_id: RowId, hash: &str) -> Result<()> {
        self.update_user(user_id, users::ActiveModel { password_hash: Set(hash.to_owned()), ..Default::default() })
            .await
    }

    async fn update_user(&self, user_id: RowId, change: users::ActiveModel) -> Result<()> {
        users::Entity::update_many().set(change).filter(users::Column::Id.eq(user_id)).exec(&self.conn).await?;
        Ok(())
    }

    /// Gives a user these roles, as fleet and role, in place of all that they have.
    pub async fn replace_user_roles(&self, user_id: RowId, held: &[(RowId, RowId)]) -> Result<()> {
        // Two replacements at once would leave the roles of both.
        users::Entity::update_many()
            .col_expr(users::Column::CreatedAt, Expr::col(users::Column::CreatedAt))
            .filter(users::Column::Id.eq(user_id))
            .exec(&self.conn)
            .await?;
        user_roles::Entity::delete_many().filter(user_roles::Column::UserId.eq(user_id)).exec(&self.conn).await?;
        let row = |(fleet_id, role_id): &(RowId, RowId)| user_roles::Model {
            user_id,
            fleet_id: *fleet_id,
            role_id: *role_id,
        };
        let rows: Vec<_> = held.iter().map(row).map(user_roles::ActiveModel::from).collect();
        if !rows.is_empty() {
            user_roles::Entity::insert_many(rows).exec_without_returning(&self.conn).await?;
        }
        Ok(())
    }

    /// Deletes a user, with their tokens and roles.
    pub async fn delete_user(&self, user_id: RowId) -> Result<()> {
        users::Entity::delete_by_id(user_id).exec(&self.conn).await?;
        Ok(())
    }
}
