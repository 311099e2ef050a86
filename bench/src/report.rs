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
    /// What was measured, without an aim of its own.
    pub(crate) figures: Vec<Figure>,
    /// What was measured by itself.
    pub(crate) bounds: Vec<Bound>,
}

/// A figure for itself.
pub(crate) struct Figure {
    /// What it is.
    pub(crate) name: String,
    /// How much.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: &'static str,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, unit } = self;
        write!(f, "{name:<48} {value:>10.2} {unit}")
    }
}

/// A figure that may not pass a limit.
pub(crate) struct Bound {
    /// What it is.
    pub(crate) name: String,
    /// How much.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: &'static str,
    /// What it may be.
    pub(crate) aim: Aim,
}

/// What a figure may be.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    /// No more than this.
    Most(f64),
    /// No less than this.
    Least(f64),
}

impl Bound {
    pub(crate) fn most(name: impl Into<String>, value: f64, unit: &'static str, most: f64) -> Self {
        Self { name: name.into(), value, unit, aim: Aim::Most(most) }
    }

    pub(crate) fn least(name: impl Into<String>, value: f64, unit: &'static str, least: f64) -> Self {
        Self { name: name.into(), value, unit, aim: Aim::Least(least) }
    }

    fn holds(&self) -> bool {
        match self.aim {
            Aim::Most(most) => self.value <= most,
            Aim::Least(least) => self.value >= least,
        }
    }

    fn json(&self) -> Value {
        match self.aim {
            Aim::Most(most) => json!({"max": most, "holds": self.holds()}),
            Aim::Least(least) => json!({"min": least, "holds": self.holds()}),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, unit, aim } = self;
        let verdict = if self.holds() { "holds" } else { "MISSED" };
        let (sign, limit) = match aim {
            Aim::Most(most) => ('≤', most),
            Aim::Least(least) => ('≥', least),
        };
        write!(f, "{name:<56} {value:>10.2} {unit:<8} {sign} {limit:.2} {verdict}")
    }
}

/// Something of Muster's beside the least that the same must cost.
pub(crate) struct Comparison {
    /// `sqlite/group/api`.
    name: String,
    ours: Samples,
    limit: Samples,
    /// Most that the ratio of the medians may be.
    ratio_max: f64,
    /// Most that 99 of 100 of ours may take, where that is an aim.
    p99_ms_max: Option<f64>,
    /// How the database goes about it, where that was looked at.
    plan: Option<Plan>,
}

/// What a query's plan uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The indexes, each once.
    pub(crate) indexes: Vec<String>,
    /// Big tables that it goes through from end to end, though the answer needs few of their rows.
    pub(crate) walked: Vec<String>,
    /// Big tables that it reads whole because the answer needs a large part of their rows.
    pub(crate) read_whole: Vec<String>,
}

impl Comparison {
    pub(crate) fn new(name: String, ours: Samples, limit: Samples, ratio_max: f64) -> Self {
        Self { name, ours, limit, ratio_max, p99_ms_max: None, plan: None }
    }

    /// Tells at once what was found, so that a run that is cut short was not for nothing.
    pub(crate) fn told(self) -> Self {
        let (name_width, has_p99) = (self.name.len(), self.p99_ms_max.is_some());
        eprint!("{}", Line { line: &self, name_width, has_p99 });
        self
    }

    /// With a limit on the slowest, too.
    pub(crate) fn within(self, p99_ms_max: f64) -> Self {
        Self { p99_ms_max: Some(p99_ms_max), ..self }
    }

    /// With what its plan uses.
    pub(crate) fn planned(self, plan: Plan) -> Self {
        Self { plan: Some(plan), ..self }
    }

    fn ratio(&self) -> f64 {
        self.ours.median_ms() / self.limit.median_ms()
    }

    fn holds(&self) -> bool {
        self.ratio() <= self.ratio_max
            && self.p99_ms_max.is_none_or(|max| self.ours.p99_ms() <= max)
            && self.plan.as_ref().is_none_or(|plan| plan.walked.is_empty())
    }

