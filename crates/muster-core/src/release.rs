//! A release of the agent: what its signature says of it.
//!
//! A release is one file: the four lines of a signature in minisign's format, and the
//! program behind them. What is said of the program stands in the signature's trusted
//! comment, so it is signed too.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::invalid::{Invalid, quoted};

/// Most characters of a version.
pub const RELEASE_VERSION_CHARS_MAX: usize = 64;
/// Most bytes of the program in a release.
pub const RELEASE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most bytes of the signature before it.
pub const RELEASE_SIGNATURE_BYTES_MAX: usize = 4 * 1024;
/// Lines of the signature before it.
pub const RELEASE_SIGNATURE_LINES: usize = 4;
/// The first word of the trusted comment: a signature of something else is no release.
const PRODUCT: &str = "muster-agent";

/// A version of the agent, as `1.2.3`, `1.2.3-rc.1` or `1.2.3+build`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseVersion(String);

impl ReleaseVersion {
    /// The version that `text` names.
    pub fn parse(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        let (numbers, rest) = split(&text);
        let is_number = |part: &str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit());
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b".+-".contains(&byte);
        let is_good = text.len() <= RELEASE_VERSION_CHARS_MAX
            && numbers.split('.').count() <= 4
            && numbers.split('.').all(is_number)
            && rest.bytes().all(is_inner);
        if is_good {
            return Ok(Self(text));
        }
        Err(Invalid::new("", format!("{} is no version, as 1.2.3 or 1.2.3-rc.1", quoted(&text))))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this one is older: by its numbers, then by what follows a "-", which
    /// comes before the release of those numbers. What follows a "+" does not count.
    pub fn is_older_than(&self, other: &Self) -> bool {
        compare(&self.0, &other.0) == Ordering::Less
    }
}

/// The numbers, and what follows them.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(['-', '+']).unwrap_or(text.len()))
}

fn compare(a: &str, b: &str) -> Ordering {
    let plain = |text: &str| text.split('+').next().unwrap_or_default().to_owned();
    let (a, b) = (plain(a), plain(b));
    let ((a, a_pre), (b, b_pre)) = (split(&a), split(&b));
    numbers(a).cmp(&numbers(b)).then_with(|| match (a_pre.is_empty(), b_pre.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => words(a_pre).cmp(&words(b_pre)),
    })
}

/// Four numbers: what is not written is zero.
fn numbers(text: &str) -> [u64; 4] {
    let mut found = [0; 4];
    found.iter_mut().zip(text.split('.')).for_each(|(place, part)| *place = part.parse().unwrap_or(0));
    found
}

/// Numbers come before words, and are compared as numbers.
fn words(text: &str) -> Vec<(bool, u64, &str)> {
    let parts = text[1..].split('.');
    parts.map(|part| part.parse().map_or((true, 0, part), |number| (false, number, ""))).collect()
}

impl fmt::Display for ReleaseVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ReleaseVersion {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

impl From<ReleaseVersion> for String {
    fn from(version: ReleaseVersion) -> Self {
        version.0
    }
}

/// What a signature says of the program that it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its version.
    pub version: ReleaseVersion,
    /// The processor that it is for, as Rust names it: `x86_64`, `aarch64`, `arm` ….
    pub arch: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

impl Manifest {
    /// Reads a trusted comment. Further words are left to later versions.
    pub fn parse(comment: &str) -> Result<Self, Invalid> {
        let bad = || Invalid::new("", format!("the signature is of no release of the agent: {}", quoted(comment)));
        let mut words = comment.split_whitespace();
        if words.next() != Some(PRODUCT) {
            return Err(bad());
        }
        let found: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
        let value = |key: &str| found.iter().find(|(found, _)| *found == key).map(|(_, value)| *value).ok_or_else(bad);
        let version = ReleaseVersion::parse(value("version")?)?;
        let size_bytes = value("size")?.parse().ok().filter(|size| (1..=RELEASE_BYTES_MAX).contains(size));
        Ok(Self { version, arch: value("arch")?.to_owned(), size_bytes: size_bytes.ok_or_else(bad)? })
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, arch, size_bytes } = self;
        write!(f, "{PRODUCT} version={version} arch={arch} size={size_bytes}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ReleaseVersion {
        ReleaseVersion::parse(text).unwrap()
    }

    #[test]
    fn versions_have_an_order() {
        let ordered = ["0.9", "0.10.0", "1.0.0-1", "1.0.0-alpha", "1.0.0-rc.2", "1.0.0-rc.10", "1", "1.0.1", "2"];
        for (i, older) in ordered.iter().enumerate() {
            for (j, newer) in ordered.iter().enumerate() {
                assert_eq!(version(older).is_older_than(&version(newer)), i < j, "{older} {newer}");
            }
        }
        assert!(!version("1.0.0").is_older_than(&version("1.0.0+7")));
    }

    #[test]
    fn a_version_names_a_folder_and_no_other() {
        for text in ["", ".", "..", "1..2", "a", "1/2", "1.2.3-../x", "1 2", "1.2.3.4.5", &"1".repeat(70)] {
            assert!(ReleaseVersion::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let manifest = Manifest { version: version("1.2.3"), arch: "aarch64".to_owned(), size_bytes: 7 };
        assert_eq!(manifest.to_string(), "muster-agent version=1.2.3 arch=aarch64 size=7");
        assert_eq!(Manifest::parse(&format!("{manifest} later=1")).unwrap(), manifest);
        for text in [
            "",
            "other version=1 arch=a size=1",
            "muster-agent arch=a size=1",
            "muster-agent version=1 arch=a size=0",
            "muster-agent version=1 arch=a size=99999999999",
            "muster-agent version=x arch=a size=1",
        ] {
            assert!(Manifest::parse(text).is_err(), "{text:?}");
        }
    }
}
