//! The commands, for `muster-agent` and, embedded, for `muster agent`.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use muster_core::clock::Clock;
use muster_core::names::{DeviceName, GroupName};
use muster_core::token::Secret;
use muster_link::ServerPin;
use rand::rngs::StdRng;
use rustls::crypto::CryptoProvider;
use tokio::runtime::{Builder, Runtime};

use crate::agent::{self, Settings};
use crate::enroll::{Wishes, enrol};
use crate::net::Dialer;
use crate::remote::TunnelPolicy;
use crate::server_url::ServerUrl;
use crate::state::StateDir;
use crate::status;
use crate::step::runner;
use crate::trust::Trust;

/// A name server that hangs must not keep the program from ending.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// What the agent's commands need from the executable that carries them.
pub struct AgentEnv {
    /// Executes this program again as a step runner: for `muster-agent` its own
    /// path and `step-runner`.
    pub step_runner: Vec<OsString>,
    /// Does the cryptography of TLS.
    pub crypto: Arc<CryptoProvider>,
    /// Tells the moment.
    pub clock: Clock,
    /// Makes the device's key and spreads its waits.
    pub rng: StdRng,
}

/// The command line.
#[derive(Debug, Args)]
pub struct Cli {
    /// Directory of the agent's state
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MUSTER_AGENT_STATE",
        default_value = "/var/lib/muster-agent"
    )]
    pub state: PathBuf,

    /// Print the device's token for API v1, and nothing else
    #[arg(long)]
    pub print_token: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join a fleet
    Enroll(EnrollArgs),
    /// Keep the link to the server, and carry out what it asks for
    Run(RunArgs),
    /// Show which device this is, and how its link is
    Status(StatusArgs),
    /// Run one step; started by the agent alone
    #[command(hide = true)]
    StepRunner(StepRunnerArgs),
}

/// Options of `enroll`.
#[derive(Debug, Args)]
pub struct EnrollArgs {
    /// Address of the server, with its scheme: https, or http for a trial
    #[arg(long, value_name = "URL", env = "MUSTER_AGENT_SERVER")]
    pub server: ServerUrl,
    /// Key of the server, as it prints it at its start, in place of certificate authorities
    #[arg(long, value_name = "sha256//BASE64", env = "MUSTER_AGENT_SERVER_PIN")]
    pub server_pin: Option<ServerPin>,
    /// The fleet's pairing token
    #[arg(long, value_name = "TOKEN", env = "MUSTER_AGENT_PAIRING_TOKEN", hide_env_values = true, value_parser = secret)]
    pub pairing_token: Secret,
    /// Name of the device; the server makes one from the host name otherwise
    #[arg(long, env = "MUSTER_AGENT_NAME", value_parser = device_name)]
    pub name: Option<DeviceName>,
    /// Group of the device
    #[arg(long, env = "MUSTER_AGENT_GROUP", value_parser = group_name)]
    pub group: Option<GroupName>,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Address of the server from now on, when it has moved
    #[arg(long, value_name = "URL", env = "MUSTER_AGENT_SERVER")]
    pub server: Option<ServerUrl>,
    /// Key of the server from now on, where --server names one that no authority vouches for
    #[arg(long, value_name = "sha256//BASE64", env = "MUSTER_AGENT_SERVER_PIN", requires = "server")]
    pub server_pin: Option<ServerPin>,
    /// End when standard input is closed: for a program that starts an agent of its own
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
    /// Command that reboots the device when a flow wants it, for `sh -c`
    #[arg(
        long,
        value_name = "COMMAND",
        env = "MUSTER_AGENT_REBOOT_COMMAND",
        default_value = "systemctl reboot || reboot"
    )]
    pub reboot_command: String,
    /// What port tunnels may reach: nothing, the device's own ports, or also other hosts that it reaches
    #[arg(long, value_name = "WHAT", env = "MUSTER_AGENT_TUNNELS", default_value = "local")]
    pub tunnels: TunnelPolicy,
    /// Socket of the device's container engine; as DOCKER_HOST says, or /var/run/docker.sock otherwise
    #[arg(long, value_name = "PATH", env = "MUSTER_AGENT_DOCKER_SOCKET")]
    pub docker_socket: Option<PathBuf>,
    /// Least level of what is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", env = "MUSTER_AGENT_LOG", default_value = "info")]
    pub log: tracing::Level,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// As JSON
    #[arg(long, env = "MUSTER_AGENT_JSON")]
    pub json: bool,
}

/// Options of `step-runner`.
#[derive(Debug, Args)]
pub struct StepRunnerArgs {
    /// Directory of the step
    #[arg(long)]
    pub dir: PathBuf,
    /// Socket of the device's container engine
    #[arg(long)]
    pub docker_socket: Option<PathBuf>,
    /// The device's server, where it is recognised by a pin
    #[arg(long, requires = "server_pin")]
    pub server: Option<ServerUrl>,
    /// That pin
    #[arg(long, requires = "server")]
    pub server_pin: Option<ServerPin>,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::received(text))
}

