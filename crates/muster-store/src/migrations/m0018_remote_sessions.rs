//! Sessions of people on devices.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, flag, id, index, moment, reference, table, text, unique};
use crate::entities::{devices, remote_sessions};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(session_table()).await?;
        for index in indexes() {
            manager.create_index(index).await?;
        }
        // What a server holds, and asks about twice a second.
        let held = r#"CREATE INDEX "remote_sessions_held" ON "remote_sessions" ("home") WHERE "is_open" = TRUE"#;
        manager.get_connection().execute_unprepared(held).await?;
        Ok(())
    }
}

fn session_table() -> TableCreateStatement {
    use remote_sessions::Column as S;
    let device = (devices::Entity, devices::Column::Id);
    table(remote_sessions::Entity)
        .col(id(S::Id))
        .col(text(S::Uuid))
        .col(reference(S::FleetId))
        .col(reference(S::DeviceId))
        .col(ColumnDef::new(S::Kind).small_integer().not_null())
        .col(text(S::Host))
        .col(text(S::Target))
        .col(text(S::CreatedBy))
        .col(text(S::SourceIp))
        .col(reference(S::TokenId))
        .col(text(S::Home))
        .col(flag(S::IsOpen))
        .col(text(S::ReasonCode))
        .col(text(S::Reason))
        .col(moment(S::CreatedAt))
        .col(moment(S::EndsAt))
        .col(moment(S::FinishedAt))
        .col(reference(S::BytesToDevice))
        .col(reference(S::BytesFromDevice))
        .foreign_key(&mut cascade((remote_sessions::Entity, S::DeviceId), device))
        .take()
}

fn indexes() -> [IndexCreateStatement; 3] {
    use remote_sessions::Column as S;
    [
        unique("remote_sessions_uuid", remote_sessions::Entity, [S::Uuid]),
        index("remote_sessions_fleet", remote_sessions::Entity, [S::FleetId, S::Id]),
        index("remote_sessions_device", remote_sessions::Entity, [S::DeviceId, S::Id]),
    ]
}
