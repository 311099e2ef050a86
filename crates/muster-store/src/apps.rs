//! The account's apps, and which device has which version of them.

use muster_core::ids::RowId;
use muster_core::names::{AppName, Version};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect};

use crate::db::{Db, Result, Tx};
use crate::entities::{app_versions, apps, device_apps};
use crate::filter::Matching;

/// The app that every account has from the start.
pub const DEFAULT_APP: &str = "default_app";

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

    /// Says that a device has that version of an app.
    pub async fn set_device_app(&self, device_id: RowId, app_id: RowId, version: &str) -> Result<()> {
        let now = self.now().as_millis();
        let known = app_versions::Model { app_id, version: version.to_owned(), created_at: now };
        let skip =
            OnConflict::columns([app_versions::Column::AppId, app_versions::Column::Version]).do_nothing().to_owned();
        let insert = app_versions::Entity::insert(app_versions::ActiveModel::from(known)).on_conflict(skip);
        insert.exec_without_returning(&self.conn).await?;
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
