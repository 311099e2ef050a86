//! One permission that an access grant lets go.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "access_grant_permissions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub grant_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub permission: String,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
