//! Fleets, and the groups in them.

use std::time::Duration;

use muster_core::ids::RowId;
use muster_core::limits::HEARTBEAT_DEFAULT;
use muster_core::names::{FleetName, GroupName, ProjectKey};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};

use crate::accounts::User;
use crate::db::{Db, Result, Tx};
use crate::entities::{fleets, groups, user_roles};

/// A fleet; "project" in the Connect API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The row.
    pub id: RowId,
    /// Whose it is.
    pub account_id: RowId,
    /// Its short name, in the paths of API v2.
    pub project_key: String,
    /// Its name, in the bodies of API v1.
    pub name: String,
    /// Time between two keepalives of its devices.
    pub heartbeat: Duration,
}

impl From<fleets::Model> for Fleet {
    fn from(row: fleets::Model) -> Self {
        Self {
            id: row.id,
            account_id: row.account_id,
            project_key: row.project_key,
            name: row.name,
            heartbeat: Duration::from_millis(row.heartbeat_ms.try_into().unwrap_or(0)),
        }
    }
}

/// The groups that a new fleet has; a device that names none goes into the last.
pub const NEW_FLEET_GROUPS: [&str; 2] = ["Test", DEFAULT_GROUP];
/// Where a device goes that names no group.
pub const DEFAULT_GROUP: &str = "Production";

impl<C: ConnectionTrait> Db<C> {
    /// The fleet with that key.
    pub async fn find_fleet_by_key(&self, account_id: RowId, key: &ProjectKey) -> Result<Option<Fleet>> {
        self.fleet(account_id, fleets::Column::ProjectKey.eq(key.as_str())).await
    }

    /// The fleet with that name.
    pub async fn find_fleet_by_name(&self, account_id: RowId, name: &FleetName) -> Result<Option<Fleet>> {
        self.fleet(account_id, fleets::Column::Name.eq(name.as_str())).await
    }

    /// The fleet of a row that refers to it.
    pub async fn find_fleet(&self, account_id: RowId, id: RowId) -> Result<Option<Fleet>> {
        self.fleet(account_id, fleets::Column::Id.eq(id)).await
    }

    /// Every fleet that a user may see, in the order they were made.
    pub async fn visible_fleets(&self, user: &User) -> Result<Vec<Fleet>> {
        let mut query = fleets::Entity::find()
            .filter(fleets::Column::AccountId.eq(user.account_id))
            .order_by_asc(fleets::Column::Id);
        if !user.is_admin {
            let own = user_roles::Entity::find()
                .select_only()
                .column(user_roles::Column::FleetId)
                .filter(user_roles::Column::UserId.eq(user.id));
            query = query.filter(fleets::Column::Id.in_subquery(own.into_query()));
        }
        Ok(query.all(&self.conn).await?.into_iter().map(Fleet::from).collect())
    }

    async fn fleet(&self, account_id: RowId, which: sea_orm::sea_query::Expr) -> Result<Option<Fleet>> {
        let query = fleets::Entity::find().filter(fleets::Column::AccountId.eq(account_id)).filter(which);
        Ok(query.one(&self.conn).await?.map(Fleet::from))
    }

    /// The group of a fleet with that name.
    pub async fn find_group(&self, fleet_id: RowId, name: &GroupName) -> Result<Option<RowId>> {
        let query = groups::Entity::find()
            .select_only()
            .column(groups::Column::Id)
            .filter(groups::Column::FleetId.eq(fleet_id))
            .filter(groups::Column::Name.eq(name.as_str()));
        Ok(query.into_tuple().one(&self.conn).await?)
    }

    /// Every group of a fleet, in the order they were made.
    pub async fn group_names(&self, fleet_id: RowId) -> Result<Vec<String>> {
        let query = groups::Entity::find()
            .select_only()
            .column(groups::Column::Name)
            .filter(groups::Column::FleetId.eq(fleet_id))
            .order_by_asc(groups::Column::Id);
        Ok(query.into_tuple().all(&self.conn).await?)
    }
}

impl Tx {
    /// Makes a fleet with its first groups. The key and the name must be free.
    pub async fn insert_fleet(&self, account_id: RowId, key: &ProjectKey, name: &FleetName) -> Result<Fleet> {
        let row = fleets::Model {
            id: self.next_id(),
            account_id,
            project_key: key.as_str().to_owned(),
            name: name.as_str().to_owned(),
            heartbeat_ms: i64::try_from(HEARTBEAT_DEFAULT.as_millis()).unwrap_or(i64::MAX),
            created_at: self.now().as_millis(),
        };
        fleets::Entity::insert(fleets::ActiveModel::from(row.clone())).exec_without_returning(&self.conn).await?;
        for group in NEW_FLEET_GROUPS {
            self.insert_group(row.id, &GroupName::parse(group)?).await?;
        }
        Ok(row.into())
    }

    /// Sets the time between two keepalives of a fleet's devices.
    pub async fn set_fleet_heartbeat(&self, fleet_id: RowId, heartbeat: Duration) -> Result<()> {
        let heartbeat_ms = i64::try_from(heartbeat.as_millis()).unwrap_or(i64::MAX);
        let change = fleets::ActiveModel { heartbeat_ms: Set(heartbeat_ms), ..Default::default() };
        fleets::Entity::update_many().set(change).filter(fleets::Column::Id.eq(fleet_id)).exec(&self.conn).await?;
        Ok(())
    }

    /// Makes a group. The name must be free in the fleet.
    pub async fn insert_group(&self, fleet_id: RowId, name: &GroupName) -> Result<RowId> {
        let row = groups::Model {
            id: self.next_id(),
            fleet_id,
            name: name.as_str().to_owned(),
            created_at: self.now().as_millis(),
        };
        let id = row.id;
        groups::Entity::insert(groups::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(id)
    }
}
