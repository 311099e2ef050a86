//! What a user asked for, or was given, of what their role holds back.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "access_grants")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub uuid: String,
    pub fleet_id: i64,
    pub user_id: i64,
    pub is_for_fleet: bool,
    pub reason: String,
    pub duration_ms: i64,
    pub status: i16,
    pub created_at: i64,
    pub ends_at: i64,
    pub answered_at: i64,
    pub answered_by: String,
    pub comment: String,
    pub finished_at: i64,
    pub finished_by: String,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
