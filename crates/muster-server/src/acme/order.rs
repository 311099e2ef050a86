//! One certificate, asked for and given.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use muster_core::clock::Timestamp;
use rcgen::{CertificateParams, DistinguishedName};
use rustls::pki_types::CertificateDer;

use super::challenges::HttpChallenges;
use super::client::AcmeHttp;
use super::{AcmeSettings, files};
use crate::tls::Certificates;

/// How long the authority may take to look, and to sign.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(2 * 60));

/// What an order is made with.
#[derive(Clone)]
pub(super) struct Orders {
    pub(super) settings: AcmeSettings,
    pub(super) http: AcmeHttp,
    pub(super) challenges: HttpChallenges,
    pub(super) certificates: Arc<Certificates>,
}

impl Orders {
    /// The account with the authority: the stored one, else a new one.
    async fn account(&self) -> Result<Account> {
        let builder = Account::builder_with_http(Box::new(self.http.clone()));
        let path = self.settings.account_file();
        if let Some(stored) = files::read(&path)? {
            let credentials: AccountCredentials =
                serde_json::from_str(&stored).with_context(|| format!("cannot read {}", path.display()))?;
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact = self.settings.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder.create(&new, self.settings.directory.clone(), None).await?;
        files::write_private(&path, serde_json::to_string(&credentials)?.as_bytes())?;
        Ok(account)
    }

    /// Asks for a certificate, shows that the names are this server's, and answers with the
    /// certificate and those that lead to its authority, in PEM.
    pub(super) async fn obtain(&self) -> Result<String> {
        let mut given = self.given(&self.account().await?).await;
        if given.as_ref().is_err_and(is_unknown_account) {
            // It has forgotten us, or was set up anew.
            std::fs::remove_file(self.settings.account_file())?;
            given = self.given(&self.account().await?).await;
        }
        self.challenges.clear();
        self.certificates.clear_challenges();
        given
    }

    async fn given(&self, account: &Account) -> Result<String> {
        let names: Vec<_> = self.settings.names.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        self.prove(&mut order).await?;
        if order.poll_ready(&PATIENCE).await? != OrderStatus::Ready {
            bail!(Refusal(why(&mut order).await));
        }
        order.finalize_csr(&self.request()?).await?;
        Ok(order.poll_certificate(&PATIENCE).await?)
    }

    async fn prove(&self, order: &mut Order) -> Result<()> {
        let (kind, word) = match self.settings.http_listen {
            Some(_) => (ChallengeType::Http01, "http-01"),
            None => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let missing = || anyhow!("the authority does not offer {word}");
            let mut challenge = authorization.challenge(kind.clone()).ok_or_else(missing)?;
            let key = challenge.key_authorization();
            match self.settings.http_listen {
                Some(_) => self.challenges.answer(challenge.token.clone(), key.as_str().to_owned()),
                None => {
                    self.certificates.answer_challenge(&challenge.identifier().to_string(), key.digest().as_ref())?;
                }
            }
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// The request for the key that the server shows already.
    fn request(&self) -> Result<Vec<u8>> {
        let mut params = CertificateParams::new(self.settings.names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        let key = crate::tls::own_key(&self.settings.key_file())?;
        Ok(params.serialize_request(&key)?.der().to_vec())
    }

    /// When the authority suggests to renew that certificate; nothing where it suggests nothing.
    pub(super) async fn suggested(&self, certificate: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp)> {
        let account = self.account().await?;
        let id = CertificateIdentifier::try_from(certificate).map_err(anyhow::Error::msg)?;
        let (info, _) = account.renewal_info(&id).await?;
        let moment = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1_000));
        let window = info.suggested_window;
        Ok((moment(window.start.unix_timestamp()), moment(window.end.unix_timestamp())))
    }
}

fn is_unknown_account(error: &anyhow::Error) -> bool {
    let Some(instant_acme::Error::Api(problem)) = error.downcast_ref() else { return false };
    problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
}

/// The authority did not accept what it was shown.
#[derive(Debug, thiserror::Error)]
#[error("the authority did not accept that the names are this server's: {0}")]
pub(super) struct Refusal(String);

/// What the authority says of the names that it did not accept.
async fn why(order: &mut Order) -> String {
    let mut told = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        for error in state.challenges.iter().filter_map(|challenge| challenge.error.as_ref()) {
            told.push(format!("{name}: {}", error.detail.as_deref().unwrap_or("no reason")));
        }
    }
    if told.is_empty() { "no reason was given".to_owned() } else { told.join("; ") }
}
