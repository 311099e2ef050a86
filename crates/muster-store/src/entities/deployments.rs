//! A flow sent to the devices that a filter matched.

use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "deployments")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub uuid: String,
    pub fleet_id: i64,
    pub flow_id: i64,
    pub kind: String,
    pub comment: String,
    pub app_id: Option<i64>,
    pub app_version: String,
    pub deleted_app: String,
    pub inputs: String,
    pub run_deadline_ms: i64,
    pub created_by: String,
    pub created_at: i64,
    pub pending_deadline_ms: i64,
    pub abort_deadline_ms: i64,
    pub request_key: String,
    pub request_hash: String,
}

/// Joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
