//! The account's apps, and which device has which version of them.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::names::{AppName, Version};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query, SelectStatement};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, JoinType, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
};

use crate::accounts::User;
use crate::db::{Db, Result, Tx};
use crate::entities::{app_versions, apps, deployments, device_apps};
use crate::filter::Matching;
use crate::fleets::device_is_seen_by;
use crate::page::{count, cut, page};

/// The app that every account has from the start.
pub const DEFAULT_APP: &str = "default_app";

/// An app as the catalogue shows it to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppView {
    /// The row.
    pub id: RowId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many of the devices that the user sees have it.
    pub device_count: u64,
    /// How many versions of it are known.
    pub version_count: u64,
}

/// A version of an app as the catalogue shows it to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionView {
    /// The version.
    pub version: String,
    /// When it became known.
    pub created_at: Timestamp,
    /// How many of the devices that the user sees have it.
    pub device_count: u64,
}

#[derive(FromQueryResult)]
struct AppRow {
    id: i64,
    name: String,
    created_at: i64,
    device_count: i64,
    version_count: i64,
}

impl From<AppRow> for AppView {
    fn from(row: AppRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            created_at: Timestamp::from_millis(row.created_at),
            device_count: row.device_count.try_into().unwrap_or(0),
            version_count: row.version_count.try_into().unwrap_or(0),
        }
    }
}

#[derive(FromQueryResult)]
struct VersionRow {
    version: String,
    created_at: i64,
    device_count: i64,
}

impl From<VersionRow> for VersionView {
    fn from(row: VersionRow) -> Self {
        Self {
            version: row.version,
            created_at: Timestamp::from_millis(row.created_at),
            device_count: row.device_count.try_into().unwrap_or(0),
        }
    }
}

fn select_apps(user: &User) -> SelectStatement {
    use apps::Column as A;
    let of = |column: A| (apps::Entity, column);
    let on_device = Expr::col((device_apps::Entity, device_apps::Column::AppId)).equals(of(A::Id));
    let versions = Expr::col((app_versions::Entity, app_versions::Column::AppId)).equals(of(A::Id));
    Query::select()
        .columns([A::Id, A::Name, A::CreatedAt].map(of))
        .expr_as(count(device_apps::Entity, on_device.and(app_device_is_seen_by(user))), "device_count")
        .expr_as(count(app_versions::Entity, versions), "version_count")
        .from(apps::Entity)
        .and_where(Expr::col(of(A::AccountId)).eq(user.account_id))
        .take()
}

fn select_versions(user: &User, app_id: RowId) -> SelectStatement {
    use app_versions::Column as V;
    let of = |column: V| (app_versions::Entity, column);
    let on_device = Expr::col((device_apps::Entity, device_apps::Column::AppId))
        .eq(app_id)
        .and(Expr::col((device_apps::Entity, device_apps::Column::Version)).equals(of(V::Version)));
    Query::select()
        .columns([V::Version, V::CreatedAt].map(of))
        .expr_as(count(device_apps::Entity, on_device.and(app_device_is_seen_by(user))), "device_count")
        .from(app_versions::Entity)
        .and_where(Expr::col(of(V::AppId)).eq(app_id))
        .take()
}

fn app_device_is_seen_by(user: &User) -> Expr {
    device_is_seen_by(user, Expr::col((device_apps::Entity, device_apps::Column::DeviceId)))
}

impl<C: ConnectionTrait> Db<C> {
    /// The app of that name.
    pub async fn find_app(&self, account_id: RowId, name: &AppName) -> Result<Option<RowId>> {
        let query = apps::Entity::find()
            .select_only()
            .column(apps::Column::Id)
            .filter(apps::Column::AccountId.eq(account_id))
            .filter(apps::Column::Name.eq(name.as_str()));
        Ok(query.into_tuple().one(&self.conn).await?)
    }

    /// The next `limit` apps of a user's account behind the row `after`, oldest first, and whether there are more.
    pub async fn apps_page(&self, user: &User, after: Option<RowId>, limit: u64) -> Result<(Vec<AppView>, bool)> {
        let query = page(select_apps(user), (apps::Entity, apps::Column::Id), after, limit);
        let (rows, is_more) = cut(self.conn.query_all(&query).await?, limit);
        let views = rows.iter().map(|row| Ok(AppRow::from_query_result(row, "")?.into()));
        Ok((views.collect::<Result<_>>()?, is_more))
    }

