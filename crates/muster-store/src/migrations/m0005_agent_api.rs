//! Devices without an agent, what agents can do, and what devices send beside
//! their keepalives: values of the data monitor. And port tunnels.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, id, index, moment, reference, table, text, unique};
use crate::entities::{app_parameters, app_records, devices, fleets, port_tunnels};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for mut column in device_columns() {
            manager.alter_table(Table::alter().table(devices::Entity).add_column(&mut column).take()).await?;
        }
        for table in tables() {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        // What still has to be ended by the clock.
        let open = r#"CREATE INDEX "port_tunnels_open" ON "port_tunnels" ("ends_at") WHERE "status" < 2"#;
        manager.get_connection().execute_unprepared(open).await?;
        Ok(())
    }
}

/// Every device that was enrolled before has an agent, which announced nothing.
fn device_columns() -> [ColumnDef; 3] {
    use devices::Column as D;
    [
        ColumnDef::new(D::HasAgent).boolean().not_null().default(true).take(),
        ColumnDef::new(D::Capabilities).text().not_null().default("[]").take(),
        ColumnDef::new(D::ToldHeartbeatMs).big_integer().not_null().default(0).take(),
    ]
}

fn tables() -> Vec<TableCreateStatement> {
    use app_parameters::Column as P;
    use app_records::Column as R;
    let (device, fleet) = ((devices::Entity, devices::Column::Id), (fleets::Entity, fleets::Column::Id));
    vec![
        table(app_parameters::Entity)
            .col(id(P::Id))
            .col(reference(P::FleetId))
            .col(text(P::Name))
            .col(moment(P::CreatedAt))
            .foreign_key(&mut cascade((app_parameters::Entity, P::FleetId), fleet))
            .take(),
        table(app_records::Entity)
            .col(id(R::Id))
            .col(reference(R::DeviceId))
            .col(reference(R::ParameterId))
            .col(text(R::Value))
            .col(moment(R::At))
            .foreign_key(&mut cascade((app_records::Entity, R::DeviceId), device))
            .foreign_key(&mut cascade((app_records::Entity, R::ParameterId), (app_parameters::Entity, P::Id)))
            .take(),
        tunnel_table(),
    ]
}

fn tunnel_table() -> TableCreateStatement {
    use port_tunnels::Column as T;
    table(port_tunnels::Entity)
        .col(id(T::Id))
        .col(text(T::Uuid))
        .col(reference(T::FleetId))
        .col(reference(T::DeviceId))
        .col(ColumnDef::new(T::Port).integer().not_null())
        .col(text(T::AllowedIp))
        .col(text(T::ServerAddress))
        .col(ColumnDef::new(T::ServerPort).integer().not_null())
        .col(ColumnDef::new(T::Status).small_integer().not_null())
        .col(text(T::ReasonCode))
        .col(text(T::Reason))
        .col(text(T::CreatedBy))
        .col(moment(T::CreatedAt))
        .col(moment(T::FinishedAt))
        .col(moment(T::EndsAt))
        .col(moment(T::ExpiresAt))
        .foreign_key(&mut cascade((port_tunnels::Entity, T::FleetId), (fleets::Entity, fleets::Column::Id)))
        .foreign_key(&mut cascade((port_tunnels::Entity, T::DeviceId), (devices::Entity, devices::Column::Id)))
        .take()
}

fn indexes() -> Vec<IndexCreateStatement> {
    use app_records::Column as R;
    use port_tunnels::Column as T;
    vec![
        unique(
            "app_parameters_name",
            app_parameters::Entity,
            [app_parameters::Column::FleetId, app_parameters::Column::Name],
        ),
        index("app_records_device", app_records::Entity, [R::DeviceId, R::Id]),
        index("app_records_parameter", app_records::Entity, [R::ParameterId, R::DeviceId, R::Id]),
        unique("port_tunnels_uuid", port_tunnels::Entity, [T::Uuid]),
        index("port_tunnels_fleet", port_tunnels::Entity, [T::FleetId, T::Id]),
        index("port_tunnels_device", port_tunnels::Entity, [T::DeviceId]),
    ]
}
