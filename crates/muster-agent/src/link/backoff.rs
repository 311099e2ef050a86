//! How long to wait before dialling again.

use std::time::Duration;

use rand::{Rng, RngExt};

/// The longest that the first attempt is put off; doubled with each failure.
pub const DELAY_FIRST: Duration = Duration::from_secs(1);
/// The longest that any attempt is put off.
pub const DELAY_MAX: Duration = Duration::from_secs(60);
/// The longest that a deleted device waits before it asks again.
pub const DELAY_DELETED_MAX: Duration = Duration::from_secs(30 * 60);
/// A connection that lasted this long was a good one: the next failure is the first again.
pub const STABLE_AFTER: Duration = Duration::from_secs(60);

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A connection ended that had been welcome for `lasted`.
    pub fn ended(&mut self, lasted: Duration) {
        if lasted >= STABLE_AFTER {
            self.failures = 0;
        }
    }

    /// How long to wait now. Anything from nothing to the bound ("full jitter"): a
    /// server that comes back must not meet its whole fleet at once.
    pub fn delay(&mut self, rng: &mut impl Rng) -> Duration {
        let bound = DELAY_FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(DELAY_MAX);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rng.random_range(0.0..=1.0))
    }

    /// How long a device waits that the server does not recognise: only a person
    /// can change that, so long, but with some spread.
    pub fn delay_unrecognised(&mut self, rng: &mut impl Rng) -> Duration {
        self.failures = self.failures.saturating_add(1);
        DELAY_MAX.mul_f64(rng.random_range(0.5..=1.0))
    }

    /// How long a device waits that was deleted: nearly always for ever, so minutes.
    pub fn delay_deleted(&mut self, rng: &mut impl Rng) -> Duration {
        self.failures = self.failures.saturating_add(1);
        DELAY_DELETED_MAX.mul_f64(rng.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn waits_longer_and_longer_up_to_the_bound() {
        let mut rng = SmallRng::seed_from_u64(1);
        for failures in 0..100_u32 {
            let mut backoff = Backoff { failures };
            let bound = Duration::from_secs(1 << failures.min(6)).min(DELAY_MAX);
            let delays: Vec<Duration> = (0..200).map(|_| Backoff { failures }.delay(&mut rng)).collect();
            assert!(delays.iter().all(|delay| *delay <= bound), "{failures}");
            assert!(delays.iter().any(|delay| *delay > bound.mul_f64(0.9)), "{failures}");
            assert!(delays.iter().any(|delay| *delay < bound.mul_f64(0.1)), "{failures}");
            backoff.delay(&mut rng);
            assert_eq!(backoff.failures, failures + 1);
        }
    }

    #[test]
    fn only_a_stable_connection_forgives() {
        let mut backoff = Backoff { failures: 5 };
        backoff.ended(STABLE_AFTER - Duration::from_millis(1));
        assert_eq!(backoff.failures, 5);
        backoff.ended(STABLE_AFTER);
        assert_eq!(backoff.failures, 0);
    }

    #[test]
    fn a_deleted_device_waits_for_minutes() {
        let mut rng = SmallRng::seed_from_u64(4);
        let delay = Backoff::default().delay_deleted(&mut rng);
        assert!((DELAY_DELETED_MAX / 2..=DELAY_DELETED_MAX).contains(&delay), "{delay:?}");
    }

    #[test]
    fn an_unrecognised_device_waits_long() {
        let mut rng = SmallRng::seed_from_u64(2);
        let delay = Backoff::default().delay_unrecognised(&mut rng);
        assert!(delay >= DELAY_MAX / 2 && delay <= DELAY_MAX);
    }
}
