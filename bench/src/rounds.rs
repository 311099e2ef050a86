//! Two ways to do the same, timed in turns.

use std::time::Duration;

use tokio::time::Instant;

/// How long something took, round by round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Times `work` once more.
    pub(crate) async fn time<T>(&mut self, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let done = work.await;
        self.0.push(start.elapsed());
        done
    }

    pub(crate) fn median_ms(&self) -> f64 {
        let sorted = self.sorted_ms();
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
    }

    pub(crate) fn min_ms(&self) -> f64 {
        self.sorted_ms()[0]
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.sorted_ms()[self.0.len() - 1]
    }

    /// What 99 of 100 samples did not exceed.
    pub(crate) fn p99_ms(&self) -> f64 {
        let sorted = self.sorted_ms();
        sorted[(sorted.len() * 99).div_ceil(100) - 1]
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    fn sorted_ms(&self) -> Vec<f64> {
        let mut sorted: Vec<f64> = self.0.iter().map(|took| took.as_secs_f64() * 1_000.0).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// Which of two goes first in a round: each as often, so that what the first
/// leaves behind burdens both.
pub(crate) fn is_ours_first(round: usize) -> bool {
    round.is_multiple_of(2)
}
