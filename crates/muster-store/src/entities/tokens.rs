//! A secret that a caller bears, as its hash.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tokens")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub account_id: i64,
    pub kind: String,
    pub secret_hash: String,
    pub user_id: Option<i64>,
    pub fleet_id: Option<i64>,
    pub device_id: Option<i64>,
    pub description: String,
    pub created_at: i64,
    pub expires_at: i64,
    pub revoked_at: i64,
    pub uses: i64,
    pub uses_max: i64,
    pub uuid: String,
    pub is_login: bool,
    pub is_fleet_scoped: bool,
    pub scope_permissions: String,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
