//! Certificates from an authority by ACME: asked for, renewed in time, kept in the data
//! folder. A reconciler: it looks at the certificate that is stored and asks for another when
//! that is due. Whatever fails, the server serves on with what it has.

mod challenges;
mod client;
pub(crate) mod files;
mod order;
mod plan;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use muster_core::clock::Timestamp;
use rand::RngExt;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use x509_parser::extensions::GeneralName;

use challenges::HttpChallenges;
use client::AcmeHttp;
use order::{Orders, Refusal};
use plan::{Failure, Validity};

use crate::app::App;
use crate::listener;
use crate::tls::Certificates;

/// The directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// How a certificate is got by ACME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSettings {
    /// Holds the key, and a folder for each directory.
    pub folder: PathBuf,
    /// The names that it is for.
    pub names: Vec<String>,
    /// Whom the authority may write to.
    pub email: Option<String>,
    /// The address of the authority's directory.
    pub directory: String,
    /// The authorities that vouch for the directory's own address; those of the machine
    /// where there is none.
    pub root_ca: Option<PathBuf>,
    /// Where http-01 is answered; without it, tls-alpn-01 is, where the server listens.
    pub http_listen: Option<SocketAddr>,
}

impl AcmeSettings {
    /// The server's key, the same for every certificate: its pin stays.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    /// What the authority has given.
    pub(crate) fn certificate_file(&self) -> PathBuf {
        self.own_folder().join("certificate.pem")
    }

    fn account_file(&self) -> PathBuf {
        self.own_folder().join("account.json")
    }

    /// What one authority has given is nothing to another: a trial with a test directory
    /// leaves nothing behind for the real one.
    fn own_folder(&self) -> PathBuf {
        let host = self.directory.split_once("://").map_or(self.directory.as_str(), |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        self.folder.join(host.chars().map(|c| if is_plain(c) { c } else { '_' }).collect::<String>())
    }

    /// Makes the folders.
    pub(crate) fn prepare(&self) -> Result<()> {
        let folder = self.own_folder();
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))
    }
}

/// The certificate that is stored.
struct Stored {
    first: CertificateDer<'static>,
    names: Vec<String>,
    validity: Validity,
}

impl Stored {
    fn read(path: &Path) -> Result<Option<Self>> {
        let Some(pem) = files::read(path)? else { return Ok(None) };
        let first = CertificateDer::from_pem_slice(pem.as_bytes());
        let first = first.with_context(|| format!("cannot read a certificate from {}", path.display()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&first)
            .with_context(|| format!("cannot read the certificate of {}", path.display()))?;
        let moment = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1_000));
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let names = alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        let (names, valid) = (names.collect(), parsed.validity());
        let validity =
            Validity { from: moment(valid.not_before.timestamp()), until: moment(valid.not_after.timestamp()) };
        Ok(Some(Self { names, validity, first }))
    }

    fn is_for(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.names.contains(name))
    }
}

/// Looks after the certificate of a server.
pub(crate) struct Keeper {
    app: App,
    orders: Orders,
    listener: Option<TcpListener>,
}

/// The longest time between two looks: the authority may want a certificate renewed early.
const LOOK_PERIOD: Duration = Duration::from_secs(6 * 60 * 60);
/// The longest that one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(6 * 60);

