//! Moments and the clock that tells them.
//!
//! A moment is a whole number of milliseconds since 1970, UTC: the same integer
//! in memory, in both databases and on the link.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Before every real moment; stands for "not yet" where a column is NOT NULL.
    pub const NEVER: Self = Self(0);
    /// After every real moment; stands for "no limit".
    pub const FOREVER: Self = Self(i64::MAX);

    /// The moment that many milliseconds after 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The moment `duration` later; stops at [`Timestamp::FOREVER`].
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `2024-05-02 07:12:57`: how API v1 and most of v2 print a moment, in UTC.
    pub fn to_spaced(self) -> String {
        self.format("%Y-%m-%d %H:%M:%S")
    }

    /// `2025-06-09T14:10:44Z`: how v2's device list prints a moment.
    pub fn to_rfc3339(self) -> String {
        self.format("%Y-%m-%dT%H:%M:%SZ")
    }

    /// The moment that a text in the form of RFC 3339 tells, in any time zone.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        Some(Self(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()))
    }

    fn format(self, pattern: &str) -> String {
        jiff::Timestamp::from_millisecond(self.0)
            .unwrap_or(if self.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX })
            .strftime(pattern)
            .to_string()
    }
}

/// Tells the moment. Cheap to clone; every part of a program is handed one.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The clock of the machine.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until it is moved with [`Clock::advance`].
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start.0))))
    }

    /// The moment it is.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Manual(millis) => Timestamp(millis.load(Ordering::SeqCst)),
            Source::System => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                Timestamp::NEVER.after(since.unwrap_or_default())
            }
        }
    }

    /// Moves a manual clock forward; the machine's clock is left as it is.
    pub fn advance(&self, duration: Duration) {
        if let Source::Manual(millis) = &self.0 {
            let step = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
            millis.fetch_add(step, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_each_documented_form() {
        let moment = Timestamp::from_millis(1_714_633_977_999);
        assert_eq!(moment.to_spaced(), "2024-05-02 07:12:57");
        assert_eq!(moment.to_rfc3339(), "2024-05-02T07:12:57Z");
        assert_eq!(Timestamp::FOREVER.to_spaced().len(), 19);
        let read = Timestamp::from_rfc3339("2024-05-02T09:12:57.999+02:00");
        assert_eq!((read, Timestamp::from_rfc3339("yesterday")), (Some(moment), None));
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Timestamp::from_millis(5));
        assert_eq!(clock.now(), Timestamp::from_millis(5));
        clock.clone().advance(Duration::from_secs(1));
        assert_eq!(clock.now(), Timestamp::from_millis(1005));
    }

    #[test]
    fn time_never_runs_backwards_or_over() {
        assert_eq!(Timestamp::NEVER.since(Timestamp::FOREVER), Duration::ZERO);
        assert_eq!(Timestamp::FOREVER.after(Duration::from_secs(1)), Timestamp::FOREVER);
    }
}
