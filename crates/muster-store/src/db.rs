//! Connections and transactions.
//!
//! [`Store`] is the handle that a program keeps. Reads go through [`Store::read`];
//! every change goes through [`Store::write`], which runs its work in one
//! transaction and repeats it when another transaction came in between.

use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_core::clock::{Clock, Timestamp};
use muster_core::ids::{RowId, RowIds};
use rand::rngs::StdRng;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, IsolationLevel,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;

use crate::error::StoreError;
use crate::migrations::Migrator;

/// What a store operation answers.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Where the data is. Its `Debug` hides the database's address, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// One SQLite file.
    Sqlite(std::path::PathBuf),
    /// A PostgreSQL database: `postgres://user:password@host/database`.
    Postgres(String),
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(file) => f.debug_tuple("Sqlite").field(file).finish(),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
        }
    }
}

impl Location {
    /// The SQLite file of a data directory, or the database that `database_url` names.
    pub fn new(data: &Path, database_url: Option<&str>) -> Self {
        match database_url {
            Some(url) => Self::Postgres(url.to_owned()),
            None => Self::Sqlite(data.join("muster.db")),
        }
    }
}

/// Connections of one server to PostgreSQL that read, and as many that write. Two
/// pools, so that transactions that fill one and look something up outside of
/// themselves do not wait for each other.
const POSTGRES_CONNECTIONS_MAX: u32 = 10;
/// Connections that read a SQLite file, beside the one that writes.
const SQLITE_READERS_MAX: u32 = 4;
/// How long a request waits for a connection, and a SQLite writer for another process.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// How often a start waits for another server's migrations, and how long each time.
const MIGRATION_TRIES_MAX: u32 = 10;
const MIGRATION_PAUSE: Duration = Duration::from_millis(200);

const HANDLE_KEPT: &str = "the work of a transaction kept a handle to it, so it was not committed";

/// The database, its connections, and the clock and randomness of its rows.
#[derive(Clone)]
pub struct Store {
    reader: Arc<Db<DatabaseConnection>>,
    writer: DatabaseConnection,
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    clock: Clock,
    row_ids: RowIds,
    rng: Mutex<StdRng>,
}

