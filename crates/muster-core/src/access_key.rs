//! Access keys: what a program signs requests of the Tag Service with, and how much it may.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use rand::{Rng, RngExt};

use crate::access::{Operation, Permission};
use crate::invalid::{Invalid, quoted};
use crate::scope::Scope;
use crate::token::Secret;

/// The public half of an access key: `ak-` and 24 letters or digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessKeyId(String);

const PREFIX: &str = "ak-";
const CHARS: usize = 24;
const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

impl AccessKeyId {
    /// A new random id.
    pub fn random(rng: &mut impl Rng) -> Self {
        let letters = (0..CHARS).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
        Self(PREFIX.chars().chain(letters).collect())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccessKeyId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let letters = text.strip_prefix(PREFIX).unwrap_or_default();
        if letters.len() == CHARS && letters.bytes().all(|b| ALPHABET.contains(&b)) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new("", format!("{} is not the id of an access key", quoted(text))))
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The secret half of a new access key.
pub fn random_secret(rng: &mut impl Rng) -> Secret {
    Secret::random_with_prefix("ms_", rng)
}

/// The most that an access key may do, of what its user may: one of the three policies
/// that the Tag Service knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagPolicy {
    /// Everything.
    FullControl,
    /// Everything but to delete tags.
    Operate,
    /// Lists and queries.
    Read,
}

impl TagPolicy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::FullControl, Self::Operate, Self::Read];

    /// Its documented name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FullControl => "TAGFullControlAccessPolicy",
            Self::Operate => "TAGOperateAccessPolicy",
            Self::Read => "TAGReadAccessPolicy",
        }
    }

    /// The policy of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == name)
    }

    /// The policy of that name, as a caller wrote it.
    pub fn parse(name: &str) -> Result<Self, Invalid> {
        let known = Self::ALL.map(Self::as_str).join(", ");
        Self::from_name(name).ok_or_else(|| Invalid::new("", format!("{} is none of {known}", quoted(name))))
    }

    /// Whether a key with this policy may ask for that operation, if its user may.
    pub fn allows(self, operation: Operation) -> bool {
        match self {
            Self::FullControl => true,
            Self::Operate => operation != Operation::TagServiceDelete,
            Self::Read => matches!(
                operation,
                Operation::TagServiceList | Operation::TagServiceListResources | Operation::TagServiceQuery
            ),
        }
    }

    /// The scope of a key with this policy. A narrow one never acts as an administrator.
    pub fn scope(self) -> Scope {
        let only = |permissions: &[Permission]| Scope {
            fleets: None,
            permissions: Some(permissions.iter().copied().collect::<BTreeSet<_>>()),
        };
        match self {
            Self::FullControl => Scope::default(),
            Self::Operate => only(&[Permission::ModifyDevices]),
            Self::Read => only(&[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn ids_parse_back_and_secrets_hide() {
        let mut rng = SmallRng::seed_from_u64(1);
        let id = AccessKeyId::random(&mut rng);
        assert_eq!(id.as_str().parse::<AccessKeyId>().unwrap(), id);
        for text in ["", "ak-", "ak-1", "t-1a2b3c4d5e6f7a8b", &id.as_str().to_uppercase(), &format!("{id}0")] {
            assert!(text.parse::<AccessKeyId>().is_err(), "{text:?}");
        }
        let secret = random_secret(&mut rng);
        assert!(secret.expose().starts_with("ms_") && secret.expose().len() == 46);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn each_policy_lies_within_the_next() {
        let [full, operate, read] = TagPolicy::ALL;
        assert!(read.scope().is_within(&operate.scope()) && operate.scope().is_within(&full.scope()));
        for operation in Operation::ALL {
            assert!(!read.allows(*operation) || operate.allows(*operation));
            assert!(!operate.allows(*operation) || full.allows(*operation));
        }
        for policy in TagPolicy::ALL {
            assert_eq!(TagPolicy::from_name(policy.as_str()), Some(policy));
        }
        let refusal = TagPolicy::parse("root").unwrap_err().to_string();
        assert!(refusal.starts_with("\"root\" is none of TAGFullControlAccessPolicy, "), "{refusal}");
    }
}
