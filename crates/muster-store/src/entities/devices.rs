//! A device. What changes with every keepalive is in `device_presence`.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "devices")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub uuid: String,
    pub account_id: i64,
    pub fleet_id: i64,
    pub group_id: i64,
    pub name: String,
    pub description: String,
    pub address: String,
    pub lat: Option<f64>,
    pub lng: Option<f64>,
    pub is_update_trigger_set: bool,
    pub public_key: String,
    pub agent_version: String,
    pub hostname: String,
    pub os: String,
    pub arch: String,
    pub ip_addresses: String,
    pub mac_addresses: String,
    pub registered_at: i64,
    pub has_agent: bool,
    pub capabilities: String,
    pub told_heartbeat_ms: i64,
    pub time_zone: String,
    pub degraded: String,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
