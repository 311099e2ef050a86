//! Each query that serves a list, a filter, the engine or a login has an index,
//! and its plan shows that it uses it. Held against the very statements that the
//! store sends.

mod access;
mod deployments;
mod devices;
mod remote;

use std::sync::Arc;

use muster_core::ids::RowId;
use muster_store::testing::{Statements, TestDatabase, seed_app, seed_devices, seed_presence, seed_tag};
use muster_store::{ConnectionTrait, Result, Store, Tx};
use sea_orm::{DbBackend, Statement};

use crate::fixture::{House, write};

const DEVICES: usize = 3_000;
/// The devices with their place, since ids are no even numbers.
const PLACED: &str = r#"(SELECT *, ROW_NUMBER() OVER (ORDER BY "id") AS "n" FROM "devices") AS "placed""#;

/// A fleet large enough for plans to matter, in an account whose other fleet is as large.
struct Crowd {
    house: House,
    store: Store,
    statements: Statements,
    ids: Vec<RowId>,
    label: RowId,
}

impl Crowd {
    async fn on(db: TestDatabase) -> Self {
        let house = House::on(db).await;
        let ids = seed_devices(house.store(), &house.fleet, house.production, DEVICES).await.unwrap();
        let second = house.second_fleet().await;
        let group = house.store().read().find_group(second.id, &crate::fixture::group("Test")).await.unwrap().unwrap();
        let others = seed_devices(house.store(), &second, group, DEVICES).await.unwrap();
        for name in ["one", "two", "three"] {
            let (app_id, tag_id) = (house.app(name).await, house.tag(name, &[]).await);
            seed_app(house.store(), app_id, "1", &others).await.unwrap();
            seed_tag(house.store(), tag_id, &others).await.unwrap();
        }
        let label = house.tag("label", &[]).await;
        seed_tag(house.store(), label, &ids[..100]).await.unwrap();
        let common = house.tag("common", &[]).await;
        seed_tag(house.store(), common, &ids).await.unwrap();
        let web = house.app("web").await;
        seed_app(house.store(), web, "1", &ids[..2_900]).await.unwrap();
        seed_app(house.store(), web, "2", &ids[2_900..]).await.unwrap();
        house.db.clock().advance(std::time::Duration::from_secs(100));
        seed_presence(house.store(), house.fleet.heartbeat, &ids[..100]).await.unwrap();
        for _ in 0..3 {
            house.deploy(&house.everything()).await;
        }
        let (store, statements) = house.db.connect_recording().await;
        house.write(async |tx| Ok(tx.execute_unprepared("ANALYZE").await.map(drop)?)).await.unwrap();
        statements.take();
        Self { house, store, statements, ids, label }
    }

    /// The plans of every statement that `work` sends.
    async fn plans(&self, work: impl AsyncFn(Arc<Tx>) -> Result<()>) -> Vec<String> {
        self.statements.take();
        write(&self.store, work).await.unwrap();
        let mut plans = Vec::new();
        for statement in self.statements.take() {
            plans.push(explain(&self.house, statement).await);
        }
        plans
    }

    async fn assert_indexed(&self, what: &str, work: impl AsyncFn(Arc<Tx>) -> Result<()>) {
        let plans = self.plans(work).await;
        assert!(!plans.is_empty());
        for plan in plans {
            for table in BIG_TABLES {
                assert!(!is_walked(&plan, table), "{what} walks {table}:\n{plan}");
            }
        }
    }
}

const BIG_TABLES: [&str; 27] = [
    "access_grants",
    "access_grant_permissions",
    "access_grant_devices",
    "user_roles",
    "command_targets",
    "command_outputs",
    "artifacts",
    "artifact_folders",
    "blobs",
    "loose_objects",
    "file_requests",
    "resource_tags",
    "device_files",
    "devices",
    "device_tags",
    "device_apps",
    "device_presence",
    "targets",
    "tokens",
    "deleted_devices",
    "deleted_device_tokens",
    "audit_events",
    "app_parameters",
    "app_records",
    "port_tunnels",
    "remote_sessions",
    "terminals",
];

/// PostgreSQL may choose to walk a table that is small or of which most is asked
/// for; forbidden to, it must find an index.
async fn explain(house: &House, statement: Statement) -> String {
    let plan = house.write(async |tx| {
        let backend = tx.get_database_backend();
        let (before, word) = match backend {
            DbBackend::Sqlite => ("SELECT 1", "EXPLAIN QUERY PLAN"),
            _ => ("SET LOCAL enable_seqscan = off", "EXPLAIN"),
        };
        tx.execute_unprepared(before).await?;
        let explained = Statement { sql: format!("{word} {}", statement.sql), ..statement.clone() };
        let column = if backend == DbBackend::Sqlite { "detail" } else { "QUERY PLAN" };
        let rows = tx.query_all_raw(explained).await?;
        let lines: Vec<String> = rows.iter().map(|row| row.try_get("", column)).collect::<Result<_, _>>()?;
        Ok(format!("{}\n{}", statement.sql, lines.join("\n")))
    });
    plan.await.unwrap()
}

fn is_walked(plan: &str, table: &str) -> bool {
    let is_walk = |line: &str| match line.trim().strip_prefix("SCAN ") {
        Some(rest) => rest.split_whitespace().next() == Some(table) && !PARTIAL.iter().any(|name| rest.ends_with(name)),
        None => line.split_once("Seq Scan on ").is_some_and(|(_, rest)| rest.split_whitespace().next() == Some(table)),
    };
    plan.lines().any(is_walk)
}

/// Indexes over what is open: to walk one is to look at what has to be done.
const PARTIAL: [&str; 5] = [
    "INDEX targets_open",
    "INDEX targets_deadline",
    "INDEX port_tunnels_open",
    "INDEX blobs_unreferenced",
    "INDEX file_requests_pending",
];
