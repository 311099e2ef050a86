//! One running server: the listener, the engine, and the tasks beside it.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use muster_core::clock::Clock;
use muster_link::ServerPin;
use muster_store::Store;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::access_grants;
use crate::access::passwords::Passwords;
use crate::access::rate::CallLimit;
use crate::access::refusals::AUDITED_REFUSALS_PER_MINUTE;
use crate::access::vault::Vault;
use crate::acme;
use crate::app::{App, Parts};
use crate::artifacts::collection;
use crate::artifacts::objects::Objects;
use crate::artifacts::upstream::Upstream;
use crate::config::ServerConfig;
use crate::deploy::engine;
use crate::deploy::reports::ReportSink;
use crate::deploy::wake::Wake;
use crate::link::registry::Links;
use crate::listener;
use crate::remote::carriers::Carriers;
use crate::remote::keeper;
use crate::remote::live::Tunnels;
use crate::remote::recordings::Recordings;
use crate::remote::retention;
use crate::remote::sessions::Sessions;
use crate::telemetry;
use crate::telemetry::buffer::KeepaliveBuffer;
use crate::telemetry::device_files;
use crate::telemetry::file_store::FileStore;
use crate::tls::{Certificates, TlsSource};

/// How long requests may take to end once the server is told to.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server. Dropping it leaves its tasks running: see [`Server::stop`].
pub struct Server {
    address: SocketAddr,
    pin: Option<ServerPin>,
    app: App,
    stop: CancellationToken,
    tasks: TaskTracker,
    http: JoinHandle<()>,
    // Held for as long as the server runs: its lock keeps a second one off the folder.
    _lock: File,
}

