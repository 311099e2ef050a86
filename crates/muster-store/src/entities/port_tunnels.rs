//! A way from the server to one port of a device, for one address and a limited time.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "port_tunnels")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub uuid: String,
    pub fleet_id: i64,
    pub device_id: i64,
    pub port: i32,
    pub allowed_ip: String,
    pub server_address: String,
    pub server_port: i32,
    pub status: i16,
    pub reason_code: String,
    pub reason: String,
    pub created_by: String,
    pub created_at: i64,
    pub finished_at: i64,
    pub ends_at: i64,
    pub expires_at: i64,
    pub host: String,
    pub home: String,
    pub token_id: i64,
    pub connections: i64,
    pub bytes_to_device: i64,
    pub bytes_from_device: i64,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
