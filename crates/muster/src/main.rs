//! The `muster` executable: commands that call the libraries.

/// Prints a line. A reader that has gone away is no reason to stop, let alone to
/// panic, as `println!` would.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod admin;
mod client;
mod quickstart;
mod serve;
mod settings;
mod tls_args;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use muster_agent::cli::{AgentEnv, Cli as AgentCli};
use muster_agent::server_url::ServerUrl;
use muster_agent::trust::Trust;
use muster_core::clock::Clock;
use muster_link::ServerPin;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};

/// Runs a company's own fleet of Linux devices
#[derive(Parser)]
#[command(name = "muster", version, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the APIs and the devices
    Serve(Box<serve::ServeArgs>),
    /// See the whole of it work: a server, a device, a tag, an update
    Quickstart(quickstart::QuickstartArgs),
    /// Work on the data of a server, beside it or while it is down
    Admin(admin::AdminArgs),
    #[command(flatten)]
    Client(client::ClientCommand),
    /// The agent of a device, as in muster-agent
    #[command(hide = true)]
    Agent(AgentCli),
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("muster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let command = settings::with_file_defaults(Program::command(), std::env::args_os())?;
    let program = Program::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    match program.command {
        Command::Serve(args) => serve::run(&args),
        Command::Quickstart(args) => quickstart::run(&args),
        Command::Admin(args) => admin::run(args),
        Command::Client(command) => Ok(client::run(command, Program::command())),
        Command::Agent(cli) => muster_agent::cli::main_with(cli, agent_env()?),
    }
}

/// This executable as an agent: a device's steps are run by it again.
fn agent_env() -> anyhow::Result<AgentEnv> {
    let own_path = std::env::current_exe().context("cannot find this program")?;
    Ok(AgentEnv {
        step_runner: vec![own_path.clone().into(), "agent".into(), "step-runner".into()],
        terminal: vec![own_path.into(), "agent".into(), "terminal".into()],
        program: None,
        crypto: crypto(),
        clock: Clock::system(),
        rng: muster_store::secure_rng(),
    })
}

/// The settings of TLS for connections to `url`, whose server has the key of `pin`, if one is given.
fn tls_config(url: &str, pin: Option<ServerPin>) -> anyhow::Result<ClientConfig> {
    let server = ServerUrl::parse(url).map_err(anyhow::Error::msg)?;
    Ok(Trust::of_machine(crypto()).pinning(&server, pin).config(&server)?)
}

/// Settings of TLS that trust nobody, for clients that speak without it: they want some.
fn tls_config_of_nobody() -> anyhow::Result<ClientConfig> {
    let config = ClientConfig::builder_with_provider(crypto()).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn crypto() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Logs to standard error: one line for an event.
fn start_logging(level: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(level).with_context(|| format!("--log {level}"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    Ok(())
}

/// The threads that everything runs on.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Program::command().debug_assert();
    }
}
