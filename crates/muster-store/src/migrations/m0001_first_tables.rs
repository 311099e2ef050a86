//! The first tables: accounts, fleets, devices, tags, apps, tokens, flows,
//! deployments, audit events.
//!
//! Ids and moments are whole numbers made by the program. What is filtered by is
//! NOT NULL, since a NULL is neither equal nor unequal to anything: "never" is 0
//! and "for ever" is the largest number.

use sea_orm_migration::prelude::*;

use super::columns::{
    cascade, flag, id, index, moment, optional, reference, restrict, table, text, to_account, unique,
};
use crate::entities::{
    accounts, app_versions, apps, audit_events, deployments, device_apps, device_presence, device_tags, devices,
    fleets, flow_sources, flows, groups, role_permissions, roles, steps, tags, targets, tokens, user_roles, users,
};

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
        for index in partial_indexes() {
            manager.get_connection().execute_unprepared(index).await?;
        }
        Ok(())
    }
}

fn tables() -> Vec<TableCreateStatement> {
    [people(), fleets_and_devices(), labels(), updates()].concat()
}

fn people() -> Vec<TableCreateStatement> {
    use users::Column as U;
    vec![
        table(accounts::Entity)
            .col(id(accounts::Column::Id))
            .col(text(accounts::Column::Name))
            .col(moment(accounts::Column::CreatedAt))
            .take(),
        table(users::Entity)
            .col(id(U::Id))
            .col(reference(U::AccountId))
            .col(text(U::Name))
            .col(text(U::PasswordHash))
            .col(flag(U::IsAdmin))
            .col(moment(U::CreatedAt))
            .foreign_key(&mut to_account(users::Entity, U::AccountId))
            .take(),
        table(roles::Entity)
            .col(id(roles::Column::Id))
            .col(reference(roles::Column::AccountId))
            .col(text(roles::Column::Name))
            .col(moment(roles::Column::CreatedAt))
            .foreign_key(&mut to_account(roles::Entity, roles::Column::AccountId))
            .take(),
        table(role_permissions::Entity)
            .col(reference(role_permissions::Column::RoleId))
            .col(text(role_permissions::Column::Permission))
            .primary_key(
                Index::create().col(role_permissions::Column::RoleId).col(role_permissions::Column::Permission),
            )
            .foreign_key(&mut cascade(
                (role_permissions::Entity, role_permissions::Column::RoleId),
                (roles::Entity, roles::Column::Id),
            ))
            .take(),
        table(audit_events::Entity)
            .col(id(audit_events::Column::Id))
            .col(reference(audit_events::Column::AccountId))
            .col(optional(audit_events::Column::FleetId))
            .col(moment(audit_events::Column::At))
            .col(text(audit_events::Column::Actor))
            .col(text(audit_events::Column::Action))
            .col(text(audit_events::Column::Subject))
            .col(text(audit_events::Column::SourceIp))
            .col(text(audit_events::Column::Detail))
            .foreign_key(&mut to_account(audit_events::Entity, audit_events::Column::AccountId))
            .take(),
    ]
}