    /// How many apps an account has.
    pub async fn apps_count(&self, account_id: RowId) -> Result<u64> {
        Ok(apps::Entity::find().filter(apps::Column::AccountId.eq(account_id)).count(&self.conn).await?)
    }

    /// The app of that name, as the catalogue shows it to a user.
    pub async fn app_view(&self, user: &User, name: &AppName) -> Result<Option<AppView>> {
        let named = Expr::col((apps::Entity, apps::Column::Name)).eq(name.as_str());
        let row = self.conn.query_one(&select_apps(user).and_where(named).take()).await?;
        row.map(|row| Ok(AppRow::from_query_result(&row, "")?.into())).transpose()
    }

    /// The next `limit` versions of an app behind the version `after`, in the order of
    /// their text, and whether there are more.
    pub async fn app_versions_page(
        &self,
        user: &User,
        app_id: RowId,
        after: Option<&str>,
        limit: u64,
    ) -> Result<(Vec<VersionView>, bool)> {
        let query =
            page(select_versions(user, app_id), (app_versions::Entity, app_versions::Column::Version), after, limit);
        let (rows, is_more) = cut(self.conn.query_all(&query).await?, limit);
        let views = rows.iter().map(|row| Ok(VersionRow::from_query_result(row, "")?.into()));
        Ok((views.collect::<Result<_>>()?, is_more))
    }

    /// How many versions of an app are known.
    pub async fn app_versions_count(&self, app_id: RowId) -> Result<u64> {
        Ok(app_versions::Entity::find().filter(app_versions::Column::AppId.eq(app_id)).count(&self.conn).await?)
    }

    /// A version of an app, as the catalogue shows it to a user.
    pub async fn app_version_view(&self, user: &User, app_id: RowId, version: &Version) -> Result<Option<VersionView>> {
        let named = Expr::col((app_versions::Entity, app_versions::Column::Version)).eq(version.as_str());
        let row = self.conn.query_one(&select_versions(user, app_id).and_where(named).take()).await?;
        row.map(|row| Ok(VersionRow::from_query_result(&row, "")?.into())).transpose()
    }

    /// How many deployments set an app, to any version or to this one.
    pub async fn deployments_of_app(&self, app_id: RowId, version: Option<&Version>) -> Result<u64> {
        let mut query = deployments::Entity::find().filter(deployments::Column::AppId.eq(app_id));
        if let Some(version) = version {
            query = query.filter(deployments::Column::AppVersion.eq(version.as_str()));
        }
        Ok(query.count(&self.conn).await?)
    }

    /// Each device's apps with their versions: device, app, version.
    pub async fn apps_of(&self, device_ids: &[RowId]) -> Result<Vec<(RowId, String, String)>> {
        let query = device_apps::Entity::find()
            .select_only()
            .column(device_apps::Column::DeviceId)
            .column(apps::Column::Name)
            .column(device_apps::Column::Version)
            .join(JoinType::InnerJoin, device_to_app())
            .filter(device_apps::Column::DeviceId.is_in(device_ids.iter().copied()))
            .order_by_asc(device_apps::Column::DeviceId)
            .order_by_asc(device_apps::Column::AppId);
        Ok(query.into_tuple().all(&self.conn).await?)
    }
}

fn device_to_app() -> sea_orm::RelationDef {
    device_apps::Entity::belongs_to(apps::Entity).from(device_apps::Column::AppId).to(apps::Column::Id).into()
}

