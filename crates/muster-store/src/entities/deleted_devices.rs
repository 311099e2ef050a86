//! What is left of a device that was deleted: enough to tell it so.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "deleted_devices")]
pub struct Model {
    /// The row that the device had.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub uuid: String,
    pub account_id: i64,
    pub fleet_id: i64,
    pub name: String,
    pub public_key: String,
    pub identifiers: String,
    pub deleted_at: i64,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
