//! One device in one deployment.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "targets")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub deployment_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i64,
    pub attempt: i32,
    pub status: i16,
    pub reason_code: String,
    pub reason: String,
    pub dispatched_epoch: i64,
    pub abort_epoch: i64,
    pub reported_seq: i64,
    pub is_abort_requested: bool,
    pub is_latest: bool,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub deadline_at: i64,
    pub wave: i32,
    pub is_released: bool,
    pub pending_until_at: i64,
    pub ask_again_at: i64,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
