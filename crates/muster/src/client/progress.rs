//! How far a deployment is: bars on a terminal, a line for each change elsewhere.

use std::io::Write;
use std::time::Duration;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use muster_core::target::TargetStatus;
use serde_json::Value;

use super::failure::Failure;

/// How many devices stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts([u64; TargetStatus::ALL.len()]);

impl Counts {
    /// From the `devices` of a deployment.
    fn of_devices(devices: &Value) -> Self {
        let keys = ["pending", "in_progress", "succeeded", "failed", "aborted"];
        Self(keys.map(|key| devices[key].as_u64().unwrap_or_default()))
    }

    /// Every device.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those whose deployment has ended.
    pub(super) fn ended(&self) -> u64 {
        self.with().filter(|(status, _)| status.is_final()).map(|(_, count)| count).sum()
    }

    /// Those that did all of it.
    pub(super) fn succeeded(&self) -> u64 {
        self.of(TargetStatus::Succeeded.v2_word())
    }

    /// Those that stand so, by the word of API v2.
    pub(super) fn of(&self, word: &str) -> u64 {
        self.with().filter(|(status, _)| status.v2_word() == word).map(|(_, count)| count).sum()
    }

    fn with(&self) -> impl Iterator<Item = (TargetStatus, u64)> {
        TargetStatus::ALL.into_iter().zip(self.0)
    }

    /// Like `2 succeeded, 1 failed`.
    pub(super) fn in_words(&self) -> String {
        let said = self.with().filter(|(_, count)| *count > 0);
        let said: Vec<String> =
            said.map(|(status, count)| format!("{count} {}", status.v2_word().to_lowercase())).collect();
        if said.is_empty() { "no device".to_owned() } else { said.join(", ") }
    }
}

/// What one look at a deployment found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    /// How its devices stand.
    pub(super) counts: Counts,
    /// The same, and why some ended, as the API has it.
    pub(super) devices: Value,
    /// How it goes over them, as the API has it; null where they all may begin at once.
    pub(super) rollout: Value,
}

/// A wave of a deployment that has several.
struct Wave {
    number: u64,
    of: usize,
    ended: u64,
    total: u64,
}

impl Seen {
    /// From a deployment as the API has it with `enrich_info`.
    pub(super) fn of(deployment: &Value) -> Self {
        let devices = deployment["devices"].clone();
        Self { counts: Counts::of_devices(&devices), devices, rollout: deployment["rollout"].clone() }
    }

    /// How its rollout stands, in the word of the API.
    pub(super) fn status(&self) -> &str {
        self.rollout["status"].as_str().unwrap_or_default()
    }

    /// Every device has ended.
    pub(super) fn is_over(&self) -> bool {
        self.counts.ended() == self.counts.total()
    }

    /// No further device begins until a person says so.
    pub(super) fn is_paused(&self) -> bool {
        matches!(self.status(), "paused" | "failure_budget_spent")
    }

    /// It is paused, and what had begun has ended.
    pub(super) fn is_at_rest(&self) -> bool {
        let waves = self.rollout["waves"].as_array().into_iter().flatten();
        self.is_paused() && waves.map(|wave| wave["in_progress"].as_u64().unwrap_or_default()).sum::<u64>() == 0
    }

    /// The newest wave that has begun.
    fn wave(&self) -> Option<Wave> {
        let waves = self.rollout["waves"].as_array().filter(|waves| waves.len() > 1)?;
        let number = self.rollout["wave"].as_u64()?;
        let wave = waves.get(usize::try_from(number.checked_sub(1)?).ok()?)?;
        let count = |keys: &[&str]| keys.iter().map(|key| wave[key].as_u64().unwrap_or_default()).sum::<u64>();
        let ended = count(&["succeeded", "failed", "ended_otherwise"]);
        Some(Wave { number, of: waves.len(), ended, total: ended + count(&["waiting", "in_progress"]) })
    }

    /// Like `wave 2 of 3: 4 of 7 ended: 4 succeeded, 3 pending`.
    fn in_words(&self) -> String {
        let wave = self.wave().map(|wave| format!("wave {} of {}: ", wave.number, wave.of)).unwrap_or_default();
        let counts = self.counts;
        format!("{wave}{} of {} ended: {}", counts.ended(), counts.total(), counts.in_words())
    }
}

/// Tells a person, on standard error.
pub(super) enum Progress {
    /// On a terminal.
    Bars(Bars),
    /// Elsewhere; with what was said last.
    Lines {
        /// The deployment.
        name: String,
        /// What was said last.
        said: Option<String>,
    },
    /// Nobody is told.
    Silent,
}

