//! The Prometheus text format, version 0.0.4: families in, one string out.
//!
//! Invariant: a family's lines stand together, `# HELP` and `# TYPE` first, label values are escaped, and a name is written
//! with the prefix `lbd_` exactly once. (Format: prometheus.io, "Exposition formats".)

use std::fmt::{Display, Write};

/// What a family measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only counts up; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets of observations.
    Histogram,
}

/// A text under construction.
#[derive(Default)]
pub struct Text {
    out: String,
}

/// A family whose samples are being written.
pub struct Family<'a> {
    out: &'a mut String,
    name: String,
}

impl Text {
    /// Begins a family: `name` without the prefix, `help` in one sentence.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> Family<'_> {
        let name = format!("lbd_{name}");
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        push(&mut self.out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { out: &mut self.out, name }
    }

    /// The finished text.
    pub fn finish(self) -> String {
        self.out
    }
}

impl Family<'_> {
    /// One sample with these labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.line("", labels, value)
    }

    /// A histogram: `buckets` are (upper bound in the base unit, observations up to it), cumulative, without the last
    /// infinite one, which is `count`.
    pub fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        buckets: &[(f64, u64)],
        sum: f64,
        count: u64,
    ) -> &mut Self {
        for (bound, observations) in buckets {
            let bound = bound.to_string();
            self.bucket(labels, &bound, *observations);
        }
        self.bucket(labels, "+Inf", count);
        self.line("_sum", labels, sum).line("_count", labels, count)
    }

    fn bucket(&mut self, labels: &[(&str, &str)], bound: &str, observations: u64) {
        let labels: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
        self.line("_bucket", &labels, observations);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        push(self.out, format_args!("{}{suffix}", self.name));
        for (i, (label, text)) in labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            push(self.out, format_args!("{open}{label}=\"{text}\""));
        }
        push(self.out, format_args!("{} {value}\n", if labels.is_empty() { "" } else { "}" }));
        self
    }
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = out.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_together_and_labels_are_escaped() {
        let mut text = Text::default();
        text.family("drops_total", Kind::Counter, "Packets dropped.")
            .sample(&[("service", "a\"b\\c\nd"), ("reason", "fragment")], 3)
            .sample(&[("service", "web"), ("reason", "truncated")], 0);
        text.family("revision", Kind::Gauge, "Revision.").sample(&[], 7);
        assert_eq!(
            text.finish(),
            "# HELP lbd_drops_total Packets dropped.\n# TYPE lbd_drops_total counter\n\
             lbd_drops_total{service=\"a\\\"b\\\\c\\nd\",reason=\"fragment\"} 3\n\
             lbd_drops_total{service=\"web\",reason=\"truncated\"} 0\n\
             # HELP lbd_revision Revision.\n# TYPE lbd_revision gauge\nlbd_revision 7\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_infinity_sum_and_count() {
        let mut text = Text::default();
        text.family("health_check_duration_seconds", Kind::Histogram, "Time.").histogram(
            &[("type", "tcp")],
            &[(0.001, 2), (0.01, 5)],
            0.5,
            6,
        );
        assert_eq!(
            text.finish().lines().skip(2).collect::<Vec<_>>(),
            [
                "lbd_health_check_duration_seconds_bucket{type=\"tcp\",le=\"0.001\"} 2",
                "lbd_health_check_duration_seconds_bucket{type=\"tcp\",le=\"0.01\"} 5",
                "lbd_health_check_duration_seconds_bucket{type=\"tcp\",le=\"+Inf\"} 6",
                "lbd_health_check_duration_seconds_sum{type=\"tcp\"} 0.5",
                "lbd_health_check_duration_seconds_count{type=\"tcp\"} 6",
            ]
        );
    }
}
