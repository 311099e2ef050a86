//! What is asked of an agent, round after round. What else it learns to do belongs here.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::json;

use super::terminal::use_terminal;
use crate::pair::Pair;
use crate::tunnels::iperf::{Direction, Iperf, gbit};
use crate::tunnels::load;

/// Connections at once, and callers who connect again and again.
const KEPT_ALIVE: usize = 48;
const CALLERS: usize = 16;
/// A file that is copied to the device and back, in bytes.
const FILE_BYTES: usize = 8 * 1024 * 1024;
/// Files in a folder that is fetched, and the bytes of each.
const FOLDER_FILES: usize = 200;
const FOLDER_FILE_BYTES: usize = 10_000;
/// A command that puts out more than is kept of it.
const COMMAND: &str = "yes 0123456789 | head -c 200000";
const COMMAND_SAYS: &str = "0123456789";
/// A deployment of one step.
const FLOW: &str = "flows:\n  bench:\n    steps:\n      - name: say\n        run: echo hello\n";

/// Everything that is worked with.
pub(super) struct Work {
    iperf: Iperf,
    http: u16,
    device: String,
    folder: PathBuf,
    lasts: Duration,
}

impl Work {
    /// Makes what the rounds need; each kind of load on a tunnel lasts `seconds`.
    pub(super) async fn prepare(pair: &Pair, seconds: u64) -> anyhow::Result<Self> {
        let (iperf, http) = (Iperf::start().await?, load::service().await?);
        let first = pair.open(http).await?;
        pair.close(&first).await?;
        let folder = pair.folder().join("bench-files");
        let many = folder.join("many");
        fs::create_dir_all(&many)?;
        fs::write(folder.join("file"), pattern(FILE_BYTES))?;
        fs::write(folder.join("bench.yaml"), FLOW)?;
        for number in 0..FOLDER_FILES {
            fs::write(many.join(number.to_string()), pattern(FOLDER_FILE_BYTES))?;
        }
        let rules = json!({ "file_rules": [{ "path": format!("{}/**", folder.display()), "access": "write" }] });
        pair.call(Method::PUT, "file_rules")?.json(&rules).send().await?.error_for_status()?;
        Ok(Self { iperf, http, device: pair.device().await?, folder, lasts: Duration::from_secs(seconds) })
    }

    /// One round of everything.
    pub(super) async fn round(&self, pair: &Pair) -> anyhow::Result<()> {
        self.tunnels(pair).await.context("tunnels")?;
        self.terminals(pair).await.context("terminals")?;
        self.files(pair).await.context("files")?;
        let ran = pair.client(&["run", &self.device, "--", COMMAND]).await?;
        ensure!(ran.contains(COMMAND_SAYS), "a command that put out something else: {ran}");
        pair.client(&["deploy", &self.at("bench.yaml"), "--device", &self.device, "--yes"]).await.map(drop)
    }

    async fn tunnels(&self, pair: &Pair) -> anyhow::Result<()> {
        let (transfers, requests) = (pair.open(self.iperf.port).await?, pair.open(self.http).await?);
        for direction in [Direction::ToDevice, Direction::FromDevice] {
            gbit(transfers.port, 8, direction, self.lasts.as_secs()).await?;
        }
        load::keep_alive(requests.port, KEPT_ALIVE, self.lasts).await?;
        load::connects(requests.port, CALLERS, self.lasts).await?;
        pair.close(&transfers).await?;
        pair.close(&requests).await
    }

    async fn terminals(&self, pair: &Pair) -> anyhow::Result<()> {
        let one = || use_terminal(pair, &self.device);
        tokio::try_join!(one(), one(), one(), one()).map(drop)
    }

    /// A file to the device and back, and a folder from it.
    async fn files(&self, pair: &Pair) -> anyhow::Result<()> {
        let there = |name: &str| format!("{}:{}", self.device, self.at(name));
        pair.client(&["cp", &self.at("file"), &there("sent")]).await?;
        pair.client(&["cp", &there("sent"), &self.at("fetched")]).await?;
        ensure!(fs::read(self.at("fetched"))? == pattern(FILE_BYTES), "a file came back as another");
        pair.client(&["cp", "--recursive", &there("many"), &self.at("unpacked")]).await?;
        let unpacked = self.folder.join("unpacked");
        ensure!(fs::read_dir(&unpacked)?.count() == FOLDER_FILES, "not every file of a folder came");
        Ok(fs::remove_dir_all(unpacked)?)
    }

    fn at(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

fn pattern(bytes: usize) -> Vec<u8> {
    // No power of two, so that pieces that change places are seen.
    (0..bytes).map(|at| (at % 251) as u8).collect()
}
