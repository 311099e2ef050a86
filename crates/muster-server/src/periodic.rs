//! What is done again and again for as long as the server runs.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// Ticks at once, and then once in each period. Work that takes longer than that puts the
/// next tick off.
pub(crate) fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Says in the log what `could_not` be done this time. The next period tries again.
pub(crate) fn or_later<E: Display>(done: Result<(), E>, could_not: &str) {
    if let Err(error) = done {
        tracing::warn!(%error, "{could_not}; trying again later");
    }
}
