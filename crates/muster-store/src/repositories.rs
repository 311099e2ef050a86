//! Repositories of artifacts.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::names::{RepositoryName, Text};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use crate::db::{Db, Result, Tx};
use crate::entities::{artifact_folders, artifacts, repositories};
use crate::error::StoreError;

/// What a repository is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryKind {
    /// Files of whatever kind, which updates come from.
    Generic,
    /// Files that devices were asked for. Made by the server, for one fleet.
    DeviceFiles,
}

impl RepositoryKind {
    /// How the kind is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::DeviceFiles => "device_files",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Generic, Self::DeviceFiles].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// The row.
    pub id: RowId,
    /// Whose it is.
    pub account_id: RowId,
    /// The one fleet that it is for; `None` when all fleets of the account share it.
    pub fleet_id: Option<RowId>,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: RepositoryKind,
    /// What its maker said of it.
    pub description: String,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a repository is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRepository {
    /// Whose it is.
    pub account_id: RowId,
    /// The one fleet that it is for.
    pub fleet_id: Option<RowId>,
    /// Its name.
    pub name: RepositoryName,
    /// What it is for.
    pub kind: RepositoryKind,
    /// What its maker says of it.
    pub description: Text,
    /// Who makes it.
    pub created_by: String,
}

/// Which repositories somebody sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenRepositories {
    /// All of the account.
    All,
    /// Those that all fleets share, and those of these fleets.
    OfFleets(Vec<RowId>),
}

impl TryFrom<repositories::Model> for Repository {
    type Error = StoreError;

    fn try_from(row: repositories::Model) -> Result<Self> {
        let unknown = || StoreError::Corrupt { table: "repositories", problem: row.kind.clone() };
        Ok(Self {
            kind: RepositoryKind::from_name(&row.kind).ok_or_else(unknown)?,
            id: row.id,
            account_id: row.account_id,
            fleet_id: row.fleet_id,
            name: row.name,
            description: row.description,
            created_by: row.created_by,
            created_at: Timestamp::from_millis(row.created_at),
        })
    }
}

fn seen(account_id: RowId, seen: &SeenRepositories) -> Condition {
    let of_account = Condition::all().add(repositories::Column::AccountId.eq(account_id));
    match seen {
        SeenRepositories::All => of_account,
        SeenRepositories::OfFleets(fleets) => of_account.add(
            Condition::any()
                .add(repositories::Column::FleetId.is_null())
                .add(repositories::Column::FleetId.is_in(fleets.iter().copied())),
        ),
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// The next `limit` repositories behind the row `after`, in the order they were made,
    /// and whether there are more.
    pub async fn repositories_page(
        &self,
        account_id: RowId,
        which: &SeenRepositories,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<Repository>, bool)> {
        let mut query = repositories::Entity::find()
            .filter(seen(account_id, which))
            .order_by_asc(repositories::Column::Id)
            .limit(limit + 1);
        if let Some(after) = after {
            query = query.filter(repositories::Column::Id.gt(after));
        }
        let mut rows = query.all(&self.conn).await?;
        let is_more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((rows.into_iter().map(Repository::try_from).collect::<Result<_>>()?, is_more))
    }

    /// How many repositories are seen.
    pub async fn repositories_count(&self, account_id: RowId, which: &SeenRepositories) -> Result<u64> {
        Ok(repositories::Entity::find().filter(seen(account_id, which)).count(&self.conn).await?)
    }

    /// Bytes of all artifacts of an account; a content counts once for each artifact that has it.
    pub async fn artifact_bytes(&self, account_id: RowId) -> Result<u64> {
        let query = repositories::Entity::find()
            .select_only()
            .column(repositories::Column::UsedBytes)
            .filter(repositories::Column::AccountId.eq(account_id));
        let used: Vec<i64> = query.into_tuple().all(&self.conn).await?;
        Ok(used.into_iter().map(|bytes| u64::try_from(bytes).unwrap_or_default()).sum())
    }

    /// The repository of an account with that name.
    pub async fn find_repository(&self, account_id: RowId, name: &RepositoryName) -> Result<Option<Repository>> {
        let query = repositories::Entity::find()
            .filter(repositories::Column::AccountId.eq(account_id))
            .filter(repositories::Column::Name.eq(name.as_str()));
        query.one(&self.conn).await?.map(Repository::try_from).transpose()
    }

    /// The repository of that row.
    pub async fn find_repository_by_id(&self, id: RowId) -> Result<Option<Repository>> {
        repositories::Entity::find_by_id(id).one(&self.conn).await?.map(Repository::try_from).transpose()
    }

    /// Whether a repository holds any artifact.
    pub async fn holds_artifacts(&self, repository_id: RowId) -> Result<bool> {
        let query = artifacts::Entity::find()
            .select_only()
            .column(artifacts::Column::Id)
            .filter(artifacts::Column::RepositoryId.eq(repository_id))
            .limit(1);
        Ok(query.into_tuple::<RowId>().one(&self.conn).await?.is_some())
    }

    /// The names of a fleet's own repositories, sorted, but not of what the server made for its devices' files.
    pub async fn repositories_of_fleet(&self, fleet_id: RowId) -> Result<Vec<String>> {
        let query = repositories::Entity::find()
            .select_only()
            .column(repositories::Column::Name)
            .filter(repositories::Column::FleetId.eq(fleet_id))
            .filter(repositories::Column::Kind.eq(RepositoryKind::Generic.as_str()))
            .order_by_asc(repositories::Column::Name);
        Ok(query.into_tuple().all(&self.conn).await?)
    }
}

impl Tx {
    /// Makes a repository, with the folder that all others lie in. The name must be free in the account.
    pub async fn insert_repository(&self, new: &NewRepository) -> Result<RowId> {
        let (id, now) = (self.next_id(), self.now().as_millis());
        let row = repositories::Model {
            id,
            account_id: new.account_id,
            fleet_id: new.fleet_id,
            name: new.name.as_str().to_owned(),
            kind: new.kind.as_str().to_owned(),
            description: new.description.as_str().to_owned(),
            created_by: new.created_by.clone(),
            created_at: now,
            used_bytes: 0,
        };
        repositories::Entity::insert(repositories::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        let root = artifact_folders::Model {
            id: self.next_id(),
            repository_id: id,
            parent_id: None,
            path: String::new(),
            created_by: new.created_by.clone(),
            created_at: now,
        };
        let root = artifact_folders::ActiveModel::from(root);
        artifact_folders::Entity::insert(root).exec_without_returning(&self.conn).await?;
        Ok(id)
    }

    /// Deletes a repository with all that lies in it. One statement.
    pub async fn delete_repository(&self, id: RowId) -> Result<()> {
        repositories::Entity::delete_by_id(id).exec(&self.conn).await?;
        Ok(())
    }
}
