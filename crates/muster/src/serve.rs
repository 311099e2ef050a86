//! `muster serve`.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ipnet::IpNet;
use muster_core::clock::Clock;
use muster_core::limits::{
    ACCOUNT_TAGS_DEFAULT, ARTIFACT_BYTES_MAX, ARTIFACT_FREE_BYTES_MIN, BODY_BYTES_MAX, COMMAND_RUNS_KEPT_DEFAULT,
    PENDING_DEADLINE, RECORDING_DAYS_DEFAULT, SERVER_CONNECTIONS_DEFAULT, SESSIONS_KEPT_DEFAULT,
    STREAM_HALF_CLOSED_IDLE, STREAM_IDLE_DEFAULT, TERMINAL_IDLE_DEFAULT, TUNNEL_CONNECTIONS_DEFAULT,
    TUNNEL_LIFETIME_DEFAULT, TUNNEL_LIFETIME_MAX,
};
use muster_core::tunnel::TunnelPorts;
use muster_link::stream::Limits;
use muster_server::config::{
    ACCESS_KEY_CALLS_PER_MINUTE, ACCESS_TOKEN_CALLS_PER_MINUTE, ADDRESS_CALLS_PER_MINUTE, AGENT_API_CALLS_PER_MINUTE,
    Bucket, LOG_FILE_CALLS_PER_MINUTE, LOGIN_ATTEMPTS_PER_MINUTE, TUNNEL_DOMAIN, V1_ACCOUNT_CALLS_PER_MINUTE,
    V1_DEVICE_CALLS_PER_MINUTE,
};
use muster_server::{Server, ServerConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::tls_args::TlsArgs;

/// Options of `muster serve`. Each is also a key of the settings file.
#[derive(Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Where to listen; port 0 for any free one
    #[arg(long, value_name = "ADDR", env = "MUSTER_LISTEN", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// Calls a minute that each device token may make on the Agent API
    #[arg(long, value_name = "N", env = "MUSTER_AGENT_API_CALLS_PER_MINUTE", default_value_t = AGENT_API_CALLS_PER_MINUTE)]
    pub(crate) agent_api_calls_per_minute: NonZeroU32,
    /// Calls a minute that each address may make, whatever they are
    #[arg(long, value_name = "N", env = "MUSTER_ADDRESS_CALLS_PER_MINUTE", default_value_t = ADDRESS_CALLS_PER_MINUTE)]
    pub(crate) address_calls_per_minute: NonZeroU32,
    /// Calls a minute that each access token may make on API v2
    #[arg(long, value_name = "N", env = "MUSTER_ACCESS_TOKEN_CALLS_PER_MINUTE", default_value_t = ACCESS_TOKEN_CALLS_PER_MINUTE)]
    pub(crate) access_token_calls_per_minute: NonZeroU32,
    /// Calls a minute that each access key may make on the Tag Service
    #[arg(long, value_name = "N", env = "MUSTER_ACCESS_KEY_CALLS_PER_MINUTE", default_value_t = ACCESS_KEY_CALLS_PER_MINUTE)]
    pub(crate) access_key_calls_per_minute: NonZeroU32,
    /// Networks of proxies that are believed about whom a request comes from, comma-separated
    #[arg(long, value_name = "CIDR", env = "MUSTER_TRUSTED_PROXIES", value_delimiter = ',')]
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// The largest body of a request, in bytes
    #[arg(long, value_name = "BYTES", env = "MUSTER_BODY_BYTES_MAX", default_value_t = BODY_BYTES_MAX,
          value_parser = body_bytes)]
    pub(crate) body_bytes_max: usize,
    /// Calls a minute that each device token may make on API v1
    #[arg(long, value_name = "N", env = "MUSTER_V1_DEVICE_CALLS_PER_MINUTE", default_value_t = V1_DEVICE_CALLS_PER_MINUTE)]
    pub(crate) v1_device_calls_per_minute: NonZeroU32,
    /// Files a minute that each device token may send
    #[arg(long, value_name = "N", env = "MUSTER_LOG_FILE_CALLS_PER_MINUTE", default_value_t = LOG_FILE_CALLS_PER_MINUTE)]
    pub(crate) log_file_calls_per_minute: NonZeroU32,
    /// Calls a minute that each account token may make on API v1
    #[arg(long, value_name = "N", env = "MUSTER_V1_ACCOUNT_CALLS_PER_MINUTE", default_value_t = V1_ACCOUNT_CALLS_PER_MINUTE)]
    pub(crate) v1_account_calls_per_minute: NonZeroU32,
    /// Hours that a device may stay pending in a deployment
    #[arg(long, value_name = "HOURS", env = "MUSTER_PENDING_DEADLINE_HOURS", default_value_t = PENDING_DEADLINE_HOURS,
          value_parser = clap::value_parser!(u64).range(1..=PENDING_DEADLINE_HOURS_MAX))]
    pub(crate) pending_deadline_hours: u64,
    /// Tags of an account beyond which the Tag Service makes no more
    #[arg(long, value_name = "N", env = "MUSTER_ACCOUNT_TAGS_MAX", default_value_t = ACCOUNT_TAGS_DEFAULT)]
    pub(crate) account_tags_max: u32,
    /// Attempts a minute to log in, for each address and for each user name
    #[arg(long, value_name = "N", env = "MUSTER_LOGIN_ATTEMPTS_PER_MINUTE", default_value_t = LOGIN_ATTEMPTS_PER_MINUTE)]
    pub(crate) login_attempts_per_minute: NonZeroU32,
    /// Key that seals secrets, made at the first start; by default secret.key in the data folder.
    /// Servers that share a database need the same file
    #[arg(long, value_name = "FILE", env = "MUSTER_SECRET_KEY_FILE")]
    pub(crate) secret_key_file: Option<PathBuf>,
    /// Minutes that a port tunnel lasts at most
    #[arg(long, value_name = "MINUTES", env = "MUSTER_TUNNEL_LIFETIME_MINUTES",
          default_value_t = TUNNEL_LIFETIME_DEFAULT.as_secs() / SECONDS_PER_MINUTE,
          value_parser = clap::value_parser!(u64).range(1..=TUNNEL_LIFETIME_MAX.as_secs() / SECONDS_PER_MINUTE))]
    pub(crate) tunnel_lifetime_minutes: u64,
    /// Days for which runs of remote commands are kept, with their output
    #[arg(long, value_name = "DAYS", env = "MUSTER_COMMAND_RUNS_KEPT_DAYS",
          default_value_t = COMMAND_RUNS_KEPT_DEFAULT.as_secs() / SECONDS_PER_DAY,
          value_parser = clap::value_parser!(u64).range(1..=3_650))]
    pub(crate) command_runs_kept_days: u64,
    /// Days for which remote sessions and port tunnels are kept that are over
    #[arg(long, value_name = "DAYS", env = "MUSTER_SESSIONS_KEPT_DAYS",
          default_value_t = SESSIONS_KEPT_DEFAULT.as_secs() / SECONDS_PER_DAY,
          value_parser = clap::value_parser!(u64).range(1..=3_650))]
    pub(crate) sessions_kept_days: u64,
    /// Domain below which each port tunnel has a name of its own
    #[arg(long, value_name = "DOMAIN", env = "MUSTER_TUNNEL_DOMAIN", default_value = TUNNEL_DOMAIN,
          value_parser = muster_core::tunnel::domain)]
    pub(crate) tunnel_domain: String,
    /// Address at which port tunnels listen; by default that of --listen
    #[arg(long, value_name = "IP", env = "MUSTER_TUNNEL_LISTEN")]
    pub(crate) tunnel_listen: Option<IpAddr>,
    /// Ports at which port tunnels listen, as 20000-20999; 0 for any free ones
    #[arg(long, value_name = "PORTS", env = "MUSTER_TUNNEL_PORTS", default_value_t = TunnelPorts::DEFAULT)]
    pub(crate) tunnel_ports: TunnelPorts,
    /// Connections at once through one port tunnel
    #[arg(long, value_name = "N", env = "MUSTER_TUNNEL_CONNECTIONS_MAX", default_value_t = TUNNEL_CONNECTIONS_DEFAULT)]
    pub(crate) tunnel_connections_max: usize,
    /// Connections at once through all port tunnels
    #[arg(long, value_name = "N", env = "MUSTER_CONNECTIONS_MAX", default_value_t = SERVER_CONNECTIONS_DEFAULT)]
    pub(crate) connections_max: usize,
    /// Seconds after which a connection through a port tunnel ends in which nothing moves
    #[arg(long, value_name = "SECONDS", env = "MUSTER_TUNNEL_IDLE_SECONDS",
          default_value_t = STREAM_IDLE_DEFAULT.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=TUNNEL_LIFETIME_MAX.as_secs()))]
    pub(crate) tunnel_idle_seconds: u64,
    /// Minutes after which a terminal ends in which nobody types
    #[arg(long, value_name = "MINUTES", env = "MUSTER_TERMINAL_IDLE_MINUTES",
          default_value_t = TERMINAL_IDLE_DEFAULT.as_secs() / SECONDS_PER_MINUTE,
          value_parser = clap::value_parser!(u64).range(1..=TUNNEL_LIFETIME_MAX.as_secs() / SECONDS_PER_MINUTE))]
    pub(crate) terminal_idle_minutes: u64,
    /// Days that recordings of terminals are kept
    #[arg(long, value_name = "DAYS", env = "MUSTER_RECORDING_DAYS", default_value_t = RECORDING_DAYS_DEFAULT,
          value_parser = clap::value_parser!(u64).range(1..=RECORDING_DAYS_MAX))]
    pub(crate) recording_days: u64,
    /// Record what is typed in terminals as well as what they show: passwords too
    #[arg(long, env = "MUSTER_RECORD_INPUT")]
    pub(crate) record_input: bool,
    /// Folder of what artifacts hold; by default artifacts in the data folder. Servers that
    /// share a database need the same folder
    #[arg(long, value_name = "DIR", env = "MUSTER_ARTIFACT_FOLDER")]
    pub(crate) artifact_folder: Option<PathBuf>,
    /// Bucket of what artifacts hold, in the place of the folder: s3://BUCKET or s3://BUCKET/PREFIX.
    /// Its address and credentials come from AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY and the like
    #[arg(long, value_name = "URL", env = "MUSTER_ARTIFACT_STORE", conflicts_with = "artifact_folder")]
    pub(crate) artifact_store: Option<Bucket>,
    /// What uploads of artifacts leave free of the folder's file system, in bytes
    #[arg(long, value_name = "BYTES", env = "MUSTER_ARTIFACT_FREE_BYTES_MIN", default_value_t = ARTIFACT_FREE_BYTES_MIN)]
    pub(crate) artifact_free_bytes_min: u64,
    /// What the artifacts of an account may have together, in bytes; by default as much as there is
    #[arg(long, value_name = "BYTES", env = "MUSTER_ARTIFACT_QUOTA_BYTES")]
    pub(crate) artifact_quota_bytes: Option<u64>,
    /// The largest artifact, in bytes
    #[arg(long, value_name = "BYTES", env = "MUSTER_ARTIFACT_BYTES_MAX", default_value_t = ARTIFACT_BYTES_MAX)]
    pub(crate) artifact_bytes_max: u64,
    /// How clients reach the server, as https://muster.example.com; by default as each request says
    #[arg(long, value_name = "URL", env = "MUSTER_PUBLIC_URL", value_parser = public_url)]
    pub(crate) public_url: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or a filter like muster_server=debug
    #[arg(long, value_name = "FILTER", env = "MUSTER_LOG", default_value = "info")]
    pub(crate) log: String,
    /// TOML file with any of these settings
    #[arg(long, value_name = "FILE", env = "MUSTER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

