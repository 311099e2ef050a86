//! The key that a server is recognised by, where no authority vouches for its certificate.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const PREFIX: &str = "sha256//";
const HASH_BYTES: usize = 32;

/// The SHA-256 of the public key (`SubjectPublicKeyInfo`) in a server's certificate. It
/// stays the same when the certificate is renewed with its key.
///
/// Written as curl's `--pinnedpubkey` takes it: `sha256//` and base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerPin([u8; HASH_BYTES]);

impl ServerPin {
    /// The pin of a `SubjectPublicKeyInfo` in DER.
    pub fn of(public_key_info: &[u8]) -> Self {
        Self(Sha256::digest(public_key_info).into())
    }
}

impl fmt::Display for ServerPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE64_STANDARD.encode(self.0))
    }
}

impl FromStr for ServerPin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hash = text.strip_prefix(PREFIX).and_then(|rest| BASE64_STANDARD.decode(rest).ok());
        let hash = hash.and_then(|hash| hash.try_into().ok());
        hash.map(Self).ok_or_else(|| format!("{text:?} is not of the form sha256//BASE64"))
    }
}

impl TryFrom<String> for ServerPin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ServerPin> for String {
    fn from(pin: ServerPin) -> Self {
        pin.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_is_written() {
        let pin = ServerPin::of(b"key");
        assert_eq!(pin.to_string(), "sha256//LHDhK3oGRvkiefQnx7OOczTY5Tic/xZ6HcMOc/gmtoM=");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        for text in ["", "sha256//", "sha256//AAAA", "sha1//LHDhK3oGRvkiefQnx7OOczTY5Tic/xZ6HcMOc/gmtoM="] {
            assert!(text.parse::<ServerPin>().is_err(), "{text}");
        }
    }
}
