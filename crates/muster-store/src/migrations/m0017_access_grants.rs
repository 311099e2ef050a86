//! What roles hold back, and the grants that let it go.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, flag, id, index, moment, reference, table, text, unique};
use crate::entities::{
    access_grant_devices, access_grant_permissions, access_grants, devices, fleets, role_permissions, users,
};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for change in new_columns() {
            manager.alter_table(change).await?;
        }
        for table in tables() {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        for statement in PARTIAL {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

/// The roles that there are hold nothing back. A grant may hold for eight hours.
fn new_columns() -> [TableAlterStatement; 2] {
    let needs_grant = role_permissions::Column::NeedsGrant;
    let mut needs_grant = ColumnDef::new(needs_grant).boolean().not_null().default(false).take();
    let life_max = fleets::Column::AccessGrantMaxMs;
    let mut life_max = ColumnDef::new(life_max).big_integer().not_null().default(28_800_000_i64).take();
    [
        Table::alter().table(role_permissions::Entity).add_column(&mut needs_grant).take(),
        Table::alter().table(fleets::Entity).add_column(&mut life_max).take(),
    ]
}

fn tables() -> [TableCreateStatement; 3] {
    use access_grant_devices::Column as D;
    use access_grant_permissions::Column as P;
    use access_grants::Column as G;
    let grant = (access_grants::Entity, G::Id);
    [
        table(access_grants::Entity)
            .col(id(G::Id))
            .col(text(G::Uuid))
            .col(reference(G::FleetId))
            .col(reference(G::UserId))
            .col(flag(G::IsForFleet))
            .col(text(G::Reason))
            .col(reference(G::DurationMs))
            .col(ColumnDef::new(G::Status).small_integer().not_null())
            .col(moment(G::CreatedAt))
            .col(moment(G::EndsAt))
            .col(moment(G::AnsweredAt))
            .col(text(G::AnsweredBy))
            .col(text(G::Comment))
            .col(moment(G::FinishedAt))
            .col(text(G::FinishedBy))
            .foreign_key(&mut cascade((access_grants::Entity, G::FleetId), (fleets::Entity, fleets::Column::Id)))
            .foreign_key(&mut cascade((access_grants::Entity, G::UserId), (users::Entity, users::Column::Id)))
            .take(),
        table(access_grant_permissions::Entity)
            .col(reference(P::GrantId))
            .col(text(P::Permission))
            .primary_key(Index::create().col(P::GrantId).col(P::Permission))
            .foreign_key(&mut cascade((access_grant_permissions::Entity, P::GrantId), grant))
            .take(),
        table(access_grant_devices::Entity)
            .col(reference(D::GrantId))
            .col(reference(D::DeviceId))
            .primary_key(Index::create().col(D::GrantId).col(D::DeviceId))
            .foreign_key(&mut cascade((access_grant_devices::Entity, D::GrantId), grant))
            .foreign_key(&mut cascade(
                (access_grant_devices::Entity, D::DeviceId),
                (devices::Entity, devices::Column::Id),
            ))
            .take(),
    ]
}

fn indexes() -> [IndexCreateStatement; 4] {
    use access_grants::Column as G;
    [
        unique("access_grants_uuid", access_grants::Entity, [G::Uuid]),
        index("access_grants_fleet", access_grants::Entity, [G::FleetId, G::Id]),
        index("access_grants_user", access_grants::Entity, [G::UserId, G::FleetId, G::Status]),
        index("access_grant_devices_device", access_grant_devices::Entity, [access_grant_devices::Column::DeviceId]),
    ]
}

/// What the clock ends, which is looked at every second.
const PARTIAL: [&str; 1] = [r#"CREATE INDEX "access_grants_due" ON "access_grants" ("ends_at") WHERE "status" < 2"#];
