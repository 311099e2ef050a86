//! Update windows of a fleet: when, by its own clock, a device may begin an update.

use croner::Cron;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::invalid::{Invalid, quoted};
use crate::limits::{NAME_CHARS_MAX, UPDATE_WINDOW_MINUTES_MAX, UPDATE_WINDOWS_MAX};

/// An update window on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WireUpdateWindow {
    /// When it opens, as five fields of cron: minute, hour, day of the month, month,
    /// day of the week.
    #[cfg_attr(feature = "openapi", schema(example = "0 2 * * MON-FRI"))]
    pub cron: String,
    /// How long it stays open.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 10_080))]
    pub minutes: u64,
    /// By which time zone, of devices that do not tell theirs; UTC by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = "Europe/Berlin"))]
    pub time_zone: Option<String>,
}

/// An update window, checked.
#[derive(Clone, Debug)]
pub struct UpdateWindow {
    opens: Cron,
    minutes: u64,
    otherwise: TimeZone,
}

/// Checks a fleet's windows. None of them means that devices may begin at any time.
pub fn checked(windows: &[WireUpdateWindow]) -> Result<Vec<UpdateWindow>, Invalid> {
    if windows.len() > UPDATE_WINDOWS_MAX {
        let problem = format!("has {} items, at most {UPDATE_WINDOWS_MAX} are allowed", windows.len());
        return Err(Invalid::new("", problem));
    }
    let windows = windows.iter().enumerate();
    windows.map(|(i, window)| window.checked().map_err(|refusal| refusal.within(&format!("[{i}]")))).collect()
}

impl WireUpdateWindow {
    fn checked(&self) -> Result<UpdateWindow, Invalid> {
        let is_short = self.cron.len() <= NAME_CHARS_MAX && self.cron.split_whitespace().count() == 5;
        let opens = self.cron.parse::<Cron>().ok().filter(|_| is_short);
        let opens = opens.ok_or_else(|| {
            Invalid::new("cron", format!("{} is not five fields of cron, as \"0 2 * * *\"", quoted(&self.cron)))
        })?;
        if !(1..=UPDATE_WINDOW_MINUTES_MAX).contains(&self.minutes) {
            let problem = format!("{} is not a number from 1 to {UPDATE_WINDOW_MINUTES_MAX}", self.minutes);
            return Err(Invalid::new("minutes", problem));
        }
        let otherwise = match self.time_zone.as_deref() {
            None => TimeZone::UTC,
            Some(name) => zone(name)
                .ok_or_else(|| Invalid::new("time_zone", format!("no time zone is called {}", quoted(name))))?,
        };
        Ok(UpdateWindow { opens, minutes: self.minutes, otherwise })
    }
}

fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok().filter(|_| !name.is_empty() && name.len() <= NAME_CHARS_MAX)
}

/// Whether a device in that time zone may begin now: any of the windows is open there.
pub fn is_open(windows: &[UpdateWindow], device_zone: &str, now: Timestamp) -> bool {
    let own = zone(device_zone);
    windows.is_empty() || windows.iter().any(|window| window.is_open(own.as_ref(), now))
}

impl UpdateWindow {
    fn is_open(&self, own: Option<&TimeZone>, now: Timestamp) -> bool {
        let Ok(at) = jiff::Timestamp::from_millisecond(now.as_millis()) else { return false };
        let here = at.to_zoned(own.unwrap_or(&self.otherwise).clone());
        let Ok(opened) = self.opens.find_previous_occurrence(&here, true) else { return false };
        let open_for_s = at.as_second() - opened.timestamp().as_second();
        u64::try_from(open_for_s).is_ok_and(|seconds| seconds < self.minutes * 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-06-09T14:10:44Z, a Monday.
    const NOW: Timestamp = Timestamp::from_millis(1_749_478_244_000);

    fn window(cron: &str, minutes: u64, time_zone: Option<&str>) -> WireUpdateWindow {
        WireUpdateWindow { cron: cron.to_owned(), minutes, time_zone: time_zone.map(str::to_owned) }
    }

    fn is_open_at(wire: WireUpdateWindow, device_zone: &str) -> bool {
        is_open(&checked(&[wire]).unwrap(), device_zone, NOW)
    }

    #[test]
    fn goes_by_the_clock_of_the_device() {
        assert!(is_open_at(window("0 14 * * *", 11, None), ""));
        assert!(!is_open_at(window("0 14 * * *", 10, None), ""), "it has just closed");
        assert!(is_open_at(window("0 16 * * *", 60, None), "Europe/Berlin"));
        assert!(!is_open_at(window("0 16 * * *", 60, None), "America/New_York"));
        assert!(is_open_at(window("0 16 * * *", 60, Some("Europe/Berlin")), ""));
        assert!(is_open_at(window("0 16 * * *", 60, Some("Europe/Berlin")), "Nowhere/Else"));
        assert!(is_open_at(window("0 23 * * SUN", 1_440, None), ""), "since yesterday");
        assert!(is_open(&[], "", NOW), "no window is no limit");
    }

    #[test]
    fn names_what_is_wrong() {
        let cases = [
            (window("daily", 1, None), "[0].cron: \"daily\" is not five fields"),
            (window("0 0 2 * * *", 1, None), "[0].cron: "),
            (window("61 0 * * *", 1, None), "[0].cron: "),
            (window("0 0 * * *", 0, None), "[0].minutes: 0 is not a number from 1 to 10080"),
            (window("0 0 * * *", 1, Some("Mars/Base")), "[0].time_zone: no time zone is called \"Mars/Base\""),
        ];
        for (wire, expected) in cases {
            let refusal = checked(std::slice::from_ref(&wire)).unwrap_err().to_string();
            assert!(refusal.starts_with(expected), "{wire:?} gave {refusal}");
        }
    }
}
