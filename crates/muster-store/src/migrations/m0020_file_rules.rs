//! Which files of a fleet's devices people may reach.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, table, text};
use crate::entities::{file_rules, fleets};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use file_rules::Column as R;
        let fleet = (fleets::Entity, fleets::Column::Id);
        let rules = table(file_rules::Entity)
            .col(ColumnDef::new(R::FleetId).big_integer().not_null().primary_key())
            .col(text(R::Rules))
            .foreign_key(&mut cascade((file_rules::Entity, R::FleetId), fleet))
            .take();
        manager.create_table(rules).await
    }
}
