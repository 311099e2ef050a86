//! What is over is forgotten some day: sessions and port tunnels, the oldest end first. And an
//! open session knows by which permission it stands.

use sea_orm_migration::prelude::*;

use crate::entities::remote_sessions;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Those that there are were opened by it.
        let permission = remote_sessions::Column::Permission;
        let mut permission = ColumnDef::new(permission).text().not_null().default("remote_access").take();
        let change = Table::alter().table(remote_sessions::Entity).add_column(&mut permission).take();
        manager.alter_table(change).await?;
        for statement in ENDED.iter().chain(&COUNTED) {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

/// Asked for every hour.
const ENDED: [&str; 2] = [
    r#"CREATE INDEX "remote_sessions_ended" ON "remote_sessions" ("finished_at") WHERE "is_open" = FALSE"#,
    r#"CREATE INDEX "port_tunnels_ended" ON "port_tunnels" ("finished_at") WHERE "status" >= 2"#,
];

/// A fleet's access grants, as they are counted for whoever sees some of them.
const COUNTED: [&str; 1] =
    [r#"CREATE INDEX "access_grants_seen" ON "access_grants" ("fleet_id", "user_id", "status", "ends_at")"#];
