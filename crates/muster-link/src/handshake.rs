//! How a device proves that it is the one that enrolled: it signs the server's
//! nonce with its Ed25519 key.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use muster_core::ids::DeviceUuid;
use muster_core::token::Secret;
use rand::{CryptoRng, RngExt};
use serde::{Deserialize, Serialize};

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;
/// Bytes of the secret half of an identity.
pub const SECRET_KEY_BYTES: usize = 32;

/// Keeps a signature of this handshake from meaning anything elsewhere.
const CONTEXT: &[u8] = b"muster control link v1\0";

/// A value that the server sends once, so that an old answer is worth nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(String);

impl Nonce {
    /// A new random nonce.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(BASE64_STANDARD.encode(rng.random::<[u8; NONCE_BYTES]>()))
    }
}

/// Keeps a signature of an enrolment from meaning anything elsewhere.
const ENROLL_CONTEXT: &[u8] = b"muster enrolment v1\0";

fn enrolled_bytes(pairing_token: &Secret) -> Vec<u8> {
    [ENROLL_CONTEXT, pairing_token.hash().as_str().as_bytes()].concat()
}

fn signed_bytes(nonce: &Nonce, device: &DeviceUuid) -> Vec<u8> {
    [CONTEXT, nonce.0.as_bytes(), b"\0", device.as_str().as_bytes()].concat()
}

/// The key pair that a device made for itself. The secret half never leaves it.
pub struct Identity(SigningKey);

impl Identity {
    /// A new identity.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(SigningKey::from_bytes(&rng.random()))
    }

    /// The identity with that secret half.
    pub fn from_secret_bytes(bytes: &[u8; SECRET_KEY_BYTES]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    /// The secret half, for the device's own disk.
    pub fn to_secret_bytes(&self) -> [u8; SECRET_KEY_BYTES] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(BASE64_STANDARD.encode(self.0.verifying_key().as_bytes()))
    }

    /// The answer to a server's nonce, in base64.
    pub fn sign(&self, nonce: &Nonce, device: &DeviceUuid) -> String {
        BASE64_STANDARD.encode(self.0.sign(&signed_bytes(nonce, device)).to_bytes())
    }
}

impl Identity {
    /// Proof, for an enrolment with that pairing token, that the enrolling device
    /// holds the secret half: without it, whoever has the token could enrol again
    /// as a device whose public key they know.
    pub fn prove_enrollment(&self, pairing_token: &Secret) -> String {
        BASE64_STANDARD.encode(self.0.sign(&enrolled_bytes(pairing_token)).to_bytes())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public_key().0)
    }
}

/// The public half of an identity: an Ed25519 key, in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(String);

impl PublicKey {
    /// The key in base64.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `signature` is this key's answer to `nonce` for `device`.
    pub fn verifies(&self, nonce: &Nonce, device: &DeviceUuid, signature: &str) -> bool {
        self.signed(&signed_bytes(nonce, device), signature)
    }

    /// Whether `proof` is this key's [`Identity::prove_enrollment`].
    pub fn proves_enrollment(&self, pairing_token: &Secret, proof: &str) -> bool {
        self.signed(&enrolled_bytes(pairing_token), proof)
    }

    fn signed(&self, bytes: &[u8], signature: &str) -> bool {
        let signature = BASE64_STANDARD.decode(signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
        let (Some(key), Some(signature)) = (verifying_key(&self.0), signature) else { return false };
        key.verify_strict(bytes, &signature).is_ok()
    }
}

fn verifying_key(text: &str) -> Option<VerifyingKey> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    VerifyingKey::from_bytes(bytes.as_slice().try_into().ok()?).ok()
}

impl TryFrom<String> for PublicKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if verifying_key(&text).is_some() {
            return Ok(Self(text));
        }
        Err("not an Ed25519 public key in base64".to_owned())
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_signature_holds_for_its_key_nonce_and_device_alone() {
        let mut rng = StdRng::seed_from_u64(3);
        let (identity, other) = (Identity::random(&mut rng), Identity::random(&mut rng));
        let (nonce, later) = (Nonce::random(&mut rng), Nonce::random(&mut rng));
        let device: DeviceUuid = "d-1a2b-3c4d".parse().unwrap();
        let signature = identity.sign(&nonce, &device);
        assert!(identity.public_key().verifies(&nonce, &device, &signature));
        assert!(!identity.public_key().verifies(&later, &device, &signature));
        assert!(!identity.public_key().verifies(&nonce, &"d-1a2b-3c4e".parse().unwrap(), &signature));
        assert!(!other.public_key().verifies(&nonce, &device, &signature));
        assert!(!identity.public_key().verifies(&nonce, &device, "AAAA"));
    }

    #[test]
    fn a_proof_holds_for_its_key_and_token_alone() {
        let mut rng = StdRng::seed_from_u64(5);
        let (identity, other) = (Identity::random(&mut rng), Identity::random(&mut rng));
        let token = Secret::received("mp_one");
        let proof = identity.prove_enrollment(&token);
        assert!(identity.public_key().proves_enrollment(&token, &proof));
        assert!(!other.public_key().proves_enrollment(&token, &proof));
        assert!(!identity.public_key().proves_enrollment(&Secret::received("mp_two"), &proof));
    }

    #[test]
    fn an_identity_survives_the_disk() {
        let identity = Identity::random(&mut StdRng::seed_from_u64(4));
        let back = Identity::from_secret_bytes(&identity.to_secret_bytes());
        assert_eq!(back.public_key(), identity.public_key());
    }

    #[test]
    fn refuses_what_is_no_key() {
        for text in ["", "AAAA", "not base64", "\u{0}"] {
            assert!(PublicKey::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
