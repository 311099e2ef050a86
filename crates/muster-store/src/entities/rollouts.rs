//! How a deployment goes over its devices, and how far it has come.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "rollouts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub deployment_id: i64,
    pub policy: String,
    pub phase: i16,
    pub wave: i32,
    pub wave_began_at: i64,
    pub next_wave_at: i64,
    pub failures_forgiven: i64,
    pub follow_filter: String,
    pub followed_at: i64,
    pub turn: i64,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
