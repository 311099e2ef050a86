//! Port tunnels: the states of one, and whom it lets through.

use std::net::IpAddr;

use crate::invalid::{Invalid, quoted};

/// How a tunnel stands. The numbers are those in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum TunnelStatus {
    /// The device has been asked to open it.
    Pending = 0,
    /// The device has opened it.
    Opened = 1,
    /// It ended as it was meant to: by a person, by its device, or by the clock.
    Closed = 2,
    /// It never came to be.
    Terminated = 3,
}

impl TunnelStatus {
    /// Every status, in the order of its number.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Opened, Self::Closed, Self::Terminated];

    /// The number in the database.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The status with that number in the database.
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.code() == code)
    }

    /// The word of API v2.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::Terminated => "terminated",
        }
    }

    /// Nothing changes it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Closed | Self::Terminated)
    }

    /// What ends such a tunnel when its time is over: the state, a code and a sentence.
    pub const fn when_overdue(self) -> (Self, &'static str, &'static str) {
        match self {
            Self::Pending => (Self::Terminated, "no_answer", "The device did not answer in time."),
            _ => (Self::Closed, "expired", "The tunnel's time was over."),
        }
    }
}

/// Whom a tunnel lets through: one address, or those of a network (`192.0.2.0/24`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedIp(String);

impl AllowedIp {
    /// Checks `text`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let refused = || Invalid::new("", format!("{} is neither an IP address nor a network", quoted(text)));
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refused())?;
        let bits_max: u8 = if address.is_ipv4() { 32 } else { 128 };
        // A network of no bits is everyone: that a caller must not ask for by accident.
        let is_network = |bits: &str| {
            bits.bytes().all(|b| b.is_ascii_digit())
                && bits.parse().is_ok_and(|bits: u8| (1..=bits_max).contains(&bits))
        };
        match bits {
            Some(bits) if !is_network(bits) => Err(refused()),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// As the caller wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters of a host name, and of a label in it.
const HOST_CHARS_MAX: usize = 253;
const LABEL_CHARS_MAX: usize = 63;
/// Room for the name that each tunnel has below the domain.
const TUNNEL_LABEL_CHARS_MAX: usize = 40;

/// Checks the domain below which tunnels have their names: labels of small letters,
/// digits and inner hyphens, as a certificate and a name server have them.
pub fn domain(text: &str) -> Result<String, Invalid> {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = |label: &str| {
        (1..=LABEL_CHARS_MAX).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() + TUNNEL_LABEL_CHARS_MAX < HOST_CHARS_MAX && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    Err(Invalid::new(
        "",
        format!("{} is no domain: labels of a-z, 0-9 and inner hyphens, with dots between", quoted(text)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_addresses_and_networks_and_nothing_else() {
        for good in ["1.1.1.1", "::1", "192.0.2.0/24", "2001:db8::/32", "10.0.0.1/32"] {
            assert_eq!(AllowedIp::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "x", "1.1.1", "0.0.0.0/0", "1.1.1.1/33", "1.1.1.1/", "1.1.1.1/+8", "1.1.1.1 ", "::/129", "a/8"]
        {
            assert!(AllowedIp::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_domain_is_labels_with_dots_between() {
        for good in ["forwarding.localhost", "localhost", "t.example.com", "xn--caf-dma.example", "1.example", "a-b.c"]
        {
            assert_eq!(domain(good).unwrap(), good);
        }
        let (label, long) = ("a".repeat(64), "a.".repeat(106) + "com");
        for bad in ["", ".", "a.", ".a", "a..b", "-a.b", "a-.b", "A.b", "a b", "a/b", "a:80", "\u{fc}.b", &label, &long]
        {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }
}