fn fleets_and_devices() -> Vec<TableCreateStatement> {
    use device_presence::Column as P;
    use fleets::Column as F;
    use groups::Column as G;
    use tokens::Column as T;
    use user_roles::Column as R;
    vec![
        table(fleets::Entity)
            .col(id(F::Id))
            .col(reference(F::AccountId))
            .col(text(F::ProjectKey))
            .col(text(F::Name))
            .col(reference(F::HeartbeatMs))
            .col(moment(F::CreatedAt))
            .foreign_key(&mut to_account(fleets::Entity, F::AccountId))
            .take(),
        table(user_roles::Entity)
            .col(reference(R::UserId))
            .col(reference(R::FleetId))
            .col(reference(R::RoleId))
            .primary_key(Index::create().col(R::UserId).col(R::FleetId).col(R::RoleId))
            .foreign_key(&mut cascade((user_roles::Entity, R::UserId), (users::Entity, users::Column::Id)))
            .foreign_key(&mut cascade((user_roles::Entity, R::FleetId), (fleets::Entity, F::Id)))
            .foreign_key(&mut cascade((user_roles::Entity, R::RoleId), (roles::Entity, roles::Column::Id)))
            .take(),
        table(groups::Entity)
            .col(id(G::Id))
            .col(reference(G::FleetId))
            .col(text(G::Name))
            .col(moment(G::CreatedAt))
            .foreign_key(&mut cascade((groups::Entity, G::FleetId), (fleets::Entity, F::Id)))
            .take(),
        device_table(),
        table(device_presence::Entity)
            .col(id(P::DeviceId))
            .col(moment(P::LastKeepaliveAt))
            .col(moment(P::OnlineUntilAt))
            .col(text(P::DeviceIp))
            .col(ColumnDef::new(P::CpuPercent).double())
            .col(ColumnDef::new(P::RamPercent).double())
            .col(optional(P::DiskUsedBytes))
            .col(optional(P::DiskSizeBytes))
            .col(reference(P::LinkEpoch))
            .col(text(P::LinkServer))
            .foreign_key(&mut cascade((device_presence::Entity, P::DeviceId), (devices::Entity, devices::Column::Id)))
            .take(),
        table(tokens::Entity)
            .col(id(T::Id))
            .col(reference(T::AccountId))
            .col(text(T::Kind))
            .col(text(T::SecretHash))
            .col(optional(T::UserId))
            .col(optional(T::FleetId))
            .col(optional(T::DeviceId))
            .col(text(T::Description))
            .col(moment(T::CreatedAt))
            .col(moment(T::ExpiresAt))
            .col(moment(T::RevokedAt))
            .col(reference(T::Uses))
            .col(reference(T::UsesMax))
            .foreign_key(&mut to_account(tokens::Entity, T::AccountId))
            .foreign_key(&mut cascade((tokens::Entity, T::UserId), (users::Entity, users::Column::Id)))
            .foreign_key(&mut cascade((tokens::Entity, T::FleetId), (fleets::Entity, F::Id)))
            .foreign_key(&mut cascade((tokens::Entity, T::DeviceId), (devices::Entity, devices::Column::Id)))
            .take(),
    ]
}

fn device_table() -> TableCreateStatement {
    use devices::Column as D;
    table(devices::Entity)
        .col(id(D::Id))
        .col(text(D::Uuid))
        .col(reference(D::AccountId))
        .col(reference(D::FleetId))
        .col(reference(D::GroupId))
        .col(text(D::Name))
        .col(text(D::Description))
        .col(text(D::Address))
        .col(ColumnDef::new(D::Lat).double())
        .col(ColumnDef::new(D::Lng).double())
        .col(flag(D::IsUpdateTriggerSet))
        .col(text(D::PublicKey))
        .col(text(D::AgentVersion))
        .col(text(D::Hostname))
        .col(text(D::Os))
        .col(text(D::Arch))
        .col(text(D::IpAddresses))
        .col(text(D::MacAddresses))
        .col(moment(D::RegisteredAt))
        .foreign_key(&mut to_account(devices::Entity, D::AccountId))
        .foreign_key(&mut restrict((devices::Entity, D::FleetId), (fleets::Entity, fleets::Column::Id)))
        .foreign_key(&mut restrict((devices::Entity, D::GroupId), (groups::Entity, groups::Column::Id)))
        .take()
}

fn labels() -> Vec<TableCreateStatement> {
    let device = (devices::Entity, devices::Column::Id);
    let tag = (tags::Entity, tags::Column::Id);
    let app = (apps::Entity, apps::Column::Id);
    vec![
        table(tags::Entity)
            .col(id(tags::Column::Id))
            .col(reference(tags::Column::AccountId))
            .col(text(tags::Column::Key))
            .col(text(tags::Column::Value))
            .col(text(tags::Column::Name))
            .col(moment(tags::Column::CreatedAt))
            .foreign_key(&mut to_account(tags::Entity, tags::Column::AccountId))
            .take(),
        table(device_tags::Entity)
            .col(reference(device_tags::Column::DeviceId))
            .col(reference(device_tags::Column::TagId))
            .primary_key(Index::create().col(device_tags::Column::DeviceId).col(device_tags::Column::TagId))
            .foreign_key(&mut cascade((device_tags::Entity, device_tags::Column::DeviceId), device))
            .foreign_key(&mut cascade((device_tags::Entity, device_tags::Column::TagId), tag))
            .take(),
        table(apps::Entity)
            .col(id(apps::Column::Id))
            .col(reference(apps::Column::AccountId))
            .col(text(apps::Column::Name))
            .col(moment(apps::Column::CreatedAt))
            .foreign_key(&mut to_account(apps::Entity, apps::Column::AccountId))
            .take(),
        table(app_versions::Entity)
            .col(reference(app_versions::Column::AppId))
            .col(text(app_versions::Column::Version))
            .col(moment(app_versions::Column::CreatedAt))
            .primary_key(Index::create().col(app_versions::Column::AppId).col(app_versions::Column::Version))
            .foreign_key(&mut cascade((app_versions::Entity, app_versions::Column::AppId), app))
            .take(),
        table(device_apps::Entity)
            .col(reference(device_apps::Column::DeviceId))
            .col(reference(device_apps::Column::AppId))
            .col(text(device_apps::Column::Version))
            .col(moment(device_apps::Column::UpdatedAt))
            .primary_key(Index::create().col(device_apps::Column::DeviceId).col(device_apps::Column::AppId))
            .foreign_key(&mut cascade((device_apps::Entity, device_apps::Column::DeviceId), device))
            .foreign_key(&mut cascade((device_apps::Entity, device_apps::Column::AppId), app))
            .take(),
    ]
}