impl Server {
    /// Connects to the database, brings its schema up to date, and begins to serve.
    ///
    /// Errors when the data folder cannot be written or belongs to a running
    /// server, when the database cannot be reached or holds secrets sealed with another
    /// key, when the certificate cannot be used, and when the address is taken.
    pub async fn start(config: ServerConfig, clock: Clock, mut rng: StdRng) -> Result<Self> {
        let lock = lock_data(&config)?;
        let store_rng: StdRng = rand::SeedableRng::from_rng(&mut rng);
        let store = open_store(&config, clock, store_rng).await?;
        let vault = Vault::open(&config.secret_key_file, &store, &mut rng).await?;
        let files = FileStore::open(&config.data).context("cannot write the folder of device files")?;
        let recordings = Recordings::open(&config.data).context("cannot write the folder of recordings")?;
        let objects = open_objects(&config).await?;
        let certificates = config.tls.clone().map(Certificates::open).transpose()?;
        let tls = certificates.as_ref().map(|shown| anyhow::Ok(TlsAcceptor::from(Arc::new(shown.config()?))));
        let tls = tls.transpose()?;
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let (reports, queue) = ReportSink::new();
        let home = keeper::home(&config.data, &mut rng).context("cannot write the data folder")?;
        let app = App::new(Parts {
            carriers: Carriers::default(),
            tunnels: Tunnels::new(config.connections_max),
            sessions: Sessions::default(),
            recordings,
            home,
            links: Links::default(),
            wake: Wake::default(),
            reports,
            keepalives: KeepaliveBuffer::default(),
            address_calls: CallLimit::per_minute("address", config.address_calls_per_minute),
            token_calls: CallLimit::per_minute("access-token", config.access_token_calls_per_minute),
            access_key_calls: CallLimit::per_minute("access-key", config.access_key_calls_per_minute),
            device_calls: CallLimit::per_minute("device-token", config.v1_device_calls_per_minute),
            agent_calls: CallLimit::per_minute("device-token", config.agent_api_calls_per_minute),
            log_file_calls: CallLimit::per_minute("log-files", config.log_file_calls_per_minute),
            account_calls: CallLimit::per_minute("account-token", config.v1_account_calls_per_minute),
            login_sources: CallLimit::per_minute("login-address", config.login_attempts_per_minute),
            login_names: CallLimit::per_minute("login-name", config.login_attempts_per_minute),
            audited_refusals: CallLimit::per_minute("audited-refusals", AUDITED_REFUSALS_PER_MINUTE),
            files,
            objects,
            upstream: Upstream::default(),
            address,
            passwords: Passwords::default(),
            vault,
            server_id: format!("s-{:016x}", rng.random::<u64>()),
            rng: Mutex::new(rng),
            store,
            config,
        });
        keeper::restore(&app).await.context("the port tunnels of the last run cannot be read")?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(stop.clone().run_until_cancelled_owned(engine::run(app.clone())));
        tasks.spawn(stop.clone().run_until_cancelled_owned(telemetry::run(app.clone())));
        tasks.spawn(stop.clone().run_until_cancelled_owned(device_files::run(app.clone())));
        tasks.spawn(stop.clone().run_until_cancelled_owned(collection::run(app.clone())));
        tasks.spawn(stop.clone().run_until_cancelled_owned(queue.run(app.store.clone())));
        tasks.spawn(stop.clone().run_until_cancelled_owned(keeper::run(app.clone())));
        tasks.spawn(stop.clone().run_until_cancelled_owned(access_grants::run(app.clone())));
        tasks.spawn(stop.clone().run_until_cancelled_owned(retention::run(app.clone())));
        let pin = certificates.as_ref().map(|shown| shown.pin());
        if let (Some(certificates), Some(TlsSource::Acme(settings))) = (&certificates, &app.config.tls) {
            let keeper = acme::Keeper::open(app.clone(), settings.clone(), Arc::clone(certificates)).await?;
            tasks.spawn(keeper.run(stop.clone()));
        }
        if let Some(certificates) = certificates {
            tasks.spawn(stop.clone().run_until_cancelled_owned(certificates.keep_fresh()));
        }
        let router = crate::router::router(app.clone());
        let http = tokio::spawn(listener::serve(listener, tls, router, stop.clone()));
        Ok(Self { address, pin, app, stop, tasks, http, _lock: lock })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as an address for clients.
    pub fn url(&self) -> String {
        let scheme = if self.pin.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The pin of its key, where it speaks TLS.
    pub fn pin(&self) -> Option<ServerPin> {
        self.pin
    }

    /// Its parts, for a program that has more to do with them than to serve.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Ends the server: lets requests end, closes every link, stores what waits.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.tasks.close();
        self.app.sessions.cut_all();
        self.app.tunnels.close_all().await;
        self.app.links.close_all();
        let http = tokio::time::timeout(DRAIN_TIMEOUT, self.http).await;
        self.tasks.wait().await;
        self.app.keepalives.flush(&self.app.store).await;
        keeper::count(&self.app).await;
        let server_id = self.app.server_id.as_str();
        if let Err(error) = self.app.store.write(|tx| async move { tx.close_links_of(server_id).await }).await {
            // A device's next link has a higher epoch, so nothing depends on this.
            tracing::warn!(%error, "the end of the links could not be stored");
        }
        self.app.store.close().await;
        match http {
            Ok(served) => Ok(served?),
            Err(_) => {
                tracing::warn!("some requests did not end in time");
                Ok(())
            }
        }
    }
}

/// Makes the data folder and takes its lock.
fn lock_data(config: &ServerConfig) -> Result<File> {
    let data = &config.data;
    std::fs::create_dir_all(data).with_context(|| format!("cannot make the data folder {}", data.display()))?;
    let path = data.join("serve.lock");
    let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let taken = || format!("the data folder {} belongs to a running server", data.display());
    lock.try_lock().with_context(taken)?;
    Ok(lock)
}

/// The storage of artifacts that the operator chose.
async fn open_objects(config: &ServerConfig) -> Result<Objects> {
    match &config.artifact_bucket {
        Some(bucket) => {
            let objects = Objects::in_bucket(bucket, config.artifact_bytes_max).await;
            objects.context("cannot use the bucket of artifacts; it is set by AWS_ACCESS_KEY_ID and the like")
        }
        None => Objects::in_folder(&config.artifact_folder, config.artifact_free_bytes_min)
            .context("cannot write the folder of artifacts"),
    }
}

/// Connects to the database and brings its schema up to date.
pub async fn open_store(config: &ServerConfig, clock: Clock, rng: StdRng) -> Result<Store> {
    let store = Store::connect(&config.database, clock, rng).await.context("cannot open the database")?;
    store.migrate().await.context("cannot bring the database's schema up to date")?;
    Ok(store)
}
