//! Files that devices send.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, id, index, moment, reference, table, text, unique};
use crate::entities::{device_files, devices};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use device_files::Column as F;
        let files = table(device_files::Entity)
            .col(id(F::Id))
            .col(reference(F::DeviceId))
            .col(text(F::Name))
            .col(reference(F::Size))
            .col(moment(F::CreatedAt))
            .foreign_key(&mut cascade((device_files::Entity, F::DeviceId), (devices::Entity, devices::Column::Id)))
            .take();
        manager.create_table(files).await?;
        let by_name = unique("device_files_name", device_files::Entity, [F::DeviceId, F::Name]);
        manager.create_index(by_name).await?;
        manager.create_index(index("device_files_device", device_files::Entity, [F::DeviceId, F::Id])).await
    }
}
