//! Deadlines as people set them: for a fleet, in a flow, for one deployment. What the
//! latter says goes before what the former say.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::invalid::Invalid;
use crate::limits::{DEADLINE_MAX, DEADLINE_MIN};
use crate::target::Deadlines;

/// Deadlines on the wire, in minutes; what is left out is decided elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WireDeadlines {
    /// How long a device may stay pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 525_600))]
    pub pending_minutes: Option<u64>,
    /// How long a device may take from its beginning to its end; by default what the
    /// steps may take together, and an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 525_600))]
    pub run_minutes: Option<u64>,
    /// How long a device may take to confirm an abort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 525_600))]
    pub abort_minutes: Option<u64>,
}

impl WireDeadlines {
    /// The same, once every number is known to be one that may be.
    pub fn checked(self) -> Result<Self, Invalid> {
        let (min, max) = (DEADLINE_MIN.as_secs() / 60, DEADLINE_MAX.as_secs() / 60);
        let named = [
            ("pending_minutes", self.pending_minutes),
            ("run_minutes", self.run_minutes),
            ("abort_minutes", self.abort_minutes),
        ];
        for (field, minutes) in named {
            if let Some(minutes) = minutes.filter(|minutes| !(min..=max).contains(minutes)) {
                return Err(Invalid::new(field, format!("{minutes} is not a number from {min} to {max}")));
            }
        }
        Ok(self)
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `otherwise`, where nothing is said here.
    #[must_use]
    pub fn or(self, otherwise: Deadlines) -> Deadlines {
        let or = |minutes: Option<u64>, otherwise| {
            minutes.map_or(otherwise, |minutes| Duration::from_secs(minutes.saturating_mul(60)))
        };
        Deadlines {
            pending: or(self.pending_minutes, otherwise.pending),
            run: or(self.run_minutes, otherwise.run),
            abort: or(self.abort_minutes, otherwise.abort),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closer_word_goes_first() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let server = Deadlines { pending: minutes(100), run: minutes(100), abort: minutes(100) };
        let fleet = WireDeadlines { pending_minutes: Some(3), abort_minutes: Some(4), ..WireDeadlines::default() };
        let deployment = WireDeadlines { pending_minutes: Some(2), ..WireDeadlines::default() };
        let expected = Deadlines { pending: minutes(2), run: minutes(100), abort: minutes(4) };
        assert_eq!(deployment.or(fleet.or(server)), expected);
        assert!(WireDeadlines::default().is_empty() && !deployment.is_empty());
    }

    #[test]
    fn refuses_what_cannot_be() {
        let wire = WireDeadlines { run_minutes: Some(0), ..WireDeadlines::default() };
        assert_eq!(wire.checked().unwrap_err().to_string(), "run_minutes: 0 is not a number from 1 to 525600");
    }
}
