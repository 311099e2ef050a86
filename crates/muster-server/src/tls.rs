//! TLS: which certificate the server shows, and how a new one takes its place.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use muster_link::ServerPin;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::acme::{AcmeSettings, files};

/// How often the files are looked at: a renewed certificate is shown within this time.
const LOOK_PERIOD: Duration = Duration::from_secs(10);

/// Where the server's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSource {
    /// Files in PEM, which somebody else renews: the certificate with those that lead to its
    /// authority, and its private key.
    Files {
        /// The certificates.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The server vouches for itself, with a key that it makes once. Clients pin the key.
    SelfSigned {
        /// Holds `key.pem` and `certificate.pem`.
        folder: PathBuf,
        /// The names and addresses that it is reached by.
        names: Vec<String>,
    },
    /// An authority vouches for it, and is asked by ACME. Until it has answered for the first
    /// time, the server vouches for itself with the same key.
    Acme(AcmeSettings),
}

/// What the authority says that it speaks when it looks whose a name is (RFC 8737).
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";

/// The certificate that is shown at present.
#[derive(Debug)]
pub(crate) struct Certificates {
    source: TlsSource,
    crypto: Arc<CryptoProvider>,
    shown: RwLock<Shown>,
    /// What is shown to the authority that looks whose a name is, by name.
    challenges: RwLock<BTreeMap<String, Arc<CertifiedKey>>>,
}

#[derive(Clone, Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    pin: ServerPin,
    /// When the files that it was read from were changed.
    stamp: Option<[SystemTime; 2]>,
}

impl Certificates {
    /// Reads the certificate, or makes it.
    pub(crate) fn open(source: TlsSource) -> Result<Arc<Self>> {
        let crypto = Arc::new(aws_lc_rs::default_provider());
        let shown = RwLock::new(read(&source, &crypto)?);
        Ok(Arc::new(Self { source, crypto, shown, challenges: RwLock::default() }))
    }

    /// The settings of a listener that shows it.
    pub(crate) fn config(self: &Arc<Self>) -> Result<ServerConfig> {
        let config =
            ServerConfig::builder_with_provider(Arc::clone(&self.crypto)).with_safe_default_protocol_versions();
        let mut config = config?.with_no_client_auth().with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if matches!(self.source, TlsSource::Acme(_)) {
            config.alpn_protocols.push(ACME_TLS.to_vec());
        }
        Ok(config)
    }

    /// The pin of the key that is shown.
    pub(crate) fn pin(&self) -> ServerPin {
        self.shown().pin
    }

    /// Takes renewed files, as long as the server runs. What cannot be used is told once, and
    /// the old certificate is shown on.
    pub(crate) async fn keep_fresh(self: Arc<Self>) {
        let TlsSource::Files { certificate, key } = &self.source else { return };
        let mut refused = None;
        loop {
            tokio::time::sleep(LOOK_PERIOD).await;
            let stamp = stamp(certificate, key).ok();
            if stamp.is_none() || stamp == self.shown().stamp || stamp == refused {
                continue;
            }
            match read(&self.source, &self.crypto) {
                Ok(fresh) => {
                    tracing::info!(pin = %fresh.pin, "the certificate was renewed");
                    *self.shown.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                }
                Err(error) => {
                    tracing::error!("the renewed certificate is not taken: {error:#}");
                    refused = stamp;
                }
            }
        }
    }

    /// Shows what is in the files now.
    pub(crate) fn reload(&self) -> Result<()> {
        let fresh = read(&self.source, &self.crypto)?;
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Whether certificates, in PEM, can be shown with the key that there is.
    pub(crate) fn check(&self, pem: &str) -> Result<()> {
        let TlsSource::Acme(settings) = &self.source else { return Ok(()) };
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        shown(chain, private(&own_key(&settings.key_file())?)?, None, &self.crypto)?;
        Ok(())
    }

    /// Answers the authority that looks whose that name is.
    pub(crate) fn answer_challenge(&self, name: &str, digest: &[u8]) -> Result<()> {
        if digest.len() != 32 {
            bail!("the digest of a challenge has 32 bytes, and not {}", digest.len());
        }
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let made = params.self_signed(&key)?;
        // Not checked: the extension is one that rustls does not know, and must not accept.
        let key = self.crypto.key_provider.load_private_key(private(&key)?)?;
        let answer = CertifiedKey::new(vec![made.der().clone()], key);
        self.challenges.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::new(answer));
        Ok(())
    }

    /// Answers no such look any more.
    pub(crate) fn clear_challenges(&self) {
        self.challenges.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn shown(&self) -> Shown {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.alpn().is_some_and(|mut spoken| spoken.any(|protocol| protocol == ACME_TLS)) {
            let challenges = self.challenges.read().unwrap_or_else(PoisonError::into_inner);
            return hello.server_name().and_then(|name| challenges.get(name).cloned());
        }
        Some(self.shown().key)
    }
}

fn read(source: &TlsSource, crypto: &CryptoProvider) -> Result<Shown> {
    match source {
        TlsSource::Files { certificate, key } => {
            // Looked at before they are read: what changes in between is read again.
            let stamp = stamp(certificate, key).context("cannot look at the files of the certificate")?;
            let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let chain = chain.with_context(|| format!("cannot read certificates from {}", certificate.display()))?;
            let key = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("cannot read a private key from {}", key.display()))?;
            shown(chain, key, Some(stamp), crypto)
        }
        TlsSource::SelfSigned { folder, names } => {
            let (chain, key) = self_signed(folder, names)?;
            shown(vec![chain], key, None, crypto)
        }
        TlsSource::Acme(settings) => by_acme(settings, crypto),
    }
}

