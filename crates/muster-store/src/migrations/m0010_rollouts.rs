//! Rollouts, deadlines and gates: what decides when a device of a deployment begins,
//! and when it ends by itself.

use muster_core::limits::{ABORT_DEADLINE, PENDING_DEADLINE};
use sea_orm_migration::prelude::*;

use super::columns::{cascade, id, moment, reference, table, text};
use crate::entities::{deployments, devices, fleets, rollouts, targets};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        add(manager, deployments::Entity, deployment_columns()).await?;
        add(manager, targets::Entity, target_columns()).await?;
        add(manager, fleets::Entity, fleet_columns()).await?;
        add(manager, devices::Entity, [empty(devices::Column::TimeZone, "")]).await?;
        manager.create_table(rollout_table()).await?;
        let conn = manager.get_connection();
        for statement in STATEMENTS {
            conn.execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

const STATEMENTS: [&str; 5] = [
    r#"UPDATE "targets" SET "pending_until_at" = "deadline_at" WHERE "status" < 1"#,
    // What the planner counts.
    r#"CREATE INDEX "targets_wave" ON "targets" ("deployment_id", "wave", "status", "is_released", "device_id")"#,
    // What may not start yet, in the order in which it will.
    r#"CREATE INDEX "targets_held" ON "targets" ("deployment_id", "wave", "device_id") WHERE "status" < 2 AND NOT "is_released""#,
    r#"CREATE INDEX "fleets_windows" ON "fleets" ("id") WHERE "update_windows" <> '[]'"#,
    r#"CREATE INDEX "rollouts_open" ON "rollouts" ("deployment_id") WHERE "phase" < 3"#,
];

async fn add<const N: usize>(
    manager: &SchemaManager<'_>,
    table: impl IntoTableRef + Copy,
    columns: [ColumnDef; N],
) -> Result<(), DbErr> {
    for mut column in columns {
        manager.alter_table(Table::alter().table(table).add_column(&mut column).take()).await?;
    }
    Ok(())
}

fn number(column: impl IntoIden, default: i64) -> ColumnDef {
    ColumnDef::new(column).big_integer().not_null().default(default).take()
}

fn empty(column: impl IntoIden, default: &str) -> ColumnDef {
    ColumnDef::new(column).text().not_null().default(default).take()
}

fn millis(duration: std::time::Duration) -> i64 {
    duration.as_millis().try_into().unwrap_or(i64::MAX)
}

fn deployment_columns() -> [ColumnDef; 2] {
    use deployments::Column as D;
    [number(D::PendingDeadlineMs, millis(PENDING_DEADLINE)), number(D::AbortDeadlineMs, millis(ABORT_DEADLINE))]
}

/// Whatever was there before is in the first wave and may start.
fn target_columns() -> [ColumnDef; 4] {
    use targets::Column as T;
    [
        ColumnDef::new(T::Wave).integer().not_null().default(0).take(),
        ColumnDef::new(T::IsReleased).boolean().not_null().default(true).take(),
        number(T::PendingUntilAt, 0),
        number(T::AskAgainAt, 0),
    ]
}

/// 0 for the server's own deadline.
fn fleet_columns() -> [ColumnDef; 4] {
    use fleets::Column as F;
    [
        number(F::PendingDeadlineMs, 0),
        number(F::RunDeadlineMs, 0),
        number(F::AbortDeadlineMs, 0),
        empty(F::UpdateWindows, "[]"),
    ]
}

fn rollout_table() -> TableCreateStatement {
    use rollouts::Column as R;
    let deployment = (deployments::Entity, deployments::Column::Id);
    table(rollouts::Entity)
        .col(id(R::DeploymentId))
        .col(text(R::Policy))
        .col(ColumnDef::new(R::Phase).small_integer().not_null())
        .col(ColumnDef::new(R::Wave).integer().not_null())
        .col(moment(R::WaveBeganAt))
        .col(moment(R::NextWaveAt))
        .col(reference(R::FailuresForgiven))
        .col(text(R::FollowFilter))
        .col(moment(R::FollowedAt))
        .col(reference(R::Turn))
        .foreign_key(&mut cascade((rollouts::Entity, R::DeploymentId), deployment))
        .take()
}
