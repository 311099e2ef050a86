//! What is left of deleted devices, so that each can be told.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, id, index, moment, reference, table, text, unique};
use crate::entities::{accounts, deleted_device_tokens, deleted_devices};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in tables() {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

fn tables() -> Vec<TableCreateStatement> {
    use deleted_device_tokens::Column as T;
    use deleted_devices::Column as D;
    vec![
        table(deleted_devices::Entity)
            .col(id(D::Id))
            .col(text(D::Uuid))
            .col(reference(D::AccountId))
            // No foreign key: a device that was deleted with its fleet is told so, too.
            .col(reference(D::FleetId))
            .col(text(D::Name))
            .col(text(D::PublicKey))
            .col(text(D::Identifiers))
            .col(moment(D::DeletedAt))
            .foreign_key(&mut cascade(
                (deleted_devices::Entity, D::AccountId),
                (accounts::Entity, accounts::Column::Id),
            ))
            .take(),
        table(deleted_device_tokens::Entity)
            .col(ColumnDef::new(T::SecretHash).text().not_null().primary_key())
            .col(reference(T::DeviceId))
            .foreign_key(&mut cascade((deleted_device_tokens::Entity, T::DeviceId), (deleted_devices::Entity, D::Id)))
            .take(),
    ]
}

fn indexes() -> Vec<IndexCreateStatement> {
    use deleted_device_tokens::Column as T;
    use deleted_devices::Column as D;
    vec![
        unique("deleted_devices_uuid", deleted_devices::Entity, [D::Uuid]),
        index("deleted_devices_key", deleted_devices::Entity, [D::PublicKey]),
        index("deleted_devices_fleet", deleted_devices::Entity, [D::FleetId, D::Id]),
        index("deleted_devices_account", deleted_devices::Entity, [D::AccountId, D::Id]),
        index("deleted_device_tokens_device", deleted_device_tokens::Entity, [T::DeviceId]),
    ]
}
