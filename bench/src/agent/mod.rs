//! The agent on a device: how large it is, what it holds in memory, and whether that stays.

mod terminal;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use muster_core::limits::READY_CARRIER_IDLE;
use tokio::process::Command;
use tokio::time::{Instant, sleep};
use work::Work;

use crate::pair::{PATIENCE, Pair};
use crate::process::{descriptors, resident_kb};
use crate::report::{Bound, Figure, Report};

/// What the stripped static executable may take.
const SIZE_MB_MAX: f64 = 4.0;
/// What it may hold in memory while nothing is asked of it.
const IDLE_MB_MAX: f64 = 6.0;
/// What its memory may grow by, from a tenth of the work on.
const GROWTH_MB_MAX: f64 = 1.0;
/// How long the work of the long form takes, unless it is told.
const MINUTES: u64 = 60;

/// Measures the agent that is shipped; the short form the one that lies beside `muster`.
pub(crate) async fn measure(muster: &Path, is_short: bool, minutes: Option<u64>) -> anyhow::Result<Report> {
    let agent = if is_short { muster.with_file_name("muster-agent") } else { static_agent().await? };
    let (lasts, rests, seconds) = match (is_short, minutes) {
        (true, _) => (Duration::from_secs(5), Duration::from_secs(1), 1),
        (false, minutes) => (Duration::from_secs(60 * minutes.unwrap_or(MINUTES)), Duration::from_secs(20), 5),
    };
    let size_mb = std::fs::metadata(&agent)?.len() as f64 / 1e6;
    let mut pair = Pair::serve(muster, true, &[]).await?;
    let url = pair.server.url.clone();
    pair.start_agent(&agent, &url, &["--terminal-user", &user().await?]).await?;
    let work = Work::prepare(&pair, seconds).await?;

    sleep(rests).await;
    let (_, process) = pair.processes()?[1];
    let (idle, open_before) = (mb(process)?, descriptors(process)?);
    let (begun, mut rounds) = (Instant::now(), Vec::new());
    while begun.elapsed() < lasts || rounds.len() < 2 {
        work.round(&pair).await?;
        rounds.push(mb(process)?);
    }
    let worked = begun.elapsed().as_secs();
    sleep(rests).await;
    let open_after = when_back(process, open_before).await?;
    let rested = mb(process)?;

    let early = rounds[..rounds.len().div_ceil(10)].iter().copied().fold(idle, f64::max);
    let late = rounds[rounds.len() / 2..].iter().copied().fold(0.0, f64::max);
    let figure = |name: &str, value, unit| Figure { name: name.to_owned(), value, unit };
    let mut bounds = vec![
        Bound::most("memory while it idles", idle, "MB", IDLE_MB_MAX),
        Bound::most("growth of memory after a tenth of the work", late - early, "MB", GROWTH_MB_MAX),
        Bound::most("memory when it idles again", rested, "MB", IDLE_MB_MAX),
        Bound::most("descriptors that did not come back", open_after as f64 - open_before as f64, "", 0.0),
    ];
    // The executable of a development build says nothing.
    bounds.extend((!is_short).then(|| Bound::most("stripped static executable", size_mb, "MB", SIZE_MB_MAX)));
    Ok(Report {
        title: format!("agent: {} rounds of work in {worked} s, over TLS", rounds.len()),
        limit_name: "",
        comparisons: Vec::new(),
        figures: vec![
            figure("executable", size_mb, "MB"),
            figure("memory at most in the first tenth of the work", early, "MB"),
            figure("memory at most in its second half", late, "MB"),
        ],
        bounds,
    })
}

/// Its descriptors, when there are no more than before, or carriers that nobody uses are long gone.
async fn when_back(process: u32, before: usize) -> anyhow::Result<usize> {
    let begun = Instant::now();
    loop {
        let open = descriptors(process)?;
        if open <= before || begun.elapsed() > READY_CARRIER_IDLE + PATIENCE {
            return Ok(open);
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Who runs this, and the agent.
async fn user() -> anyhow::Result<String> {
    let told = Command::new("id").arg("-un").output().await?;
    Ok(String::from_utf8(told.stdout)?.trim().to_owned())
}

fn mb(process: u32) -> anyhow::Result<f64> {
    Ok(resident_kb(process)? * 1024.0 / 1e6)
}

/// Builds what is shipped to devices of this machine's kind.
async fn static_agent() -> anyhow::Result<PathBuf> {
    let built = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/build-agent")).output().await?;
    let told = String::from_utf8_lossy(&built.stderr);
    ensure!(built.status.success(), "packaging/build-agent ended with {}: {told}", built.status);
    let path = String::from_utf8(built.stdout)?;
    Ok(path.lines().last().context("packaging/build-agent named no file")?.into())
}
