//! What a person asks of a rollout: `deployment_configuration.rollout`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::filter::{DeviceFilter, WireDeviceFilter};
use crate::invalid::{Invalid, quoted};
use crate::limits::{ROLLOUT_DEVICES_MAX, ROLLOUT_MINUTES_MAX, ROLLOUT_WAVES_MAX};
use crate::names::TagName;
use crate::wire::{objects, optional_object};

/// How a deployment goes over its devices. The default goes to all of them at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The first waves. Devices that are in none of them make one more, the last.
    pub waves: Vec<Wave>,
    /// How long a wave may hold up the next with devices that have not ended; `None`
    /// for its share of the time that a device may stay pending.
    pub wave_time_max: Option<Duration>,
    /// Most devices that may be at it at once.
    pub in_progress_max: Option<u64>,
    /// How many devices may fail; one more pauses the rollout.
    pub failures_max: Option<Share>,
    /// Which devices must not all be at it at once.
    pub disruption: Option<Disruption>,
    /// How long a wave is watched after its end, before the next begins.
    pub soak: Duration,
    /// Before this nothing begins.
    pub start_at: Option<Timestamp>,
    /// Until then, devices that come to match the filter are included.
    pub follow_until: Option<Timestamp>,
}

/// Which devices are in a wave, of those that are in none before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wave {
    /// So many, or that share of all of the deployment's devices: those that enrolled first.
    Share(Share),
    /// Those that match.
    Filter(DeviceFilter),
}

/// A number of devices, or a part of all of the deployment's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Count(u64),
    /// So many of each hundred.
    Percent(u64),
}

impl Share {
    /// As many of `all`, rounded up: a wave of one per cent is never empty.
    pub fn at_least(self, all: u64) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => all.saturating_mul(percent).div_ceil(100),
        }
    }

    /// As many of `all`, rounded down: a budget is never more than was said.
    pub fn at_most(self, all: u64) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => all.saturating_mul(percent) / 100,
        }
    }
}

/// At most so many devices at once that bear the same tag of this key, whichever
/// deployments of the fleet are at them: `site=12` and
/// `site=13` are two sites. A device without such a tag is not limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disruption {
    /// The key of the tags.
    pub tag_key: String,
    /// Most devices of one tag that may be at it at once.
    pub in_progress_max: u64,
}

impl Policy {
    /// How many waves there are, with the last one of what is left.
    pub fn waves_count(&self) -> u32 {
        u32::try_from(self.waves.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// How long a wave may hold up the next. Unless the policy says so, the waves
    /// share what the soaking leaves of the time that a device may stay pending: so
    /// every wave begins before its devices run out of time.
    pub fn wave_time(&self, pending_deadline: Duration) -> Duration {
        let waves = self.waves_count();
        let soaking = self.soak.saturating_mul(waves - 1);
        self.wave_time_max.unwrap_or_else(|| pending_deadline.saturating_sub(soaking) / waves)
    }

    /// Refuses a policy whose last wave could not begin before its devices run out of time.
    pub fn check_time(&self, now: Timestamp, pending_deadline: Duration) -> Result<(), Invalid> {
        let before_last = (self.soak + self.wave_time_max.unwrap_or_default()).saturating_mul(self.waves_count() - 1);
        let waited = self.start_at.map_or(Duration::ZERO, |start_at| start_at.since(now));
        if before_last.saturating_add(waited) < pending_deadline {
            return Ok(());
        }
        let minutes = pending_deadline.as_secs() / 60;
        let problem = format!("takes longer than the {minutes} minutes that a device may stay pending");
        Err(Invalid::new(if before_last < pending_deadline { "start_time" } else { "waves" }, problem))
    }
}

/// How a deployment goes over its devices, as it is asked for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WireRollout {
    /// The first waves; devices that are in none of them make one more, the last.
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<WireWave>,
    /// How long a wave may hold up the next with devices that have not ended; by
    /// default its share of the time that a device may stay pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 525_600))]
    pub wave_minutes_max: Option<u64>,
    /// Most devices that may be at it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 10_000_000))]
    pub in_progress_max: Option<u64>,
    /// How many devices may fail; one more pauses the rollout.
    #[serde(default, deserialize_with = "optional_object", skip_serializing_if = "Option::is_none")]
    pub failures_max: Option<WireShare>,
    /// Which devices must not all be at it at once.
    #[serde(default, deserialize_with = "optional_object", skip_serializing_if = "Option::is_none")]
    pub disruption: Option<WireDisruption>,
    /// How long a wave is watched after its end, before the next begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 525_600))]
    pub soak_minutes: Option<u64>,
    /// Before this nothing begins: `2025-06-09T14:10:44Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(format = "date-time"))]
    pub start_time: Option<String>,
    /// Until then, devices that come to match the filter are included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(format = "date-time"))]
    pub follow_until: Option<String>,
}

/// One wave on the wire: exactly one of the three.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WireWave {
    /// So many devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 10_000_000))]
    pub count: Option<u64>,
    /// So many of each hundred of the deployment's devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 100))]
    pub percent: Option<u64>,
    /// Those that match.
    #[serde(default, deserialize_with = "optional_object", skip_serializing_if = "Option::is_none")]
    pub device_filter: Option<WireDeviceFilter>,
}