impl Keeper {
    /// Listens where http-01 is answered, if anywhere.
    ///
    /// Errors when the address is taken, and when the authorities that are to be believed
    /// cannot be read.
    pub(crate) async fn open(app: App, settings: AcmeSettings, certificates: Arc<Certificates>) -> Result<Self> {
        let listener = match settings.http_listen {
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                Some(listener.with_context(|| format!("cannot listen on {address} for ACME"))?)
            }
            None => None,
        };
        let http = AcmeHttp::new(settings.root_ca.as_deref()).context("cannot ask a directory of ACME")?;
        let orders = Orders { settings, http, challenges: HttpChallenges::default(), certificates };
        Ok(Self { app, orders, listener })
    }

    /// Looks for as long as the server runs.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        if let Some(listener) = self.listener.take() {
            let router = self.orders.challenges.router();
            tokio::spawn(listener::serve(listener, None, router, stop.clone()));
        }
        stop.run_until_cancelled(self.look_for_ever()).await;
    }

    async fn look_for_ever(&self) {
        let mut failures = 0;
        loop {
            let share = self.app.random(|rng| rng.random_range(0..=1_000));
            let wait = match self.look(share).await {
                Ok(wait) => {
                    failures = 0;
                    wait
                }
                Err(error) => {
                    failures += 1;
                    let wait = plan::back_off(kind(&error), failures, share);
                    self.tell(&error, wait);
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks for a certificate if that is due, and answers with how long to wait.
    async fn look(&self, share: i64) -> Result<Duration> {
        let settings = &self.orders.settings;
        let due = match Stored::read(&settings.certificate_file()) {
            Ok(Some(stored)) if stored.is_for(&settings.names) => self.due(&stored, share).await,
            Ok(_) => Timestamp::NEVER,
            Err(error) => {
                tracing::warn!("the stored certificate cannot be used: {error:#}");
                Timestamp::NEVER
            }
        };
        let now = self.app.clock().now();
        if due > now {
            return Ok(due.since(now).min(LOOK_PERIOD));
        }
        let (names, directory) = (settings.names.join(", "), &settings.directory);
        tracing::info!(names, directory, "asking for a certificate");
        let given = tokio::time::timeout(ATTEMPT_TIMEOUT, self.orders.obtain()).await;
        let given = given.context("the authority took too long")??;
        self.take(&given)?;
        Ok(Duration::ZERO)
    }

    /// The authority is asked as well, if it can say; if not, nothing depends on it.
    async fn due(&self, stored: &Stored, share: i64) -> Timestamp {
        let suggested = tokio::time::timeout(ATTEMPT_TIMEOUT, self.orders.suggested(&stored.first)).await;
        let suggested = match suggested {
            Ok(Ok(window)) => Some(window),
            Ok(Err(error)) => {
                tracing::debug!("the authority does not say when to renew: {error:#}");
                None
            }
            Err(_) => None,
        };
        plan::renew_at(stored.validity, suggested, share)
    }

    /// Stores a certificate that can be used, and shows it.
    fn take(&self, pem: &str) -> Result<()> {
        let settings = &self.orders.settings;
        self.orders.certificates.check(pem).context("what the authority gave cannot be used")?;
        files::write_private(&settings.certificate_file(), pem.as_bytes())?;
        self.orders.certificates.reload()?;
        let Some(stored) = Stored::read(&settings.certificate_file())? else { bail!("the certificate is gone") };
        if stored.validity.until <= self.app.clock().now() {
            bail!("the certificate that the authority gave is over already");
        }
        tracing::info!(
            names = settings.names.join(", "),
            until = stored.validity.until.to_rfc3339(),
            "got a certificate"
        );
        Ok(())
    }

    fn tell(&self, error: &anyhow::Error, wait: Duration) {
        let again = format!("{} s", wait.as_secs());
        let now = self.app.clock().now();
        match Stored::read(&self.orders.settings.certificate_file()) {
            Ok(Some(stored)) if stored.validity.until > now => {
                let until = stored.validity.until.to_rfc3339();
                tracing::warn!(again, until, "no new certificate, the old one is shown on: {error:#}");
            }
            _ => tracing::error!(again, "no certificate, clients will not believe this server: {error:#}"),
        }
    }
}

fn kind(error: &anyhow::Error) -> Failure {
    let is_refused = error.downcast_ref::<Refusal>().is_some()
        || matches!(error.downcast_ref::<instant_acme::Error>(), Some(instant_acme::Error::Api(_)));
    if is_refused { Failure::Refused } else { Failure::Unreachable }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(folder: &Path, directory: &str) -> AcmeSettings {
        AcmeSettings {
            folder: folder.to_owned(),
            names: vec!["muster.example.com".to_owned()],
            email: None,
            directory: directory.to_owned(),
            root_ca: None,
            http_listen: None,
        }
    }

    #[test]
    fn each_directory_has_a_folder_and_the_key_is_one() {
        let (one, other) =
            (settings(Path::new("/d"), LETS_ENCRYPT), settings(Path::new("/d"), "https://[::1]:14000/dir"));
        assert_eq!(one.certificate_file(), Path::new("/d/acme-v02.api.letsencrypt.org/certificate.pem"));
        assert_eq!(other.account_file(), Path::new("/d/___1__14000/account.json"));
        assert_eq!(one.key_file(), other.key_file());
    }

    #[test]
    fn a_stored_certificate_is_for_its_names_and_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificate.pem");
        assert!(Stored::read(&path).unwrap().is_none());
        let mut params = rcgen::CertificateParams::new(["a.example", "b.example"].map(str::to_owned)).unwrap();
        params.not_before = rcgen::date_time_ymd(2025, 6, 9);
        params.not_after = rcgen::date_time_ymd(2025, 9, 9);
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        files::write_private(&path, made.pem().as_bytes()).unwrap();
        let stored = Stored::read(&path).unwrap().unwrap();
        assert_eq!(stored.validity.until.to_rfc3339(), "2025-09-09T00:00:00Z");
        assert!(stored.is_for(&["b.example".to_owned()]) && !stored.is_for(&["c.example".to_owned()]));
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "no certificate").unwrap();
        assert!(Stored::read(&path).is_err());
    }
}
