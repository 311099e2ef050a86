//! Rate limits: how many calls a minute a token or an address may make, how many
//! attempts to log in it has, and how many are left, for whoever asks.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use muster_core::ids::RowId;

use crate::error::{OpError, Result};

/// The time that limits are counted over.
pub const WINDOW: Duration = Duration::from_secs(60);

type Limiter<K> = RateLimiter<K, DashMapStateStore<K>, governor::clock::DefaultClock, StateInformationMiddleware>;

/// Counts the calls of each `K`.
pub struct CallLimit<K: Hash + Eq + Clone = RowId> {
    /// What the calls are counted for, as the headers name it.
    name: &'static str,
    calls_per_minute: NonZeroU32,
    limiter: Limiter<K>,
    clock: governor::clock::DefaultClock,
}

/// What a limit leaves after a call was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// What the calls are counted for.
    pub name: &'static str,
    /// Calls in each [`WINDOW`].
    pub quota: u32,
    /// Calls that may follow at once.
    pub calls: u32,
}

impl Remaining {
    /// Until all of the quota is there again, in whole seconds.
    pub fn reset_seconds(&self) -> u64 {
        let spent = u64::from(self.quota.saturating_sub(self.calls));
        (spent * WINDOW.as_secs()).div_ceil(u64::from(self.quota.max(1)))
    }
}

impl<K: Hash + Eq + Clone> CallLimit<K> {
    /// Lets each make `calls_per_minute` calls at once, and as many again in each minute.
    pub fn per_minute(name: &'static str, calls_per_minute: NonZeroU32) -> Self {
        let limiter = RateLimiter::keyed(Quota::per_minute(calls_per_minute));
        Self { name, calls_per_minute, limiter: limiter.with_middleware(), clock: Default::default() }
    }

    /// Counts one call: what is left, and the refusal when it is one too many.
    pub fn count(&self, key: &K) -> (Remaining, Result<()>) {
        let left = |calls| Remaining { name: self.name, quota: self.calls_per_minute.get(), calls };
        match self.limiter.check_key(key) {
            Ok(state) => (left(state.remaining_burst_capacity()), Ok(())),
            Err(not_until) => {
                let wait = not_until.wait_time_from(governor::clock::Clock::now(&self.clock));
                (left(0), Err(OpError::RateLimited(wait.max(Duration::from_secs(1)))))
            }
        }
    }

    /// Counts one call whose asker is not told what is left.
    pub fn check(&self, key: &K) -> Result<()> {
        self.count(key).1
    }

    /// Forgets those that have not called lately, so that memory stays bounded.
    pub fn forget_idle(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

/// Where a request comes from. What is counted against its limits is kept, for the answer.
#[derive(Clone, Debug)]
pub struct Source {
    address: IpAddr,
    counted: Arc<Mutex<Vec<Remaining>>>,
}

impl Source {
    /// A request of that address, which nothing has been counted for.
    pub fn new(address: IpAddr) -> Self {
        Self { address, counted: Arc::default() }
    }

    /// The address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Counts the request once against a limit.
    pub fn count<K: Hash + Eq + Clone>(&self, limit: &CallLimit<K>, key: &K) -> Result<()> {
        let (left, outcome) = limit.count(key);
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).push(left);
        outcome
    }

    /// What every limit leaves that the request was counted against.
    pub fn counted(&self) -> Vec<Remaining> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What calls of an address are counted for: itself, or its /64 network, all of
/// which one customer of a provider has in IPv6.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_by_itself() {
        let limit = CallLimit::<RowId>::per_minute("token", NonZeroU32::new(3).unwrap());
        for calls in [2, 1, 0] {
            let (left, outcome) = limit.count(&1);
            assert_eq!(left, Remaining { name: "token", quota: 3, calls });
            outcome.unwrap();
        }
        let (left, outcome) = limit.count(&1);
        assert_eq!((left.calls, left.reset_seconds()), (0, 60));
        let refused = outcome.unwrap_err();
        assert!(matches!(refused, OpError::RateLimited(wait) if wait <= Duration::from_secs(20)), "{refused:?}");
        limit.count(&2).1.unwrap();
        limit.forget_idle();
    }

    #[test]
    fn an_ipv6_network_is_one() {
        let network = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
