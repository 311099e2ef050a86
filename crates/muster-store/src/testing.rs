//! A fresh database of either engine, for a test or a benchmark.
//!
//! Everything here panics where it cannot do its part: a test without its
//! database has failed.

mod cluster;
mod plain;
mod seed;
mod statements;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use muster_core::clock::{Clock, Timestamp};
use muster_core::ids::RowId;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sea_orm::ConnectionTrait;
use sea_orm::sea_query::{Order, Query};
use tempfile::TempDir;

pub use plain::PlainConnection;
pub use seed::{seed_app, seed_devices, seed_presence, seed_resources, seed_tag};
pub use statements::Statements;

use crate::db::{Db, Location, Result, Store};
use crate::entities::devices;
use crate::filter::{Matching, SetForm};

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file in a folder of its own.
    Sqlite,
    /// A database in a private cluster that all tests of the process share.
    Postgres,
    /// The same with a cluster whose commits reach the disk, for benchmarks.
    DurablePostgres,
}

/// When a test's manual clock starts: 2025-06-09T14:10:44Z.
pub const START: Timestamp = Timestamp::from_millis(1_749_478_244_000);

/// A database of one test, migrated, with a store on it.
pub struct TestDatabase {
    store: Store,
    location: Location,
    folder: TempDir,
}

impl TestDatabase {
    /// SQLite, with a clock that stands at [`START`].
    pub async fn sqlite() -> Self {
        Self::start(Engine::Sqlite, Clock::manual(START)).await
    }

    /// PostgreSQL, with a clock that stands at [`START`].
    pub async fn postgres() -> Self {
        Self::start(Engine::Postgres, Clock::manual(START)).await
    }

    /// A migrated database of that engine, whose rows bear the moments of `clock`.
    pub async fn start(engine: Engine, clock: Clock) -> Self {
        let folder = folder();
        let location = match engine {
            Engine::Sqlite => Location::new(folder.path(), None),
            Engine::Postgres => cluster::private().await.migrated_database().await,
            Engine::DurablePostgres => cluster::durable().await.migrated_database().await,
        };
        let store = connect(&location, clock, FIRST_SEED).await;
        store.migrate().await.expect("the schema cannot be made");
        Self { store, location, folder }
    }

    /// A database of that engine without a schema, for tests of the migrations. It
    /// lives as long as the folder.
    pub async fn empty(engine: Engine) -> (Location, TempDir) {
        let folder = folder();
        let location = match engine {
            Engine::Sqlite => Location::new(folder.path(), None),
            Engine::Postgres => cluster::private().await.empty_database().await,
            Engine::DurablePostgres => cluster::durable().await.empty_database().await,
        };
        (location, folder)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The clock of the store's rows.
    pub fn clock(&self) -> &Clock {
        self.store.clock()
    }

    /// A folder of the test's own, removed with it: the data folder of a server on this database.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the data is, for another store or another program.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Another store on the same database, as another server would have, by the same
    /// clock. While that stands still, two stores may well make the same row ids.
    pub async fn connect_again(&self) -> Store {
        static STORES: AtomicU64 = AtomicU64::new(FIRST_SEED + 1);
        let seed = STORES.fetch_add(1, Ordering::Relaxed);
        connect(&self.location, self.clock().clone(), seed).await
    }

    /// A store that remembers the statements that it sends, beside its first one.
    pub async fn connect_recording(&self) -> (Store, Statements) {
        statements::record(self.connect_again().await)
    }

    /// A bare connection of the same driver with the same settings, for SQL by hand.
    pub async fn connect_plain(&self) -> PlainConnection {
        PlainConnection::open(&self.location).await
    }
}

/// Of the store that each test begins with: its ids are the same in every run.
const FIRST_SEED: u64 = 1;

async fn connect(location: &Location, clock: Clock, seed: u64) -> Store {
    Store::connect(location, clock, StdRng::seed_from_u64(seed)).await.expect("the database cannot be reached")
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("muster-store").tempdir().expect("no folder for a database")
}

/// The rows of the matching devices, asked for by one of the two forms of a set:
/// `EXISTS (…)` or `IN (…)`. Both must answer the same on either engine.
pub async fn matching_ids<C: ConnectionTrait>(db: &Db<C>, matching: &Matching, exists: bool) -> Result<Vec<RowId>> {
    let form = if exists { SetForm::Exists } else { SetForm::In };
    let query = Query::select()
        .column((devices::Entity, devices::Column::Id))
        .from(devices::Entity)
        .cond_where(matching.condition(form))
        .order_by((devices::Entity, devices::Column::Id), Order::Asc)
        .take();
    let rows = db.conn.query_all(&query).await?;
    rows.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}
