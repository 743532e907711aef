//! Figures for people and for programs.
//!
//! In: cases and their figures. Out: a table, or JSON with the same fields. Invariant: what could not be measured is a row with
//! its reason, never left out.

use std::fmt;

use serde::Serialize;

use super::case::{Case, Path};
use super::measure::Figure;
use crate::program::{Family, Mode};

/// One case and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// How packets reach the backends.
    pub mode: Mode,
    /// Of the flows.
    pub family: Family,
    /// The way through the program.
    pub path: Path,
    /// Flows by turns; 0: another one each packet, or none.
    pub flows: u32,
    /// What was measured.
    #[serde(flatten)]
    pub figure: Option<Figure>,
    /// The most it may cost.
    pub budget_ns: Option<f64>,
    /// Whether it does.
    pub met: Option<bool>,
    /// Why there is no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Row {
    /// A case with its figure, or the reason there is none.
    pub fn new(case: &Case, outcome: anyhow::Result<Figure>) -> Self {
        let budget_ns = case.budget_ns();
        let (figure, error) = match outcome {
            Ok(figure) => (Some(figure), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        let met = figure.zip(budget_ns).map(|(figure, budget)| figure.ns <= budget);
        let Case { mode, family, path, flows } = *case;
        Self { mode, family, path, flows, figure, budget_ns, met, error }
    }
}

/// All rows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// In the order they were measured in.
    pub rows: Vec<Row>,
}

impl Report {
    /// The head of the table.
    pub fn head() -> String {
        format!(
            "{:<9} {:<6} {:<14} {:>8} {:>7} {:>7} {:>15} {:>6} {:>7}  MET",
            "MODE", "FAMILY", "PATH", "FLOWS", "NS", "FLOOR", "LEAST..MOST", "NULL", "BUDGET"
        )
    }

    /// Rows whose budget is met, and rows that have one.
    pub fn met(&self) -> (usize, usize) {
        let judged: Vec<bool> = self.rows.iter().filter_map(|row| row.met).collect();
        (judged.iter().filter(|met| **met).count(), judged.len())
    }

    /// Whether a case could not be measured.
    pub fn has_errors(&self) -> bool {
        self.rows.iter().any(|row| row.error.is_some())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.family == Family::V4 { "v4" } else { "v6" };
        let flows = if self.flows == 0 { "-".to_owned() } else { self.flows.to_string() };
        write!(f, "{:<9} {family:<6} {:<14} {flows:>8} ", self.mode.as_str(), self.path.as_str())?;
        let Some(figure) = self.figure else {
            return write!(f, "not measured: {}", self.error.as_deref().unwrap_or("no reason given"));
        };
        let spread = format!("{:.0}..{:.0}", figure.least_ns, figure.most_ns);
        let budget = self.budget_ns.map_or("-".to_owned(), |budget| format!("{budget:.0}"));
        let met = self.met.map_or("-", |met| if met { "yes" } else { "no" });
        write!(
            f,
            "{:>7.1} {:>7.1} {spread:>15} {:>6.1} {budget:>7}  {met}",
            figure.ns, figure.floor_ns, figure.null_ns
        )
    }
}
