//! The `Authorization` header, taken apart.

use std::collections::BTreeSet;

use muster_core::clock::Timestamp;

use super::digest::{DIGEST_BYTES, from_hex};
use super::{Fault, Request};

/// What every header of this kind begins with.
const SCHEME: &str = "bce-auth-v1";
/// Longest id of an access key.
const ACCESS_KEY_ID_BYTES_MAX: usize = 128;
/// Most headers that a request may name as signed.
const SIGNED_HEADERS_MAX: usize = 64;

/// Which headers are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignedHeaders {
    /// None is named: `host`, `content-length`, `content-type`, `content-md5` and every `x-bce-…`.
    Default,
    /// Just these, in lower case.
    Named(BTreeSet<String>),
}

impl SignedHeaders {
    /// Just these headers.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Named(names.into_iter().map(str::to_ascii_lowercase).collect())
    }

    /// Whether the header of that name, in lower case, is one of them.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Default => {
                matches!(name, "host" | "content-length" | "content-type" | "content-md5") || name.starts_with("x-bce-")
            }
            Self::Named(names) => names.contains(name),
        }
    }

    /// The same without the names of headers that are not there. The list of names is no part of
    /// what is signed: one that names nothing could be changed by anybody.
    pub(super) fn among(&self, request: &Request<'_>) -> Self {
        match self {
            Self::Default => Self::Default,
            Self::Named(names) => {
                Self::Named(names.iter().filter(|name| request.header(name).is_some()).cloned().collect())
            }
        }
    }

    /// As the header says it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Default => String::new(),
            Self::Named(names) => names.iter().map(String::as_str).collect::<Vec<_>>().join(";"),
        }
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        if text.is_empty() {
            return Ok(Self::Default);
        }
        let names: Vec<&str> = text.split(';').collect();
        let is_name = |name: &&str| !name.is_empty() && name.bytes().all(is_name_byte);
        let distinct: BTreeSet<String> = names.iter().copied().map(str::to_owned).collect();
        if names.len() > SIGNED_HEADERS_MAX || distinct.len() != names.len() || !names.iter().all(is_name) {
            return Err(Fault::Malformed("the signed headers are not a list of names in lower case"));
        }
        Ok(Self::Named(distinct))
    }
}

/// What a header's name consists of, in lower case.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What the header claims. Nothing of it is proven before [`super::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Its first four fields, which the key of the signature is made of.
    pub(super) prefix: String,
    pub(super) access_key_id: String,
    pub(super) signed_at: Timestamp,
    /// How long it is good from then on, in seconds.
    pub(super) life_seconds: u32,
    pub(super) signed_headers: SignedHeaders,
    pub(super) signature: [u8; DIGEST_BYTES],
}

impl Authorization {
    /// What a request claims.
    pub fn of(request: &Request<'_>) -> Result<Self, Fault> {
        let header = request.header("authorization").ok_or(Fault::Missing)?;
        Self::parse(std::str::from_utf8(header).map_err(|_| Fault::Malformed("the header is not text"))?)
    }

    /// Takes the header apart: `bce-auth-v1/{key}/{moment}/{seconds}/{signed headers}/{signature}`.
    pub fn parse(header: &str) -> Result<Self, Fault> {
        let fields: Vec<&str> = header.split('/').collect();
        let [scheme, access_key_id, moment, seconds, signed_headers, signature] = fields[..] else {
            return Err(Fault::Malformed("the header has not six fields"));
        };
        if scheme != SCHEME {
            return Err(Fault::Malformed("the header is not of the kind bce-auth-v1"));
        }
        if access_key_id.is_empty() || access_key_id.len() > ACCESS_KEY_ID_BYTES_MAX {
            return Err(Fault::Malformed("the access key is missing or too long"));
        }
        Ok(Self {
            prefix: [scheme, access_key_id, moment, seconds].join("/"),
            access_key_id: access_key_id.to_owned(),
            signed_at: moment_of(moment).ok_or(Fault::Malformed("the timestamp is not like 2025-06-09T14:10:44Z"))?,
            life_seconds: life_of(seconds).ok_or(Fault::Malformed("the time of expiry is not a number of seconds"))?,
            signed_headers: SignedHeaders::parse(signed_headers)?,
            signature: from_hex(signature).ok_or(Fault::Malformed("the signature is not 64 hexadecimal digits"))?,
        })
    }

    /// The access key that it was signed with, as it claims.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }
}

/// `2025-06-09T14:10:44Z` and no other form: the text itself is signed.
pub(super) fn moment_of(text: &str) -> Option<Timestamp> {
    Timestamp::from_rfc3339(text).filter(|moment| moment.to_rfc3339() == text)
}

/// Digits alone; `parse` would take a sign as well.
fn life_of(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}
