//! Signs requests, as every client of the Tag Service does.

use hmac::Mac;
use muster_core::clock::Timestamp;
use muster_core::token::Secret;

use super::canonical::canonical_request;
use super::digest::{mac_of, to_hex};
use super::{Request, SignedHeaders};

/// How long a signature is good unless its maker says otherwise, in seconds.
const LIFE_SECONDS_DEFAULT: u32 = 1_800;

/// Signs with one access key. Its `Debug` hides the secret.
#[derive(Clone, Debug)]
pub struct Signer {
    access_key_id: String,
    secret: Secret,
    life_seconds: u32,
}

impl Signer {
    /// Signs with that access key, for half an hour.
    pub fn new(access_key_id: impl Into<String>, secret: Secret) -> Self {
        Self { access_key_id: access_key_id.into(), secret, life_seconds: LIFE_SECONDS_DEFAULT }
    }

    /// The same, for so many seconds.
    #[must_use]
    pub fn good_for(self, life_seconds: u32) -> Self {
        Self { life_seconds, ..self }
    }

    /// The value of the `Authorization` header for a request that is sent at `now`.
    /// Its other headers must be there already.
    pub fn sign(&self, request: &Request<'_>, signed: &SignedHeaders, now: Timestamp) -> String {
        let prefix = format!("bce-auth-v1/{}/{}/{}", self.access_key_id, now.to_rfc3339(), self.life_seconds);
        let signed = signed.among(request);
        let mac = mac_of(self.secret.expose(), &prefix, &canonical_request(request, &signed));
        format!("{prefix}/{}/{}", signed.text(), to_hex(&mac.finalize().into_bytes()))
    }
}
