//! When a certificate is asked for: decisions, without clock or network.

use std::time::Duration;

use muster_core::clock::Timestamp;

/// From when to when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The authority was not reached, or did not answer as it should.
    Unreachable,
    /// It refused: it counts that, and lets nobody in who tries too often.
    Refused,
}

/// A third of its life before its end, a certificate is renewed.
const LIFE_LEFT: i64 = 3;
/// Renewals are spread over this part of the life: many servers may have begun at once.
const SPREAD: i64 = 30;

/// When a certificate is to be renewed: in the window that its authority suggests, else
/// when a third of its life is left. `share`, of a thousand, is this certificate's place in
/// what renewals are spread over.
pub(super) fn renew_at(validity: Validity, suggested: Option<(Timestamp, Timestamp)>, share: i64) -> Timestamp {
    let share = share.clamp(0, 1_000);
    let within = |start: i64, span: i64| Timestamp::from_millis(start + span.max(0) / 1_000 * share);
    if let Some((start, end)) = suggested {
        return within(start.as_millis(), end.as_millis() - start.as_millis());
    }
    let (from, until) = (validity.from.as_millis(), validity.until.as_millis());
    let life = (until - from).max(0);
    within(until - life / LIFE_LEFT - life / SPREAD, life / SPREAD)
}

/// How long to wait after that many failures in a row.
pub(super) fn back_off(failure: Failure, failures: u32, share: i64) -> Duration {
    let (first, max) = match failure {
        Failure::Unreachable => (Duration::from_secs(5), Duration::from_secs(60 * 60)),
        Failure::Refused => (Duration::from_secs(5 * 60), Duration::from_secs(12 * 60 * 60)),
    };
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(max);
    // Up to a quarter more, so that those who failed together do not come back together.
    let more = u32::try_from(share.clamp(0, 1_000)).unwrap_or(0);
    doubled + doubled / 4_000 * more
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    proptest! {
        #[test]
        fn is_renewed_in_time_and_not_at_once(from in 0_i64..1_000_000, life in 1_i64..100_000_000, share in 0_i64..=1_000) {
            let validity = Validity { from: at(from), until: at(from + life) };
            let due = renew_at(validity, None, share).as_millis() - from * 1_000;
            prop_assert!(due <= life * 1_000 - life * 1_000 / 3, "a third is left");
            prop_assert!(due >= life * 1_000 * 6 / 10, "most of it is used");
        }

        #[test]
        fn the_authority_knows_better(start in 0_i64..1_000, span in 0_i64..1_000, share in 0_i64..=1_000) {
            let validity = Validity { from: at(0), until: at(1_000_000) };
            let due = renew_at(validity, Some((at(start), at(start + span))), share);
            prop_assert!(due >= at(start) && due <= at(start + span));
        }

        #[test]
        fn waits_longer_each_time_but_not_for_ever(failures in 1_u32..100, share in 0_i64..=1_000) {
            for failure in [Failure::Unreachable, Failure::Refused] {
                let wait = back_off(failure, failures, share);
                prop_assert!(wait >= Duration::from_secs(5) && wait <= Duration::from_secs(15 * 60 * 60));
                prop_assert!(back_off(failure, failures + 1, share) >= wait);
            }
            prop_assert!(back_off(Failure::Refused, failures, 0) > back_off(Failure::Unreachable, failures, 1_000));
        }
    }
}