fn updates() -> Vec<TableCreateStatement> {
    use deployments::Column as D;
    use flows::Column as F;
    let fleet = (fleets::Entity, fleets::Column::Id);
    vec![
        table(flow_sources::Entity).col(id(flow_sources::Column::Id)).col(text(flow_sources::Column::Yaml)).take(),
        table(flows::Entity)
            .col(id(F::Id))
            .col(text(F::Uuid))
            .col(reference(F::FleetId))
            .col(reference(F::SourceId))
            .col(text(F::Name))
            .col(text(F::Definition))
            .col(moment(F::CreatedAt))
            .foreign_key(&mut cascade((flows::Entity, F::FleetId), fleet))
            .foreign_key(&mut restrict((flows::Entity, F::SourceId), (flow_sources::Entity, flow_sources::Column::Id)))
            .take(),
        table(deployments::Entity)
            .col(id(D::Id))
            .col(text(D::Uuid))
            .col(reference(D::FleetId))
            .col(reference(D::FlowId))
            .col(text(D::Kind))
            .col(text(D::Comment))
            .col(optional(D::AppId))
            .col(text(D::AppVersion))
            .col(text(D::Inputs))
            .col(reference(D::RunDeadlineMs))
            .col(text(D::CreatedBy))
            .col(moment(D::CreatedAt))
            .foreign_key(&mut cascade((deployments::Entity, D::FleetId), fleet))
            .foreign_key(&mut restrict((deployments::Entity, D::FlowId), (flows::Entity, F::Id)))
            .foreign_key(&mut restrict((deployments::Entity, D::AppId), (apps::Entity, apps::Column::Id)))
            .take(),
        target_table(),
        step_table(),
    ]
}

fn target_table() -> TableCreateStatement {
    use targets::Column as T;
    table(targets::Entity)
        .col(reference(T::DeploymentId))
        .col(reference(T::DeviceId))
        .col(ColumnDef::new(T::Attempt).integer().not_null())
        .col(ColumnDef::new(T::Status).small_integer().not_null())
        .col(text(T::ReasonCode))
        .col(text(T::Reason))
        .col(reference(T::DispatchedEpoch))
        .col(reference(T::AbortEpoch))
        .col(reference(T::ReportedSeq))
        .col(flag(T::IsAbortRequested))
        .col(flag(T::IsLatest))
        .col(moment(T::CreatedAt))
        .col(moment(T::StartedAt))
        .col(moment(T::FinishedAt))
        .col(moment(T::DeadlineAt))
        .primary_key(Index::create().col(T::DeploymentId).col(T::DeviceId))
        .foreign_key(&mut cascade((targets::Entity, T::DeploymentId), (deployments::Entity, deployments::Column::Id)))
        .foreign_key(&mut cascade((targets::Entity, T::DeviceId), (devices::Entity, devices::Column::Id)))
        .take()
}

fn step_table() -> TableCreateStatement {
    use steps::Column as S;
    use targets::Column as T;
    let target = ForeignKey::create()
        .from(steps::Entity, (S::DeploymentId, S::DeviceId))
        .to(targets::Entity, (T::DeploymentId, T::DeviceId))
        .on_delete(ForeignKeyAction::Cascade)
        .take();
    table(steps::Entity)
        .col(reference(S::DeploymentId))
        .col(reference(S::DeviceId))
        .col(ColumnDef::new(S::StepIndex).integer().not_null())
        .col(text(S::Name))
        .col(ColumnDef::new(S::ExitCode).integer())
        .col(text(S::Stdout))
        .col(text(S::Stderr))
        .col(moment(S::StartedAt))
        .col(moment(S::FinishedAt))
        .primary_key(Index::create().col(S::DeploymentId).col(S::DeviceId).col(S::StepIndex))
        .foreign_key(&mut target.clone())
        .take()
}