    fn figures(&self) -> Value {
        let mut figures = json!({
            "ours_ms": samples(&self.ours),
            "limit_ms": samples(&self.limit),
            "ratio": self.ratio(),
            "samples": self.ours.count(),
        });
        if let Some(plan) = &self.plan {
            figures["indexes"] = json!(plan.indexes);
            figures["walked"] = json!(plan.walked);
            figures["read_whole"] = json!(plan.read_whole);
        }
        figures
    }

    fn aim(&self) -> Value {
        let mut aim = json!({"ratio_max": self.ratio_max, "holds": self.holds()});
        if let Some(max) = self.p99_ms_max {
            aim["p99_ms_max"] = json!(max);
        }
        aim
    }
}

impl Report {
    fn holds(&self) -> bool {
        self.comparisons.iter().all(Comparison::holds) && self.bounds.iter().all(Bound::holds)
    }

    /// `{"figures": {…}, "aims": {…}, "holds": true|false}`.
    pub(crate) fn json(&self) -> Value {
        let (mut figures, mut aims) = (Map::new(), Map::new());
        for line in &self.comparisons {
            figures.insert(line.name.clone(), line.figures());
            aims.insert(line.name.clone(), line.aim());
        }
        for figure in &self.figures {
            figures.insert(figure.name.clone(), json!({"value": figure.value, "unit": figure.unit}));
        }
        for bound in &self.bounds {
            figures.insert(bound.name.clone(), json!({"value": bound.value, "unit": bound.unit}));
            aims.insert(bound.name.clone(), bound.json());
        }
        json!({"figures": figures, "aims": aims, "holds": self.holds()})
    }
}

fn samples(samples: &Samples) -> Value {
    json!({
        "median": samples.median_ms(),
        "min": samples.min_ms(),
        "max": samples.max_ms(),
        "p99": samples.p99_ms(),
    })
}

/// A line of the table: the samples of both sides, and whether the aims hold.
struct Line<'a> {
    line: &'a Comparison,
    name_width: usize,
    has_p99: bool,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, name_width, has_p99 } = *self;
        let columns = |samples: &Samples| {
            format!("{:>7.1} {:>7.1} {:>7.1}", samples.median_ms(), samples.min_ms(), samples.max_ms())
        };
        write!(f, "{:<name_width$} {}", line.name, columns(&line.ours))?;
        if has_p99 {
            write!(f, " {:>7.1}", line.ours.p99_ms())?;
        }
        write!(f, "  {}  {:>6.2}  ≤ {:.2}", columns(&line.limit), line.ratio(), line.ratio_max)?;
        if let Some(max) = line.p99_ms_max {
            write!(f, ", p99 ≤ {max:.0}")?;
        }
        write!(f, " {}", if line.holds() { "holds" } else { "MISSED" })?;
        if let Some(plan) = &line.plan {
            write!(f, "  {}", plan.indexes.join(" "))?;
            plan.read_whole.iter().try_for_each(|table| write!(f, " (all of {table})"))?;
            plan.walked.iter().try_for_each(|table| write!(f, " WALKS {table}"))?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name_width = self.comparisons.iter().map(|line| line.name.len()).max().unwrap_or(0).max(24);
        let has_p99 = self.comparisons.iter().any(|line| line.p99_ms_max.is_some());
        let (spread, p99) = (" median     min     max", if has_p99 { "     p99" } else { "" });
        writeln!(f, "{}\n", self.title)?;
        let ours_width = spread.len() + p99.len();
        if !self.comparisons.is_empty() {
            writeln!(f, "{:<name_width$} {:<ours_width$}  {:<23}", "milliseconds", "Muster", self.limit_name)?;
            writeln!(f, "{:<name_width$} {spread}{p99}  {spread}   ratio   aim", "")?;
        }
        self.figures.iter().try_for_each(|figure| writeln!(f, "{figure}"))?;
        for line in &self.comparisons {
            write!(f, "{}", Line { line, name_width, has_p99 })?;
        }
        if !self.bounds.is_empty() {
            writeln!(f)?;
        }
        self.bounds.iter().try_for_each(|bound| writeln!(f, "{bound}"))?;
        writeln!(f, "\n{}", if self.holds() { "Every aim holds." } else { "Not every aim holds." })
    }
}