impl Shared {
    fn with_rng<T>(&self, use_it: impl FnOnce(&mut StdRng) -> T) -> T {
        use_it(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store {
    /// Connects. The schema is left as it is: see [`Store::migrate`].
    pub async fn connect(location: &Location, clock: Clock, rng: StdRng) -> Result<Self> {
        let shared = Arc::new(Shared { clock, row_ids: RowIds::default(), rng: Mutex::new(rng) });
        let (reader, writer) = match location {
            Location::Sqlite(file) => {
                // The writer first: it makes the file.
                let writer = Database::connect(sqlite(file, 1, false)).await?;
                (Database::connect(sqlite(file, SQLITE_READERS_MAX, true)).await?, writer)
            }
            Location::Postgres(url) => {
                (Database::connect(postgres(url)).await?, Database::connect(postgres(url)).await?)
            }
        };
        let now = Timestamp::NEVER;
        Ok(Self { reader: Arc::new(Db { conn: reader, shared: shared.clone(), now }), writer, shared })
    }

    /// Brings the schema up to date. Several servers may do so at once.
    pub async fn migrate(&self) -> Result<()> {
        let mut tries = 1;
        loop {
            match self.try_migrate().await {
                Ok(()) => return Ok(()),
                Err(error) if tries >= MIGRATION_TRIES_MAX => return Err(error.into()),
                // Another server may be at it: then its commit makes this one's next try a no-op.
                Err(error) => {
                    tracing::debug!(%error, tries, "migration not done, trying again");
                    tokio::time::sleep(MIGRATION_PAUSE).await;
                    tries += 1;
                }
            }
        }
    }

    /// All or nothing on either engine: a server that is killed half-way leaves no half schema.
    async fn try_migrate(&self) -> Result<(), sea_orm::DbErr> {
        let tx = self.begin().await?;
        Migrator::up(&tx, None).await?;
        tx.commit().await
    }

    /// Every released migration with whether it has been applied, oldest first.
    pub async fn migrations(&self) -> Result<Vec<(String, bool)>> {
        let all = Migrator::get_migration_with_status(&self.writer).await?;
        Ok(all
            .iter()
            .map(|migration| {
                (migration.name().to_owned(), migration.status() == sea_orm_migration::MigrationStatus::Applied)
            })
            .collect())
    }

    /// The clock of this store's rows.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// An id for a row that is yet to be written, for what must bear it before.
    pub fn reserve_id(&self) -> RowId {
        let now = self.shared.clock.now();
        self.shared.with_rng(|rng| self.shared.row_ids.next(now, rng))
    }

    /// For looking, outside of any transaction.
    pub fn read(&self) -> &Db<DatabaseConnection> {
        &self.reader
    }

    /// Runs `work` in one transaction and commits it. When another transaction
    /// came in between, the whole work is done again: it must therefore have no
    /// effect outside the transaction.
    pub async fn write<T, E, F, Fut>(&self, work: F) -> Result<T, E>
    where
        E: From<StoreError> + AsStoreError,
        F: Fn(Arc<Tx>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut tries = 1;
        loop {
            let error = match self.try_write(&work).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let tries_max = error.as_store_error().map_or(1, StoreError::tries_max);
            if tries >= tries_max {
                return Err(error);
            }
            let pause_ms = self.shared.with_rng(|rng| rand::RngExt::random_range(rng, 0..=u64::from(tries * tries)));
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            tries += 1;
        }
    }

    async fn try_write<T, E, F, Fut>(&self, work: &F) -> Result<T, E>
    where
        E: From<StoreError>,
        F: Fn(Arc<Tx>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let conn = self.begin().await.map_err(|error| E::from(error.into()))?;
        let tx = Arc::new(Db { conn, shared: self.shared.clone(), now: self.shared.clock.now() });
        let outcome = work(tx.clone()).await;
        let conn = Arc::into_inner(tx).map(|tx| tx.conn);
        match (outcome, conn) {
            (Ok(done), Some(conn)) => {
                conn.commit().await.map(|()| done).map_err(|error| E::from(StoreError::of_commit(error)))
            }
            (Ok(_), None) => Err(StoreError::from(sea_orm::DbErr::Custom(HANDLE_KEPT.to_owned())).into()),
            (Err(error), Some(conn)) => {
                // Now, not when the pool next looks at the connection: others may wait for its locks.
                if let Err(problem) = conn.rollback().await {
                    tracing::debug!(%problem, "rolling back");
                }
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn begin(&self) -> Result<DatabaseTransaction, sea_orm::DbErr> {
        // A snapshot for each transaction: what it read has not changed when it
        // commits, or it is repeated. SQLite has that by letting in one writer.
        let options = match self.writer.get_database_backend() {
            DbBackend::Sqlite => TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            },
            _ => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                ..TransactionOptions::default()
            },
        };
        self.writer.begin_with_options(options).await
    }

    #[cfg(feature = "testing")]
    pub(crate) fn for_each_connection(&mut self, change: impl Fn(&mut DatabaseConnection)) {
        change(&mut self.writer);
        if let Some(reader) = Arc::get_mut(&mut self.reader) {
            change(&mut reader.conn);
        }
    }

    /// Closes every connection.
    pub async fn close(&self) {
        for conn in [&self.writer, &self.reader.conn] {
            if let Err(error) = conn.clone().close().await {
                tracing::warn!(%error, "closing the database");
            }
        }
    }
}

fn base(url: String, connections_max: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.max_connections(connections_max).acquire_timeout(WAIT_MAX).connect_timeout(WAIT_MAX).sqlx_logging(false);
    options
}

fn sqlite(file: &Path, connections_max: u32, is_reader: bool) -> ConnectOptions {
    // The file is set below: its name in a URL would have to be escaped.
    let mut options = base("sqlite::memory:".to_owned(), connections_max);
    let file = file.to_owned();
    options.map_sqlx_sqlite_opts(move |sqlite| sqlite_options(sqlite, &file, is_reader));
    options
}

/// How every connection to a SQLite file is set up.
pub(crate) fn sqlite_options(sqlite: SqliteConnectOptions, file: &Path, is_reader: bool) -> SqliteConnectOptions {
    let sqlite = sqlite
        .in_memory(false)
        .shared_cache(false)
        .filename(file)
        .create_if_missing(true)
        .foreign_keys(true)
        .busy_timeout(WAIT_MAX)
        .journal_mode(SqliteJournalMode::Wal)
        // Commits reach the disk: what was acknowledged survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .pragma("temp_store", "memory")
        .pragma("cache_size", "-32000");
    // Statistics are written, so a reader cannot.
    if is_reader { sqlite.pragma("query_only", "on") } else { sqlite.optimize_on_close(true, Some(400)) }
}

fn postgres(url: &str) -> ConnectOptions {
    let mut options = base(url.to_owned(), POSTGRES_CONNECTIONS_MAX);
    options.map_sqlx_postgres_opts(postgres_options);
    options
}

/// How every connection to PostgreSQL is set up.
pub(crate) fn postgres_options(postgres: PgConnectOptions) -> PgConnectOptions {
    // Compiling a plan costs more than the short queries here take.
    postgres.options([("jit", "off")])
}

/// Lets [`Store::write`] look into a caller's own error.
pub trait AsStoreError {
    /// The store's error, where this is one.
    fn as_store_error(&self) -> Option<&StoreError>;
}

impl AsStoreError for StoreError {
    fn as_store_error(&self) -> Option<&StoreError> {
        Some(self)
    }
}

/// A connection or a transaction: everything that can be asked of the store is a
/// method of it, in the file of its noun.
pub struct Db<C> {
    pub(crate) conn: C,
    shared: Arc<Shared>,
    now: Timestamp,
}

/// A transaction: what only it can do are the changes.
pub type Tx = Db<DatabaseTransaction>;

impl<C: ConnectionTrait> Db<C> {
    /// The moment it is: in a transaction, the moment it began.
    pub fn now(&self) -> Timestamp {
        if self.now == Timestamp::NEVER { self.shared.clock.now() } else { self.now }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.conn.get_database_backend() == DbBackend::Sqlite
    }
}

impl Tx {
    pub(crate) fn next_id(&self) -> RowId {
        let now = self.now;
        self.shared.with_rng(|rng| self.shared.row_ids.next(now, rng))
    }

    /// Random words that are made anew when the transaction is repeated.
    pub(crate) fn random<T>(&self, make: impl FnOnce(&mut StdRng) -> T) -> T {
        self.shared.with_rng(make)
    }
}

impl<C> Deref for Db<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.conn
    }
}

/// A generator whose numbers nobody can guess, seeded by the operating system.
pub fn secure_rng() -> StdRng {
    rand::make_rng()
}