const SECONDS_PER_MINUTE: u64 = 60;
const SECONDS_PER_HOUR: u64 = 60 * SECONDS_PER_MINUTE;
const SECONDS_PER_DAY: u64 = 24 * SECONDS_PER_HOUR;
const RECORDING_DAYS_MAX: u64 = 3_660;
const PENDING_DEADLINE_HOURS: u64 = PENDING_DEADLINE.as_secs() / SECONDS_PER_HOUR;
const PENDING_DEADLINE_HOURS_MAX: u64 = 366 * 24;

/// Where the data is.
#[derive(Args, Clone)]
pub(crate) struct DatabaseArgs {
    /// Folder for the data of the server
    #[arg(long, value_name = "DIR", env = "MUSTER_DATA", default_value = "muster-data")]
    pub(crate) data: PathBuf,
    /// PostgreSQL database to use in place of the SQLite file in the data folder
    #[arg(long, value_name = "URL", env = "MUSTER_DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
}

/// A body that cannot hold one update flow is of no use, one of gigabytes would be held in memory.
const BODY_BYTES_BOUNDS: std::ops::RangeInclusive<usize> = BODY_BYTES_MAX..=64 * BODY_BYTES_MAX;

fn body_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| "is not a number of bytes".to_owned())?;
    let (min, max) = (BODY_BYTES_BOUNDS.start(), BODY_BYTES_BOUNDS.end());
    if BODY_BYTES_BOUNDS.contains(&bytes) { Ok(bytes) } else { Err(format!("is not from {min} to {max}")) }
}

