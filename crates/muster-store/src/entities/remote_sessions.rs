//! What a person did on a device through the server: from when to when, and how much.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "remote_sessions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub uuid: String,
    pub fleet_id: i64,
    pub device_id: i64,
    pub kind: i16,
    pub host: String,
    pub target: String,
    pub created_by: String,
    pub source_ip: String,
    pub token_id: i64,
    pub home: String,
    pub is_open: bool,
    pub reason_code: String,
    pub reason: String,
    pub created_at: i64,
    pub ends_at: i64,
    pub finished_at: i64,
    pub bytes_to_device: i64,
    pub bytes_from_device: i64,
    /// The name of the permission by which it stands.
    pub permission: String,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
