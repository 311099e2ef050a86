//! The private PostgreSQL cluster of a process that tests.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use muster_core::clock::Clock;
use sea_orm::{ConnectOptions, ConnectionTrait, Database};
use tokio::sync::Mutex;

use super::{FIRST_SEED, connect};
use crate::db::Location;

/// A cluster that lives as long as this process, however that ends: it stops when
/// the standard input that is held open here is closed.
pub(super) struct Cluster {
    url: String,
    /// Databases made so far. Its lock also lets one be made at a time, since
    /// PostgreSQL copies a template only while nobody looks at it.
    databases: Mutex<Databases>,
    _script: Child,
    _stdin: ChildStdin,
}

#[derive(Default)]
struct Databases {
    count: u32,
    has_template: bool,
}

const TEMPLATE: &str = "muster_template";

/// The cluster for tests: a crash of the whole machine would lose its data, so it is fast.
pub(super) async fn private() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    started_once(&CLUSTER, &[]).await
}

/// The cluster for benchmarks.
pub(super) async fn durable() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    started_once(&CLUSTER, &["--durable"]).await
}

async fn started_once(cell: &'static OnceLock<Cluster>, args: &'static [&str]) -> &'static Cluster {
    let start = || cell.get_or_init(|| Cluster::start(args));
    tokio::task::spawn_blocking(start).await.expect("no private PostgreSQL")
}

impl Cluster {
    fn start(args: &[&str]) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../e2e/private-postgres");
        let mut child = Command::new(&script)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", script.display()));
        let stdin = child.stdin.take().expect("its standard input is a pipe");
        let stdout = child.stdout.take().expect("its standard output is a pipe");
        let mut url = String::new();
        BufReader::new(stdout).read_line(&mut url).expect("its standard output can be read");
        if url.is_empty() {
            let status = child.wait().expect("it can be waited for");
            panic!("{} ended with {status} and says why on standard error", script.display());
        }
        Self { url: url.trim_end().to_owned(), databases: Mutex::default(), _script: child, _stdin: stdin }
    }

    /// A new database without a schema.
    pub(super) async fn empty_database(&self) -> Location {
        let mut databases = self.databases.lock().await;
        databases.count += 1;
        let name = format!("test{}", databases.count);
        self.execute(&format!("CREATE DATABASE {name}")).await;
        self.location(&name)
    }

    /// A new database with the schema, copied from one that was migrated once.
    pub(super) async fn migrated_database(&self) -> Location {
        let mut databases = self.databases.lock().await;
        if !databases.has_template {
            self.execute(&format!("CREATE DATABASE {TEMPLATE}")).await;
            let store = connect(&self.location(TEMPLATE), Clock::system(), FIRST_SEED).await;
            store.migrate().await.expect("the schema cannot be made");
            store.close().await;
            databases.has_template = true;
        }
        databases.count += 1;
        let name = format!("test{}", databases.count);
        self.execute(&format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}")).await;
        self.location(&name)
    }

    fn location(&self, database: &str) -> Location {
        Location::Postgres(format!("{}/{database}", self.url))
    }

    /// Over a connection of its own, because a pool would not outlive the test that made it.
    async fn execute(&self, sql: &str) {
        let mut options = ConnectOptions::new(format!("{}/postgres", self.url));
        options.max_connections(1).sqlx_logging(false);
        let conn = Database::connect(options).await.expect("the private PostgreSQL cannot be reached");
        conn.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        conn.close().await.expect("the connection closes");
    }
}
