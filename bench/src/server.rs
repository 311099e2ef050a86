//! A real `muster serve`.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use muster_store::Location;
use muster_store::testing::TestDatabase;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A benchmark is one caller, and makes all its calls at once.
const PLENTY: &str = "1000000000";

/// A server process, which ends with this value.
pub(crate) struct Server {
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    /// The pin of its key, where it speaks TLS.
    pub(crate) pin: Option<String>,
    process: Child,
}

/// Makes the account and the fleet of a database, and answers with their names and tokens.
pub(crate) async fn bootstrap(muster: &Path, db: &TestDatabase) -> anyhow::Result<Value> {
    let mut command = Command::new(muster);
    command.args(["admin", "bootstrap", "--json"]);
    let made = on(&mut command, db).stderr(Stdio::inherit()).output().await;
    let made = made.with_context(|| format!("cannot start {}", muster.display()))?;
    ensure!(made.status.success(), "muster admin bootstrap ended with {}", made.status);
    serde_json::from_slice(&made.stdout).context("muster admin bootstrap did not print JSON")
}

impl Server {
    /// Starts a server on a free port, and waits until it listens.
    pub(crate) async fn start(muster: &Path, db: &TestDatabase) -> anyhow::Result<Self> {
        Self::start_with(muster, db, &[]).await
    }

    /// The same, with more options.
    pub(crate) async fn start_with(muster: &Path, db: &TestDatabase, options: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(muster);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn"]).args([
            "--address-calls-per-minute",
            PLENTY,
            "--access-token-calls-per-minute",
            PLENTY,
        ]);
        command.args(options);
        let mut process = on(&mut command, db).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = process.stdout.take().context("its standard output is a pipe")?;
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            if let Some(url) = line.strip_prefix("listening on ") {
                let mut pin = None;
                if url.starts_with("https:") {
                    let line = lines.next_line().await?.unwrap_or_default();
                    pin = Some(line.strip_prefix("server pin ").context("the server told no pin")?.to_owned());
                }
                return Ok(Self { url: url.to_owned(), pin, process });
            }
        }
        bail!("muster serve ended before it listened")
    }

    /// Its process.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        self.process.id().context("muster serve has ended")
    }

    /// The most memory that the process has held so far, in MiB.
    pub(crate) fn peak_mib(&self) -> anyhow::Result<f64> {
        let id = self.process.id().context("muster serve has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).context("only Linux tells its memory")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
        let kib: f64 = peak.context("the status has no peak")?.parse()?;
        Ok(kib / 1024.0)
    }
}

/// Lets the command work on that database.
fn on<'a>(command: &'a mut Command, db: &TestDatabase) -> &'a mut Command {
    command.arg("--data").arg(db.folder());
    if let Location::Postgres(url) = db.location() {
        command.arg("--database-url").arg(url);
    }
    command
}
