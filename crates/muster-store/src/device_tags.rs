//! Tags on devices.

use muster_core::ids::{DeviceUuid, RowId};
use muster_core::limits::RESOURCES_AT_ONCE_MAX;
use sea_orm::sea_query::{
    Alias, Expr, ExprTrait, OnConflict, Order, OverStatement, Query, SelectStatement, WindowStatement,
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect};

use crate::db::{Db, Result, Tx};
use crate::entities::{device_tags, devices, tags};
use crate::filter::Matching;
use crate::page::{cut, page};

/// Rows of one statement: below both engines' limit on bound values.
const ROWS_MAX: usize = RESOURCES_AT_ONCE_MAX;

/// A device, for whoever names it by its uuid.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct DeviceRef {
    /// The row.
    pub id: RowId,
    /// Its uuid.
    pub uuid: String,
    /// The fleet it is in.
    pub fleet_id: RowId,
}

/// Which of a tag's devices are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AmongDevices {
    /// Only of these fleets; `None` for all of the account.
    pub fleet_ids: Option<Vec<RowId>>,
    /// Only with these uuids; `None` for whichever.
    pub uuids: Option<Vec<String>>,
}

impl<C: ConnectionTrait> Db<C> {
    /// The names of each device's tags in the order of their making, at most
    /// `each_max` for a device, as pairs of device and name.
    pub async fn tags_of(&self, device_ids: &[RowId], each_max: usize) -> Result<Vec<(RowId, String)>> {
        if device_ids.is_empty() {
            return Ok(Vec::new());
        }
        let (ranked, place) = (Alias::new("ranked"), Alias::new("place"));
        let place_of = WindowStatement::new()
            .partition_by((device_tags::Entity, device_tags::Column::DeviceId))
            .order_by((device_tags::Entity, device_tags::Column::TagId), Order::Asc)
            .take();
        let inner = Query::select()
            .column((device_tags::Entity, device_tags::Column::DeviceId))
            .column((tags::Entity, tags::Column::Name))
            .expr_window_as(Expr::cust("ROW_NUMBER()"), place_of, place.clone())
            .from(device_tags::Entity)
            .inner_join(
                tags::Entity,
                Expr::col((tags::Entity, tags::Column::Id)).equals((device_tags::Entity, device_tags::Column::TagId)),
            )
            .and_where(
                Expr::col((device_tags::Entity, device_tags::Column::DeviceId)).is_in(device_ids.iter().copied()),
            )
            .take();
        let query = Query::select()
            .columns([Alias::new("device_id"), Alias::new("name")])
            .from_subquery(inner, ranked)
            .and_where(Expr::col(place.clone()).lte(i64::try_from(each_max).unwrap_or(i64::MAX)))
            .order_by(Alias::new("device_id"), Order::Asc)
            .order_by(place, Order::Asc)
            .take();
        let rows = self.conn.query_all(&query).await?;
        rows.iter().map(|row| Ok((row.try_get("", "device_id")?, row.try_get("", "name")?))).collect()
    }

    /// How many devices bear a tag.
    pub async fn tagged_count(&self, tag_id: RowId) -> Result<u64> {
        #[derive(FromQueryResult)]
        struct Counted {
            count: i64,
        }
        let row = device_tags::Entity::find()
            .select_only()
            .column_as(device_tags::Column::DeviceId.count(), "count")
            .filter(device_tags::Column::TagId.eq(tag_id))
            .into_model::<Counted>()
            .one(&self.conn)
            .await?;
        Ok(row.and_then(|row| row.count.try_into().ok()).unwrap_or(0))
    }

    /// The devices of an account with these uuids, in no order; a uuid that none has is left out.
    pub async fn device_refs(&self, account_id: RowId, uuids: &[DeviceUuid]) -> Result<Vec<DeviceRef>> {
        let mut found = Vec::with_capacity(uuids.len());
        for uuids in uuids.chunks(ROWS_MAX) {
            let query = devices::Entity::find()
                .select_only()
                .columns([devices::Column::Id, devices::Column::Uuid, devices::Column::FleetId])
                .filter(devices::Column::AccountId.eq(account_id))
                .filter(devices::Column::Uuid.is_in(uuids.iter().map(DeviceUuid::as_str)));
            found.extend(query.into_model::<DeviceRef>().all(&self.conn).await?);
        }
        Ok(found)
    }

    /// The next `limit` devices with a tag behind the row `after`, oldest first, and whether there are more.
    pub async fn tagged_devices_page(
        &self,
        tag_id: RowId,
        among: &AmongDevices,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<DeviceRef>, bool)> {
        let query = page(tagged(tag_id, among), (device_tags::Entity, device_tags::Column::DeviceId), after, limit);
        let (rows, is_more) = cut(self.conn.query_all(&query).await?, limit);
        let found = rows.iter().map(|row| Ok(DeviceRef::from_query_result(row, "")?));
        Ok((found.collect::<Result<_>>()?, is_more))
    }
}

