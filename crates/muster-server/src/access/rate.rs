//! Rate limits: how many calls a minute a token may make.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use muster_core::ids::RowId;

use crate::error::{OpError, Result};

/// Counts the calls of each token.
pub struct CallLimit {
    limiter: DefaultKeyedRateLimiter<RowId>,
    clock: governor::clock::DefaultClock,
}

impl CallLimit {
    /// Lets each token make `calls_per_minute` calls at once, and as many again in each minute.
    pub fn per_minute(calls_per_minute: NonZeroU32) -> Self {
        Self { limiter: RateLimiter::keyed(Quota::per_minute(calls_per_minute)), clock: Default::default() }
    }

    /// Counts one call of the token.
    pub fn check(&self, token_id: RowId) -> Result<()> {
        self.limiter.check_key(&token_id).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            OpError::RateLimited(wait.max(Duration::from_secs(1)))
        })
    }

    /// Forgets the tokens that have not called lately, so that memory stays bounded.
    pub fn forget_idle(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