impl Tx {
    /// Makes an app. The name must be free in the account.
    pub async fn insert_app(&self, account_id: RowId, name: &AppName) -> Result<RowId> {
        let id = self.next_id();
        let created_at = self.now().as_millis();
        let row = apps::Model { id, account_id, name: name.as_str().to_owned(), created_at };
        apps::Entity::insert(apps::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(id)
    }

    /// Makes a version of an app known; nothing happens when it is.
    pub async fn ensure_app_version(&self, app_id: RowId, version: &str) -> Result<()> {
        let known = app_versions::Model { app_id, version: version.to_owned(), created_at: self.now().as_millis() };
        let skip =
            OnConflict::columns([app_versions::Column::AppId, app_versions::Column::Version]).do_nothing().to_owned();
        let insert = app_versions::Entity::insert(app_versions::ActiveModel::from(known)).on_conflict(skip);
        insert.exec_without_returning(&self.conn).await?;
        Ok(())
    }

    /// Gives an app another name, which must be free in the account.
    pub async fn rename_app(&self, app_id: RowId, name: &AppName) -> Result<()> {
        let change = apps::ActiveModel { name: Set(name.as_str().to_owned()), ..Default::default() };
        apps::Entity::update_many().set(change).filter(apps::Column::Id.eq(app_id)).exec(&self.conn).await?;
        Ok(())
    }

    /// Deletes an app with its versions, and takes it off every device, in a fixed number
    /// of statements; says off how many. Deployments that set it keep its name, and set
    /// nothing any more.
    pub async fn delete_app(&self, app_id: RowId, name: &str) -> Result<u64> {
        deployments::Entity::update_many()
            .set(deployments::ActiveModel {
                app_id: Set(None),
                deleted_app: Set(name.to_owned()),
                ..Default::default()
            })
            .filter(deployments::Column::AppId.eq(app_id))
            .exec(&self.conn)
            .await?;
        let removed = device_apps::Entity::delete_many().filter(device_apps::Column::AppId.eq(app_id));
        let removed = removed.exec(&self.conn).await?.rows_affected;
        apps::Entity::delete_by_id(app_id).exec(&self.conn).await?;
        Ok(removed)
    }

    /// Makes this transaction the only one of its moment that changes which versions
    /// devices have. It must be the first thing that a transaction does: PostgreSQL then
    /// lets it see all that the others did before. A device's version is no key of
    /// another table, so no constraint notices one that has just been deleted; and
    /// deletions are rare, while devices set versions all the time.
    pub async fn claim_app_versions(&self) -> Result<()> {
        if !self.is_sqlite() {
            self.conn.execute_unprepared(r#"LOCK TABLE "app_versions" IN SHARE ROW EXCLUSIVE MODE"#).await?;
        }
        Ok(())
    }

    /// Deletes a version of an app, and takes the app off every device that has it in that
    /// version, in two statements; says off how many. The versions must have been claimed.
    pub async fn delete_app_version(&self, app_id: RowId, version: &Version) -> Result<u64> {
        let removed = device_apps::Entity::delete_many()
            .filter(device_apps::Column::AppId.eq(app_id))
            .filter(device_apps::Column::Version.eq(version.as_str()));
        let removed = removed.exec(&self.conn).await?.rows_affected;
        app_versions::Entity::delete_by_id((app_id, version.as_str().to_owned())).exec(&self.conn).await?;
        Ok(removed)
    }

    /// Says that a device has that version of an app.
    pub async fn set_device_app(&self, device_id: RowId, app_id: RowId, version: &str) -> Result<()> {
        self.ensure_app_version(app_id, version).await?;
        let now = self.now().as_millis();
        let row = device_apps::Model { device_id, app_id, version: version.to_owned(), updated_at: now };
        let replace = OnConflict::columns([device_apps::Column::DeviceId, device_apps::Column::AppId])
            .update_columns([device_apps::Column::Version, device_apps::Column::UpdatedAt])
            .to_owned();
        let insert = device_apps::Entity::insert(device_apps::ActiveModel::from(row)).on_conflict(replace);
        insert.exec_without_returning(&self.conn).await?;
        Ok(())
    }

    /// The same with a version that a person gave.
    pub(crate) async fn set_app_version(&self, device_id: RowId, app_id: RowId, version: &Version) -> Result<()> {
        self.set_device_app(device_id, app_id, version.as_str()).await
    }

    /// Takes an app off one device.
    pub async fn remove_device_app(&self, device_id: RowId, app_id: RowId) -> Result<()> {
        let pair = device_apps::Column::DeviceId.eq(device_id).and(device_apps::Column::AppId.eq(app_id));
        device_apps::Entity::delete_many().filter(pair).exec(&self.conn).await?;
        Ok(())
    }

    /// Takes every app off one device.
    pub async fn clear_device_apps(&self, device_id: RowId) -> Result<()> {
        device_apps::Entity::delete_many().filter(device_apps::Column::DeviceId.eq(device_id)).exec(&self.conn).await?;
        Ok(())
    }

    /// Takes an app off every device that matches, in one statement, and says off how many.
    pub async fn remove_app_matching(&self, app_id: RowId, matching: &Matching) -> Result<u64> {
        let delete = Query::delete()
            .from_table(device_apps::Entity)
            .and_where(Expr::col(device_apps::Column::AppId).eq(app_id))
            .and_where(Expr::col(device_apps::Column::DeviceId).in_subquery(matching.ids()))
            .take();
        Ok(self.conn.execute(&delete).await?.rows_affected())
    }
}