fn indexes() -> Vec<IndexCreateStatement> {
    vec![
        unique("accounts_name", accounts::Entity, [accounts::Column::Name]),
        unique("users_name", users::Entity, [users::Column::Name]),
        unique("roles_name", roles::Entity, [roles::Column::AccountId, roles::Column::Name]),
        unique("fleets_key", fleets::Entity, [fleets::Column::AccountId, fleets::Column::ProjectKey]),
        unique("fleets_name", fleets::Entity, [fleets::Column::AccountId, fleets::Column::Name]),
        unique("groups_name", groups::Entity, [groups::Column::FleetId, groups::Column::Name]),
        unique("devices_uuid", devices::Entity, [devices::Column::Uuid]),
        unique("devices_public_key", devices::Entity, [devices::Column::PublicKey]),
        // Pages of a fleet and of a group, and look-ups by name.
        index("devices_fleet", devices::Entity, [devices::Column::FleetId, devices::Column::Id]),
        index("devices_group", devices::Entity, [devices::Column::GroupId, devices::Column::Id]),
        index("devices_account", devices::Entity, [devices::Column::AccountId, devices::Column::Id]),
        index("devices_name", devices::Entity, [devices::Column::FleetId, devices::Column::Name, devices::Column::Id]),
        index("device_presence_online", device_presence::Entity, [device_presence::Column::OnlineUntilAt]),
        index("device_presence_server", device_presence::Entity, [device_presence::Column::LinkServer]),
        unique("tags_name", tags::Entity, [tags::Column::AccountId, tags::Column::Name]),
        unique("tags_pair", tags::Entity, [tags::Column::AccountId, tags::Column::Key, tags::Column::Value]),
        index("device_tags_tag", device_tags::Entity, [device_tags::Column::TagId, device_tags::Column::DeviceId]),
        unique("apps_name", apps::Entity, [apps::Column::AccountId, apps::Column::Name]),
        index(
            "device_apps_app",
            device_apps::Entity,
            [device_apps::Column::AppId, device_apps::Column::Version, device_apps::Column::DeviceId],
        ),
        unique("tokens_secret", tokens::Entity, [tokens::Column::SecretHash]),
        index("tokens_device", tokens::Entity, [tokens::Column::DeviceId]),
        index("tokens_account", tokens::Entity, [tokens::Column::AccountId, tokens::Column::Id]),
        unique("flows_uuid", flows::Entity, [flows::Column::Uuid]),
        index("flows_fleet", flows::Entity, [flows::Column::FleetId, flows::Column::Id]),
        unique("deployments_uuid", deployments::Entity, [deployments::Column::Uuid]),
        index("deployments_fleet", deployments::Entity, [deployments::Column::FleetId, deployments::Column::Id]),
        index("targets_device", targets::Entity, [targets::Column::DeviceId, targets::Column::DeploymentId]),
        index(
            "targets_status",
            targets::Entity,
            [targets::Column::DeploymentId, targets::Column::Status, targets::Column::DeviceId],
        ),
        index(
            "audit_events_account",
            audit_events::Entity,
            [audit_events::Column::AccountId, audit_events::Column::Id],
        ),
    ]
}

/// Indexes over a part of a table, in words that both engines share. A query uses
/// one only when it states the same condition, letter for letter.
fn partial_indexes() -> [&'static str; 4] {
    [
        // A device has one newest target. The index also answers the `update_status` filter.
        r#"CREATE UNIQUE INDEX "targets_latest" ON "targets" ("device_id") WHERE "is_latest""#,
        r#"CREATE INDEX "targets_latest_status" ON "targets" ("status", "device_id") WHERE "is_latest""#,
        // What the engine still has to bring to an end.
        r#"CREATE INDEX "targets_open" ON "targets" ("device_id", "deployment_id") WHERE "status" < 2"#,
        r#"CREATE INDEX "targets_deadline" ON "targets" ("deadline_at") WHERE "status" < 2"#,
    ]
}
