//! The groups of a fleet: each of its devices is in one of them.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::names::GroupName;
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};

use crate::db::{Db, Result, Tx};
use crate::entities::{devices, groups};
use crate::page::{count, cut, page};

/// The groups that a new fleet has; a device that names none goes into the last.
pub const NEW_FLEET_GROUPS: [&str; 2] = ["Test", DEFAULT_GROUP];
/// Where a device goes that names no group.
pub const DEFAULT_GROUP: &str = "Production";

/// A group as the catalogue shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// The row.
    pub id: RowId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many devices are in it.
    pub device_count: u64,
}

#[derive(FromQueryResult)]
struct ViewRow {
    id: i64,
    name: String,
    created_at: i64,
    device_count: i64,
}

impl From<ViewRow> for GroupView {
    fn from(row: ViewRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            created_at: Timestamp::from_millis(row.created_at),
            device_count: row.device_count.try_into().unwrap_or(0),
        }
    }
}

fn select_views(fleet_id: RowId) -> SelectStatement {
    use groups::Column as G;
    let of = |column: G| (groups::Entity, column);
    let devices = count(devices::Entity, Expr::col((devices::Entity, devices::Column::GroupId)).equals(of(G::Id)));
    Query::select()
        .columns([G::Id, G::Name, G::CreatedAt].map(of))
        .expr_as(devices, "device_count")
        .from(groups::Entity)
        .and_where(Expr::col(of(G::FleetId)).eq(fleet_id))
        .take()
}

impl<C: ConnectionTrait> Db<C> {
    /// The group of a fleet with that name.
    pub async fn find_group(&self, fleet_id: RowId, name: &GroupName) -> Result<Option<RowId>> {
        let query = groups::Entity::find()
            .select_only()
            .column(groups::Column::Id)
            .filter(groups::Column::FleetId.eq(fleet_id))
            .filter(groups::Column::Name.eq(name.as_str()));
        Ok(query.into_tuple().one(&self.conn).await?)
    }

    /// The group of a device that names none: the default one, or, where that has been
    /// renamed or deleted, the oldest of the fleet.
    pub async fn default_group(&self, fleet_id: RowId) -> Result<Option<RowId>> {
        let of_fleet = || groups::Entity::find().filter(groups::Column::FleetId.eq(fleet_id));
        let default = of_fleet().filter(groups::Column::Name.eq(DEFAULT_GROUP)).one(&self.conn).await?;
        let group = match default {
            Some(group) => Some(group),
            None => of_fleet().order_by_asc(groups::Column::Id).one(&self.conn).await?,
        };
        Ok(group.map(|group| group.id))
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

    /// The next `limit` groups of a fleet behind the row `after`, oldest first, and whether there are more.
    pub async fn groups_page(
        &self,
        fleet_id: RowId,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<GroupView>, bool)> {
        let query = page(select_views(fleet_id), (groups::Entity, groups::Column::Id), after, limit);
        let (rows, is_more) = cut(self.conn.query_all(&query).await?, limit);
        let views = rows.iter().map(|row| Ok(ViewRow::from_query_result(row, "")?.into()));
        Ok((views.collect::<Result<_>>()?, is_more))
    }

    /// How many groups a fleet has.
    pub async fn groups_count(&self, fleet_id: RowId) -> Result<u64> {
        Ok(groups::Entity::find().filter(groups::Column::FleetId.eq(fleet_id)).count(&self.conn).await?)
    }

    /// The group of a fleet with that name, as the catalogue shows it.
    pub async fn group_view(&self, fleet_id: RowId, name: &GroupName) -> Result<Option<GroupView>> {
        let named = Expr::col((groups::Entity, groups::Column::Name)).eq(name.as_str());
        let row = self.conn.query_one(&select_views(fleet_id).and_where(named).take()).await?;
        row.map(|row| Ok(ViewRow::from_query_result(&row, "")?.into())).transpose()
    }
}

impl Tx {
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

    /// Gives a group another name, which must be free in the fleet.
    pub async fn rename_group(&self, group_id: RowId, name: &GroupName) -> Result<()> {
        let change = groups::ActiveModel { name: Set(name.as_str().to_owned()), ..Default::default() };
        groups::Entity::update_many().set(change).filter(groups::Column::Id.eq(group_id)).exec(&self.conn).await?;
        Ok(())
    }

    /// Moves every device of a group into another of its fleet, in one statement, and says how many.
    pub async fn empty_group_into(&self, group_id: RowId, into_id: RowId) -> Result<u64> {
        let change = devices::ActiveModel { group_id: Set(into_id), ..Default::default() };
        let moved = devices::Entity::update_many().set(change).filter(devices::Column::GroupId.eq(group_id));
        Ok(moved.exec(&self.conn).await?.rows_affected)
    }

    /// Deletes a group that has no devices.
    pub async fn delete_group(&self, group_id: RowId) -> Result<()> {
        groups::Entity::delete_by_id(group_id).exec(&self.conn).await?;
        Ok(())
    }
}
