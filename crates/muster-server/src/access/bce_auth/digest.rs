//! The digests of the protocol, and how it spells them.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a SHA-256.
pub(super) const DIGEST_BYTES: usize = 32;

/// The MAC of the canonical request. The key of it is itself a MAC: of the prefix, under
/// the secret, and as hexadecimal text.
pub(super) fn mac_of(secret: &str, prefix: &str, canonical_request: &str) -> Hmac<Sha256> {
    let key = to_hex(&mac(secret.as_bytes(), prefix).finalize().into_bytes());
    mac(key.as_bytes(), canonical_request)
}

fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    // HMAC takes a key of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("a key of any length is taken"));
    mac.update(text.as_bytes());
    mac
}

/// In lower case.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// From lower case alone: one digest has one spelling.
pub(super) fn from_hex(text: &str) -> Option<[u8; DIGEST_BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes.filter(|_| rest.is_empty())?.try_into().ok()
}
