//! Device filters of a fleet that have a name.
//!
//! A saved filter is kept in the caller's words and looked up anew each time it is
//! used: what it names may have been renamed or deleted since.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::names::{FilterName, Text};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::Value;

use crate::db::{Db, Result, Tx};
use crate::entities::saved_filters;
use crate::error::StoreError;
use crate::page::cut;

/// A saved filter.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedFilter {
    /// The row.
    pub id: RowId,
    /// Its name.
    pub name: String,
    /// What a person says of it.
    pub description: String,
    /// The device filter in the words of the APIs.
    pub device_filter: Value,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last replaced.
    pub updated_at: Timestamp,
}

/// A filter to be saved.
#[derive(Clone, Debug)]
pub struct NewSavedFilter {
    /// Its name.
    pub name: FilterName,
    /// What a person says of it.
    pub description: Text,
    /// The device filter in the words of the APIs, which have been checked.
    pub device_filter: Value,
}

impl TryFrom<saved_filters::Model> for SavedFilter {
    type Error = StoreError;

    fn try_from(row: saved_filters::Model) -> Result<Self> {
        let corrupt =
            |error: serde_json::Error| StoreError::Corrupt { table: "saved_filters", problem: error.to_string() };
        Ok(Self {
            id: row.id,
            name: row.name,
            description: row.description,
            device_filter: serde_json::from_str(&row.device_filter).map_err(corrupt)?,
            created_at: Timestamp::from_millis(row.created_at),
            updated_at: Timestamp::from_millis(row.updated_at),
        })
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// The saved filter of a fleet with that name.
    pub async fn find_filter(&self, fleet_id: RowId, name: &FilterName) -> Result<Option<SavedFilter>> {
        let query = saved_filters::Entity::find()
            .filter(saved_filters::Column::FleetId.eq(fleet_id))
            .filter(saved_filters::Column::Name.eq(name.as_str()));
        query.one(&self.conn).await?.map(SavedFilter::try_from).transpose()
    }

    /// The next `limit` saved filters of a fleet behind the row `after`, oldest first, and whether there are more.
    pub async fn filters_page(
        &self,
        fleet_id: RowId,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<SavedFilter>, bool)> {
        let mut query = saved_filters::Entity::find()
            .filter(saved_filters::Column::FleetId.eq(fleet_id))
            .order_by_asc(saved_filters::Column::Id)
            .limit(limit + 1);
        if let Some(after) = after {
            query = query.filter(saved_filters::Column::Id.gt(after));
        }
        let (rows, is_more) = cut(query.all(&self.conn).await?, limit);
        Ok((rows.into_iter().map(SavedFilter::try_from).collect::<Result<_>>()?, is_more))
    }

    /// How many saved filters a fleet has.
    pub async fn filters_count(&self, fleet_id: RowId) -> Result<u64> {
        let query = saved_filters::Entity::find().filter(saved_filters::Column::FleetId.eq(fleet_id));
        Ok(query.count(&self.conn).await?)
    }
}

impl Tx {
    /// Saves a filter. The name must be free in the fleet.
    pub async fn insert_filter(&self, fleet_id: RowId, new: &NewSavedFilter) -> Result<SavedFilter> {
        let now = self.now().as_millis();
        let row = saved_filters::Model {
            id: self.next_id(),
            fleet_id,
            name: new.name.as_str().to_owned(),
            description: new.description.as_str().to_owned(),
            device_filter: new.device_filter.to_string(),
            created_at: now,
            updated_at: now,
        };
        let insert = saved_filters::Entity::insert(saved_filters::ActiveModel::from(row.clone()));
        insert.exec_without_returning(&self.conn).await?;
        row.try_into()
    }

    /// Replaces a saved filter. Another name must be free in the fleet.
    pub async fn replace_filter(&self, filter_id: RowId, new: &NewSavedFilter) -> Result<()> {
        let change = saved_filters::ActiveModel {
            name: Set(new.name.as_str().to_owned()),
            description: Set(new.description.as_str().to_owned()),
            device_filter: Set(new.device_filter.to_string()),
            updated_at: Set(self.now().as_millis()),
            ..Default::default()
        };
        let which = saved_filters::Column::Id.eq(filter_id);
        saved_filters::Entity::update_many().set(change).filter(which).exec(&self.conn).await?;
        Ok(())
    }

    /// Deletes a saved filter.
    pub async fn delete_filter(&self, filter_id: RowId) -> Result<()> {
        saved_filters::Entity::delete_by_id(filter_id).exec(&self.conn).await?;
        Ok(())
    }
}