/// A bar for all of a deployment, and below it one for each wave that has begun.
pub(super) struct Bars {
    all: MultiProgress,
    whole: ProgressBar,
    waves: Vec<(u64, ProgressBar)>,
}

const REDRAW_PERIOD: Duration = Duration::from_millis(100);

impl Bars {
    fn new(name: &str) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let whole = all.add(bar(name.to_owned()));
        whole.enable_steady_tick(REDRAW_PERIOD);
        Self { all, whole, waves: Vec::new() }
    }

    fn show(&mut self, seen: &Seen) {
        self.whole.set_length(seen.counts.total());
        self.whole.set_position(seen.counts.ended());
        self.whole.set_message(seen.counts.in_words());
        let Some(wave) = seen.wave() else { return };
        if self.waves.last().is_none_or(|(number, _)| *number != wave.number) {
            if let Some((_, before)) = self.waves.last() {
                before.abandon_with_message("over");
            }
            self.waves.push((wave.number, self.all.add(bar(format!("  wave {} of {}", wave.number, wave.of)))));
        }
        if let Some((_, bar)) = self.waves.last() {
            bar.set_length(wave.total);
            bar.set_position(wave.ended);
        }
    }
}

fn bar(prefix: String) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{prefix} {spinner} [{wide_bar}] {pos}/{len} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_prefix(prefix);
    bar
}

impl Progress {
    /// Of the deployment of that name.
    pub(super) fn of(name: &str) -> Self {
        match Term::stderr().is_term() {
            true => Self::Bars(Bars::new(name)),
            false => Self::Lines { name: name.to_owned(), said: None },
        }
    }

    /// For programs, which are told otherwise.
    pub(super) const fn silent() -> Self {
        Self::Silent
    }

    /// So it stands now.
    pub(super) fn show(&mut self, seen: &Seen) -> Result<(), Failure> {
        match self {
            Self::Bars(bars) => bars.show(seen),
            Self::Lines { name, said } => {
                let words = seen.in_words();
                if said.as_ref() != Some(&words) {
                    writeln!(std::io::stderr(), "{name}: {words}")?;
                    *said = Some(words);
                }
            }
            Self::Silent => {}
        }
        Ok(())
    }

    /// Something beside it.
    pub(super) fn say(&self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Bars(bars) => bars.all.println(text)?,
            Self::Lines { .. } => writeln!(std::io::stderr(), "{text}")?,
            Self::Silent => {}
        }
        Ok(())
    }

    /// Leaves the last state on the screen.
    pub(super) fn end(self) {
        if let Self::Bars(bars) = self {
            bars.waves.iter().for_each(|(_, bar)| bar.abandon());
            bars.whole.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(rollout: &Value) -> Seen {
        let devices = json!({ "pending": 1, "in_progress": 1, "succeeded": 2, "failed": 1, "aborted": 1, "total": 6 });
        Seen::of(&json!({ "devices": devices, "rollout": rollout }))
    }

    fn wave(waiting: u64, in_progress: u64, succeeded: u64) -> Value {
        json!({ "waiting": waiting, "in_progress": in_progress, "succeeded": succeeded, "failed": 0, "ended_otherwise": 0 })
    }

    #[test]
    fn counts_by_the_words_of_the_api() {
        let none = Counts::default();
        assert_eq!((none.total(), none.in_words().as_str()), (0, "no device"));
        let seen = seen(&Value::Null);
        let counts = seen.counts;
        assert_eq!((counts.total(), counts.ended(), counts.succeeded(), counts.of("Aborted")), (6, 4, 2, 1));
        let words = "4 of 6 ended: 1 pending, 1 in progress, 2 succeeded, 1 failed, 1 aborted";
        assert_eq!(seen.in_words(), words);
        assert!(!seen.is_over() && !seen.is_paused());
    }

    #[test]
    fn names_the_wave_of_several() {
        let one = seen(&json!({ "status": "running", "wave": 1, "waves": [wave(1, 1, 4)] }));
        assert!(one.in_words().starts_with("4 of 6"));
        let two = seen(&json!({ "status": "running", "wave": 2, "waves": [wave(0, 0, 2), wave(1, 1, 2)] }));
        assert!(two.in_words().starts_with("wave 2 of 2: 4 of 6"));
        let now = two.wave().unwrap();
        assert_eq!((now.ended, now.total), (2, 4));
    }

    #[test]
    fn is_at_rest_once_what_had_begun_has_ended() {
        let paused = |in_progress| {
            seen(&json!({ "status": "failure_budget_spent", "wave": 1, "waves": [wave(1, in_progress, 0)] }))
        };
        assert!(paused(1).is_paused() && !paused(1).is_at_rest() && paused(0).is_at_rest());
    }
}
