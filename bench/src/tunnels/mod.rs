//! Port tunnels: how much, how many, how soon, and what one costs that idles.

mod aims;
pub(crate) mod iperf;
pub(crate) mod load;
mod ways;

use std::path::Path;
use std::time::Duration;

use iperf::{Direction, Iperf, gbit};
use load::KeptAlive;
use tokio::time::sleep;
use ways::{Ports, Way};

use crate::process::{processor_seconds, resident_kb};
use crate::report::{Figure, Report};

/// Connections of the requests that stay.
const KEPT_ALIVE: usize = 48;
/// Callers who connect again and again.
const CALLERS: usize = 16;
/// How long memory may take to settle.
const SETTLES: Duration = Duration::from_secs(1);

/// How much is done.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    seconds: u64,
    idle: usize,
}

const SHORT: Effort = Effort { rounds: 1, seconds: 1, idle: 50 };
const LONG: Effort = Effort { rounds: 11, seconds: 2, idle: 2_000 };

/// What is measured of each way, round by round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    One,
    Eight,
    OneBack,
    Requests,
    RequestsP50,
    RequestsP99,
    RequestsProcessor,
    AloneP50,
    AloneP99,
    Connects,
}

impl What {
    const ALL: [Self; 10] = [
        Self::One,
        Self::Eight,
        Self::OneBack,
        Self::Requests,
        Self::RequestsP50,
        Self::RequestsP99,
        Self::RequestsProcessor,
        Self::AloneP50,
        Self::AloneP99,
        Self::Connects,
    ];

    const fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::One => ("1 stream", "Gbit/s"),
            Self::Eight => ("8 streams", "Gbit/s"),
            Self::OneBack => ("1 stream from the device", "Gbit/s"),
            Self::Requests => ("requests over 48 connections", "a second"),
            Self::RequestsP50 => ("latency at 48, p50", "ms"),
            Self::RequestsP99 => ("latency at 48, p99", "ms"),
            Self::RequestsProcessor => ("processor for one of them, both sides", "µs"),
            Self::AloneP50 => ("latency alone, p50", "ms"),
            Self::AloneP99 => ("latency alone, p99", "ms"),
            Self::Connects => ("new connections", "a second"),
        }
    }
}

/// What was found of one way.
struct Found {
    name: &'static str,
    rounds: Vec<[f64; What::ALL.len()]>,
    /// Of an idle stream, on each side.
    idle_kb: Vec<(&'static str, f64)>,
}

impl Found {
    /// The median of the rounds.
    fn get(&self, what: What) -> f64 {
        median(self.rounds.iter().map(|round| round[what as usize]))
    }

    /// How many times theirs ours is: the median of what each round says, for what else the
    /// machine did in a round it did to both.
    fn ratio(&self, theirs: &Self, what: What) -> f64 {
        let rounds = self.rounds.iter().zip(&theirs.rounds);
        median(rounds.map(|(ours, theirs)| ours[what as usize] / theirs[what as usize]))
    }

    fn figures(&self) -> impl Iterator<Item = Figure> + '_ {
        let figure = |what: &str, value, unit| Figure { name: format!("{}: {what}", self.name), value, unit };
        let measured = What::ALL.into_iter().map(move |what| figure(what.name().0, self.get(what), what.name().1));
        let idle = self.idle_kb.iter().map(move |(side, kb)| figure(&format!("idle stream, {side}"), *kb, "KB"));
        measured.chain(idle)
    }
}

fn median(all: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = all.collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Measures every way; the short form leaves the rivals out.
pub(crate) async fn measure(muster: &Path, is_short: bool) -> anyhow::Result<Report> {
    let effort = if is_short { SHORT } else { LONG };
    let iperf = Iperf::start().await?;
    let ports = Ports { iperf: iperf.port, http: load::service().await? };
    let mut all = Vec::new();
    for round in 0..effort.rounds {
        // Anew, for two runs of one program may differ by a tenth for as long as they last.
        let ways = start(muster, ports, is_short).await?;
        if round == 0 {
            // First, while no process has memory left over from other work.
            for way in &ways {
                all.push(Found { name: way.name, rounds: Vec::new(), idle_kb: idle(way, effort.idle).await? });
            }
        }
        // In turns, so that what else the machine does burdens all alike.
        for turn in 0..ways.len() {
            let at = (round + turn) % ways.len();
            let figures = measured(&ways[at], effort.seconds).await?;
            let line = figures.map(|it| format!("{it:9.2}")).join(" ");
            eprintln!("round {}: {:<16} {line}", round + 1, ways[at].name);
            all[at].rounds.push(figures);
        }
        for way in ways {
            way.end().await?;
        }
    }
    let Effort { rounds, seconds, idle } = effort;
    Ok(Report {
        title: format!("tunnels: over loopback, median of {rounds} rounds of {seconds} s each, {idle} idle streams"),
        limit_name: "",
        comparisons: Vec::new(),
        figures: all.iter().flat_map(Found::figures).collect(),
        bounds: aims::of(&all),
    })
}

async fn start(muster: &Path, ports: Ports, is_short: bool) -> anyhow::Result<Vec<Way>> {
    let mut ways = vec![Way::direct(ports)];
    for is_tls in [false, true] {
        ways.push(Way::muster(muster, ports, is_tls).await?);
    }
    if !is_short {
        let tools = muster.parent().and_then(Path::parent).unwrap_or(Path::new("target")).join("bench-tools");
        std::fs::create_dir_all(&tools)?;
        ways.push(Way::bore(&tools, ports).await?);
        for is_encrypted in [false, true] {
            ways.push(Way::rathole(&tools, ports, is_encrypted).await?);
        }
    }
    Ok(ways)
}

async fn measured(way: &Way, seconds: u64) -> anyhow::Result<[f64; What::ALL.len()]> {
    let (Ports { iperf, http }, lasts) = (way.ports, Duration::from_secs(seconds));
    let one = gbit(iperf, 1, Direction::ToDevice, seconds).await?;
    let eight = gbit(iperf, 8, Direction::ToDevice, seconds).await?;
    let back = gbit(iperf, 1, Direction::FromDevice, seconds).await?;
    let before = processor(way)?;
    let many = load::keep_alive(http, KEPT_ALIVE, lasts).await?;
    let requests = many.per_second * lasts.as_secs_f64();
    let processor_us = (processor(way)? - before) * 1e6 / requests;
    let alone = load::keep_alive(http, 1, lasts).await?;
    let connects = load::connects(http, CALLERS, lasts).await?;
    let KeptAlive { per_second, p50_ms, p99_ms } = many;
    Ok([one, eight, back, per_second, p50_ms, p99_ms, processor_us, alone.p50_ms, alone.p99_ms, connects])
}

/// Seconds of processor that the processes between have used.
fn processor(way: &Way) -> anyhow::Result<f64> {
    way.processes.iter().map(|(_, id)| processor_seconds(*id)).sum()
}

/// Kilobytes that each of that many idle streams costs on each side.
async fn idle(way: &Way, streams: usize) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let memory = || -> anyhow::Result<Vec<f64>> { way.processes.iter().map(|(_, id)| resident_kb(*id)).collect() };
    // One first: what the first of all costs is no part of each.
    drop(load::idle(way.ports.http, 1).await?);
    let before = memory()?;
    let held = load::idle(way.ports.http, streams).await?;
    sleep(SETTLES).await;
    let grown = memory()?.into_iter().zip(before).map(|(now, before)| (now - before).max(0.0) / streams as f64);
    let idle_kb = way.processes.iter().map(|(side, _)| *side).zip(grown).collect();
    drop(held);
    Ok(idle_kb)
}
