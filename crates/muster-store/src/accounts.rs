//! Accounts, the users in them, and the roles that users have.

use muster_core::access::{BUILT_IN_ROLES, RoleRights};
use muster_core::ids::RowId;
use muster_core::names::{AccountName, UserName};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};

use crate::db::{Db, Result, Tx};
use crate::entities::{accounts, roles, user_roles, users};

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

impl Tx {
    /// Makes an account with the built-in roles. The name must be free.
    pub async fn insert_account(&self, name: &AccountName) -> Result<RowId> {
        let id = self.next_id();
        let row = accounts::Model { id, name: name.as_str().to_owned(), created_at: self.now().as_millis() };
        accounts::Entity::insert(accounts::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        for (role, permissions) in BUILT_IN_ROLES {
            self.insert_role(id, role, &permissions.into()).await?;
        }
        Ok(id)
    }

    /// Makes a role. The name must be free in the account.
    pub async fn insert_role(&self, account_id: RowId, name: &str, rights: &RoleRights) -> Result<RowId> {
        let id = self.next_id();
        let row = roles::Model { id, account_id, name: name.to_owned(), created_at: self.now().as_millis() };
        roles::Entity::insert(roles::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        self.insert_role_rights(id, rights).await?;
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
