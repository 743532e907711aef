//! What is said at the end.
//!
//! In: what each layer did. Out: failures, reasons of skips, a table, and the line that scripts read.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{Layer, LogPath};

/// One layer's tests.
pub(crate) struct LayerReport {
    layer: Layer,
    pub(crate) passed: usize,
    pub(crate) failed: Vec<(String, LogPath)>,
    /// Name, reason.
    pub(crate) skipped: Vec<(String, String)>,
    pub(crate) elapsed: Duration,
}

impl LayerReport {
    pub(crate) fn new(layer: Layer) -> Self {
        Self { layer, passed: 0, failed: Vec::new(), skipped: Vec::new(), elapsed: Duration::ZERO }
    }
}

/// All layers.
#[derive(Default)]
pub(crate) struct Report {
    layers: Vec<LayerReport>,
}

impl Report {
    pub(crate) fn add(&mut self, layer: LayerReport) {
        self.layers.push(layer);
    }

    /// Did no test run, fail or skip?
    pub(crate) fn is_empty(&self) -> bool {
        self.layers.iter().all(|layer| layer.passed + layer.failed.len() + layer.skipped.len() == 0)
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.layers.iter().all(|layer| layer.failed.is_empty())
    }

    fn sum(&self, count: impl Fn(&LayerReport) -> usize) -> usize {
        self.layers.iter().map(count).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, reason) in self.layers.iter().flat_map(|layer| &layer.skipped) {
            reasons.entry(reason).or_default().push(name);
        }
        if !reasons.is_empty() {
            writeln!(out, "\nskipped:")?;
        }
        for (reason, names) in reasons {
            writeln!(out, "  {reason}")?;
            for name in names {
                writeln!(out, "      {name}")?;
            }
        }
        if !self.succeeded() {
            writeln!(out, "\nfailed:")?;
        }
        for (name, log) in self.layers.iter().flat_map(|layer| &layer.failed) {
            writeln!(out, "  {name}\n      {}", log.display())?;
        }
        writeln!(out, "\n{:<10}{:>8}{:>8}{:>9}{:>10}", "layer", "passed", "failed", "skipped", "seconds")?;
        for layer in &self.layers {
            let (passed, failed, skipped) = (layer.passed, layer.failed.len(), layer.skipped.len());
            let seconds = layer.elapsed.as_secs_f64();
            writeln!(out, "{:<10}{passed:>8}{failed:>8}{skipped:>9}{seconds:>10.1}", layer.layer)?;
        }
        let passed = self.sum(|layer| layer.passed);
        let failed = self.sum(|layer| layer.failed.len());
        let skipped = self.sum(|layer| layer.skipped.len());
        writeln!(out, "\n{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_count() {
        let mut report = Report::default();
        report.add(LayerReport { passed: 7, ..LayerReport::new(Layer::Unit) });
        report.add(LayerReport {
            passed: 1,
            failed: vec![("net_a::b".to_owned(), "target/test-logs/b.log".into())],
            skipped: vec![("net_a::c".to_owned(), "no nginx".to_owned())],
            ..LayerReport::new(Layer::Net)
        });
        let text = report.to_string();
        assert_eq!(text.lines().last(), Some("8 passed, 1 failed, 1 skipped"));
        assert!(text.contains("no nginx\n      net_a::c") && text.contains("b.log"), "{text}");
        assert!(!report.succeeded());
    }

    #[test]
    fn nothing_failed_is_success() {
        let mut report = Report::default();
        assert!(report.is_empty());
        report.add(LayerReport { passed: 1, ..LayerReport::new(Layer::Unit) });
        assert!(report.succeeded() && !report.is_empty());
        assert_eq!(report.to_string().lines().last(), Some("1 passed, 0 failed, 0 skipped"));
    }
}
