//! The account's catalogue of tags.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::limits::TAGS_AT_ONCE_MAX;
use muster_core::names::{Tag, TagName};
use sea_orm::sea_query::{
    CaseStatement, Expr, ExprTrait, IntoIden, IntoTableRef, OnConflict, Order, Query, SelectStatement,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, PaginatorTrait, QueryFilter,
    QuerySelect,
};

use crate::accounts::User;
use crate::db::{Db, Result, Tx};
use crate::entities::{device_tags, resource_tags, tags};
use crate::error::StoreError;
use crate::fleets::device_is_seen_by;
use crate::page::{count, cut, page};
use crate::resources;

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
    /// How many other resources bear it.
    pub resource_count: u64,
}

#[derive(FromQueryResult)]
struct ViewRow {
    id: i64,
    name: String,
    key: String,
    value: String,
    created_at: i64,
    device_count: i64,
    resource_count: i64,
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
            resource_count: row.resource_count.try_into().unwrap_or(0),
        }
    }
}

/// Which tags of an account are meant, by either half of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagFilter {
    /// The key; `None` for any.
    pub key: Option<String>,
    /// The value, which may be the empty one; `None` for any.
    pub value: Option<String>,
}

impl TagFilter {
    /// Every text that is asked for.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        [&self.key, &self.value].into_iter().flatten().map(String::as_str)
    }
}

/// A tag by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRow {
    /// The row.
    pub id: RowId,
    /// Its key and value.
    pub tag: Tag,
    /// Whether any device bears it.
    pub is_on_devices: bool,
    /// Whether any other resource bears it.
    pub is_on_resources: bool,
}

/// How many bore a tag that has left them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Borne {
    /// Devices.
    pub devices: u64,
    /// Other resources.
    pub resources: u64,
}

fn select_rows(account_id: RowId, filter: &TagFilter) -> SelectStatement {
    use tags::Column as T;
    let of = |column: T| (tags::Entity, column);
    let devices = Expr::col((device_tags::Entity, device_tags::Column::TagId)).equals(of(T::Id));
    let resources = Expr::col((resource_tags::Entity, resource_tags::Column::TagId)).equals(of(T::Id));
    let any = |query: &mut SelectStatement| flag(Expr::exists(query.expr(Expr::value(1)).take()));
    let mut query = Query::select()
        .columns([T::Id, T::Key, T::Value].map(of))
        .expr_as(any(Query::select().from(device_tags::Entity).and_where(devices)), "is_on_devices")
        .expr_as(any(Query::select().from(resource_tags::Entity).and_where(resources)), "is_on_resources")
        .from(tags::Entity)
        .and_where(Expr::col(of(T::AccountId)).eq(account_id))
        .take();
    if let Some(key) = &filter.key {
        query.and_where(Expr::col(of(T::Key)).eq(key));
    }
    if let Some(value) = &filter.value {
        query.and_where(Expr::col(of(T::Value)).eq(value));
    }
    query
}

/// True or false as a number, which both engines answer alike.
fn flag(expr: Expr) -> Expr {
    CaseStatement::new().case(expr, Expr::value(1_i64)).finally(Expr::value(0_i64)).into()
}

