//! Rate limits: how many calls a minute a token may make, and how many attempts
//! to log in an address or a user name has.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use muster_core::ids::RowId;

use crate::error::{OpError, Result};

/// Counts the calls of each token, or of whatever else has a limit of its own.
pub struct CallLimit<K: Hash + Eq + Clone = RowId> {
    limiter: DefaultKeyedRateLimiter<K>,
    clock: governor::clock::DefaultClock,
}

impl<K: Hash + Eq + Clone> CallLimit<K> {
    /// Lets each make `calls_per_minute` calls at once, and as many again in each minute.
    pub fn per_minute(calls_per_minute: NonZeroU32) -> Self {
        Self { limiter: RateLimiter::keyed(Quota::per_minute(calls_per_minute)), clock: Default::default() }
    }

    /// Counts one call.
    pub fn check(&self, key: K) -> Result<()> {
        self.limiter.check_key(&key).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            OpError::RateLimited(wait.max(Duration::from_secs(1)))
        })
    }

    /// Forgets those that have not called lately, so that memory stays bounded.
    pub fn forget_idle(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

/// Whom an attempt to log in comes from: an address, or the network that one machine
/// has all to itself in version 6.
pub fn attempt_source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_version_6_is_one_source() {
        let source = |text: &str| attempt_source(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn counts_each_token_by_itself() {
        let limit = CallLimit::per_minute(NonZeroU32::new(3).unwrap());
        for _ in 0..3 {
            limit.check(1).unwrap();
        }
        let refused = limit.check(1).unwrap_err();
        assert!(matches!(refused, OpError::RateLimited(wait) if wait <= Duration::from_secs(20)), "{refused:?}");
        limit.check(2).unwrap();
        limit.forget_idle();
    }
}
