//! Port tunnels: the states of one, and whom it lets through.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

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

    /// Whether it lets that address through. An IPv4 address is the same when it comes
    /// over IPv6.
    pub fn lets_through(&self, address: IpAddr) -> bool {
        let (network, bits) = self.0.split_once('/').unwrap_or((&self.0, ""));
        let Ok(network) = network.parse::<IpAddr>() else { return false };
        let bits: Option<u32> = bits.parse().ok();
        match (network.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                // Written as IPv6, its first 96 bits are those of the mapping.
                let bits = bits.map(|bits| if self.0.contains(':') { bits.saturating_sub(96) } else { bits });
                let differs = u32::from(network) ^ u32::from(address);
                differs.checked_shr(32 - bits.unwrap_or(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differs = u128::from(network) ^ u128::from(address);
                differs.checked_shr(128 - bits.unwrap_or(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// A host in a device's network, for a tunnel that ends beyond the device: an address
/// or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetHost(String);

impl TargetHost {
    /// Checks `text`; nothing for the device itself.
    pub fn parse(text: &str) -> Result<Option<Self>, Invalid> {
        if matches!(text, "127.0.0.1" | "localhost") {
            return Ok(None);
        }
        if text.parse::<IpAddr>().is_ok() || (text.len() <= HOST_CHARS_MAX && text.split('.').all(is_host_label)) {
            return Ok(Some(Self(text.to_owned())));
        }
        Err(Invalid::new("", format!("{} is neither an IP address nor the name of a host", quoted(text))))
    }

    /// As the caller wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names in a device's own network follow looser rules than those of the Internet.
fn is_host_label(label: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LABEL_CHARS_MAX).contains(&label.len()) && label.bytes().all(is_good) && !label.starts_with('-')
}

/// The ports of the server at which tunnels may listen: `20000-20999`; `0` for any free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelPorts(RangeInclusive<u16>);

impl TunnelPorts {
    /// Any free port.
    pub const ANY: Self = Self(0..=0);
    /// The ports, unless the operator names others.
    pub const DEFAULT: Self = Self(20_000..=20_999);

    /// How many there are.
    pub fn count(&self) -> u16 {
        (self.0.end() - self.0.start()).saturating_add(1)
    }

    /// Every port, once, beginning with the one at that place.
    pub fn beginning_at(&self, place: u16) -> impl Iterator<Item = u16> {
        let (first, count) = (u32::from(*self.0.start()), u32::from(self.count()));
        (0..count).filter_map(move |i| u16::try_from(first + (u32::from(place) + i) % count).ok())
    }
}

impl fmt::Display for TunnelPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY { f.write_str("0") } else { write!(f, "{}-{}", self.0.start(), self.0.end()) }
    }
}

impl FromStr for TunnelPorts {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let refused = || Invalid::new("", format!("{} is no range of ports like 20000-20999", quoted(text)));
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let range: RangeInclusive<u16> = number(first).ok_or_else(refused)?..=number(last).ok_or_else(refused)?;
        // Zero means any port, and nothing else.
        let is_good = text == "0" || (*range.start() > 0 && range.start() <= range.end());
        if is_good { Ok(Self(range)) } else { Err(refused()) }
    }
}

/// What holds, or does not hold any more, of an open tunnel's right to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The token with which it was asked for is still good.
    pub is_token_good: bool,
    /// Its user may still open tunnels in the fleet.
    pub is_permitted: bool,
    /// The device is still in the fleet.
    pub is_in_fleet: bool,
    /// It ends in the device itself, or the fleet still allows others.
    pub is_target_allowed: bool,
}

impl Standing {
    /// Why the tunnel must end, if it must: a code and a sentence.
    pub const fn verdict(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self { is_token_good: false, .. } => {
                Some(("credential_ended", "The token with which it was opened was revoked or has expired."))
            }
            Self { is_permitted: false, .. } => {
                Some(("permission_ended", "Whoever opened it may not open tunnels in the fleet any more."))
            }
            Self { is_in_fleet: false, .. } => Some(("device_moved", "The device was moved to another fleet.")),
            Self { is_target_allowed: false, .. } => {
                Some(("target_not_allowed", "The fleet does not allow other hosts any more."))
            }
            _ => None,
        }
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
    fn lets_through_whom_it_names_and_nobody_else() {
        let cases = [
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("::ffff:192.0.2.7", "192.0.2.7", true),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.9/1", "127.0.0.1", false),
            ("128.0.0.0/1", "192.0.2.1", true),
            ("::ffff:192.0.2.0/120", "192.0.2.9", true),
            ("::ffff:192.0.2.0/120", "192.0.3.9", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("2001:db8::1", "192.0.2.7", false),
            ("::1", "::1", true),
            ("10.0.0.1/32", "10.0.0.1", true),
        ];
        for (allowed, address, expected) in cases {
            let allowed = AllowedIp::parse(allowed).unwrap();
            assert_eq!(allowed.lets_through(address.parse().unwrap()), expected, "{allowed:?} {address}");
        }
    }

    #[test]
    fn a_target_is_a_host_or_the_device_itself() {
        for good in ["10.0.0.9", "fe80::1", "printer", "plc_3.shop.lan", "127.0.0.2"] {
            assert_eq!(TargetHost::parse(good).unwrap().unwrap().as_str(), good);
        }
        assert_eq!(TargetHost::parse("127.0.0.1").unwrap(), None);
        for bad in ["", "a b", "a/b", "a:80", "-a", ".a", "a..b", "\0", "\u{fc}"] {
            assert!(TargetHost::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_a_range_or_any() {
        let ports: TunnelPorts = "20000-20002".parse().unwrap();
        assert_eq!(ports.to_string(), "20000-20002");
        assert_eq!(ports.beginning_at(1).collect::<Vec<_>>(), [20_001, 20_002, 20_000]);
        assert_eq!("0".parse::<TunnelPorts>().unwrap().beginning_at(0).collect::<Vec<_>>(), [0]);
        assert_eq!("7".parse::<TunnelPorts>().unwrap().count(), 1);
        assert_eq!("1-65535".parse::<TunnelPorts>().unwrap().count(), 65_535);
        for bad in ["", "-", "0-5", "5-4", "5-", "1-65536", "a-b", "+1-2"] {
            assert!(bad.parse::<TunnelPorts>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tunnel_stands_while_everything_holds() {
        let good = Standing { is_token_good: true, is_permitted: true, is_in_fleet: true, is_target_allowed: true };
        assert_eq!(good.verdict(), None);
        let code = |standing: Standing| standing.verdict().map(|(code, _)| code);
        assert_eq!(code(Standing { is_token_good: false, ..good }), Some("credential_ended"));
        assert_eq!(code(Standing { is_permitted: false, ..good }), Some("permission_ended"));
        assert_eq!(code(Standing { is_in_fleet: false, ..good }), Some("device_moved"));
        assert_eq!(code(Standing { is_target_allowed: false, ..good }), Some("target_not_allowed"));
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