fn select_views(user: &User) -> SelectStatement {
    use tags::Column as T;
    let of = |column: T| (tags::Entity, column);
    let borne = Expr::col((device_tags::Entity, device_tags::Column::TagId)).equals(of(T::Id));
    let is_seen = device_is_seen_by(user, Expr::col((device_tags::Entity, device_tags::Column::DeviceId)));
    let on_resource = Expr::col((resource_tags::Entity, resource_tags::Column::TagId)).equals(of(T::Id));
    Query::select()
        .columns([T::Id, T::Name, T::Key, T::Value, T::CreatedAt].map(of))
        .expr_as(count(device_tags::Entity, borne.and(is_seen)), "device_count")
        .expr_as(count(resource_tags::Entity, on_resource), "resource_count")
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

    /// The tags with these names, as the catalogue shows them to a user, oldest first; a
    /// name that no tag has is left out.
    pub async fn tag_views(&self, user: &User, names: &[TagName]) -> Result<Vec<TagView>> {
        let named = Expr::col((tags::Entity, tags::Column::Name)).is_in(names.iter().map(TagName::as_str));
        let query = select_views(user).and_where(named).order_by((tags::Entity, tags::Column::Id), Order::Asc).take();
        let rows = self.conn.query_all(&query).await?;
        rows.iter().map(|row| Ok(ViewRow::from_query_result(row, "")?.into())).collect()
    }

    /// The next `limit` tags of an account that match, behind the row `after`, oldest
    /// first, and whether there are more.
    pub async fn tag_rows_page(
        &self,
        account_id: RowId,
        filter: &TagFilter,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<TagRow>, bool)> {
        let query = page(select_rows(account_id, filter), (tags::Entity, tags::Column::Id), after, limit);
        let (rows, is_more) = cut(self.conn.query_all(&query).await?, limit);
        let found = rows.iter().map(|row| {
            Ok(TagRow {
                id: row.try_get("", "id")?,
                tag: Tag { key: row.try_get("", "key")?, value: row.try_get("", "value")? },
                is_on_devices: row.try_get::<i64>("", "is_on_devices")? != 0,
                is_on_resources: row.try_get::<i64>("", "is_on_resources")? != 0,
            })
        });
        Ok((found.collect::<Result<_>>()?, is_more))
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
}

impl Tx {
    /// The tag of that name, made if it is missing.
    pub async fn ensure_tag(&self, account_id: RowId, name: &TagName) -> Result<RowId> {
        if let Some(id) = self.find_tag(account_id, name).await? {
            return Ok(id);
        }
        let row = self.new_tag(account_id, name);
        let id = row.id;
        tags::Entity::insert(tags::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(id)
    }

    /// Makes tags whose names are free and differ, in that order, and answers with their rows.
    pub async fn insert_tags(&self, account_id: RowId, names: &[TagName]) -> Result<Vec<RowId>> {
        let rows: Vec<tags::Model> = names.iter().map(|name| self.new_tag(account_id, name)).collect();
        let ids = rows.iter().map(|row| row.id).collect();
        for rows in rows.chunks(TAGS_AT_ONCE_MAX) {
            let rows = rows.iter().cloned().map(tags::ActiveModel::from);
            tags::Entity::insert_many(rows).exec_without_returning(&self.conn).await?;
        }
        Ok(ids)
    }

    fn new_tag(&self, account_id: RowId, name: &TagName) -> tags::Model {
        let Tag { key, value } = Tag::from(name);
        tags::Model {
            id: self.next_id(),
            account_id,
            key,
            value,
            name: name.as_str().to_owned(),
            created_at: self.now().as_millis(),
        }
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

    /// Deletes tags, and takes them off every device and resource of the account: three
    /// statements, however many those are. Says off how many they were taken.
    pub async fn delete_tags(&self, tag_ids: &[RowId]) -> Result<Borne> {
        let ids = || tag_ids.iter().copied();
        let devices = device_tags::Entity::delete_many().filter(device_tags::Column::TagId.is_in(ids()));
        let devices = devices.exec(&self.conn).await?.rows_affected;
        let resources = resource_tags::Entity::delete_many().filter(resource_tags::Column::TagId.is_in(ids()));
        let resources = resources.exec(&self.conn).await?.rows_affected;
        tags::Entity::delete_many().filter(tags::Column::Id.is_in(ids())).exec(&self.conn).await?;
        Ok(Borne { devices, resources })
    }

    /// Lets everything that bears the tag `from` bear the tag `into`, and deletes `from`:
    /// five statements, whatever bears it. Says how many had it.
    pub async fn merge_tags(&self, from: RowId, into: RowId) -> Result<Borne> {
        use device_tags::Column as D;
        use resource_tags::Column as R;
        let devices = Query::select()
            .column(D::DeviceId)
            .expr(Expr::value(into))
            .from(device_tags::Entity)
            .and_where(Expr::col(D::TagId).eq(from))
            .take();
        let skip = OnConflict::columns([D::DeviceId, D::TagId]).do_nothing().to_owned();
        self.copy(device_tags::Entity, vec![D::DeviceId, D::TagId], devices, skip).await?;
        let rest = [R::Id, R::AccountId, R::ServiceType, R::Region, R::ResourceId, R::ResourceUuid];
        let resources = Query::select()
            .expr(Expr::value(into))
            .columns(rest)
            .from(resource_tags::Entity)
            .and_where(Expr::col(R::TagId).eq(from))
            .take();
        let columns = std::iter::once(R::TagId).chain(rest).collect();
        self.copy(resource_tags::Entity, columns, resources, resources::skip_known()).await?;
        self.delete_tags(&[from]).await
    }

    async fn copy<T: IntoTableRef, C: IntoIden>(
        &self,
        table: T,
        columns: Vec<C>,
        rows: SelectStatement,
        skip: OnConflict,
    ) -> Result<()> {
        let insert = Query::insert()
            .into_table(table)
            .columns(columns)
            .select_from(rows)
            .map_err(|error| StoreError::Corrupt { table: "tags", problem: error.to_string() })?
            .on_conflict(skip)
            .take();
        self.conn.execute(&insert).await?;
        Ok(())
    }
}
