//! Registries: where updates come from, and what is needed to get in.

use std::fmt;

use crate::invalid::{Invalid, quoted};
use crate::limits::{REGISTRY_SECRET_BYTES_MAX, URL_CHARS_MAX};

/// What kind of registry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegistryKind {
    /// Container images.
    Docker,
    /// JFrog Artifactory.
    Artifactory,
    /// A Git server.
    Git,
    /// Anything else behind a URL.
    Generic,
}

impl RegistryKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Docker, Self::Artifactory, Self::Git, Self::Generic];

    /// How the kind is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Artifactory => "artifactory",
            Self::Git => "git",
            Self::Generic => "generic",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Checks the address of a registry: `scheme://host…` or `host…`, without a user or
/// a password in it, since an address is shown and a secret is not.
pub fn check_url(url: &str) -> Result<(), Invalid> {
    let refuse = |problem: &str| Err(Invalid::new("", format!("{} {problem}", quoted(url))));
    if url.is_empty() {
        return refuse("is empty");
    }
    if url.chars().count() > URL_CHARS_MAX {
        return refuse(&format!("is too long: at most {URL_CHARS_MAX} characters are allowed"));
    }
    if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refuse("holds a space or a control character");
    }
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return refuse("names no host");
    }
    match authority.rsplit_once('@') {
        // The value is not shown: it may hold a password. A plain user, as in git@host, is fine.
        Some((user, _)) if user.contains(':') => {
            Err(Invalid::new("", "must not hold a password; it belongs into secret"))
        }
        _ => Ok(()),
    }
}

/// The secret of a registry in the clear. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistrySecret(String);

impl RegistrySecret {
    /// Checks it.
    pub fn parse(text: String) -> Result<Self, Invalid> {
        match text.len() {
            0 => Err(Invalid::new("", "is empty")),
            1..=REGISTRY_SECRET_BYTES_MAX => Ok(Self(text)),
            _ => Err(Invalid::new("", format!("is longer than {REGISTRY_SECRET_BYTES_MAX} bytes"))),
        }
    }

    /// The secret in the clear.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RegistrySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistrySecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_a_host_and_hold_no_password() {
        for good in ["https://example.com", "registry.example.com:5000", "git@example.com:a/b.git", "ssh://git@h/x@y:z"]
        {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in ["", "https://", "https:///x", "a b", "https://h/\u{0}", "https://u:p@h/x", &"h".repeat(3_000)] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
        let refusal = check_url("https://u:hunter2@h/x").unwrap_err().to_string();
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }

    #[test]
    fn secrets_hide_themselves() {
        let secret = RegistrySecret::parse("hunter2".to_owned()).unwrap();
        assert_eq!((format!("{secret:?}").as_str(), secret.expose()), ("RegistrySecret(…)", "hunter2"));
        assert!(RegistrySecret::parse(String::new()).is_err());
    }
}
