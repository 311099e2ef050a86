//! What a session has more that is a terminal: how it ended, and its recording.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, flag, id, moment, optional, table};
use crate::entities::{remote_sessions, terminals};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(terminal_table()).await?;
        // Which recordings are to be deleted, asked for every hour.
        let due = r#"CREATE INDEX "terminals_due" ON "terminals" ("delete_at") WHERE "is_kept" = TRUE"#;
        manager.get_connection().execute_unprepared(due).await?;
        Ok(())
    }
}

fn terminal_table() -> TableCreateStatement {
    use terminals::Column as T;
    let session = (remote_sessions::Entity, remote_sessions::Column::Id);
    table(terminals::Entity)
        .col(id(T::SessionId))
        .col(optional(T::ExitCode))
        .col(optional(T::ExitSignal))
        .col(flag(T::IsCutShort))
        .col(flag(T::IsKept))
        .col(moment(T::DeleteAt))
        .foreign_key(&mut cascade((terminals::Entity, T::SessionId), session))
        .take()
}
