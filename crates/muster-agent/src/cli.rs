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
use muster_core::invalid::quoted;
use muster_core::names::{DeviceName, GroupName};
use muster_core::token::Secret;
use muster_link::ServerPin;
use rand::rngs::StdRng;
use rustls::crypto::CryptoProvider;
use tokio::runtime::{Builder, Runtime};

use crate::agent::{self, Settings};
use crate::command::policy::{CommandPolicy, become_user};
use crate::enroll::{Wishes, enrol};
use crate::net::Dialer;
use crate::remote::{self, FileLevel, FilePolicy, Terminals, TunnelPolicy};
use crate::run::driver::Ended;
use crate::server_url::ServerUrl;
use crate::set_aside::Degraded;
use crate::state::StateDir;
use crate::status;
use crate::step::runner::{self, AboutDevice};
use crate::trust::Trust;
use crate::update::launcher::{self, DEGRADED_ENV, Launched, launch, relaunch};
use crate::update::release::ReleaseTrust;
use crate::update::{LAUNCHER_ENV, RELAUNCH_EXIT_CODE, WATCHED_ENV};

/// A name server that hangs must not keep the program from ending.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// Threads that carry connections, where the device has more than one processor.
const WORKERS: usize = 2;

/// What the agent's commands need from the executable that carries them.
pub struct AgentEnv {
    /// Executes this program again as a step runner: for `muster-agent` its own
    /// path and `step-runner`.
    pub step_runner: Vec<OsString>,
    /// The same as what holds a terminal: its own path and `terminal`.
    pub terminal: Vec<OsString>,
    /// This program, where it is an agent of its own that can be updated; `None` where it
    /// is a part of another.
    pub program: Option<PathBuf>,
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
    /// Become a user, and then a program; started by step runners alone
    #[command(hide = true)]
    BecomeUser(BecomeUserArgs),
    /// Hold a terminal; started by the agent alone
    #[command(hide = true)]
    Terminal(TerminalArgs),
    /// Become a new copy of the agent; started by the launcher alone
    #[command(hide = true)]
    BecomeCopy(BecomeCopyArgs),
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
    /// Public key of minisign, in a file, that signs the agent's releases; may be given again
    #[arg(long, value_name = "FILE")]
    pub release_key: Vec<PathBuf>,
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
    pub server: Option<String>,
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
    /// What people may do with files of the device at most, where the fleet's rules allow it
    #[arg(long, value_name = "WHAT", env = "MUSTER_AGENT_FILES", default_value = "write")]
    pub files: FileLevel,
    /// Files that people may reach, as /srv/**, and no others; may be given again
    #[arg(long, value_name = "PATTERN", env = "MUSTER_AGENT_FILES_ALLOW", value_delimiter = ',')]
    pub files_allow: Vec<String>,
    /// Remote commands: off for none, any for any user, or the users who may run them, as pi,deploy
    #[arg(long, value_name = "WHAT", env = "MUSTER_AGENT_COMMANDS", default_value_t = CommandPolicy::Any)]
    pub commands: CommandPolicy,
    /// User whose terminals the server may open; may be given again, and the first is the default.
    /// Without it there are no terminals
    #[arg(long, value_name = "USER", env = "MUSTER_AGENT_TERMINAL_USERS", value_delimiter = ',')]
    pub terminal_user: Vec<String>,
    /// Socket of the device's container engine; as DOCKER_HOST says, or /var/run/docker.sock otherwise
    #[arg(long, value_name = "PATH", env = "MUSTER_AGENT_DOCKER_SOCKET")]
    pub docker_socket: Option<PathBuf>,
    /// Least level of what is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", env = "MUSTER_AGENT_LOG", default_value = "info")]
    pub log: String,
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
    /// A step may update this program
    #[arg(long)]
    pub updatable: bool,
}

/// Options of `become-user`.
#[derive(Debug, Args)]
pub struct BecomeUserArgs {
    /// The user
    pub user: String,
    /// The program, and what it is started with
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub program: Vec<OsString>,
}

/// Options of `terminal`.
#[derive(Debug, Args)]
pub struct TerminalArgs {
    /// Whose it is
    #[arg(long)]
    pub user: String,
    /// What understands its output
    #[arg(long)]
    pub term: String,
    /// Become the shell
    #[arg(long)]
    pub shell: bool,
}

/// Options of `become-copy`.
#[derive(Debug, Args)]
pub struct BecomeCopyArgs {
    /// The launcher's process
    pub launcher: i32,
    /// The copy
    pub program: PathBuf,
    /// What it is started with
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
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
        Some(Command::Run(args)) => return run(state, args, env),
        Some(Command::Status(args)) => print!("{}", status::show(&state, args.json)?),
        Some(Command::StepRunner(args)) => {
            let mut trust = Trust::of_machine(env.crypto);
            if let Some(server) = &args.server {
                trust = trust.pinning(server, args.server_pin);
            }
            let about = AboutDevice { docker_socket: args.docker_socket, is_updatable: args.updatable };
            runner::run(&args.dir, about, &env.clock, &trust)
                .with_context(|| format!("the step in {}", args.dir.display()))?;
        }
        Some(Command::BecomeUser(args)) => match become_user(&args.user, &args.program)? {},
        Some(Command::Terminal(args)) if args.shell => return Err(remote::shell::become_shell(&args.user, &args.term)),
        Some(Command::Terminal(_)) => remote::shell::hold()?,
        Some(Command::BecomeCopy(args)) => return Ok(launcher::become_copy(args.launcher, &args.program, &args.args)),
        None => bail!("no command; see --help"),
    }
    Ok(ExitCode::SUCCESS)
}

