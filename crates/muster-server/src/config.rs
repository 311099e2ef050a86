//! What an operator may set. The `muster` executable fills it from its options,
//! the environment and a file; here are the meanings and the defaults.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use muster_core::limits::{
    ACCOUNT_TAGS_DEFAULT, ARTIFACT_BYTES_MAX, ARTIFACT_FREE_BYTES_MIN, BODY_BYTES_MAX, COMMAND_RUNS_KEPT_DEFAULT,
    PENDING_DEADLINE, RECORDING_BYTES_MAX, RECORDING_DAYS_DEFAULT, SERVER_CONNECTIONS_DEFAULT, SESSIONS_KEPT_DEFAULT,
    STREAM_HALF_CLOSED_IDLE, STREAM_IDLE_DEFAULT, TERMINAL_IDLE_DEFAULT, TUNNEL_CONNECTIONS_DEFAULT,
    TUNNEL_LIFETIME_DEFAULT,
};
use muster_core::tunnel::TunnelPorts;
use muster_link::stream::Limits;
use muster_store::Location;

use crate::tls::TlsSource;

/// Settings of one server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen; port 0 for any free one.
    pub listen: SocketAddr,
    /// The folder for everything that is not in the database.
    pub data: PathBuf,
    /// The database.
    pub database: Location,
    /// Calls a minute that each address may make, whatever they are.
    pub address_calls_per_minute: NonZeroU32,
    /// Calls a minute that each access token may make on API v2.
    pub access_token_calls_per_minute: NonZeroU32,
    /// Calls a minute that each access key may make on the Tag Service.
    pub access_key_calls_per_minute: NonZeroU32,
    /// Proxies whose word about a request's sender is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// The largest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// Calls a minute that each device token may make on API v1.
    pub v1_device_calls_per_minute: NonZeroU32,
    /// Calls a minute that each device token may make on the Agent API.
    pub agent_api_calls_per_minute: NonZeroU32,
    /// Files a minute that each device token may send.
    pub log_file_calls_per_minute: NonZeroU32,
    /// Calls a minute that each account token may make on API v1.
    pub v1_account_calls_per_minute: NonZeroU32,
    /// How long a device may stay pending in a deployment.
    pub pending_deadline: Duration,
    /// Attempts a minute to log in, for each address and for each user name.
    pub login_attempts_per_minute: NonZeroU32,
    /// The key that seals secrets. It lies outside the database, and several servers of
    /// one database need the same.
    pub secret_key_file: PathBuf,
    /// How long a port tunnel lasts; at most [`TUNNEL_LIFETIME_MAX`](muster_core::limits::TUNNEL_LIFETIME_MAX).
    pub tunnel_lifetime: Duration,
    /// Below this domain each tunnel has a name of its own.
    pub tunnel_domain: String,
    /// The address at which port tunnels listen.
    pub tunnel_listen: IpAddr,
    /// The ports at which they listen.
    pub tunnel_ports: TunnelPorts,
    /// Connections at once through one port tunnel.
    pub tunnel_connections_max: usize,
    /// Connections at once through all of them.
    pub connections_max: usize,
    /// How long nothing may move in a connection through a port tunnel.
    pub stream_limits: Limits,
    /// How long runs of remote commands are kept.
    pub command_runs_kept: Duration,
    /// How long sessions and port tunnels are kept that are over.
    pub sessions_kept: Duration,
    /// How long nobody may type in a terminal.
    pub terminal_idle: Duration,
    /// Whether recordings of terminals hold what was typed, passwords too.
    pub records_input: bool,
    /// How long recordings of terminals are kept.
    pub recordings_kept: Duration,
    /// Bytes of a recording, after which it ends and the terminal goes on.
    pub recording_bytes_max: u64,
    /// Tags of an account beyond which the Tag Service makes no more.
    pub account_tags_max: u32,
    /// The folder of what artifacts hold. Several servers of one database need the same.
    pub artifact_folder: PathBuf,
    /// Where artifacts lie on S3, in the place of the folder.
    pub artifact_bucket: Option<Bucket>,
    /// What uploads of artifacts leave free of the folder's file system, in bytes.
    pub artifact_free_bytes_min: u64,
    /// What the artifacts of an account may have together, in bytes.
    pub artifact_quota_bytes: Option<u64>,
    /// The largest artifact, in bytes.
    pub artifact_bytes_max: u64,
    /// How clients reach the server, without a slash at the end; else as each request says.
    pub public_url: Option<String>,
    /// The certificate that is shown; without one the server speaks in the clear.
    pub tls: Option<TlsSource>,
}

