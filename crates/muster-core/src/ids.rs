//! Ids: the public ones that callers see, and the row ids behind them.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::invalid::{Invalid, quoted};

const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const GROUP_CHARS: usize = 4;

/// Declares one kind of public id: a prefix and two groups of four characters.
macro_rules! public_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new random id.
            pub fn random(rng: &mut impl Rng) -> Self {
                Self(random_id($prefix, rng))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                if is_public_id($prefix, text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(Invalid::new("", format!(
                    concat!("{} is not the id of a ", $what, "; one looks like ", $prefix, "1a2b-3c4d"),
                    quoted(text),
                )))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

public_id!(
    /// A device, as every API names it: `d-1a2b-3c4d`.
    DeviceUuid, "d-", "device"
);
public_id!(
    /// An update flow: `f-1a2b-3c4d`.
    FlowUuid, "f-", "update flow"
);
public_id!(
    /// A deployment: `dp-1a2b-3c4d`.
    DeploymentUuid, "dp-", "deployment"
);
public_id!(
    /// A run of a remote command: `cr-1a2b-3c4d`.
    CommandRunUuid, "cr-", "command run"
);

/// A token, as the APIs name it: `t-` and sixteen letters or digits. It says
/// nothing of the secret and nothing of the row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenUuid(String);

const TOKEN_PREFIX: &str = "t-";
const TOKEN_CHARS: usize = 16;

impl TokenUuid {
    /// A new random id.
    pub fn random(rng: &mut impl Rng) -> Self {
        let letters = (0..TOKEN_CHARS).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
        Self(TOKEN_PREFIX.chars().chain(letters).collect())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenUuid {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let letters = text.strip_prefix(TOKEN_PREFIX).unwrap_or_default();
        if letters.len() == TOKEN_CHARS && letters.bytes().all(|b| ALPHABET.contains(&b)) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new("", format!("{} is not the id of a token", quoted(text))))
    }
}

impl fmt::Display for TokenUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn random_id(prefix: &str, rng: &mut impl Rng) -> String {
    let mut id = String::with_capacity(prefix.len() + 2 * GROUP_CHARS + 1);
    id.push_str(prefix);
    for place in 0..2 * GROUP_CHARS {
        if place == GROUP_CHARS {
            id.push('-');
        }
        id.push(char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
    }
    id
}

fn is_public_id(prefix: &str, text: &str) -> bool {
    let is_group = |group: &str| group.len() == GROUP_CHARS && group.bytes().all(|b| ALPHABET.contains(&b));
    text.strip_prefix(prefix)
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(first, second)| is_group(first) && is_group(second))
}

/// The primary key of a row. Increases with time, fits into 53 bits (so that a
/// JSON number carries it whole), and is made here, never by the database.
pub type RowId = i64;

/// Makes row ids: milliseconds since 2025, then twelve random bits.
///
/// Ids of one generator strictly increase. Two servers that share a database
/// may, rarely, make the same one; the store tries again then.
#[derive(Debug, Default)]
pub struct RowIds {
    last: AtomicI64,
}

const EPOCH_MILLIS: i64 = 1_735_689_600_000;
const RANDOM_BITS: u32 = 12;

impl RowIds {
    /// The next id.
    pub fn next(&self, now: Timestamp, rng: &mut impl Rng) -> RowId {
        let millis = now.as_millis().saturating_sub(EPOCH_MILLIS).max(1);
        let fresh = (millis << RANDOM_BITS) | rng.random_range(0..1 << RANDOM_BITS);
        let bump = |last: i64| Some(fresh.max(last + 1));
        match self.last.fetch_update(Ordering::SeqCst, Ordering::SeqCst, bump) {
            Ok(last) | Err(last) => fresh.max(last + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn random_ids_parse_back() {
        let mut rng = SmallRng::seed_from_u64(1);
        for _ in 0..200 {
            let id = DeviceUuid::random(&mut rng);
            assert_eq!(id.as_str().parse::<DeviceUuid>().unwrap(), id);
            assert_eq!(id.as_str().len(), 11);
        }
    }

    #[test]
    fn ids_of_tokens_parse_back() {
        let mut rng = SmallRng::seed_from_u64(1);
        let id = TokenUuid::random(&mut rng);
        assert_eq!(id.as_str().parse::<TokenUuid>().unwrap(), id);
        for text in ["", "t-", "t-1a2b", "t-1a2b3c4d5e6f7a8B", "d-1a2b3c4d5e6f7a8b", "t-1a2b3c4d5e6f7a8b0"] {
            assert!(text.parse::<TokenUuid>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in ["", "d-", "d-1a2b", "d-1a2b-3c4", "d-1A2B-3c4d", "f-1a2b-3c4d", "d-1a2b-3c4d ", "d-1a2b-3c4\u{0}"]
        {
            assert!(text.parse::<DeviceUuid>().is_err(), "{text:?}");
        }
        let refusal = "x'--".parse::<DeploymentUuid>().unwrap_err();
        assert!(refusal.to_string().contains("\"x\\'--\""), "{refusal}");
    }

    #[test]
    fn row_ids_increase_and_fit_a_json_number() {
        let (ids, mut rng) = (RowIds::default(), SmallRng::seed_from_u64(2));
        let now = Timestamp::from_millis(3_900_000_000_000);
        let mut last = 0;
        for _ in 0..10_000 {
            let id = ids.next(now, &mut rng);
            assert!(id > last && id < 1 << 53);
            last = id;
        }
        assert!(ids.next(Timestamp::NEVER, &mut rng) > last, "a clock set back makes no smaller id");
    }
}
