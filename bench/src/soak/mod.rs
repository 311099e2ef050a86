//! A soak: many connections of every kind over a link that flaps, and what is left of them.

mod callers;
mod proxy;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use callers::Kind;
use proxy::Proxy;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use crate::pair::Pair;
use crate::process::{descriptors, listeners, resident_kb};
use crate::report::{Bound, Figure, Report};

/// Connections at once that do something.
const AT_ONCE: usize = 64;
/// Connections at once that were abandoned: they end when nothing has moved for too long.
const ABANDONED_AT_ONCE: usize = 64;
const IDLE_SECONDS: &str = "2";
/// How often a third of the carriers is cut.
const CUT_EVERY: Duration = Duration::from_secs(2);
/// Every how manieth time the control link too: rarer than a minute, or the device waits longer
/// each time before it dials again; and which time is the first.
const EVERYTHING_EVERY: u64 = 35;
const EVERYTHING_FIRST: u64 = 3;
/// Tunnels that are made and deleted meanwhile, one after the other.
const ROUNDS: u64 = 10;
/// After this time nothing of the connections may be left.
const RETURNS_WITHIN: Duration = Duration::from_secs(70);
/// Megabytes that a process may hold more than after the warming up: what the allocator
/// keeps of the busiest moment, buffers of threads, pages of the database's cache. A leak
/// of a hundred bytes for each connection would be 20.
const GROWTH_MB_MAX: f64 = 12.0;

/// What the processes hold.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    resident_mb: f64,
    descriptors: usize,
    listeners: usize,
}

/// Makes 200,000 connections; the short form a few thousand.
pub(crate) async fn measure(muster: &Path, is_short: bool) -> anyhow::Result<Report> {
    let (warm_up, connections) = if is_short { (500, 3_000) } else { (10_000, 200_000) };
    let mut pair = Pair::serve(muster, true, &["--tunnel-idle-seconds", IDLE_SECONDS]).await?;
    let server = pair.server.url.strip_prefix("https://").context("the server speaks no TLS")?.parse()?;
    let proxy = Arc::new(Proxy::start(server).await?);
    let url = format!("https://127.0.0.1:{}", proxy.port);
    pair.start_agent(&muster.with_file_name("muster-agent"), &url, &[]).await?;
    let target = callers::service().await?;

    let first = pair.open(target).await?;
    pair.close(&first).await?;
    let cold = settled(&pair, None).await?;
    flood(&pair, &proxy, target, warm_up).await?;
    let before = settled(&pair, Some(&cold)).await?;
    let begun = Instant::now();
    let went_well = flood(&pair, &proxy, target, connections).await?;
    let (took, after) = (begun.elapsed(), settled(&pair, Some(&before)).await?);
    let tunnels = pair.get("port_tunnel").await?;
    let open = tunnels.to_string().matches("\"status\":\"opened\"").count();

    let mut figures = vec![
        figure("connections", connections as f64, ""),
        figure("of them went as they should", went_well as f64, ""),
        figure("connections a second", connections as f64 / took.as_secs_f64(), ""),
        figure("links and carriers that were cut", proxy.cuts() as f64, ""),
    ];
    let mut bounds = vec![Bound::most("tunnels that are still open", open as f64, "", 0.0)];
    for (((side, _), cold), (before, after)) in pair.processes()?.iter().zip(&cold).zip(before.iter().zip(&after)) {
        figures.push(figure(format!("{side}: memory at the start"), cold.resident_mb, "MB"));
        figures.push(figure(format!("{side}: memory after warming up"), before.resident_mb, "MB"));
        figures.push(figure(format!("{side}: memory at the end"), after.resident_mb, "MB"));
        figures.push(figure(format!("{side}: descriptors at the start"), cold.descriptors as f64, ""));
        figures.push(figure(format!("{side}: descriptors at the end"), after.descriptors as f64, ""));
        let grown = after.resident_mb - before.resident_mb;
        bounds.push(Bound::most(format!("{side}: growth of memory"), grown, "MB", GROWTH_MB_MAX));
        let more = after.descriptors as f64 - cold.descriptors as f64;
        bounds.push(Bound::most(format!("{side}: descriptors that did not come back"), more, "", 0.0));
        let more = after.listeners as f64 - cold.listeners as f64;
        bounds.push(Bound::most(format!("{side}: ports that did not come back"), more, "", 0.0));
    }
    Ok(Report {
        title: format!("soak: {connections} connections over links that flap, {AT_ONCE} at once"),
        limit_name: "",
        comparisons: Vec::new(),
        figures,
        bounds,
    })
}

fn figure(name: impl Into<String>, value: f64, unit: &'static str) -> Figure {
    Figure { name: name.into(), value, unit }
}

fn held(pair: &Pair) -> anyhow::Result<Vec<Held>> {
    let held = |(_, id): (&'static str, u32)| {
        let resident_mb = resident_kb(id)? / 1024.0;
        Ok(Held { resident_mb, descriptors: descriptors(id)?, listeners: listeners(id)? })
    };
    pair.processes()?.into_iter().map(held).collect()
}

/// What they hold once their descriptors are back where they were, or do not come back in time.
async fn settled(pair: &Pair, wanted: Option<&[Held]>) -> anyhow::Result<Vec<Held>> {
    let begun = Instant::now();
    loop {
        sleep(Duration::from_secs(1)).await;
        let now = held(pair)?;
        let is_back = |wanted: &[Held]| wanted.iter().zip(&now).all(|(was, is)| is.descriptors <= was.descriptors);
        if begun.elapsed() > RETURNS_WITHIN || wanted.is_none_or(is_back) {
            return Ok(now);
        }
    }
}

/// That many connections, through one tunnel after the other, over a link that is cut
/// again and again; how many went as they should.
async fn flood(pair: &Pair, proxy: &Arc<Proxy>, target: u16, connections: u64) -> anyhow::Result<u64> {
    let flapping = tokio::spawn(flap(Arc::clone(proxy)));
    let went_well = Arc::new(AtomicU64::new(0));
    let (places, abandoned) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Semaphore::new(ABANDONED_AT_ONCE)));
    for round in 0..ROUNDS {
        let (tunnel, mut calls) = (pair.open(target).await?, JoinSet::new());
        for number in round * connections / ROUNDS..(round + 1) * connections / ROUNDS {
            let kind = Kind::of(number);
            let of = if kind == Kind::Abandoned { &abandoned } else { &places };
            let (place, went_well, port) = (Arc::clone(of).acquire_owned().await?, Arc::clone(&went_well), tunnel.port);
            calls.spawn(async move {
                if callers::call(port, kind).await {
                    went_well.fetch_add(1, Ordering::Relaxed);
                } else {
                    // The link is away: whoever tries again at once learns the same.
                    sleep(Duration::from_millis(20)).await;
                }
                drop(place);
            });
            while calls.try_join_next().is_some() {}
        }
        // Every second tunnel is deleted with connections open.
        if round.is_multiple_of(2) {
            while calls.join_next().await.is_some() {}
        }
        pair.close(&tunnel).await?;
        while calls.join_next().await.is_some() {}
    }
    flapping.abort();
    Ok(went_well.load(Ordering::Relaxed))
}

async fn flap(proxy: Arc<Proxy>) {
    let mut period = interval(CUT_EVERY);
    period.tick().await;
    for round in 1_u64.. {
        period.tick().await;
        proxy.cut(round % EVERYTHING_EVERY == EVERYTHING_FIRST);
    }
}