fn public_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest.map(|rest| rest.trim_end_matches('/')) {
        Some(host) if !host.is_empty() && !host.contains([' ', '?', '#', '@']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("is not an address like https://muster.example.com".to_owned()),
    }
}

impl ServeArgs {
    fn server_config(&self) -> ServerConfig {
        let database = &self.database;
        let defaults = ServerConfig::new(database.data.clone(), database.database_url.as_deref(), self.listen);
        ServerConfig {
            login_attempts_per_minute: self.login_attempts_per_minute,
            secret_key_file: self.secret_key_file.clone().unwrap_or(defaults.secret_key_file),
            agent_api_calls_per_minute: self.agent_api_calls_per_minute,
            address_calls_per_minute: self.address_calls_per_minute,
            access_token_calls_per_minute: self.access_token_calls_per_minute,
            access_key_calls_per_minute: self.access_key_calls_per_minute,
            trusted_proxies: self.trusted_proxies.clone(),
            body_bytes_max: self.body_bytes_max,
            v1_device_calls_per_minute: self.v1_device_calls_per_minute,
            log_file_calls_per_minute: self.log_file_calls_per_minute,
            v1_account_calls_per_minute: self.v1_account_calls_per_minute,
            pending_deadline: Duration::from_secs(self.pending_deadline_hours * SECONDS_PER_HOUR),
            tunnel_lifetime: Duration::from_secs(self.tunnel_lifetime_minutes * SECONDS_PER_MINUTE),
            command_runs_kept: Duration::from_secs(self.command_runs_kept_days * SECONDS_PER_DAY),
            sessions_kept: Duration::from_secs(self.sessions_kept_days * SECONDS_PER_DAY),
            tunnel_domain: self.tunnel_domain.clone(),
            tunnel_listen: self.tunnel_listen.unwrap_or(defaults.tunnel_listen),
            tunnel_ports: self.tunnel_ports.clone(),
            tunnel_connections_max: self.tunnel_connections_max,
            terminal_idle: Duration::from_secs(self.terminal_idle_minutes * SECONDS_PER_MINUTE),
            recordings_kept: Duration::from_secs(self.recording_days * SECONDS_PER_DAY),
            records_input: self.record_input,
            connections_max: self.connections_max,
            stream_limits: Limits {
                idle: Duration::from_secs(self.tunnel_idle_seconds),
                half_closed: STREAM_HALF_CLOSED_IDLE.min(Duration::from_secs(self.tunnel_idle_seconds)),
            },
            account_tags_max: self.account_tags_max,
            artifact_folder: self.artifact_folder.clone().unwrap_or(defaults.artifact_folder),
            artifact_bucket: self.artifact_store.clone(),
            artifact_free_bytes_min: self.artifact_free_bytes_min,
            artifact_quota_bytes: self.artifact_quota_bytes,
            artifact_bytes_max: self.artifact_bytes_max,
            public_url: self.public_url.clone(),
            tls: self.tls.source(&database.data, self.listen, self.public_url.as_deref()),
            ..defaults
        }
    }
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    crate::start_logging(&args.log)?;
    allow_open_files();
    crate::runtime()?.block_on(async {
        let server = Server::start(args.server_config(), Clock::system(), muster_store::secure_rng()).await?;
        println!("listening on {}", server.url());
        if let Some(pin) = server.pin() {
            println!("server pin {pin}");
        }
        std::io::stdout().flush().context("standard output")?;
        end_signal().await?;
        server.stop().await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Each link and each connection through a tunnel is an open file, and what a process may
/// have by default is little.
fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn end_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
