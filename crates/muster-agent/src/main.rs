//! The muster-agent executable.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use muster_agent::cli::{AgentEnv, Cli, main_with};
use muster_core::clock::Clock;

/// The agent of a Muster fleet
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Program {
    #[command(flatten)]
    cli: Cli,
}

fn main() -> anyhow::Result<ExitCode> {
    let program = Program::parse();
    let own_path = std::env::current_exe().context("cannot find this program")?;
    let env = AgentEnv {
        step_runner: vec![own_path.clone().into(), "step-runner".into()],
        terminal: vec![own_path.clone().into(), "terminal".into()],
        program: Some(own_path),
        crypto: Arc::new(rustls::crypto::ring::default_provider()),
        clock: Clock::system(),
        rng: rand::make_rng(),
    };
    main_with(program.cli, env)
}
