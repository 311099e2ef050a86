//! One device in one run of a remote command.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "command_targets")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i64,
    pub status: i16,
    pub reason_code: String,
    pub reason: String,
    pub dispatched_epoch: i64,
    pub abort_epoch: i64,
    pub is_abort_requested: bool,
    pub started_at: i64,
    pub finished_at: i64,
    pub deadline_at: i64,
    pub exit_code: Option<i32>,
    pub duration_ms: i64,
    pub output_bytes: i64,
    pub is_truncated: bool,
    pub output_head: String,
    pub output_tail: String,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
