//! What an operator says about TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use muster_server::acme::{AcmeSettings, LETS_ENCRYPT};
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
    /// Names of the server for which a certificate is got by ACME, comma-separated. Who names one
    /// agrees to the terms of the authority
    #[arg(long, value_name = "NAME", env = "MUSTER_ACME_DOMAIN", value_delimiter = ',',
          value_parser = muster_core::tunnel::domain, conflicts_with_all = ["tls_certificate", "tls_self_signed"])]
    pub(crate) acme_domain: Vec<String>,
    /// Whom the authority may write to
    #[arg(long, value_name = "ADDRESS", env = "MUSTER_ACME_EMAIL", requires = "acme_domain")]
    pub(crate) acme_email: Option<String>,
    /// Directory of the authority
    #[arg(long, value_name = "URL", env = "MUSTER_ACME_DIRECTORY", default_value = LETS_ENCRYPT,
          value_parser = directory)]
    pub(crate) acme_directory: String,
    /// Authorities, in PEM, that vouch for the directory's address; by default those of the machine
    #[arg(long, value_name = "FILE", env = "MUSTER_ACME_ROOT_CA", requires = "acme_domain")]
    pub(crate) acme_root_ca: Option<PathBuf>,
    /// Where the authority is answered over plain HTTP (http-01), as 0.0.0.0:80; by default it is
    /// answered over TLS, where the server listens (tls-alpn-01, port 443)
    #[arg(long, value_name = "ADDR", env = "MUSTER_ACME_HTTP_LISTEN", requires = "acme_domain")]
    pub(crate) acme_http_listen: Option<SocketAddr>,
}

fn directory(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if url.scheme() == "https" && url.has_host() => Ok(text.to_owned()),
        _ => Err("is not an address like https://acme.example.com/directory".to_owned()),
    }
}

impl TlsArgs {
    /// Where the certificate comes from; `None` to speak in the clear.
    pub(crate) fn source(&self, data: &Path, listen: SocketAddr, public_url: Option<&str>) -> Option<TlsSource> {
        match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                Some(TlsSource::Files { certificate: certificate.clone(), key: key.clone() })
            }
            _ if self.tls_self_signed => Some(self_signed(data, listen, public_url)),
            _ if self.acme_domain.is_empty() => None,
            _ => Some(TlsSource::Acme(AcmeSettings {
                folder: data.join("acme"),
                names: self.acme_domain.clone(),
                email: self.acme_email.clone(),
                directory: self.acme_directory.clone(),
                root_ca: self.acme_root_ca.clone(),
                http_listen: self.acme_http_listen,
            })),
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
