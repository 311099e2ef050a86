//! A run of a remote command.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "command_runs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub uuid: String,
    pub fleet_id: i64,
    pub command_name: String,
    pub script: String,
    pub device_user: String,
    pub timeout_ms: i64,
    pub device_filter: String,
    pub device_count: i64,
    pub created_by: String,
    pub created_at: i64,
    pub expires_at: i64,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