/// Calls a minute that each address may make: a hundred a second, for a whole site behind one address.
pub const ADDRESS_CALLS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(6_000).expect("it is not zero");
/// Calls a minute that each access token may make on API v2.
pub const ACCESS_TOKEN_CALLS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(3_000).expect("it is not zero");
/// Calls a minute that each access key may make on the Tag Service.
pub const ACCESS_KEY_CALLS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(3_000).expect("it is not zero");
/// Calls a minute that each device token may make on API v1: the documented three.
pub const V1_DEVICE_CALLS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(3).expect("three is not zero");
/// Calls a minute that each device token may make on the Agent API: twice what the
/// shortest heartbeat of a fleet asks for, and some.
pub const AGENT_API_CALLS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(30).expect("it is not zero");
/// Files a minute that each device token may send: the documented one.
pub const LOG_FILE_CALLS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(1).expect("one is not zero");
/// Calls a minute that each account token may make on API v1.
pub const V1_ACCOUNT_CALLS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(600).expect("it is not zero");

/// Attempts a minute to log in, for each address and for each user name.
pub const LOGIN_ATTEMPTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");
/// The file of the key that seals secrets, in the data folder, unless another is named.
pub const SECRET_KEY_FILE: &str = "secret.key";
/// The folder of what artifacts hold, in the data folder, unless another is named.
pub const ARTIFACT_FOLDER: &str = "artifacts";
/// The domain of tunnels, unless the operator has one.
pub const TUNNEL_DOMAIN: &str = "forwarding.localhost";

/// A place on S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket's name.
    pub name: String,
    /// Before every key, without slashes around it; may be empty.
    pub prefix: String,
}

impl std::str::FromStr for Bucket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is not of the form s3://BUCKET or s3://BUCKET/PREFIX");
        let rest = text.strip_prefix("s3://").ok_or_else(refused)?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let prefix = prefix.trim_end_matches('/');
        let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(is_name);
        if !is_part(name) || !(prefix.is_empty() || prefix.split('/').all(is_part)) {
            return Err(refused());
        }
        Ok(Self { name: name.to_owned(), prefix: prefix.to_owned() })
    }
}

impl ServerConfig {
    /// The defaults, for that data folder and address.
    pub fn new(data: PathBuf, database_url: Option<&str>, listen: SocketAddr) -> Self {
        Self {
            listen,
            database: Location::new(&data, database_url),
            secret_key_file: data.join(SECRET_KEY_FILE),
            login_attempts_per_minute: LOGIN_ATTEMPTS_PER_MINUTE,
            artifact_folder: data.join(ARTIFACT_FOLDER),
            artifact_bucket: None,
            artifact_free_bytes_min: ARTIFACT_FREE_BYTES_MIN,
            artifact_quota_bytes: None,
            artifact_bytes_max: ARTIFACT_BYTES_MAX,
            public_url: None,
            tls: None,
            data,
            address_calls_per_minute: ADDRESS_CALLS_PER_MINUTE,
            access_token_calls_per_minute: ACCESS_TOKEN_CALLS_PER_MINUTE,
            access_key_calls_per_minute: ACCESS_KEY_CALLS_PER_MINUTE,
            trusted_proxies: Vec::new(),
            body_bytes_max: BODY_BYTES_MAX,
            v1_device_calls_per_minute: V1_DEVICE_CALLS_PER_MINUTE,
            agent_api_calls_per_minute: AGENT_API_CALLS_PER_MINUTE,
            log_file_calls_per_minute: LOG_FILE_CALLS_PER_MINUTE,
            v1_account_calls_per_minute: V1_ACCOUNT_CALLS_PER_MINUTE,
            pending_deadline: PENDING_DEADLINE,
            tunnel_lifetime: TUNNEL_LIFETIME_DEFAULT,
            tunnel_domain: TUNNEL_DOMAIN.to_owned(),
            tunnel_listen: listen.ip(),
            tunnel_ports: TunnelPorts::DEFAULT,
            tunnel_connections_max: TUNNEL_CONNECTIONS_DEFAULT,
            connections_max: SERVER_CONNECTIONS_DEFAULT,
            stream_limits: Limits { idle: STREAM_IDLE_DEFAULT, half_closed: STREAM_HALF_CLOSED_IDLE },
            command_runs_kept: COMMAND_RUNS_KEPT_DEFAULT,
            sessions_kept: SESSIONS_KEPT_DEFAULT,
            terminal_idle: TERMINAL_IDLE_DEFAULT,
            records_input: false,
            recordings_kept: Duration::from_secs(RECORDING_DAYS_DEFAULT * 24 * 60 * 60),
            recording_bytes_max: RECORDING_BYTES_MAX,
            account_tags_max: ACCOUNT_TAGS_DEFAULT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_named_with_its_prefix() {
        let bucket = |name: &str, prefix: &str| Bucket { name: name.to_owned(), prefix: prefix.to_owned() };
        for (text, expected) in [
            ("s3://files", bucket("files", "")),
            ("s3://files/", bucket("files", "")),
            ("s3://my.files-1/a/b/", bucket("my.files-1", "a/b")),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
        for text in ["", "files", "s3://", "s3:///a", "s3://a//b", "s3://a/../b", "s3://a/b c", "https://a"] {
            assert!(text.parse::<Bucket>().is_err(), "{text}");
        }
    }
}