fn enroll(state: &StateDir, args: EnrollArgs, env: &mut AgentEnv) -> anyhow::Result<()> {
    state.create()?;
    for file in &args.release_key {
        let trust = ReleaseTrust::new(state.path());
        trust.add_key(file).with_context(|| format!("the release key in {}", file.display()))?;
    }
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

fn run(state: StateDir, args: RunArgs, env: AgentEnv) -> anyhow::Result<ExitCode> {
    let degraded = Degraded::default();
    start_log(&args.log, &degraded);
    let given: Vec<OsString> = std::env::args_os().skip(1).collect();
    // A copy has been launched already.
    let is_copy = std::env::var_os(LAUNCHER_ENV).is_some();
    let own_launcher = env.program.clone().filter(|_| !is_copy);
    if let Some(program) = &own_launcher {
        match launch(state.path(), program, &given) {
            Launched::Ended(code) => return Ok(code),
            Launched::Here(reasons) => reasons.into_iter().for_each(|reason| degraded.add(reason)),
        }
    }
    let told = std::env::var(DEGRADED_ENV).unwrap_or_default();
    told.lines().filter(|_| is_copy).for_each(|reason| degraded.add(reason.to_owned()));
    if let Some(server) = args.server.as_deref() {
        move_server(&state, server, args.server_pin, &degraded)?;
    }
    let AgentEnv { mut step_runner, terminal, crypto, clock, mut rng, program } = env;
    step_runner.extend(program.map(|_| "--updatable".into()));
    let files = FilePolicy::new(args.files, args.files_allow, state.path());
    let files = files.map_err(|invalid| anyhow::anyhow!("--files-allow: {invalid}"))?;
    let settings = Settings {
        state,
        runner: step_runner,
        docker_socket: args.docker_socket,
        reboot_command: args.reboot_command,
        degraded,
        tunnels: args.tunnels,
        files: Arc::new(files),
        commands: args.commands,
        terminals: Terminals::new(args.terminal_user, terminal),
        trust: Trust::of_machine(crypto),
        clock,
    };
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = agent::run(&settings, &mut rng) => ended,
            () = stdin_closes(args.until_stdin_closes) => Ok(Ended::Stopped),
        }
    });
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    match ended? {
        Ended::Stopped => Ok(ExitCode::SUCCESS),
        Ended::Relaunch => give_way(own_launcher, &given),
    }
}

/// Lets the launcher look again what is due.
fn give_way(own_launcher: Option<PathBuf>, args: &[OsString]) -> anyhow::Result<ExitCode> {
    if std::env::var_os(WATCHED_ENV).is_some() {
        return Ok(ExitCode::from(RELAUNCH_EXIT_CODE));
    }
    let launcher = own_launcher.or_else(|| std::env::var_os(LAUNCHER_ENV).map(PathBuf::from));
    let launcher = launcher.context("there is no launcher")?;
    Err(relaunch(&launcher, args)).with_context(|| format!("cannot start {}", launcher.display()))
}

/// A level that is none keeps no agent from connecting.
fn start_log(level: &str, degraded: &Degraded) {
    let parsed = level.parse::<tracing::Level>().ok();
    let max = parsed.unwrap_or(tracing::Level::INFO);
    let log = tracing_subscriber::fmt().with_max_level(max).with_writer(io::stderr).with_target(false);
    // When the executable has set up its own log, that one stays.
    let _ = log.with_ansi(io::stderr().is_terminal()).try_init();
    if parsed.is_none() {
        let reason = format!("{} is no level of the log; info is taken", quoted(level));
        tracing::error!(reason, "the agent is degraded");
        degraded.add(reason);
    }
}

/// An address that is none leaves the device with the server that it has.
fn move_server(state: &StateDir, server: &str, pin: Option<ServerPin>, degraded: &Degraded) -> anyhow::Result<()> {
    match server.parse::<ServerUrl>() {
        Ok(server) => Ok(state.move_server(server, pin)?),
        Err(error) => {
            let reason = format!("{} is no address of a server ({error}); the present one is kept", quoted(server));
            tracing::error!(reason, "the agent is degraded");
            degraded.add(reason);
            Ok(())
        }
    }
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

/// Two threads where the device has two processors: otherwise the requests of many
/// connections wait for each other at one, while the server handles them side by side.
fn runtime() -> anyhow::Result<Runtime> {
    let has_two = std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1);
    let mut builder = if has_two { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    builder.worker_threads(WORKERS).enable_all().build().context("cannot start")
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
