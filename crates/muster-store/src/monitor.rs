//! The data monitor: a fleet's names for values, and the newest values of each device.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::limits::MONITOR_RECORDS_MAX;
use muster_core::monitor::MonitorValue;
use muster_core::names::ParameterName;
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Func, Order, Query, WindowStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::db::{Db, Result, Tx};
use crate::entities::{app_parameters, app_records};
use crate::error::StoreError;

/// A name under which a fleet's devices may send values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppParameter {
    /// The row.
    pub id: RowId,
    /// The name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl From<app_parameters::Model> for AppParameter {
    fn from(row: app_parameters::Model) -> Self {
        Self { id: row.id, name: row.name, created_at: Timestamp::from_millis(row.created_at) }
    }
}

/// A value that a device sent.
#[derive(Clone, Debug, PartialEq)]
pub struct AppRecord {
    /// The parameter's name.
    pub name: String,
    /// The value, with its type.
    pub value: serde_json::Value,
    /// When it came.
    pub at: Timestamp,
}

impl<C: ConnectionTrait> Db<C> {
    /// The parameters of a fleet with these names; those that do not exist are missing.
    pub async fn find_app_parameters(&self, fleet_id: RowId, names: &[&str]) -> Result<Vec<AppParameter>> {
        let query = app_parameters::Entity::find()
            .filter(app_parameters::Column::FleetId.eq(fleet_id))
            .filter(app_parameters::Column::Name.is_in(names.iter().copied()));
        Ok(query.all(&self.conn).await?.into_iter().map(AppParameter::from).collect())
    }

    /// The next `limit` parameters of a fleet behind the row `after`, and whether there are more.
    pub async fn app_parameters_page(
        &self,
        fleet_id: RowId,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<AppParameter>, bool)> {
        let mut rows = app_parameters::Entity::find()
            .filter(app_parameters::Column::FleetId.eq(fleet_id))
            .filter(app_parameters::Column::Id.gt(after.unwrap_or(0)))
            .order_by_asc(app_parameters::Column::Id)
            .limit(limit + 1)
            .all(&self.conn)
            .await?;
        let is_more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((rows.into_iter().map(AppParameter::from).collect(), is_more))
    }

    /// How many parameters a fleet has.
    pub async fn app_parameters_count(&self, fleet_id: RowId) -> Result<u64> {
        let query = app_parameters::Entity::find().filter(app_parameters::Column::FleetId.eq(fleet_id));
        Ok(query.count(&self.conn).await?)
    }

    /// The newest values of a device, newest first, at most `limit`.
    pub async fn app_records(&self, device_id: RowId, limit: u64) -> Result<Vec<AppRecord>> {
        use app_records::Column as R;
        let of = |column: R| (app_records::Entity, column);
        let parameter = |column| Expr::col((app_parameters::Entity, column));
        let query = Query::select()
            .columns([R::Value, R::At].map(of))
            .column((app_parameters::Entity, app_parameters::Column::Name))
            .from(app_records::Entity)
            .inner_join(app_parameters::Entity, parameter(app_parameters::Column::Id).equals(of(R::ParameterId)))
            .and_where(Expr::col(of(R::DeviceId)).eq(device_id))
            .order_by(of(R::Id), Order::Desc)
            .limit(limit)
            .take();
        let rows = self.conn.query_all(&query).await?;
        let record = |row: &sea_orm::QueryResult| {
            let value: String = row.try_get("", "value")?;
            let corrupt =
                |error: serde_json::Error| StoreError::Corrupt { table: "app_records", problem: error.to_string() };
            Ok(AppRecord {
                name: row.try_get("", "name")?,
                value: serde_json::from_str(&value).map_err(corrupt)?,
                at: Timestamp::from_millis(row.try_get("", "at")?),
            })
        };
        rows.iter().map(record).collect()
    }
}

impl Tx {
    /// Makes a parameter. The name must be free in the fleet.
    pub async fn insert_app_parameter(&self, fleet_id: RowId, name: &ParameterName) -> Result<AppParameter> {
        let row = app_parameters::Model {
            id: self.next_id(),
            fleet_id,
            name: name.as_str().to_owned(),
            created_at: self.now().as_millis(),
        };
        app_parameters::Entity::insert(app_parameters::ActiveModel::from(row.clone()))
            .exec_without_returning(&self.conn)
            .await?;
        Ok(row.into())
    }

    /// Deletes a parameter with all its values.
    pub async fn delete_app_parameter(&self, id: RowId) -> Result<()> {
        app_parameters::Entity::delete_by_id(id).exec(&self.conn).await?;
        Ok(())
    }

    /// Stores values of a device, each with its parameter's row, and drops what is
    /// older than the newest [`MONITOR_RECORDS_MAX`] of a parameter. Two statements.
    pub async fn insert_app_records(&self, device_id: RowId, values: &[(RowId, &MonitorValue)]) -> Result<()> {
        let at = self.now().as_millis();
        let rows = values.iter().map(|(parameter_id, value)| {
            app_records::ActiveModel::from(app_records::Model {
                id: self.next_id(),
                device_id,
                parameter_id: *parameter_id,
                value: value.as_json().to_string(),
                at,
            })
        });
        app_records::Entity::insert_many(rows).exec_without_returning(&self.conn).await?;
        self.drop_old_records(device_id).await
    }

    async fn drop_old_records(&self, device_id: RowId) -> Result<()> {
        use app_records::Column as R;
        let by_parameter = WindowStatement::partition_by(R::ParameterId).order_by(R::Id, Order::Desc).take();
        let ranked = Query::select()
            .column(R::Id)
            .expr_window_as(Func::cust("ROW_NUMBER"), by_parameter, "place")
            .from(app_records::Entity)
            .and_where(Expr::col(R::DeviceId).eq(device_id))
            .take();
        let kept_max = i64::try_from(MONITOR_RECORDS_MAX).unwrap_or(i64::MAX);
        let old = Query::select()
            .column((Alias::new("ranked"), R::Id))
            .from_subquery(ranked, "ranked")
            .and_where(Expr::col(("ranked", "place")).gt(kept_max))
            .take();
        let delete =
            Query::delete().from_table(app_records::Entity).and_where(Expr::col(R::Id).in_subquery(old)).take();
        self.conn.execute(&delete).await?;
        Ok(())
    }
}
