//! What a benchmark found, as a table for people and as JSON for programs.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::rounds::Samples;

/// A benchmark's comparisons.
pub(crate) struct Report {
    /// What was measured, in one line.
    pub(crate) title: String,
    /// What "ours" is held against.
    pub(crate) limit_name: &'static str,
    /// Line by line.
    pub(crate) comparisons: Vec<Comparison>,
}

/// Something of Muster's beside the least that the same must cost.
pub(crate) struct Comparison {
    /// `sqlite/group/api`.
    pub(crate) name: String,
    pub(crate) ours: Samples,
    pub(crate) limit: Samples,
    /// Most that the ratio of the medians may be.
    pub(crate) ratio_max: f64,
}

impl Comparison {
    fn ratio(&self) -> f64 {
        self.ours.median_ms() / self.limit.median_ms()
    }

    fn holds(&self) -> bool {
        self.ratio() <= self.ratio_max
    }
}

impl Report {
    fn holds(&self) -> bool {
        self.comparisons.iter().all(Comparison::holds)
    }

    /// `{"figures": {…}, "aims": {…}, "holds": true|false}`.
    pub(crate) fn json(&self) -> Value {
        let (mut figures, mut aims) = (Map::new(), Map::new());
        for line in &self.comparisons {
            let (ours, limit) = (samples(&line.ours), samples(&line.limit));
            figures.insert(line.name.clone(), json!({"ours_ms": ours, "limit_ms": limit, "ratio": line.ratio()}));
            aims.insert(line.name.clone(), json!({"ratio_max": line.ratio_max, "holds": line.holds()}));
        }
        json!({"figures": figures, "aims": aims, "holds": self.holds()})
    }
}

fn samples(samples: &Samples) -> Value {
    json!({"median": samples.median_ms(), "min": samples.min_ms(), "max": samples.max_ms()})
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = |samples: &Samples| {
            format!("{:>7.1} {:>7.1} {:>7.1}", samples.median_ms(), samples.min_ms(), samples.max_ms())
        };
        writeln!(f, "{}\n", self.title)?;
        writeln!(f, "{:<24} {:<23}  {:<23}", "milliseconds", "Muster", self.limit_name)?;
        let spread = " median     min     max";
        writeln!(f, "{:<24} {spread}  {spread}   ratio   aim", "")?;
        for line in &self.comparisons {
            let verdict = if line.holds() { "holds" } else { "MISSED" };
            writeln!(
                f,
                "{:<24} {}  {}  {:>6.2}  ≤ {:.2} {verdict}",
                line.name,
                columns(&line.ours),
                columns(&line.limit),
                line.ratio(),
                line.ratio_max
            )?;
        }
        writeln!(f, "\n{}", if self.holds() { "Every aim holds." } else { "Not every aim holds." })
    }
}
