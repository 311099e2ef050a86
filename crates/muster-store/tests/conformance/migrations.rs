//! The schema: made once, by one of many, the same on both engines.

use std::collections::BTreeMap;

use muster_core::clock::Clock;
use muster_store::testing::{Engine, START, TestDatabase};
use muster_store::{ConnectionTrait, Location, Store};
use rand::SeedableRng;
use rand::rngs::StdRng;
use sea_orm::{DbBackend, Statement};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_migrates_once_whoever_begins() {
    migrates_once_whoever_begins(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_migrates_once_whoever_begins() {
    migrates_once_whoever_begins(Engine::Postgres).await;
}

async fn migrates_once_whoever_begins(engine: Engine) {
    let (location, _folder) = TestDatabase::empty(engine).await;
    let stores = [connect(&location).await, connect(&location).await, connect(&location).await];
    let [one, two, three] = stores.each_ref().map(Store::migrate);
    let (one, two, three) = tokio::join!(one, two, three);
    for outcome in [one, two, three] {
        outcome.unwrap();
    }
    let before = schema(&stores[0]).await;
    stores[0].migrate().await.unwrap();
    assert_eq!(schema(&stores[0]).await, before);
    let applied = stores[1].migrations().await.unwrap();
    assert!(!applied.is_empty() && applied.iter().all(|(_, is_applied)| *is_applied), "{applied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_engines_have_the_same_schema() {
    let sqlite = schema(TestDatabase::sqlite().await.store()).await;
    let postgres = schema(TestDatabase::postgres().await.store()).await;
    assert!(sqlite.tables.len() > 20 && sqlite.indexes.len() > 25, "{sqlite:#?}");
    assert_eq!(sqlite.tables, postgres.tables);
    assert_eq!(sqlite.indexes, postgres.indexes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_migrations_are_told_before_they_are_applied() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let (location, _folder) = TestDatabase::empty(engine).await;
        let pending = connect(&location).await.migrations().await.unwrap();
        assert!(!pending.is_empty() && pending.iter().all(|(_, is_applied)| !is_applied), "{pending:?}");
    }
}

async fn connect(location: &Location) -> Store {
    Store::connect(location, Clock::manual(START), StdRng::seed_from_u64(3)).await.unwrap()
}

#[derive(Debug, PartialEq)]
struct Schema {
    /// Each table's columns with whether they may be NULL.
    tables: BTreeMap<String, BTreeMap<String, bool>>,
    /// Each named index with its table and whether it is unique.
    indexes: BTreeMap<String, (String, bool)>,
}

const SQLITE_COLUMNS: &str = r#"
    SELECT t.name AS "table", c.name AS "name", c."notnull" = 0 AND c.pk = 0 AS "nullable"
    FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'"#;
const SQLITE_INDEXES: &str = r#"
    SELECT t.name AS "table", i.name AS "name", i."unique" = 1 AS "is_unique"
    FROM sqlite_master t JOIN pragma_index_list(t.name) i WHERE t.type = 'table' AND i.origin = 'c'"#;
const POSTGRES_COLUMNS: &str = r#"
    SELECT table_name::text AS "table", column_name::text AS "name", is_nullable = 'YES' AS "nullable"
    FROM information_schema.columns WHERE table_schema = 'public'"#;
const POSTGRES_INDEXES: &str = r#"
    SELECT t.relname::text AS "table", i.relname::text AS "name", x.indisunique AS "is_unique"
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
    WHERE t.relnamespace = 'public'::regnamespace AND NOT x.indisprimary"#;

async fn schema(store: &Store) -> Schema {
    let read = store.read();
    let backend = read.get_database_backend();
    let (columns, indexes) = match backend {
        DbBackend::Sqlite => (SQLITE_COLUMNS, SQLITE_INDEXES),
        _ => (POSTGRES_COLUMNS, POSTGRES_INDEXES),
    };
    let mut schema = Schema { tables: BTreeMap::new(), indexes: BTreeMap::new() };
    for row in read.query_all_raw(Statement::from_string(backend, columns)).await.unwrap() {
        let table: String = row.try_get("", "table").unwrap();
        let (name, nullable) = (row.try_get("", "name").unwrap(), row.try_get("", "nullable").unwrap());
        schema.tables.entry(table).or_default().insert(name, nullable);
    }
    for row in read.query_all_raw(Statement::from_string(backend, indexes)).await.unwrap() {
        let place = (row.try_get("", "table").unwrap(), row.try_get("", "is_unique").unwrap());
        schema.indexes.insert(row.try_get("", "name").unwrap(), place);
    }
    schema
}
