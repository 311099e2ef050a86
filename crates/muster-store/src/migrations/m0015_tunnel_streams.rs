//! What flows through port tunnels: where they end, who may still use them, what they moved.

use sea_orm_migration::prelude::*;

use crate::entities::{fleets, port_tunnels};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for mut column in tunnel_columns() {
            manager.alter_table(Table::alter().table(port_tunnels::Entity).add_column(&mut column).take()).await?;
        }
        let mut allowed = ColumnDef::new(fleets::Column::TunnelsToNetwork).boolean().not_null().default(false).take();
        manager.alter_table(Table::alter().table(fleets::Entity).add_column(&mut allowed).take()).await?;
        // What a server holds, and asks about twice a second.
        let held = r#"CREATE INDEX "port_tunnels_held" ON "port_tunnels" ("home") WHERE "status" < 2"#;
        manager.get_connection().execute_unprepared(held).await?;
        Ok(())
    }
}

/// Tunnels that were made before had no listener: they belong to no server.
fn tunnel_columns() -> [ColumnDef; 6] {
    use port_tunnels::Column as T;
    let number = |column: T| ColumnDef::new(column).big_integer().not_null().default(0).take();
    let text = |column: T| ColumnDef::new(column).text().not_null().default("").take();
    [
        text(T::Host),
        text(T::Home),
        number(T::TokenId),
        number(T::Connections),
        number(T::BytesToDevice),
        number(T::BytesFromDevice),
    ]
}
