//! What every request and every task of the server holds.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use muster_core::clock::Clock;
use muster_store::Store;
use rand::rngs::StdRng;

use crate::access::passwords::Passwords;
use crate::access::rate::CallLimit;
use crate::access::vault::Vault;
use crate::artifacts::objects::Objects;
use crate::artifacts::upstream::Upstream;
use crate::config::ServerConfig;
use crate::deploy::reports::ReportSink;
use crate::deploy::wake::Wake;
use crate::link::registry::Links;
use crate::remote::carriers::Carriers;
use crate::remote::live::Tunnels;
use crate::remote::recordings::Recordings;
use crate::remote::sessions::Sessions;
use crate::telemetry::buffer::KeepaliveBuffer;
use crate::telemetry::file_store::FileStore;

/// A cheap handle to the parts of one server.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of one server.
pub struct Parts {
    /// Everything that lasts.
    pub store: Store,
    /// The settings.
    pub config: ServerConfig,
    /// The links that this server holds.
    pub links: Links,
    /// The carriers of streams that devices have dialled.
    pub carriers: Carriers,
    /// The port tunnels that this server holds.
    pub tunnels: Tunnels,
    /// The sessions of people on devices that this server holds.
    pub sessions: Sessions,
    /// What terminals showed.
    pub recordings: Recordings,
    /// Wakes the deployment engine.
    pub wake: Wake,
    /// Takes reports of devices.
    pub reports: ReportSink,
    /// Gathers keepalives.
    pub keepalives: KeepaliveBuffer,
    /// Calls of API v1, for each device token.
    pub device_calls: CallLimit,
    /// Calls of the Agent API, for each device token.
    pub agent_calls: CallLimit,
    /// Files sent, for each device token.
    pub log_file_calls: CallLimit,
    /// Calls of whatever kind, for each address.
    pub address_calls: CallLimit<IpAddr>,
    /// Calls of API v2, for each access token.
    pub token_calls: CallLimit,
    /// Calls of the Tag Service, for each access key.
    pub access_key_calls: CallLimit,
    /// Calls of API v1, for each account token.
    pub account_calls: CallLimit,
    /// Attempts to log in, from each address.
    pub login_sources: CallLimit<IpAddr>,
    /// Attempts to log in, as each user name.
    pub login_names: CallLimit<String>,
    /// Refused calls and failed logins that the audit log keeps, of each actor or address.
    pub audited_refusals: CallLimit<String>,
    /// What devices have sent as files.
    pub files: FileStore,
    /// What artifacts hold.
    pub objects: Objects,
    /// Fetches of registries for devices.
    pub upstream: Upstream,
    /// Where it listens.
    pub address: SocketAddr,
    /// Hashes passwords.
    pub passwords: Passwords,
    /// Seals secrets.
    pub vault: Vault,
    /// Names this run of the server in the database.
    pub server_id: String,
    /// Names this server in the database, whatever its run.
    pub home: String,
    /// Where nonces and request ids come from.
    pub rng: Mutex<StdRng>,
}

impl App {
    /// Ties the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        self.store.clock()
    }

    /// How devices reach the server, where no request says it: as the operator says, else
    /// by the address that it listens on.
    pub fn base_url(&self) -> String {
        self.base_url_at(&self.address.to_string())
    }

    /// How clients reach the server that reached it at `host`, as far as it sees: as the
    /// operator says, else there.
    pub fn base_url_at(&self, host: &str) -> String {
        let scheme = if self.config.tls.is_some() { "https" } else { "http" };
        self.config.public_url.clone().unwrap_or_else(|| format!("{scheme}://{host}"))
    }

    /// Makes something random.
    pub fn random<T>(&self, make: impl FnOnce(&mut StdRng) -> T) -> T {
        make(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
