//! Port tunnels: how much, how many, how soon, and what one costs that idles.

mod load;
mod ways;

use std::path::Path;
use std::time::Duration;

use load::Service;
use ways::{Way, resident_kb};

use crate::report::{Bound, Figure, Report};

/// Connections of the requests that stay.
const KEPT_ALIVE: usize = 48;
/// Callers who connect again and again.
const CALLERS: usize = 16;

/// What was found of one way.
struct Found {
    name: &'static str,
    one_gbit: f64,
    eight_gbit: f64,
    requests: f64,
    p50_ms: f64,
    p99_ms: f64,
    connects: f64,
    /// Of an idle stream, on each side.
    idle_kb: Vec<(&'static str, f64)>,
}

/// Measures every way; the short form leaves the rivals out.
pub(crate) async fn measure(muster: &Path, is_short: bool) -> anyhow::Result<Report> {
    let (lasts, idle) = if is_short { (Duration::from_millis(300), 50) } else { (Duration::from_secs(5), 2_000) };
    let service = Service::start().await?;
    let mut all = Vec::new();
    // One after the other, so that none works while another is measured.
    all.push(found(Way::direct(service.port), &service, lasts, idle).await?);
    all.push(found(Way::muster(muster, service.port).await?, &service, lasts, idle).await?);
    if !is_short {
        let tools = muster.parent().and_then(Path::parent).unwrap_or(Path::new("target")).join("bench-tools");
        std::fs::create_dir_all(&tools)?;
        all.push(found(Way::bore(&tools, service.port).await?, &service, lasts, idle).await?);
        for is_encrypted in [false, true] {
            let way = Way::rathole(&tools, service.port, is_encrypted).await?;
            all.push(found(way, &service, lasts, idle).await?);
        }
    }
    Ok(Report {
        title: format!("tunnels: over loopback, {} s each, {idle} idle streams", lasts.as_secs_f64()),
        limit_name: "",
        comparisons: Vec::new(),
        figures: all.iter().flat_map(figures).collect(),
        bounds: aims(&all),
    })
}

async fn found(way: Way, service: &Service, lasts: Duration, idle: usize) -> anyhow::Result<Found> {
    let one_gbit = load::throughput(service, way.port, 1, lasts).await?;
    let eight_gbit = load::throughput(service, way.port, 8, lasts).await?;
    let kept = load::keep_alive(way.port, KEPT_ALIVE, lasts).await?;
    let connects = load::connects(way.port, CALLERS, lasts).await?;
    let memory = || -> anyhow::Result<Vec<f64>> { way.processes.iter().map(|(_, id)| resident_kb(*id)).collect() };
    let before = memory()?;
    let held = load::idle(way.port, idle).await?;
    let grown = memory()?.into_iter().zip(before).map(|(now, before)| (now - before).max(0.0) / idle as f64);
    let idle_kb = way.processes.iter().map(|(side, _)| *side).zip(grown).collect();
    drop(held);
    let (requests, p50_ms, p99_ms) = (kept.per_second, kept.p50_ms, kept.p99_ms);
    let found = Found { name: way.name, one_gbit, eight_gbit, requests, p50_ms, p99_ms, connects, idle_kb };
    figures(&found).for_each(|figure| eprintln!("{figure}"));
    Ok(found)
}

fn figures(found: &Found) -> impl Iterator<Item = Figure> + use<> {
    let name = found.name;
    let figure = move |what: &str, value, unit| Figure { name: format!("{name}: {what}"), value, unit };
    let fixed = [
        figure("1 stream", found.one_gbit, "Gbit/s"),
        figure("8 streams", found.eight_gbit, "Gbit/s"),
        figure("requests over 48 connections", found.requests, "a second"),
        figure("their median", found.p50_ms, "ms"),
        figure("99 of 100 of them", found.p99_ms, "ms"),
        figure("new connections", found.connects, "a second"),
    ];
    let idle = found.idle_kb.clone();
    let idle = idle.into_iter().map(move |(side, kb)| figure(&format!("idle stream, {side}"), kb, "KB"));
    fixed.into_iter().chain(idle)
}

/// What Muster is meant to reach beside the others, without TLS.
fn aims(all: &[Found]) -> Vec<Bound> {
    let of = |name: &str| all.iter().find(|found| found.name == name);
    let Some(ours) = of("Muster") else { return Vec::new() };
    let mut aims: Vec<Bound> = ours
        .idle_kb
        .iter()
        .map(|(side, kb)| Bound {
            name: if *side == "server" { "an idle stream on the server" } else { "an idle stream on the device" },
            value: *kb,
            unit: "KB",
            max: 20.0,
        })
        .collect();
    let plain = ["bore", "rathole"].map(of).into_iter().flatten();
    let best = plain.map(|it| (it.one_gbit, it.eight_gbit, it.p99_ms));
    let best = best.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1), a.2.max(b.2)));
    let ratio = |name, value, max| Bound { name, value, unit: "times Muster's", max };
    if let Some((one, eight, p99)) = best {
        aims.push(ratio("the faster plain one, 1 stream", one / ours.one_gbit, 1.0));
        aims.push(ratio("the faster plain one, 8 streams", eight / ours.eight_gbit, 1.0));
        aims.push(Bound {
            name: "99 of 100 requests, beside the slower plain one",
            value: ours.p99_ms / p99,
            unit: "times",
            max: 1.0,
        });
    }
    if let Some(noise) = of("rathole (Noise)") {
        aims.push(ratio("rathole with Noise, new connections", noise.connects / ours.connects, 0.5));
    }
    aims
}
