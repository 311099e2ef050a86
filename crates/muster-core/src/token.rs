//! Secrets that callers bear: made once, shown once, kept only as a hash.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// API v1, in the body: the whole account, with its user's permissions.
    User,
    /// API v2, as a bearer token.
    Access,
    /// Enrols devices into one fleet.
    Pairing,
    /// API v1, in the body: names one device.
    Device,
}

impl TokenKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::User, Self::Access, Self::Pairing, Self::Device];

    /// How the kind is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Access => "access",
            Self::Pairing => "pairing",
            Self::Device => "device",
        }
    }

    /// The kind that is stored by that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Begins every secret of the kind, so that scanners and people know it.
    const fn prefix(self) -> &'static str {
        match self {
            Self::User => "mu_",
            Self::Access => "ma_",
            Self::Pairing => "mp_",
            Self::Device => "md_",
        }
    }
}

const SECRET_BYTES: usize = 32;

/// A token in the clear. Printed only where it is handed over; its `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A new secret: the kind's prefix and 32 random bytes.
    pub fn random(kind: TokenKind, rng: &mut impl Rng) -> Self {
        Self::random_with_prefix(kind.prefix(), rng)
    }

    /// A new secret that begins with `prefix`.
    pub(crate) fn random_with_prefix(prefix: &str, rng: &mut impl Rng) -> Self {
        let bytes: [u8; SECRET_BYTES] = rng.random();
        Self(format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// A new secret for one carrier of streams.
    pub fn for_carrier(rng: &mut impl Rng) -> Self {
        Self::random_with_prefix("mc_", rng)
    }

    /// A secret that a caller sent.
    pub fn received(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret in the clear: for its owner's eyes, once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored in its place. A fast hash serves, since 32 random bytes cannot be guessed.
    pub fn hash(&self) -> SecretHash {
        let digest = Sha256::digest(self.0.as_bytes());
        SecretHash(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The SHA-256 of a secret, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretHash(String);

impl SecretHash {
    /// The hash as 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn secrets_bear_their_kind_and_hide_themselves() {
        let mut rng = SmallRng::seed_from_u64(7);
        let secret = Secret::random(TokenKind::Pairing, &mut rng);
        assert!(secret.expose().starts_with("mp_") && secret.expose().len() == 46);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_ne!(secret, Secret::random(TokenKind::Pairing, &mut rng));
    }

    #[test]
    fn hashes_are_those_of_sha_256() {
        let hash = Secret::received("abc").hash();
        assert_eq!(hash.as_str(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