fn device_name(text: &str) -> Result<DeviceName, String> {
    DeviceName::parse(text).map_err(|invalid| invalid.to_string())
}

fn group_name(text: &str) -> Result<GroupName, String> {
    GroupName::parse(text).map_err(|invalid| invalid.to_string())
}

/// Does what the command line says.
pub fn main_with(cli: Cli, mut env: AgentEnv) -> anyhow::Result<ExitCode> {
    let state = StateDir::new(cli.state);
    if cli.print_token {
        println!("{}", state.device_token()?.expose());
        return Ok(ExitCode::SUCCESS);
    }
    match cli.command {
        Some(Command::Enroll(args)) => enroll(&state, args, &mut env)?,
        Some(Command::Run(args)) => run(state, args, env)?,
        Some(Command::Status(args)) => print!("{}", status::show(&state, args.json)?),
        Some(Command::StepRunner(args)) => {
            let mut trust = Trust::of_machine(env.crypto);
            if let Some(server) = &args.server {
                trust = trust.pinning(server, args.server_pin);
            }
            runner::run(&args.dir, args.docker_socket, &env.clock, &trust)
                .with_context(|| format!("the step in {}", args.dir.display()))?;
        }
        None => bail!("no command; see --help"),
    }
    Ok(ExitCode::SUCCESS)
}

fn enroll(state: &StateDir, args: EnrollArgs, env: &mut AgentEnv) -> anyhow::Result<()> {
    let trust = Trust::of_machine(Arc::clone(&env.crypto)).pinning(&args.server, args.server_pin);
    let dialer = Dialer::new(args.server, &trust)?;
    let wishes =
        Wishes { pairing_token: args.pairing_token, name: args.name, group: args.group, server_pin: args.server_pin };
    let runtime = runtime()?;
    let enrolled = runtime.block_on(enrol(state, &dialer, wishes, &mut env.rng));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    let enrolled = enrolled?;
    println!("Enrolled as {} ({}) in group {}.", enrolled.name, enrolled.device_uuid, enrolled.group);
    Ok(())
}

fn run(state: StateDir, args: RunArgs, env: AgentEnv) -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().with_max_level(args.log).with_writer(io::stderr).with_target(false);
    // When the executable has set up its own log, that one stays.
    let _ = log.with_ansi(io::stderr().is_terminal()).try_init();
    let AgentEnv { mut step_runner, crypto, clock, mut rng } = env;
    if let Some(socket) = args.docker_socket {
        step_runner.extend(["--docker-socket".into(), socket.into()]);
    }
    if let Some(server) = args.server {
        state.move_server(server, args.server_pin)?;
    }
    let settings = Settings {
        state,
        runner: step_runner,
        reboot_command: args.reboot_command,
        tunnels: args.tunnels,
        trust: Trust::of_machine(crypto),
        clock,
    };
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = agent::run(&settings, &mut rng) => ended,
            () = stdin_closes(args.until_stdin_closes) => Ok(()),
        }
    });
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    Ok(ended?)
}

/// Waits until whoever holds the other end of standard input is gone; for ever when that is not asked for.
async fn stdin_closes(is_awaited: bool) {
    if !is_awaited {
        return std::future::pending().await;
    }
    let mut sink = tokio::io::sink();
    if let Err(error) = tokio::io::copy(&mut tokio::io::stdin(), &mut sink).await {
        tracing::warn!(%error, "standard input cannot be read");
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        cli: Cli,
    }

    #[derive(Parser)]
    struct Embedding {
        #[command(subcommand)]
        command: Embedded,
    }

    #[derive(Subcommand)]
    enum Embedded {
        /// As `muster` has it
        Agent(Cli),
    }

    #[test]
    fn reads_the_same_alone_and_embedded() {
        Alone::command().debug_assert();
        Embedding::command().debug_assert();
        let alone = Alone::parse_from(["muster-agent", "status", "--json", "--state", "/s"]).cli;
        let Embedded::Agent(embedded) =
            Embedding::parse_from(["muster", "agent", "status", "--json", "--state", "/s"]).command;
        for cli in [alone, embedded] {
            assert_eq!(cli.state, PathBuf::from("/s"));
            assert!(matches!(cli.command, Some(Command::Status(StatusArgs { json: true }))));
        }
    }

    #[test]
    fn a_pairing_token_is_not_shown() {
        let args = ["muster-agent", "enroll", "--server", "http://a", "--pairing-token", "mp_secret"];
        assert!(!format!("{:?}", Alone::parse_from(args).cli).contains("mp_secret"));
        let refused =
            Alone::try_parse_from(["muster-agent", "enroll", "--server", "nonsense", "--pairing-token", "mp_secret"]);
        assert!(!refused.err().unwrap().to_string().contains("mp_secret"));
    }
}
