//! The schema, as a list of migrations. Each runs in a transaction, on either
//! engine, and is never changed once it has been released.

use sea_orm_migration::prelude::*;

mod columns;
mod m0001_first_tables;
mod m0002_catalogues;
mod m0003_people;
mod m0004_device_deletion;
mod m0005_agent_api;
mod m0006_device_lists;
mod m0007_device_files;
mod m0008_access_keys;
mod m0009_resource_tags;
mod m0010_rollouts;
mod m0011_artifacts;
mod m0012_attempts;
mod m0013_storage;
mod m0014_degraded_devices;
mod m0015_tunnel_streams;
mod m0016_remote_commands;
mod m0017_access_grants;
mod m0018_remote_sessions;
mod m0019_terminals;
mod m0020_file_rules;
mod m0021_retention;

/// Brings a database from any released schema to this one.
pub(crate) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_first_tables::Migration),
            Box::new(m0002_catalogues::Migration),
            Box::new(m0003_people::Migration),
            Box::new(m0004_device_deletion::Migration),
            Box::new(m0005_agent_api::Migration),
            Box::new(m0006_device_lists::Migration),
            Box::new(m0007_device_files::Migration),
            Box::new(m0008_access_keys::Migration),
            Box::new(m0009_resource_tags::Migration),
            Box::new(m0010_rollouts::Migration),
            Box::new(m0011_artifacts::Migration),
            Box::new(m0012_attempts::Migration),
            Box::new(m0013_storage::Migration),
            Box::new(m0014_degraded_devices::Migration),
            Box::new(m0015_tunnel_streams::Migration),
            Box::new(m0016_remote_commands::Migration),
            Box::new(m0017_access_grants::Migration),
            Box::new(m0018_remote_sessions::Migration),
            Box::new(m0019_terminals::Migration),
            Box::new(m0020_file_rules::Migration),
            Box::new(m0021_retention::Migration),
        ]
    }
}
