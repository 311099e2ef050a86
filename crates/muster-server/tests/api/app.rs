//! A running server on a database of its own, and the callers that tests name.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_core::access_key::TagPolicy;
use muster_core::clock::Clock;
use muster_core::names::{Text, UserName};
use muster_core::tunnel::TunnelPorts;
use muster_link::Identity;
use muster_server::access::access_keys::{self, KeyOrder};
use muster_server::access::bce_auth::Signer;
use muster_server::app::App;
use muster_server::deploy::engine;
use muster_server::error::WorkError;
use muster_server::remote::command_runs;
use muster_server::{Server, ServerConfig};
use muster_store::audit::AuditFilter;
use muster_store::testing::{Engine, START, TestDatabase};
use muster_store::{Store, Tx};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;

use crate::caller::Caller;
use crate::house::{House, Keys};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// More calls than any test makes.
const PLENTY: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

/// One running server. Its clock stands still until a test moves it.
pub(crate) struct TestApp {
    server: Server,
    http: reqwest::Client,
    house: House,
    rng: Mutex<StdRng>,
    _database: TestDatabase,
    _data: TempDir,
}

impl TestApp {
    pub(crate) async fn start(engine: Engine, settings: impl FnOnce(&mut ServerConfig)) -> Self {
        let clock = Clock::manual(START);
        let database = TestDatabase::start(engine, clock.clone()).await;
        let data = tempfile::Builder::new().prefix("muster-server").tempdir().unwrap();
        let mut config = ServerConfig {
            database: database.location().clone(),
            address_calls_per_minute: PLENTY,
            access_token_calls_per_minute: PLENTY,
            access_key_calls_per_minute: PLENTY,
            v1_device_calls_per_minute: PLENTY,
            v1_account_calls_per_minute: PLENTY,
            login_attempts_per_minute: PLENTY,
            agent_api_calls_per_minute: PLENTY,
            log_file_calls_per_minute: PLENTY,
            tunnel_ports: TunnelPorts::ANY,
            tunnel_connections_max: 8,
            ..ServerConfig::new(data.path().to_owned(), None, ([127, 0, 0, 1], 0).into())
        };
        settings(&mut config);
        let server = Server::start(config, clock, StdRng::seed_from_u64(2)).await.unwrap();
        let house = House::build(&server.app().store).await;
        // Where another test was first, it is the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let rng = Mutex::new(StdRng::seed_from_u64(3));
        Self { server, http, house, rng, _database: database, _data: data }
    }

    /// Ends the server, which must be able to at any moment.
    pub(crate) async fn stop(self) {
        self.server.stop().await.unwrap();
    }

    /// The server's own parts.
    pub(crate) fn app(&self) -> &App {
        self.server.app()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.app().store
    }

    pub(crate) fn house(&self) -> &House {
        &self.house
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.server.address()
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Nobody: bears no token at all.
    pub(crate) fn anon(&self) -> Caller<'_> {
        Caller::new(self, Keys::none())
    }

    /// May look at the fleet `demo`.
    pub(crate) fn viewer(&self) -> Caller<'_> {
        self.caller("viewer")
    }

    /// May deploy in the fleet `demo`, and change its devices.
    pub(crate) fn operator(&self) -> Caller<'_> {
        self.caller("operator")
    }

    /// May do everything in the account.
    pub(crate) fn admin(&self) -> Caller<'_> {
        self.caller("admin")
    }

    /// An operator of the fleet `second` of the same account, and of no other.
    pub(crate) fn neighbour(&self) -> Caller<'_> {
        self.caller("neighbour")
    }

    /// The administrator of another account.
    pub(crate) fn stranger(&self) -> Caller<'_> {
        self.caller("stranger")
    }

    /// A caller that bears these tokens.
    pub(crate) fn bearer(&self, keys: Keys) -> Caller<'_> {
        Caller::new(self, keys)
    }

    fn caller(&self, name: &str) -> Caller<'_> {
        Caller::new(self, self.house.keys[name].clone())
    }

    /// Signs as that user, with a new access key.
    pub(crate) async fn signer(&self, user: &str, policy: TagPolicy) -> Signer {
        let app = self.app();
        let order = KeyOrder { description: Text::parse("").unwrap(), user: None, policy };
        let mut rng = app.random(StdRng::from_rng);
        let user = UserName::parse(user).unwrap();
        let (key, secret) =
            access_keys::create_by_operator(&app.store, &app.vault, &user, &order, &mut rng).await.unwrap();
        Signer::new(key.access_key_id, secret)
    }

    /// A key that no other device of the test has.
    pub(crate) fn identity(&self) -> Identity {
        Identity::random(&mut *self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes something behind the server's back.
    pub(crate) async fn write<T>(&self, work: impl AsyncFn(Arc<Tx>) -> Result<T, WorkError>) -> T {
        write(self.store(), work).await
    }

    /// Lets time pass, and everything happen that was due by then.
    pub(crate) async fn wait(&self, duration: Duration) {
        self.app().clock().advance(duration);
        engine::expire(self.store()).await.unwrap();
        muster_server::remote::tunnels::expire(self.app()).await.unwrap();
        command_runs::expire(self.app()).await.unwrap();
        self.reconcile().await;
    }

    /// One whole pass of the engine: what it does not do now, it does not do at all.
    pub(crate) async fn reconcile(&self) {
        engine::roll_out(self.app()).await.unwrap();
        engine::send_due(self.app(), None).await.unwrap();
        command_runs::send_due(self.app(), None).await.unwrap();
    }

    /// Everything that the keepalives have said so far is stored.
    pub(crate) async fn flush_keepalives(&self) {
        muster_server::telemetry::flush(self.app()).await;
    }

    /// The account's audit log, oldest first: who, what, to what, and the detail.
    pub(crate) async fn audit(&self) -> Vec<String> {
        let events =
            self.store().read().audit_page(self.house.account_id, &AuditFilter::default(), None, 1_000).await.unwrap();
        let line = |event: &muster_store::audit::AuditEvent| {
            format!("{} {} {} {} {}", event.actor, event.action, event.subject, event.source_ip, event.detail)
        };
        events.iter().rev().map(line).collect()
    }
}

/// Runs `work` in one transaction of the store.
pub(crate) async fn write<T>(store: &Store, work: impl AsyncFn(Arc<Tx>) -> Result<T, WorkError>) -> T {
    store.write(|tx| work(tx)).await.unwrap()
}

/// Waits until `is_so` answers with something.
pub(crate) async fn eventually<T>(what: &str, is_so: impl AsyncFn() -> Option<T>) -> T {
    let look = async {
        loop {
            if let Some(found) = is_so().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// The users' keys, by name.
pub(crate) type AllKeys = BTreeMap<&'static str, Keys>;
