//! Throughput, by iperf3.

use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::ways::free_port;
use crate::pair::PATIENCE;

/// Its server, which swallows or sends.
pub(crate) struct Iperf {
    pub(crate) port: u16,
    _child: Child,
}

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToDevice,
    FromDevice,
}

impl Iperf {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let port = free_port().await?;
        let mut command = Command::new("iperf3");
        command.args(["--server", "--forceflush", "--bind", "127.0.0.1", "--port", &port.to_string()]);
        let spawned = command.stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut child = spawned.context("cannot start iperf3 (Debian has it as iperf3)")?;
        let mut said = BufReader::new(child.stdout.take().context("iperf3 has no output")?).lines();
        // To connect would be a test to it, and it resets whoever comes before it has seen that end.
        while !said.next_line().await?.context("iperf3 does not listen")?.starts_with("Server listening") {}
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        Ok(Self { port, _child: child })
    }
}

/// Gigabits a second that arrive over that many connections, for that many seconds.
pub(crate) async fn gbit(port: u16, streams: usize, direction: Direction, seconds: u64) -> anyhow::Result<f64> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let mut command = Command::new("iperf3");
        command.args(["--json", "--client", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--parallel", &streams.to_string(), "--time", &seconds.to_string()]);
        command.args((direction == Direction::FromDevice).then_some("--reverse"));
        let told: Value = serde_json::from_slice(&command.kill_on_drop(true).output().await?.stdout)?;
        if let Some(bits) = told["end"]["sum_received"]["bits_per_second"].as_f64() {
            ensure!(bits > 0.0, "iperf3 moved nothing");
            return Ok(bits / 1e9);
        }
        // It serves one at a time, and notices late that the last one has gone. It then closes
        // without reading what the caller said, and the reset may overtake its answer.
        let error = told["error"].as_str().unwrap_or_default();
        let is_reset =
            error.contains("control message: Connection reset") || error.contains("cookie to server: Connection reset");
        ensure!(is_reset || error.contains("busy"), "iperf3: {}", told["error"]);
        if is_reset {
            eprintln!("iperf3, tried again: {error}");
        }
        sleep(std::time::Duration::from_millis(100)).await;
    }
    bail!("iperf3 stayed busy")
}
