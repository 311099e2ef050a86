//! Artifacts: what tells their content, which part of one is asked for, and what a
//! device is given to fetch just one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::RowId;
use crate::invalid::{Invalid, quoted};

/// What tells the content of an artifact: hashes in lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// The one that everything here relies on.
    pub sha256: String,
    /// For clients of Artifactory.
    pub sha1: String,
    /// For clients of Artifactory.
    pub md5: String,
}

/// What a sender says of the content; what is not said is not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// SHA-256.
    pub sha256: Option<String>,
    /// SHA-1.
    pub sha1: Option<String>,
    /// MD5.
    pub md5: Option<String>,
}

/// Digits of a SHA-256.
const SHA256_DIGITS: usize = 64;
/// Digits of a SHA-1.
const SHA1_DIGITS: usize = 40;
/// Digits of an MD5.
const MD5_DIGITS: usize = 32;

impl Expected {
    /// Reads what was sent, in either case of letters.
    pub fn parse(sha256: Option<&str>, sha1: Option<&str>, md5: Option<&str>) -> Result<Self, Invalid> {
        Ok(Self {
            sha256: hash("X-Checksum-Sha256", SHA256_DIGITS, sha256)?,
            sha1: hash("X-Checksum-Sha1", SHA1_DIGITS, sha1)?,
            md5: hash("X-Checksum-Md5", MD5_DIGITS, md5)?,
        })
    }

    /// Checks what arrived.
    pub fn check(&self, actual: &Checksums) -> Result<(), Invalid> {
        let hashes = [
            ("X-Checksum-Sha256", &self.sha256, &actual.sha256),
            ("X-Checksum-Sha1", &self.sha1, &actual.sha1),
            ("X-Checksum-Md5", &self.md5, &actual.md5),
        ];
        for (header, expected, actual) in hashes {
            if let Some(expected) = expected.as_ref().filter(|expected| *expected != actual) {
                let problem = format!("what arrived has {actual}, and not {expected}; nothing was stored");
                return Err(Invalid::new(header, problem));
            }
        }
        Ok(())
    }
}

fn hash(header: &str, digits: usize, text: Option<&str>) -> Result<Option<String>, Invalid> {
    let Some(text) = text.map(|text| text.trim().to_ascii_lowercase()) else { return Ok(None) };
    if text.len() != digits || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Invalid::new(header, format!("{} is not {digits} hexadecimal digits", quoted(&text))));
    }
    Ok(Some(text))
}

/// Which part of a content is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// From the first byte to the last, both included.
    Range {
        /// The first byte, from 0.
        first: u64,
        /// The last byte.
        last: u64,
    },
    /// Nothing of it lies there.
    Unsatisfiable,
}

impl Part {
    /// What the `Range` of a request means for a content of `size` bytes. As RFC 9110 has
    /// it, what cannot be read and what is not supported (other units, several ranges)
    /// counts as not said.
    pub fn of(range: Option<&str>, size: u64) -> Self {
        let Some(spec) = range.and_then(|range| range.trim().strip_prefix("bytes=")) else { return Self::Whole };
        let Some((first, last)) = spec.trim().split_once('-') else { return Self::Whole };
        let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            // More than can be counted is more than any size.
            true if !text.is_empty() => Some(text.parse::<u64>().unwrap_or(u64::MAX)),
            _ => None,
        };
        match (number(first), number(last), first, last) {
            (Some(first), Some(last), ..) if first > last => Self::Whole,
            (Some(first), last, _, text) if last.is_some() || text.is_empty() => {
                if first >= size {
                    return Self::Unsatisfiable;
                }
                Self::Range { first, last: last.unwrap_or(u64::MAX).min(size - 1) }
            }
            (None, Some(0), "", _) => Self::Unsatisfiable,
            (None, Some(_), "", _) if size == 0 => Self::Unsatisfiable,
            (None, Some(tail), "", _) => Self::Range { first: size.saturating_sub(tail), last: size - 1 },
            _ => Self::Whole,
        }
    }

    /// The first byte, and the one behind the last.
    pub fn bounds(self, size: u64) -> (u64, u64) {
        match self {
            Self::Whole => (0, size),
            Self::Range { first, last } => (first, last.saturating_add(1).min(size)),
            Self::Unsatisfiable => (0, 0),
        }
    }
}

/// What somebody may do without a token of their own, for a while: fetch one content, or
/// store one artifact. It is signed, and nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The repository's row; the registry's where the right is one of a registry.
    pub repository: RowId,
    /// Where the artifact lies in it; of a repository of Git, the path of its address.
    pub path: String,
    /// What may be done.
    pub right: Right,
    /// Whom it was given to: `device:…` or `user:…`, as the audit log names them.
    pub holder: String,
    /// When it ends.
    pub ends_at: Timestamp,
}

/// What a [`Grant`] is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Fetch the content that lay there when it was given: what is stored in that row of blobs.
    FetchContent(RowId),
    /// Fetch what lies there.
    Fetch,
    /// Store an artifact there.
    Store,
    /// Have the server fetch what a registry of the account has there.
    FetchFromRegistry,
    /// Have the server clone the repository of Git that a registry of the account has there.
    CloneFromRegistry,
}

/// The signed text of a [`Grant`]. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct GrantText(pub String);

impl fmt::Debug for GrantText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantText(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_what_the_range_says() {
        let range = |first, last| Part::Range { first, last };
        for (text, expected) in [
            ("bytes=0-0", range(0, 0)),
            ("bytes=2-", range(2, 9)),
            ("bytes=2-99999999999999999999999", range(2, 9)),
            ("bytes=-3", range(7, 9)),
            ("bytes=-99", range(0, 9)),
            ("bytes=9-9", range(9, 9)),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=10-12", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=3-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=1-b", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(Part::of(Some(text), 10), expected, "{text}");
        }
        assert_eq!(Part::of(None, 10), Part::Whole);
        assert_eq!(Part::of(Some("bytes=0-"), 0), Part::Unsatisfiable);
        assert_eq!(Part::of(Some("bytes=-1"), 0), Part::Unsatisfiable);
        assert_eq!((range(2, 9).bounds(10), Part::Whole.bounds(10)), ((2, 10), (0, 10)));
    }

    #[test]
    fn what_was_said_of_a_content_is_checked() {
        let actual = Checksums { sha256: "a".repeat(64), sha1: "b".repeat(40), md5: "c".repeat(32) };
        let upper = "A".repeat(64);
        assert_eq!(Expected::parse(Some(&upper), None, None).unwrap().check(&actual), Ok(()));
        let other = "d".repeat(32);
        let refusal = Expected::parse(None, None, Some(&other)).unwrap().check(&actual).unwrap_err().to_string();
        assert!(refusal.starts_with("X-Checksum-Md5: what arrived has ccc"), "{refusal}");
        assert!(Expected::parse(Some("abc"), None, None).is_err());
        assert!(Expected::parse(None, Some(&"g".repeat(40)), None).is_err());
    }
}
