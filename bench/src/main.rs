//! Benchmarks, each beside the bare limit of what it measures: a file for each,
//! and what they share. Started by `bench/run`.

mod agent;
mod bulk;
mod fleet;
mod lists;
mod pair;
mod process;
mod report;
mod rounds;
mod server;
mod soak;
mod tags;
mod tunnels;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use report::Report;

/// Every benchmark.
const NAMES: [&str; 6] = ["agent", "bulk", "lists", "soak", "tags", "tunnels"];

#[derive(Parser)]
#[command(name = "bench/run")]
struct Args {
    /// The benchmark
    name: String,
    /// Few devices and rounds: shows that it runs, its figures mean little
    #[arg(long)]
    short: bool,
    /// Minutes that the agent works in the long form
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    minutes: Option<u64>,
    /// Also write the figures here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The server's executable
    #[arg(long, env = "MUSTER_BIN", hide = true)]
    muster: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    // Nothing has installed another before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let Some(report) = runtime.block_on(measure(&args)).transpose()? else {
        eprintln!("no benchmark is called {:?}; known are: {}", args.name, NAMES.join(", "));
        return Ok(ExitCode::from(2));
    };
    print!("{report}");
    if let Some(file) = &args.json {
        let json = serde_json::to_string_pretty(&report.json())?;
        std::fs::write(file, json + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &Args) -> Option<anyhow::Result<Report>> {
    match args.name.as_str() {
        "agent" => Some(agent::measure(&args.muster, args.short, args.minutes).await),
        "bulk" => Some(bulk::measure(&args.muster, args.short).await),
        "lists" => Some(lists::measure(&args.muster, args.short).await),
        "soak" => Some(soak::measure(&args.muster, args.short).await),
        "tags" => Some(tags::measure(&args.muster, args.short).await),
        "tunnels" => Some(tunnels::measure(&args.muster, args.short).await),
        _ => None,
    }
}
