//! How far a deployment is: a bar on a terminal, a line for each change elsewhere.

use std::io::Write;
use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use muster_core::target::TargetStatus;
use serde_json::Value;

use super::failure::Failure;

/// How many devices stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts([u64; TargetStatus::ALL.len()]);

impl Counts {
    /// One device more, by the word of API v2.
    pub(super) fn add(&mut self, word: &Value) {
        let status = TargetStatus::ALL.iter().position(|status| word == status.v2_word());
        if let Some(status) = status {
            self.0[status] += 1;
        }
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
        self.with().filter(|(status, _)| *status == TargetStatus::Succeeded).map(|(_, count)| count).sum()
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

/// Tells a person, on standard error.
pub(super) enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// Elsewhere; with what was said last.
    Lines {
        /// The deployment.
        name: String,
        /// What was said last.
        said: Option<Counts>,
    },
}

const REDRAW_PERIOD: Duration = Duration::from_millis(100);

impl Progress {
    /// Of the deployment of that name.
    pub(super) fn of(name: &str) -> Self {
        if !Term::stderr().is_term() {
            return Self::Lines { name: name.to_owned(), said: None };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix} {spinner} [{wide_bar}] {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(REDRAW_PERIOD);
        Self::Bar(bar)
    }

    /// So it stands now.
    pub(super) fn show(&mut self, counts: Counts) -> Result<(), Failure> {
        match self {
            Self::Bar(bar) => {
                bar.set_length(counts.total());
                bar.set_position(counts.ended());
                bar.set_message(counts.in_words());
            }
            Self::Lines { said, .. } if *said == Some(counts) => {}
            Self::Lines { name, said } => {
                *said = Some(counts);
                let (ended, total) = (counts.ended(), counts.total());
                writeln!(std::io::stderr(), "{name}: {ended} of {total} ended: {}", counts.in_words())?;
            }
        }
        Ok(())
    }

    /// Leaves the last state on the screen.
    pub(super) fn end(self) {
        if let Self::Bar(bar) = self {
            bar.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counts_by_the_words_of_the_api() {
        let mut counts = Counts::default();
        assert_eq!((counts.total(), counts.in_words().as_str()), (0, "no device"));
        for word in ["Pending", "In Progress", "Succeeded", "Succeeded", "Failed", "Aborted"] {
            counts.add(&json!(word));
        }
        assert_eq!((counts.total(), counts.ended(), counts.succeeded()), (6, 4, 2));
        assert_eq!(counts.in_words(), "1 pending, 1 in progress, 2 succeeded, 1 failed, 1 aborted");
    }
}
