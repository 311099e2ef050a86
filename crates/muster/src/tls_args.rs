//! What an operator says about TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use muster_server::tls::TlsSource;

/// Options of TLS.
#[derive(Args, Clone)]
pub(crate) struct TlsArgs {
    /// Certificate to show, in PEM, with those that lead to its authority. Taken anew when it changes
    #[arg(long, value_name = "FILE", env = "MUSTER_TLS_CERTIFICATE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", env = "MUSTER_TLS_KEY", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Show a certificate that the server makes itself. Devices and clients are told its pin
    #[arg(long, env = "MUSTER_TLS_SELF_SIGNED", conflicts_with = "tls_certificate")]
    pub(crate) tls_self_signed: bool,
}

impl TlsArgs {
    /// Where the certificate comes from; `None` to speak in the clear.
    pub(crate) fn source(&self, data: &Path, listen: SocketAddr, public_url: Option<&str>) -> Option<TlsSource> {
        match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                Some(TlsSource::Files { certificate: certificate.clone(), key: key.clone() })
            }
            _ => self.tls_self_signed.then(|| self_signed(data, listen, public_url)),
        }
    }
}

/// A certificate of the server's own, for the names that are known for it.
pub(crate) fn self_signed(data: &Path, listen: SocketAddr, public_url: Option<&str>) -> TlsSource {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    names.extend(nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()));
    names.extend((!listen.ip().is_unspecified()).then(|| listen.ip().to_string()));
    let public = public_url.and_then(|url| reqwest::Url::parse(url).ok());
    names.extend(public.and_then(|url| Some(url.host_str()?.trim_matches(['[', ']']).to_owned())));
    names.dedup();
    TlsSource::SelfSigned { folder: data.join("tls"), names }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_its_own_names_what_is_known() {
        let source = self_signed(Path::new("/d"), ([192, 0, 2, 1], 80).into(), Some("https://muster.example.com:8443"));
        let TlsSource::SelfSigned { folder, names } = source else { panic!("{source:?}") };
        assert_eq!(folder, Path::new("/d/tls"));
        for name in ["localhost", "192.0.2.1", "muster.example.com"] {
            assert!(names.contains(&name.to_owned()), "{names:?}");
        }
    }
}
