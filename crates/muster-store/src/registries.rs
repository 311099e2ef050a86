//! Registries, with their secrets as somebody else has sealed them.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::names::RegistryName;
use muster_core::registry::RegistryKind;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use crate::db::{Db, Result, Tx};
use crate::entities::registries;
use crate::error::StoreError;

/// A registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// The row.
    pub id: RowId,
    /// Its name.
    pub name: String,
    /// What kind it is.
    pub kind: RegistryKind,
    /// Where it is.
    pub url: String,
    /// Who logs in; empty for nobody.
    pub username: String,
    /// The secret, sealed; empty for none.
    pub sealed_secret: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a registry is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryContent {
    /// What kind it is.
    pub kind: RegistryKind,
    /// Where it is.
    pub url: String,
    /// Who logs in; empty for nobody.
    pub username: String,
    /// The secret, sealed; empty for none.
    pub sealed_secret: String,
}

impl TryFrom<registries::Model> for Registry {
    type Error = StoreError;

    fn try_from(row: registries::Model) -> Result<Self> {
        let unknown = || StoreError::Corrupt { table: "registries", problem: row.kind.clone() };
        Ok(Self {
            kind: RegistryKind::from_name(&row.kind).ok_or_else(unknown)?,
            id: row.id,
            name: row.name,
            url: row.url,
            username: row.username,
            sealed_secret: row.sealed_secret,
            created_at: Timestamp::from_millis(row.created_at),
        })
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// The next `limit` registries of an account behind the row `after`, in the order
    /// they were made, and whether there are more.
    pub async fn registries_page(
        &self,
        account_id: RowId,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<Registry>, bool)> {
        let mut query = registries::Entity::find()
            .filter(registries::Column::AccountId.eq(account_id))
            .order_by_asc(registries::Column::Id)
            .limit(limit + 1);
        if let Some(after) = after {
            query = query.filter(registries::Column::Id.gt(after));
        }
        let mut rows = query.all(&self.conn).await?;
        let is_more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((rows.into_iter().map(Registry::try_from).collect::<Result<_>>()?, is_more))
    }

    /// How many registries an account has.
    pub async fn registries_count(&self, account_id: RowId) -> Result<u64> {
        Ok(registries::Entity::find().filter(registries::Column::AccountId.eq(account_id)).count(&self.conn).await?)
    }

    /// The registry of an account with that name.
    pub async fn find_registry(&self, account_id: RowId, name: &RegistryName) -> Result<Option<Registry>> {
        let query = registries::Entity::find()
            .filter(registries::Column::AccountId.eq(account_id))
            .filter(registries::Column::Name.eq(name.as_str()));
        query.one(&self.conn).await?.map(Registry::try_from).transpose()
    }

    /// The registry of that row, and whose it is.
    pub async fn find_registry_by_id(&self, id: RowId) -> Result<Option<(RowId, Registry)>> {
        let row = registries::Entity::find_by_id(id).one(&self.conn).await?;
        row.map(|row| Ok((row.account_id, Registry::try_from(row)?))).transpose()
    }
}

impl Tx {
    /// Makes a registry. The name must be free in the account.
    pub async fn insert_registry(
        &self,
        account_id: RowId,
        name: &RegistryName,
        content: &RegistryContent,
    ) -> Result<RowId> {
        let row = registries::Model {
            id: self.next_id(),
            account_id,
            name: name.as_str().to_owned(),
            kind: content.kind.as_str().to_owned(),
            url: content.url.clone(),
            username: content.username.clone(),
            sealed_secret: content.sealed_secret.clone(),
            created_at: self.now().as_millis(),
        };
        let id = row.id;
        registries::Entity::insert(registries::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(id)
    }

    /// Changes everything of a registry but its name.
    pub async fn update_registry(&self, id: RowId, content: &RegistryContent) -> Result<()> {
        let change = registries::ActiveModel {
            kind: Set(content.kind.as_str().to_owned()),
            url: Set(content.url.clone()),
            username: Set(content.username.clone()),
            sealed_secret: Set(content.sealed_secret.clone()),
            ..Default::default()
        };
        registries::Entity::update_many().set(change).filter(registries::Column::Id.eq(id)).exec(&self.conn).await?;
        Ok(())
    }

    /// Deletes a registry with its secret.
    pub async fn delete_registry(&self, id: RowId) -> Result<()> {
        registries::Entity::delete_by_id(id).exec(&self.conn).await?;
        Ok(())
    }
}
