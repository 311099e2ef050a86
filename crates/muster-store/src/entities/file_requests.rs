//! A request for files of a device.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "file_requests")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub device_id: i64,
    pub repository_id: i64,
    pub path: String,
    pub files_path: String,
    pub status: i16,
    pub reason: String,
    pub dispatched_epoch: i64,
    pub created_at: i64,
    pub ends_at: i64,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
