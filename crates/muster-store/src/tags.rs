//! The account's catalogue of tags, and which device bears which.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::names::{Tag, TagName};
use sea_orm::sea_query::{
    Alias, Expr, ExprTrait, OnConflict, Order, OverStatement, Query, SelectStatement, WindowStatement,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, PaginatorTrait, QueryFilter,
    QuerySelect,
};

use crate::accounts::User;
use crate::db::{Db, Result, Tx};
use crate::entities::{device_tags, tags};
use crate::filter::Matching;
use crate::fleets::device_is_seen_by;
use crate::page::{count, cut, page};

/// A tag as the catalogue shows it to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagView {
    /// The row.
    pub id: RowId,
    /// Its name.
    pub name: String,
    /// The name's first half.
    pub key: String,
    /// The name's second half; may be empty.
    pub value: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many of the devices that the user sees bear it.
    pub device_count: u64,
}

#[derive(FromQueryResult)]
struct ViewRow {
    id: i64,
    name: String,
    key: String,
    value: String,
    created_at: i64,
    device_count: i64,
}

impl From<ViewRow> for TagView {
    fn from(row: ViewRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            key: row.key,
            value: row.value,
            created_at: Timestamp::from_millis(row.created_at),
            device_count: row.device_count.try_into().unwrap_or(0),
        }
    }
}

fn select_views(user: &User) -> SelectStatement {
    use tags::Column as T;
    let of = |column: T| (tags::Entity, column);
    let borne = Expr::col((device_tags::Entity, device_tags::Column::TagId)).equals(of(T::Id));
    let is_seen = device_is_seen_by(user, Expr::col((device_tags::Entity, device_tags::Column::DeviceId)));
    Query::select()
        .columns([T::Id, T::Name, T::Key, T::Value, T::CreatedAt].map(of))
        .expr_as(count(device_tags::Entity, borne.and(is_seen)), "device_count")
        .from(tags::Entity)
        .and_where(Expr::col(of(T::AccountId)).eq(user.account_id))
        .take()
}

impl<C: ConnectionTrait> Db<C> {
    /// The next `limit` tags of a user's account behind the row `after`, oldest first, and whether there are more.
    pub async fn tags_page(&self, user: &User, after: Option<RowId>, limit: u64) -> Result<(Vec<TagView>, bool)> {
        let query = page(select_views(user), (tags::Entity, tags::Column::Id), after, limit);
        let (rows, is_more) = cut(self.conn.query_all(&query).await?, limit);
        let views = rows.iter().map(|row| Ok(ViewRow::from_query_result(row, "")?.into()));
        Ok((views.collect::<Result<_>>()?, is_more))
    }

    /// How many tags an account has.
    pub async fn tags_count(&self, account_id: RowId) -> Result<u64> {
        Ok(tags::Entity::find().filter(tags::Column::AccountId.eq(account_id)).count(&self.conn).await?)
    }

    /// The tag of that name, as the catalogue shows it to a user.
    pub async fn tag_view(&self, user: &User, name: &TagName) -> Result<Option<TagView>> {
        let named = Expr::col((tags::Entity, tags::Column::Name)).eq(name.as_str());
        let row = self.conn.query_one(&select_views(user).and_where(named).take()).await?;
        row.map(|row| Ok(ViewRow::from_query_result(&row, "")?.into())).transpose()
    }

    /// The rows of the tags with these names, as pairs of name and row; a name that no
    /// tag has is left out.
    pub async fn find_tags(&self, account_id: RowId, names: &[TagName]) -> Result<Vec<(String, RowId)>> {
        let query = tags::Entity::find()
            .select_only()
            .columns([tags::Column::Name, tags::Column::Id])
            .filter(tags::Column::AccountId.eq(account_id))
            .filter(tags::Column::Name.is_in(names.iter().map(TagName::as_str)));
        Ok(query.into_tuple().all(&self.conn).await?)
    }

    /// The tag of that name.
    pub async fn find_tag(&self, account_id: RowId, name: &TagName) -> Result<Option<RowId>> {
        let query = tags::Entity::find()
            .select_only()
            .column(tags::Column::Id)
            .filter(tags::Column::AccountId.eq(account_id))
            .filter(tags::Column::Name.eq(name.as_str()));
        Ok(query.into_tuple().one(&self.conn).await?)
    }

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
}

impl Tx {
    /// The tag of that name, made if it is missing.
    pub async fn ensure_tag(&self, account_id: RowId, name: &TagName) -> Result<RowId> {
        if let Some(id) = self.find_tag(account_id, name).await? {
            return Ok(id);
        }
        let Tag { key, value } = Tag::from(name);
        let row = tags::Model {
            id: self.next_id(),
            account_id,
            key,
            value,
            name: name.as_str().to_owned(),
            created_at: self.now().as_millis(),
        };
        let id = row.id;
        tags::Entity::insert(tags::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(id)
    }

    /// Gives a tag another name, which must be free in the account. Devices keep it.
    pub async fn rename_tag(&self, tag_id: RowId, name: &TagName) -> Result<()> {
        let Tag { key, value } = Tag::from(name);
        let change = tags::ActiveModel {
            key: Set(key),
            value: Set(value),
            name: Set(name.as_str().to_owned()),
            ..Default::default()
        };
        tags::Entity::update_many().set(change).filter(tags::Column::Id.eq(tag_id)).exec(&self.conn).await?;
        Ok(())
    }

    /// Deletes a tag, and takes it off every device of the account in one statement; says off how many.
    pub async fn delete_tag(&self, tag_id: RowId) -> Result<u64> {
        let removed = device_tags::Entity::delete_many().filter(device_tags::Column::TagId.eq(tag_id));
        let removed = removed.exec(&self.conn).await?.rows_affected;
        tags::Entity::delete_by_id(tag_id).exec(&self.conn).await?;
        Ok(removed)
    }

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
}