/// A number or a percentage on the wire: exactly one of the two.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WireShare {
    /// So many devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 10_000_000))]
    pub count: Option<u64>,
    /// So many of each hundred of the deployment's devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 100))]
    pub percent: Option<u64>,
}

/// At most so many devices at once that bear the same tag of a key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WireDisruption {
    /// The key of the tags: `site` for `site=12` and `site=13`.
    #[cfg_attr(feature = "openapi", schema(example = "site"))]
    pub tag_key: String,
    /// Most devices of one tag that may be at it at once.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 10_000_000))]
    pub in_progress_max: u64,
}

impl TryFrom<WireRollout> for Policy {
    type Error = Invalid;

    fn try_from(wire: WireRollout) -> Result<Self, Invalid> {
        if wire.waves.len() > ROLLOUT_WAVES_MAX {
            let problem = format!("has {} items, at most {ROLLOUT_WAVES_MAX} are allowed", wire.waves.len());
            return Err(Invalid::new("waves", problem));
        }
        let waves = wire.waves.into_iter().enumerate();
        let waves = waves.map(|(i, wave)| wave.check().map_err(|refusal| refusal.within(&format!("waves[{i}]"))));
        let failures_max = wire.failures_max.map(|share| share.check(0)).transpose();
        Ok(Self {
            waves: waves.collect::<Result<_, _>>()?,
            wave_time_max: minutes("wave_minutes_max", wire.wave_minutes_max, 1)?,
            in_progress_max: within("in_progress_max", wire.in_progress_max, 1, ROLLOUT_DEVICES_MAX)?,
            failures_max: failures_max.map_err(|refusal| refusal.within("failures_max"))?,
            disruption: wire.disruption.map(WireDisruption::check).transpose()?,
            soak: minutes("soak_minutes", wire.soak_minutes, 0)?.unwrap_or_default(),
            start_at: moment("start_time", wire.start_time.as_deref())?,
            follow_until: moment("follow_until", wire.follow_until.as_deref())?,
        })
    }
}

impl WireWave {
    fn check(self) -> Result<Wave, Invalid> {
        match (self.count, self.percent, self.device_filter) {
            (None, None, Some(filter)) => {
                let filter = DeviceFilter::try_from(filter);
                Ok(Wave::Filter(filter.map_err(|refusal| refusal.within("device_filter"))?))
            }
            (count, percent, None) => Ok(Wave::Share(WireShare { count, percent }.check(1)?)),
            (_, _, Some(_)) => Err(Invalid::new("", "takes one of \"count\", \"percent\" and \"device_filter\"")),
        }
    }
}

impl WireShare {
    fn check(self, min: u64) -> Result<Share, Invalid> {
        let count = within("count", self.count, min, ROLLOUT_DEVICES_MAX)?;
        match (count, within("percent", self.percent, min, 100)?) {
            (Some(count), None) => Ok(Share::Count(count)),
            (None, Some(percent)) => Ok(Share::Percent(percent)),
            _ => Err(Invalid::new("", "takes one of \"count\" and \"percent\"")),
        }
    }
}

impl WireDisruption {
    fn check(self) -> Result<Disruption, Invalid> {
        let max = within("disruption.in_progress_max", Some(self.in_progress_max), 1, ROLLOUT_DEVICES_MAX)?;
        let key = TagName::parse(self.tag_key).map_err(|refusal| refusal.within("disruption.tag_key"))?;
        if key.as_str().contains('=') {
            let problem = format!("{} is a whole tag, not the key of one", quoted(key.as_str()));
            return Err(Invalid::new("disruption.tag_key", problem));
        }
        Ok(Disruption { tag_key: key.into_string(), in_progress_max: max.unwrap_or(1) })
    }
}

fn within(field: &str, number: Option<u64>, min: u64, max: u64) -> Result<Option<u64>, Invalid> {
    match number {
        Some(number) if !(min..=max).contains(&number) => {
            Err(Invalid::new(field, format!("{number} is not a number from {min} to {max}")))
        }
        number => Ok(number),
    }
}

