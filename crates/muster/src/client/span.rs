//! Spans of time as people write them, and moments that lie so long ago.

use std::time::Duration;

use muster_core::clock::Timestamp;

/// `90s`, `30m`, `12h` or `7d`, in seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no span of time like 90s, 30m, 12h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds_per_unit: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count.checked_mul(seconds_per_unit).ok_or_else(wrong)
}

/// A moment as the API writes it: given so, or as a span before now.
pub(super) fn moment(text: &str, now: Timestamp) -> String {
    match seconds(text) {
        Ok(seconds) => before(now, Duration::from_secs(seconds)).to_rfc3339(),
        Err(_) => text.to_owned(),
    }
}

fn before(now: Timestamp, span: Duration) -> Timestamp {
    let span_ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis().saturating_sub(span_ms).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        assert_eq!(["90s", "30m", "12h", "7d"].map(|text| seconds(text).unwrap()), [90, 1_800, 43_200, 604_800]);
        for text in ["", "7", "d", "7w", "-1d", "1.5h", "7ä", "99999999999999999999d", "999999999999999999d"] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
    }
}
