//! Which files of a fleet's devices people may reach; no row where it has no rules of its own.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "file_rules")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub fleet_id: i64,
    pub rules: String,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
