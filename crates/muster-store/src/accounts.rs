//! Accounts, the users in them, and what each user may do where.

use muster_core::access::{BUILT_IN_ROLES, Permission};
use muster_core::ids::RowId;
use muster_core::names::{AccountName, UserName};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, JoinType, PaginatorTrait, QueryFilter, QuerySelect};

use crate::db::{Db, Result, Tx};
use crate::entities::{accounts, role_permissions, roles, user_roles, users};

/// A user who may act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The row.
    pub id: RowId,
    /// Their account.
    pub account_id: RowId,
    /// The name with which they log in.
    pub name: String,
    /// May do everything in the account.
    pub is_admin: bool,
}

impl From<users::Model> for User {
    fn from(row: users::Model) -> Self {
        Self { id: row.id, account_id: row.account_id, name: row.name, is_admin: row.is_admin }
    }
}

/// A user to be made.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Their account.
    pub account_id: RowId,
    /// The name with which they log in; must be free on the whole server.
    pub name: UserName,
    /// The password's hash, in PHC form.
    pub password_hash: String,
    /// May do everything in the account.
    pub is_admin: bool,
}

impl<C: ConnectionTrait> Db<C> {
    /// How many accounts there are.
    pub async fn account_count(&self) -> Result<u64> {
        Ok(accounts::Entity::find().count(&self.conn).await?)
    }

    /// Whether an account bears that name.
    pub async fn has_account(&self, name: &AccountName) -> Result<bool> {
        Ok(accounts::Entity::find().filter(accounts::Column::Name.eq(name.as_str())).count(&self.conn).await? > 0)
    }

    /// The user of a row that refers to them.
    pub async fn find_user(&self, id: RowId) -> Result<Option<User>> {
        Ok(users::Entity::find_by_id(id).one(&self.conn).await?.map(User::from))
    }

    /// The user with that name.
    pub async fn find_user_by_name(&self, name: &UserName) -> Result<Option<User>> {
        let query = users::Entity::find().filter(users::Column::Name.eq(name.as_str()));
        Ok(query.one(&self.conn).await?.map(User::from))
    }

    /// What a user may do in a fleet; `None` when they have no role there and so cannot see it.
    pub async fn permissions_in(&self, user_id: RowId, fleet_id: RowId) -> Result<Option<Vec<Permission>>> {
        let rows: Vec<(RowId, Option<String>)> = user_roles::Entity::find()
            .select_only()
            .column(user_roles::Column::RoleId)
            .column(role_permissions::Column::Permission)
            .join(JoinType::LeftJoin, role_to_permissions())
            .filter(user_roles::Column::UserId.eq(user_id))
            .filter(user_roles::Column::FleetId.eq(fleet_id))
            .into_tuple()
            .all(&self.conn)
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let names = rows.into_iter().filter_map(|(_, name)| name);
        Ok(Some(names.filter_map(|name| Permission::from_name(&name)).collect()))
    }

    /// Whether a user has a role with that permission in any fleet.
    pub async fn holds_anywhere(&self, user_id: RowId, permission: Permission) -> Result<bool> {
        let query = user_roles::Entity::find()
            .join(JoinType::InnerJoin, role_to_permissions())
            .filter(user_roles::Column::UserId.eq(user_id))
            .filter(role_permissions::Column::Permission.eq(permission.as_str()));
        Ok(query.count(&self.conn).await? > 0)
    }

    /// The fleets in which a user has a role with that permission.
    pub async fn fleets_with(&self, user_id: RowId, permission: Permission) -> Result<Vec<RowId>> {
        let query = user_roles::Entity::find()
            .select_only()
            .column(user_roles::Column::FleetId)
            .distinct()
            .join(JoinType::InnerJoin, role_to_permissions())
            .filter(user_roles::Column::UserId.eq(user_id))
            .filter(role_permissions::Column::Permission.eq(permission.as_str()));
        Ok(query.into_tuple().all(&self.conn).await?)
    }

    /// The role of an account with that name.
    pub async fn find_role(&self, account_id: RowId, name: &str) -> Result<Option<RowId>> {
        let query = roles::Entity::find()
            .select_only()
            .column(roles::Column::Id)
            .filter(roles::Column::AccountId.eq(account_id))
            .filter(roles::Column::Name.eq(name));
        Ok(query.into_tuple().one(&self.conn).await?)
    }
}

fn role_to_permissions() -> sea_orm::RelationDef {
    user_roles::Entity::belongs_to(role_permissions::Entity)
        .from(user_roles::Column::RoleId)
        .to(role_permissions::Column::RoleId)
        .into()
}

impl Tx {
    /// Makes an account with the built-in roles. The name must be free.
    pub async fn insert_account(&self, name: &AccountName) -> Result<RowId> {
        let id = self.next_id();
        let row = accounts::Model { id, name: name.as_str().to_owned(), created_at: self.now().as_millis() };
        accounts::Entity::insert(accounts::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        for (role, permissions) in BUILT_IN_ROLES {
            self.insert_role(id, role, permissions).await?;
        }
        Ok(id)
    }

    /// Makes a role. The name must be free in the account.
    pub async fn insert_role(&self, account_id: RowId, name: &str, permissions: &[Permission]) -> Result<RowId> {
        let id = self.next_id();
        let row = roles::Model { id, account_id, name: name.to_owned(), created_at: self.now().as_millis() };
        roles::Entity::insert(roles::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        for permission in permissions {
            let row = role_permissions::Model { role_id: id, permission: permission.as_str().to_owned() };
            let row = role_permissions::ActiveModel::from(row);
            role_permissions::Entity::insert(row).exec_without_returning(&self.conn).await?;
        }
        Ok(id)
    }

    /// Makes a user.
    pub async fn insert_user(&self, user: &NewUser) -> Result<User> {
        let row = users::Model {
            id: self.next_id(),
            account_id: user.account_id,
            name: user.name.as_str().to_owned(),
            password_hash: user.password_hash.clone(),
            is_admin: user.is_admin,
            created_at: self.now().as_millis(),
        };
        let made = User::from(row.clone());
        users::Entity::insert(users::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(made)
    }

    /// Gives a user a role in a fleet; nothing happens when they have it already.
    pub async fn grant_role(&self, user_id: RowId, fleet_id: RowId, role_id: RowId) -> Result<()> {
        let row = user_roles::Model { user_id, fleet_id, role_id };
        let key = [user_roles::Column::UserId, user_roles::Column::FleetId, user_roles::Column::RoleId];
        let insert = user_roles::Entity::insert(user_roles::ActiveModel::from(row))
            .on_conflict(OnConflict::columns(key).do_nothing().to_owned());
        insert.exec_without_returning(&self.conn).await?;
        Ok(())
    }
}