fn tagged(tag_id: RowId, among: &AmongDevices) -> SelectStatement {
    use devices::Column as D;
    let (of, link) = (|column: D| (devices::Entity, column), |column| (device_tags::Entity, column));
    let mut query = Query::select()
        .columns([D::Id, D::Uuid, D::FleetId].map(of))
        .from(device_tags::Entity)
        .inner_join(devices::Entity, Expr::col(of(D::Id)).equals(link(device_tags::Column::DeviceId)))
        .and_where(Expr::col(link(device_tags::Column::TagId)).eq(tag_id))
        .take();
    if let Some(ids) = &among.fleet_ids {
        query.and_where(Expr::col(of(D::FleetId)).is_in(ids.iter().copied()));
    }
    if let Some(uuids) = &among.uuids {
        query.and_where(Expr::col(of(D::Uuid)).is_in(uuids));
    }
    query
}

impl Tx {
    /// Puts a tag on a device; nothing happens when it bears it already.
    pub async fn tag_device(&self, device_id: RowId, tag_id: RowId) -> Result<()> {
        let row = device_tags::ActiveModel::from(device_tags::Model { device_id, tag_id });
        let skip =
            OnConflict::columns([device_tags::Column::DeviceId, device_tags::Column::TagId]).do_nothing().to_owned();
        device_tags::Entity::insert(row).on_conflict(skip).exec_without_returning(&self.conn).await?;
        Ok(())
    }

    /// Takes a tag off one device.
    pub async fn untag_device(&self, device_id: RowId, tag_id: RowId) -> Result<()> {
        let pair = device_tags::Column::DeviceId.eq(device_id).and(device_tags::Column::TagId.eq(tag_id));
        device_tags::Entity::delete_many().filter(pair).exec(&self.conn).await?;
        Ok(())
    }

    /// Takes every tag off one device.
    pub async fn clear_device_tags(&self, device_id: RowId) -> Result<()> {
        device_tags::Entity::delete_many().filter(device_tags::Column::DeviceId.eq(device_id)).exec(&self.conn).await?;
        Ok(())
    }

    /// Takes a tag off every device that matches, in one statement, and says off how many.
    pub async fn untag_matching(&self, tag_id: RowId, matching: &Matching) -> Result<u64> {
        let delete = Query::delete()
            .from_table(device_tags::Entity)
            .and_where(Expr::col(device_tags::Column::TagId).eq(tag_id))
            .and_where(Expr::col(device_tags::Column::DeviceId).in_subquery(matching.ids()))
            .take();
        Ok(self.conn.execute(&delete).await?.rows_affected())
    }

    /// Puts tags on devices, as pairs of device and tag, and says how many were new. A
    /// statement for each thousand pairs.
    pub async fn tag_devices(&self, pairs: &[(RowId, RowId)]) -> Result<u64> {
        use device_tags::Column as T;
        let mut made = 0;
        for pairs in pairs.chunks(ROWS_MAX) {
            let rows = pairs.iter().map(|(device_id, tag_id)| [(*device_id).into(), (*tag_id).into()]);
            let mut insert = Query::insert().into_table(device_tags::Entity).columns([T::DeviceId, T::TagId]).take();
            for row in rows {
                insert.values_panic(row);
            }
            insert.on_conflict(OnConflict::columns([T::DeviceId, T::TagId]).do_nothing().to_owned());
            made += self.conn.execute(&insert).await?.rows_affected();
        }
        Ok(made)
    }

    /// Takes a tag off devices, and says off how many.
    pub async fn untag_devices(&self, tag_id: RowId, device_ids: &[RowId]) -> Result<u64> {
        self.untag_where(device_ids, Some(tag_id)).await
    }

    /// Takes every tag off devices, and says how many those were.
    pub async fn clear_tags_of_devices(&self, device_ids: &[RowId]) -> Result<u64> {
        self.untag_where(device_ids, None).await
    }

    async fn untag_where(&self, device_ids: &[RowId], tag_id: Option<RowId>) -> Result<u64> {
        let mut removed = 0;
        for ids in device_ids.chunks(ROWS_MAX) {
            let mut delete =
                device_tags::Entity::delete_many().filter(device_tags::Column::DeviceId.is_in(ids.iter().copied()));
            if let Some(tag_id) = tag_id {
                delete = delete.filter(device_tags::Column::TagId.eq(tag_id));
            }
            removed += delete.exec(&self.conn).await?.rows_affected;
        }
        Ok(removed)
    }
}
