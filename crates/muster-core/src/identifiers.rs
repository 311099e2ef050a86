//! What identifies a device that has no key: the strings that it registers with.

use sha2::{Digest, Sha256};

use crate::invalid::{Invalid, quoted};
use crate::limits::{ADDRESSES_MAX, NAME_CHARS_MAX};

/// What a device without a key registers with, mostly its hardware addresses. The
/// same strings in any order are the same device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentifiers(Vec<String>);

impl DeviceIdentifiers {
    /// Checks what a device sent.
    pub fn parse(mut identifiers: Vec<String>) -> Result<Self, Invalid> {
        for (i, identifier) in identifiers.iter().enumerate() {
            check(identifier).map_err(|problem| Invalid::new(format!("[{i}]"), problem))?;
        }
        identifiers.sort();
        identifiers.dedup();
        match identifiers.len() {
            0 => Err(Invalid::new("", "is empty")),
            n if n > ADDRESSES_MAX => {
                Err(Invalid::new("", format!("has {n} items, at most {ADDRESSES_MAX} are allowed")))
            }
            _ => Ok(Self(identifiers)),
        }
    }

    /// The identifiers, each once.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// What stands where other devices have a public key: one for each set of
    /// identifiers of an account, and never a key, since no base64 has a colon.
    pub fn key(&self, account_id: i64) -> String {
        let digest = Sha256::digest(serde_json::Value::from(self.0.as_slice()).to_string());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("identifiers:{account_id}:{digest}")
    }
}

fn check(identifier: &str) -> Result<(), String> {
    let chars = identifier.chars().count();
    if identifier.trim().is_empty() {
        return Err(format!("{} is empty", quoted(identifier)));
    }
    if chars > NAME_CHARS_MAX {
        return Err(format!("is too long: {chars} characters, at most {NAME_CHARS_MAX} are allowed"));
    }
    if identifier.chars().any(char::is_control) {
        return Err(format!("{} holds a control character", quoted(identifier)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(identifiers: &[&str]) -> Result<DeviceIdentifiers, Invalid> {
        DeviceIdentifiers::parse(identifiers.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn the_same_strings_in_any_order_are_the_same_device() {
        let key = |identifiers: &[&str], account| parse(identifiers).unwrap().key(account);
        assert_eq!(key(&["a", "b"], 1), key(&["b", "a", "b"], 1));
        for other in [key(&["a"], 1), key(&["ab"], 1), key(&["a\",\"b"], 1), key(&["a", "b"], 2)] {
            assert_ne!(key(&["a", "b"], 1), other);
        }
        assert!(key(&["a"], 1).starts_with("identifiers:1:"));
    }

    #[test]
    fn refuses_what_identifies_nothing() {
        for (identifiers, why) in [
            (&[][..], "is empty"),
            (&["a", " "][..], "[1]: \" \" is empty"),
            (&["a\n"][..], "[0]: \"a\\n\" holds a control character"),
        ] {
            assert_eq!(parse(identifiers).unwrap_err().to_string(), why);
        }
        let many: Vec<String> = (0..=ADDRESSES_MAX).map(|i| i.to_string()).collect();
        assert!(DeviceIdentifiers::parse(many).is_err());
    }
}