fn minutes(field: &str, number: Option<u64>, min: u64) -> Result<Option<Duration>, Invalid> {
    Ok(within(field, number, min, ROLLOUT_MINUTES_MAX)?.map(|minutes| Duration::from_secs(minutes * 60)))
}

fn moment(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, Invalid> {
    let read = |text: &str| {
        let refusal = || Invalid::new(field, format!("{} is no time like 2025-06-09T14:10:44Z", quoted(text)));
        Timestamp::from_rfc3339(text).filter(|at| *at > Timestamp::NEVER).ok_or_else(refusal)
    };
    text.map(read).transpose()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(wire: Value) -> Result<Policy, String> {
        let wire: WireRollout = serde_json::from_value(wire).map_err(|error| error.to_string())?;
        Policy::try_from(wire).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn reads_every_word() {
        let wire = json!({
            "waves": [{ "count": 3 }, { "percent": 20 }, { "device_filter": {} }],
            "wave_minutes_max": 60, "in_progress_max": 5, "failures_max": { "percent": 2 },
            "disruption": { "tag_key": "site", "in_progress_max": 1 }, "soak_minutes": 30,
            "start_time": "2025-06-09T14:10:44Z", "follow_until": "2025-07-09T14:10:44+02:00",
        });
        let policy = parse(wire).unwrap();
        let waves =
            [Wave::Share(Share::Count(3)), Wave::Share(Share::Percent(20)), Wave::Filter(DeviceFilter::everything())];
        assert_eq!((&policy.waves[..], policy.waves_count()), (&waves[..], 4));
        assert_eq!(policy.disruption, Some(Disruption { tag_key: "site".to_owned(), in_progress_max: 1 }));
        assert_eq!((policy.soak, policy.failures_max), (Duration::from_secs(1_800), Some(Share::Percent(2))));
        assert_eq!(policy.start_at, Some(Timestamp::from_millis(1_749_478_244_000)));
        assert_eq!(parse(json!({})), Ok(Policy::default()));
    }

    #[test]
    fn names_the_place_of_what_is_wrong() {
        let cases = [
            (json!({ "waves": [{}] }), "waves[0]: takes one of \"count\" and \"percent\""),
            (json!({ "waves": [{ "count": 1 }, { "count": 0 }] }), "waves[1].count: 0 is not a number"),
            (json!({ "waves": [{ "count": 1, "device_filter": {} }] }), "waves[0]: takes one of"),
            (json!({ "waves": vec![json!({ "count": 1 }); 21] }), "waves: has 21 items"),
            (json!({ "failures_max": { "percent": 101 } }), "failures_max.percent: 101 is not"),
            (json!({ "failures_max": { "percent": 1, "count": 1 } }), "failures_max: takes one of"),
            (json!({ "disruption": { "tag_key": "a=b", "in_progress_max": 1 } }), "disruption.tag_key: \"a=b\" is"),
            (json!({ "disruption": { "tag_key": "a", "in_progress_max": 0 } }), "disruption.in_progress_max: 0"),
            (json!({ "start_time": "soon" }), "start_time: \"soon\" is no time"),
            (json!({ "in_progress_max": 0 }), "in_progress_max: 0 is not"),
            (json!({ "wave": [] }), "unknown field `wave`"),
        ];
        for (wire, expected) in cases {
            let refusal = parse(wire.clone()).unwrap_err();
            assert!(refusal.contains(expected), "{wire} gave {refusal}");
        }
    }

    #[test]
    fn rounds_waves_up_and_budgets_down() {
        assert_eq!((Share::Percent(1).at_least(30), Share::Percent(1).at_most(30)), (1, 0));
        assert_eq!((Share::Percent(50).at_least(3), Share::Percent(50).at_most(3)), (2, 1));
        assert_eq!(Share::Count(7).at_least(3), 7);
    }

    #[test]
    fn every_wave_begins_before_its_devices_run_out_of_time() {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let policy = Policy { waves: vec![Wave::Share(Share::Count(1)); 3], soak: hours(2), ..Policy::default() };
        assert_eq!(policy.wave_time(hours(26)), hours(5));
        let now = Timestamp::from_millis(1);
        assert_eq!(policy.check_time(now, hours(26)), Ok(()));
        assert_eq!(policy.check_time(now, hours(6)).unwrap_err().field, "waves");
        let late = Policy { start_at: Some(now.after(hours(30))), ..policy };
        assert_eq!(late.check_time(now, hours(26)).unwrap_err().field, "start_time");
    }
}
