//! How discovery sources are doing.
//!
//! Labels are the pool and the kind of source, not its name: a name may hold anything. Several sources of one kind in a pool are
//! added up; the last answer is that of the one that has been silent longest.

use std::collections::BTreeMap;

use super::super::text::{Kind, Text};
use super::Value;
use crate::discovery::SourceState;
use crate::spec::{Name, SourceId};

/// The sources of one kind in one pool.
#[derive(Default)]
struct Sum {
    last_success_ms: Option<u64>,
    answers: u64,
    failures: u64,
    failing: usize,
    backends: usize,
    left_out: usize,
}

impl Sum {
    fn add(&mut self, state: &SourceState) {
        let answered = state.answered.map_or(0, |time| time.0);
        self.last_success_ms = Some(self.last_success_ms.map_or(answered, |oldest| oldest.min(answered)));
        self.answers += state.answers;
        self.failures += state.failures;
        self.failing += usize::from(state.failing.is_some());
        self.backends += state.backends;
        self.left_out += state.left_out.len();
    }
}

pub(super) fn families(text: &mut Text, sources: &BTreeMap<SourceId, SourceState>) {
    let mut sums: BTreeMap<(&Name, &str), Sum> = BTreeMap::new();
    for (id, state) in sources {
        sums.entry((&id.pool, state.kind)).or_default().add(state);
    }
    #[expect(clippy::cast_precision_loss, reason = "a time in seconds needs no more than 52 bits")]
    let last_success = |sum: &Sum| sum.last_success_ms.unwrap_or_default() as f64 / 1000.0;
    let mut family = text.family(
        "discovery_last_success_timestamp_seconds",
        Kind::Gauge,
        "When a discovery source last answered, seconds since 1970; 0: never.",
    );
    for ((pool, kind), sum) in &sums {
        family.sample(&[("pool", pool.as_str()), ("type", kind)], last_success(sum));
    }
    let families: [(&str, Kind, &str, Value<Sum>); 5] = [
        ("discovery_answers_total", Kind::Counter, "Answers of discovery sources.", |sum| sum.answers),
        (
            "discovery_failures_total",
            Kind::Counter,
            "Questions that discovery sources failed to answer.",
            |sum| sum.failures,
        ),
        ("discovery_failing", Kind::Gauge, "Discovery sources that do not answer now.", |sum| {
            sum.failing as u64
        }),
        (
            "discovery_backends",
            Kind::Gauge,
            "Backends in the pool by the word of discovery sources.",
            |sum| sum.backends as u64,
        ),
        (
            "discovery_left_out",
            Kind::Gauge,
            "Backends that discovery sources name and that cannot be taken.",
            |sum| sum.left_out as u64,
        ),
    ];
    for (name, kind, help, value) in families {
        let mut family = text.family(name, kind, help);
        for ((pool, source), sum) in &sums {
            family.sample(&[("pool", pool.as_str()), ("type", source)], value(sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Millis;

    #[test]
    fn sources_of_a_kind_are_added_up() {
        let state = |answered, failing: Option<&str>, backends| SourceState {
            kind: "dns",
            answered,
            failing: failing.map(str::to_owned),
            failures: 2,
            backends,
            ..SourceState::default()
        };
        let id = |source: &str| SourceId { pool: "web".parse().unwrap(), source: source.to_owned() };
        let sources = [
            (id("dns:a"), state(Some(Millis(5_500)), None, 3)),
            (id("dns:b"), state(Some(Millis(4_000)), Some("SERVFAIL"), 1)),
        ];
        let mut text = Text::default();
        families(&mut text, &sources.into());
        let text = text.finish();
        for line in [
            "lbd_discovery_last_success_timestamp_seconds{pool=\"web\",type=\"dns\"} 4\n",
            "lbd_discovery_failures_total{pool=\"web\",type=\"dns\"} 4\n",
            "lbd_discovery_failing{pool=\"web\",type=\"dns\"} 1\n",
            "lbd_discovery_backends{pool=\"web\",type=\"dns\"} 4\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
