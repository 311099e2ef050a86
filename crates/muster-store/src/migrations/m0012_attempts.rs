//! Every attempt of a device at a deployment keeps what its steps said and how it ended;
//! a deployment that is asked for twice with one key is made once; and an index over the
//! devices that are at it, which a disruption budget counts.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

use super::columns::{moment, reference, table, text};
use crate::entities::{attempts, deployments, steps, targets};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let conn = manager.get_connection();
        match manager.get_database_backend() {
            // It cannot change the key of a table.
            DbBackend::Sqlite => {
                conn.execute_unprepared(r#"ALTER TABLE "steps" RENAME TO "old_steps""#).await?;
                manager.create_table(step_table()).await?;
                conn.execute_unprepared(COPY).await?;
                conn.execute_unprepared(r#"DROP TABLE "old_steps""#).await?;
            }
            _ => {
                for statement in REKEY {
                    conn.execute_unprepared(statement).await?;
                }
            }
        }
        manager.create_table(attempt_table()).await?;
        for column in [deployments::Column::RequestKey, deployments::Column::RequestHash] {
            let mut column = ColumnDef::new(column).text().not_null().default("").take();
            manager.alter_table(Table::alter().table(deployments::Entity).add_column(&mut column).take()).await?;
        }
        for index in INDEXES {
            conn.execute_unprepared(index).await?;
        }
        Ok(())
    }
}

/// What the steps of attempts before the present one said was not kept until now.
const COPY: &str = r#"
    INSERT INTO "steps" ("deployment_id", "device_id", "attempt", "step_index", "name", "exit_code", "stdout", "stderr", "started_at", "finished_at")
    SELECT s."deployment_id", s."device_id", t."attempt", s."step_index", s."name", s."exit_code", s."stdout", s."stderr", s."started_at", s."finished_at"
    FROM "old_steps" s JOIN "targets" t ON t."deployment_id" = s."deployment_id" AND t."device_id" = s."device_id""#;

const REKEY: [&str; 4] = [
    r#"ALTER TABLE "steps" ADD COLUMN "attempt" integer NOT NULL DEFAULT 1"#,
    r#"UPDATE "steps" SET "attempt" = "targets"."attempt" FROM "targets"
       WHERE "targets"."deployment_id" = "steps"."deployment_id" AND "targets"."device_id" = "steps"."device_id"
       AND "targets"."attempt" <> 1"#,
    r#"ALTER TABLE "steps" DROP CONSTRAINT "steps_pkey""#,
    r#"ALTER TABLE "steps" ADD PRIMARY KEY ("deployment_id", "device_id", "attempt", "step_index")"#,
];

const INDEXES: [&str; 2] = [
    r#"CREATE UNIQUE INDEX "deployments_request" ON "deployments" ("fleet_id", "request_key") WHERE "request_key" <> ''"#,
    // What has been told to begin and has not ended.
    r#"CREATE INDEX "targets_told" ON "targets" ("deployment_id", "device_id") WHERE "status" < 2 AND "dispatched_epoch" > 0"#,
];

fn to_target<T: IntoTableRef, C: IntoIden>(from: T, deployment: C, device: C) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .from(from, (deployment, device))
        .to(targets::Entity, (targets::Column::DeploymentId, targets::Column::DeviceId))
        .on_delete(ForeignKeyAction::Cascade)
        .take()
}

fn step_table() -> TableCreateStatement {
    use steps::Column as S;
    table(steps::Entity)
        .col(reference(S::DeploymentId))
        .col(reference(S::DeviceId))
        .col(ColumnDef::new(S::Attempt).integer().not_null())
        .col(ColumnDef::new(S::StepIndex).integer().not_null())
        .col(text(S::Name))
        .col(ColumnDef::new(S::ExitCode).integer())
        .col(text(S::Stdout))
        .col(text(S::Stderr))
        .col(moment(S::StartedAt))
        .col(moment(S::FinishedAt))
        .primary_key(Index::create().col(S::DeploymentId).col(S::DeviceId).col(S::Attempt).col(S::StepIndex))
        .foreign_key(&mut to_target(steps::Entity, S::DeploymentId, S::DeviceId))
        .take()
}

fn attempt_table() -> TableCreateStatement {
    use attempts::Column as A;
    table(attempts::Entity)
        .col(reference(A::DeploymentId))
        .col(reference(A::DeviceId))
        .col(ColumnDef::new(A::Attempt).integer().not_null())
        .col(ColumnDef::new(A::Status).small_integer().not_null())
        .col(text(A::ReasonCode))
        .col(text(A::Reason))
        .col(moment(A::StartedAt))
        .col(moment(A::FinishedAt))
        .primary_key(Index::create().col(A::DeploymentId).col(A::DeviceId).col(A::Attempt))
        .foreign_key(&mut to_target(attempts::Entity, A::DeploymentId, A::DeviceId))
        .take()
}
