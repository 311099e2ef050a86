//! What a device last said of itself, and which server holds its link.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "device_presence")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub device_id: i64,
    pub last_keepalive_at: i64,
    pub online_until_at: i64,
    pub device_ip: String,
    pub cpu_percent: Option<f64>,
    pub ram_percent: Option<f64>,
    pub disk_used_bytes: Option<i64>,
    pub disk_size_bytes: Option<i64>,
    pub link_epoch: i64,
    pub link_server: String,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
