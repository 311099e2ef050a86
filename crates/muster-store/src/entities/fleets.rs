//! A fleet; "project" in the Connect API.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "fleets")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub account_id: i64,
    pub project_key: String,
    pub name: String,
    pub heartbeat_ms: i64,
    pub created_at: i64,
    pub pending_deadline_ms: i64,
    pub run_deadline_ms: i64,
    pub abort_deadline_ms: i64,
    pub update_windows: String,
    pub tunnels_to_network: bool,
    pub access_grant_max_ms: i64,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
