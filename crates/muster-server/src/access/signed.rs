//! A caller who has signed the request with an access key.

use super::Caller;
use super::bce_auth::{self, Authorization, Fault, Request};
use super::rate::Source;
use super::{Credentials, access_keys};
use crate::app::App;
use crate::error::OpError;

/// Why a signed request has no caller.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The signature proves nothing.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// There is no such key, or it is good no longer.
    #[error("there is no such access key")]
    UnknownKey,
    /// The server's own reasons: a limit, a fault.
    #[error(transparent)]
    Op(#[from] OpError),
}

impl From<muster_store::StoreError> for SignatureError {
    fn from(error: muster_store::StoreError) -> Self {
        Self::Op(error.into())
    }
}

impl Caller {
    /// Who has signed the request; counts as one call of their key. Only a good signature
    /// counts: nobody can use up the limit of a key that is not theirs.
    pub async fn from_signature(app: &App, source: &Source, request: &Request<'_>) -> Result<Self, SignatureError> {
        let claim = Authorization::of(request)?;
        let found = access_keys::open(app, claim.access_key_id()).await?;
        let (key, secret) = found.ok_or(SignatureError::UnknownKey)?;
        bce_auth::verify(request, &claim, &secret, app.clock().now())?;
        // Only temporary keys have a token beside their secret, and none is ever made here.
        if bce_auth::security_token(request).is_some() {
            return Err(SignatureError::UnknownKey);
        }
        source.count(&app.access_key_calls, &key.id)?;
        let user = app.store.read().find_user(key.user_id).await?.ok_or(SignatureError::UnknownKey)?;
        let credentials = Credentials { id: key.id, scope: key.policy.scope(), policy: Some(key.policy) };
        Ok(Self::with(user, credentials, source.address()))
    }
}
