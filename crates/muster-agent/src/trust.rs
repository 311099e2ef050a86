//! By what a server is recognised: the machine's certificate authorities, or a key that
//! a person named when the device was enrolled.

use std::sync::Arc;

use muster_link::ServerPin;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::net::ConnectError;
use crate::server_url::ServerUrl;

/// What is believed about servers.
#[derive(Clone, Debug)]
pub struct Trust {
    crypto: Arc<CryptoProvider>,
    /// A server, by host and port, and the only key that it may have.
    pinned: Option<(String, u16, ServerPin)>,
}

impl Trust {
    /// The machine's certificate authorities, for every server.
    pub fn of_machine(crypto: Arc<CryptoProvider>) -> Self {
        Self { crypto, pinned: None }
    }

    /// The same, but for this server the key of that pin and nothing else.
    #[must_use]
    pub fn pinning(self, server: &ServerUrl, pin: Option<ServerPin>) -> Self {
        Self { pinned: pin.map(|pin| (server.host(), server.port(), pin)), ..self }
    }

    /// The settings of TLS for connections to `server`.
    pub fn config(&self, server: &ServerUrl) -> Result<ClientConfig, ConnectError> {
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.crypto))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConnectError::Tls(error.to_string()))?;
        let mut config = match self.pin_of(server) {
            Some(pin) => {
                let verifier = PinVerifier { pin, crypto: Arc::clone(&self.crypto) };
                config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
            }
            None => config.with_root_certificates(machine_roots()?).with_no_client_auth(),
        };
        // Or a server might choose HTTP/2, in which a WebSocket begins differently.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn pin_of(&self, server: &ServerUrl) -> Option<ServerPin> {
        let (host, port, pin) = self.pinned.as_ref()?;
        (*host == server.host() && *port == server.port()).then_some(*pin)
    }
}

fn machine_roots() -> Result<RootCertStore, ConnectError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let problems: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(ConnectError::NoRoots(problems.join("; ")));
    }
    Ok(roots)
}

/// Takes the one key, whatever the certificate says besides: its names and dates were made
/// by the same server, so they prove nothing.
#[derive(Debug)]
struct PinVerifier {
    pin: ServerPin,
    crypto: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = ServerPin::of(&ParsedCertificate::try_from(end_entity)?.subject_public_key_info());
        if found == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General(format!("the server's key has the pin {found}, and not {}", self.pin)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.crypto.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.crypto.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}
