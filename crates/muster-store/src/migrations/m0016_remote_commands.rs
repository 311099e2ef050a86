//! Saved commands, runs of commands, and what they came to on each device.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, flag, id, index, moment, reference, table, text, unique};
use crate::entities::{command_outputs, command_runs, command_targets, devices, fleets, saved_commands};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [saved_table(), run_table(), target_table(), output_table()] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        for statement in OPEN {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

/// What is not final.
const OPEN: [&str; 2] = [
    r#"CREATE INDEX "command_targets_open" ON "command_targets" ("device_id", "run_id") WHERE "status" < 2"#,
    r#"CREATE INDEX "command_targets_deadline" ON "command_targets" ("deadline_at") WHERE "status" < 2"#,
];

const FLEET: (fleets::Entity, fleets::Column) = (fleets::Entity, fleets::Column::Id);
const DEVICE: (devices::Entity, devices::Column) = (devices::Entity, devices::Column::Id);
const RUN: (command_runs::Entity, command_runs::Column) = (command_runs::Entity, command_runs::Column::Id);

fn saved_table() -> TableCreateStatement {
    use saved_commands::Column as S;
    table(saved_commands::Entity)
        .col(id(S::Id))
        .col(reference(S::FleetId))
        .col(text(S::Name))
        .col(text(S::Description))
        .col(text(S::Script))
        .col(text(S::DeviceUser))
        .col(reference(S::TimeoutMs))
        .col(moment(S::CreatedAt))
        .col(moment(S::UpdatedAt))
        .foreign_key(&mut cascade((saved_commands::Entity, S::FleetId), FLEET))
        .take()
}

fn run_table() -> TableCreateStatement {
    use command_runs::Column as R;
    table(command_runs::Entity)
        .col(id(R::Id))
        .col(text(R::Uuid))
        .col(reference(R::FleetId))
        .col(text(R::CommandName))
        .col(text(R::Script))
        .col(text(R::DeviceUser))
        .col(reference(R::TimeoutMs))
        .col(text(R::DeviceFilter))
        .col(reference(R::DeviceCount))
        .col(text(R::CreatedBy))
        .col(moment(R::CreatedAt))
        .col(moment(R::ExpiresAt))
        .foreign_key(&mut cascade((command_runs::Entity, R::FleetId), FLEET))
        .take()
}

fn target_table() -> TableCreateStatement {
    use command_targets::Column as T;
    table(command_targets::Entity)
        .col(reference(T::RunId))
        .col(reference(T::DeviceId))
        .col(ColumnDef::new(T::Status).small_integer().not_null())
        .col(text(T::ReasonCode))
        .col(text(T::Reason))
        .col(reference(T::DispatchedEpoch))
        .col(reference(T::AbortEpoch))
        .col(flag(T::IsAbortRequested))
        .col(moment(T::StartedAt))
        .col(moment(T::FinishedAt))
        .col(moment(T::DeadlineAt))
        .col(ColumnDef::new(T::ExitCode).integer())
        .col(reference(T::DurationMs))
        .col(reference(T::OutputBytes))
        .col(flag(T::IsTruncated))
        .col(text(T::OutputHead))
        .col(text(T::OutputTail))
        .primary_key(Index::create().col(T::RunId).col(T::DeviceId))
        .foreign_key(&mut cascade((command_targets::Entity, T::RunId), RUN))
        .foreign_key(&mut cascade((command_targets::Entity, T::DeviceId), DEVICE))
        .take()
}

fn output_table() -> TableCreateStatement {
    use command_outputs::Column as O;
    table(command_outputs::Entity)
        .col(reference(O::RunId))
        .col(reference(O::DeviceId))
        .col(text(O::Output))
        .primary_key(Index::create().col(O::RunId).col(O::DeviceId))
        .foreign_key(&mut cascade((command_outputs::Entity, O::RunId), RUN))
        .foreign_key(&mut cascade((command_outputs::Entity, O::DeviceId), DEVICE))
        .take()
}

fn indexes() -> [IndexCreateStatement; 7] {
    use command_runs::Column as R;
    use command_targets::Column as T;
    use saved_commands::Column as S;
    [
        unique("saved_commands_name", saved_commands::Entity, [S::FleetId, S::Name]),
        index("saved_commands_fleet", saved_commands::Entity, [S::FleetId, S::Id]),
        unique("command_runs_uuid", command_runs::Entity, [R::Uuid]),
        index("command_runs_fleet", command_runs::Entity, [R::FleetId, R::Id]),
        index("command_targets_status", command_targets::Entity, [T::RunId, T::Status, T::DeviceId]),
        // What goes with a device.
        index("command_targets_device", command_targets::Entity, [T::DeviceId]),
        index("command_outputs_device", command_outputs::Entity, [command_outputs::Column::DeviceId]),
    ]
}