/// What the authority has given; else one of the server's own, for the time until it has.
fn by_acme(settings: &AcmeSettings, crypto: &CryptoProvider) -> Result<Shown> {
    settings.prepare()?;
    let key = own_key(&settings.key_file()).context("cannot use the key for ACME")?;
    let given = files::read(&settings.certificate_file())?.map(|pem| {
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        shown(chain, private(&key)?, None, crypto)
    });
    match given {
        Some(Ok(given)) => return Ok(given),
        // It is asked for anew.
        Some(Err(error)) => tracing::error!("the stored certificate cannot be shown: {error:#}"),
        None => {}
    }
    shown(vec![vouch(&key, &settings.names)?.der().clone()], private(&key)?, None, crypto)
}

fn private(key: &KeyPair) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)
}

/// A certificate of the key by itself.
fn vouch(key: &KeyPair, names: &[String]) -> Result<rcgen::Certificate> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Muster");
    Ok(params.self_signed(key)?)
}

fn shown(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    stamp: Option<[SystemTime; 2]>,
    crypto: &CryptoProvider,
) -> Result<Shown> {
    let Some(first) = chain.first() else { bail!("the file holds no certificate") };
    let pin = ServerPin::of(&ParsedCertificate::try_from(first)?.subject_public_key_info());
    let key = CertifiedKey::from_der(chain, key, crypto).context("the certificate and the key do not fit")?;
    Ok(Shown { key: Arc::new(key), pin, stamp })
}

fn stamp(certificate: &Path, key: &Path) -> io::Result<[SystemTime; 2]> {
    Ok([fs::metadata(certificate)?.modified()?, fs::metadata(key)?.modified()?])
}

/// A certificate that vouches for itself, made anew at each start with the key of the first:
/// names may have come, and the pin stays.
fn self_signed(folder: &Path, names: &[String]) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let make = || -> Result<_> {
        fs::create_dir_all(folder)?;
        let key = own_key(&folder.join("key.pem"))?;
        let made = vouch(&key, names)?;
        // For programs that want a certificate to trust, as curl's --cacert.
        fs::write(folder.join("certificate.pem"), made.pem())?;
        Ok((made.der().clone(), private(&key)?))
    };
    make().with_context(|| format!("cannot make a certificate in {}", folder.display()))
}

/// The key of that file, made at its first use.
pub(crate) fn own_key(path: &Path) -> Result<KeyPair> {
    if let Some(pem) = files::read(path)? {
        return KeyPair::from_pem(&pem).with_context(|| format!("cannot read a key from {}", path.display()));
    }
    let key = KeyPair::generate()?;
    files::write_private(path, key.serialize_pem().as_bytes())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(folder: &Path) -> TlsSource {
        TlsSource::SelfSigned { folder: folder.to_owned(), names: vec!["localhost".to_owned()] }
    }

    #[test]
    fn a_server_that_vouches_for_itself_keeps_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let first = Certificates::open(own(folder.path())).unwrap();
        let second = Certificates::open(own(folder.path())).unwrap();
        assert_eq!(first.pin(), second.pin());
        let mode = fs::metadata(folder.path().join("key.pem")).unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    }

    #[test]
    fn a_look_whose_a_name_is_has_an_answer_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let settings = AcmeSettings {
            folder: folder.path().join("acme"),
            names: vec!["muster.example.com".to_owned()],
            email: None,
            directory: crate::acme::LETS_ENCRYPT.to_owned(),
            root_ca: None,
            http_listen: None,
        };
        let certificates = Certificates::open(TlsSource::Acme(settings.clone())).unwrap();
        certificates.answer_challenge("muster.example.com", &[7; 32]).unwrap();
        assert!(certificates.answer_challenge("muster.example.com", &[7; 31]).is_err());
        assert_eq!(certificates.challenges.read().unwrap().len(), 1);
        certificates.clear_challenges();
        assert!(certificates.challenges.read().unwrap().is_empty());
        assert!(certificates.config().unwrap().alpn_protocols.contains(&ACME_TLS.to_vec()));
        // A certificate of another key is not taken, and a damaged one is not shown.
        let other = vouch(&KeyPair::generate().unwrap(), &settings.names).unwrap();
        assert!(certificates.check(&other.pem()).is_err());
        let pin = certificates.pin();
        fs::write(settings.certificate_file(), "damaged").unwrap();
        certificates.reload().unwrap();
        assert_eq!(certificates.pin(), pin);
    }

    #[test]
    fn files_that_do_not_fit_are_refused_with_their_names() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pins = [&one, &other].map(|folder| Certificates::open(own(folder.path())).unwrap().pin());
        assert_ne!(pins[0], pins[1]);
        let certificate = one.path().join("certificate.pem");
        let files = |key: &Path| TlsSource::Files { certificate: certificate.clone(), key: key.to_owned() };
        assert_eq!(Certificates::open(files(&one.path().join("key.pem"))).unwrap().pin(), pins[0]);
        let mixed = Certificates::open(files(&other.path().join("key.pem"))).unwrap_err();
        assert!(format!("{mixed:#}").contains("do not fit"), "{mixed:#}");
        let no_key = Certificates::open(files(&certificate)).unwrap_err();
        assert!(format!("{no_key:#}").contains("certificate.pem"), "{no_key:#}");
    }
}
