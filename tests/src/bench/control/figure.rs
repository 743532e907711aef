//! Figures for people and for programs.
//!
//! In: samples of one thing. Out: their median, least and worst, and whether a bound is kept. Invariant: what could not be measured is
//! a row with its reason; a bound is held against the median, and the worst stands beside it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Of what a figure is so many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Milliseconds.
    Ms,
    /// 2^20 bytes.
    Mib,
}

impl Unit {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ms => "ms",
            Self::Mib => "MiB",
        }
    }
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct ControlRow {
    /// What was measured.
    pub what: String,
    /// Of how much: `1000 backends`.
    pub of: String,
    /// Of what it is so many.
    pub unit: Unit,
    /// How often.
    pub turns: usize,
    /// Half of the turns are above.
    pub median: Option<f64>,
    /// See `worst`.
    pub least: Option<f64>,
    /// Of all turns.
    pub worst: Option<f64>,
    /// The most that the median may be.
    pub bound: Option<f64>,
    /// Whether it is.
    pub met: Option<bool>,
    /// Why there is no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ControlRow {
    /// A figure, or the reason there is none.
    pub fn new(
        what: &str,
        of: &str,
        unit: Unit,
        bound: Option<f64>,
        samples: anyhow::Result<Vec<f64>>,
    ) -> Self {
        let (mut samples, mut error) = match samples {
            Ok(samples) => (samples, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        samples.sort_by(f64::total_cmp);
        if samples.is_empty() && error.is_none() {
            error = Some("no turn".to_owned());
        }
        let median = samples.get(samples.len() / 2).copied();
        let met = median.zip(bound).map(|(median, bound)| median <= bound);
        Self {
            what: what.to_owned(),
            of: of.to_owned(),
            unit,
            turns: samples.len(),
            median,
            least: samples.first().copied(),
            worst: samples.last().copied(),
            bound,
            met,
            error,
        }
    }
}

/// Durations as samples.
pub(super) fn in_ms(times: impl IntoIterator<Item = Duration>) -> Vec<f64> {
    times.into_iter().map(|time| time.as_secs_f64() * 1e3).collect()
}

/// All rows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ControlReport {
    /// Processes that wanted to run while it was measured, as /proc/loadavg has it: before, after.
    pub load: [String; 2],
    /// In the order they were measured in.
    pub rows: Vec<ControlRow>,
}

impl ControlReport {
    /// The head of the table.
    pub fn head() -> String {
        format!(
            "{:<44} {:<22} {:>9} {:>9} {:>9} {:>5} {:>9}  MET",
            "WHAT", "OF", "MEDIAN", "LEAST", "WORST", "TURNS", "BOUND"
        )
    }

    /// Rows whose bound is kept, and rows that have one.
    pub fn met(&self) -> (usize, usize) {
        let judged: Vec<bool> = self.rows.iter().filter_map(|row| row.met).collect();
        (judged.iter().filter(|met| **met).count(), judged.len())
    }

    /// Whether something could not be measured.
    pub fn has_errors(&self) -> bool {
        self.rows.iter().any(|row| row.error.is_some())
    }
}

impl fmt::Display for ControlRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<44} {:<22} ", self.what, self.of)?;
        let (Some(median), Some(least), Some(worst)) = (self.median, self.least, self.worst) else {
            return write!(f, "not measured: {}", self.error.as_deref().unwrap_or("no reason given"));
        };
        let bound = self.bound.map_or("-".to_owned(), |bound| format!("{bound:.0} {}", self.unit.as_str()));
        let met = self.met.map_or("-", |met| if met { "yes" } else { "no" });
        write!(f, "{median:>9.2} {least:>9.2} {worst:>9.2} {:>5} {bound:>9}  {met}", self.turns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_held_against_the_bound_and_a_reason_takes_the_place_of_a_figure() {
        let row = ControlRow::new("a", "b", Unit::Ms, Some(2.0), Ok(vec![9.0, 1.0, 2.0]));
        assert_eq!(
            (row.median, row.least, row.worst, row.met),
            (Some(2.0), Some(1.0), Some(9.0), Some(true))
        );
        let row = ControlRow::new("a", "b", Unit::Ms, Some(2.0), Ok(vec![3.0]));
        assert_eq!(row.met, Some(false));
        let row = ControlRow::new("a", "b", Unit::Mib, Some(2.0), Err(anyhow::anyhow!("no daemon")));
        assert_eq!((row.met, row.error.as_deref()), (None, Some("no daemon")));
        assert!(row.to_string().ends_with("not measured: no daemon"), "{row}");
    }
}
