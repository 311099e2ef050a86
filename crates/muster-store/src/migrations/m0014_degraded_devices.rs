//! Why a device's agent says that it is degraded.

use sea_orm_migration::prelude::*;

use super::columns::text;
use crate::entities::devices;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut column = text(devices::Column::Degraded).default("[]").take();
        manager.alter_table(Table::alter().table(devices::Entity).add_column(&mut column).take()).await
    }
}
