//! nat backends whose answers do not come back through this host.
//!
//! In: each backend's counters of flows begun and replies seen, and the time. Out: who has no return path. A pure function of
//! these. Invariant: said within three seconds of the first ten connections, taken back with the first reply.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::api::types::Totals;
use crate::membership::{MemberId, Millis};

/// Flows begun without any reply before somebody is suspected.
const FLOWS: u64 = 10;
/// Time that the replies to the last of them are given.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    replies: u64,
    /// Flows begun when the last reply was seen.
    flows_then: u64,
    /// When the flows since then became too many.
    suspected: Option<Millis>,
}

/// Everyone who is watched.
#[derive(Debug, Default)]
pub(super) struct ReturnPaths {
    watched: BTreeMap<MemberId, Watch>,
    lost: BTreeSet<MemberId>,
}

impl ReturnPaths {
    /// Takes the present counters of all nat and full-nat backends. True: who has no return path is another set than before.
    pub(super) fn observe(&mut self, now: Millis, totals: &BTreeMap<MemberId, Totals>) -> bool {
        self.watched.retain(|id, _| totals.contains_key(id));
        let mut lost = BTreeSet::new();
        for (id, total) in totals {
            // There is nothing to remember of who has had no flow.
            if total.new_flows == 0 && !self.watched.contains_key(id) {
                continue;
            }
            let first = Watch { replies: total.reply_packets, flows_then: total.new_flows, suspected: None };
            let watch = self.watched.entry(id.clone()).or_insert(Watch {
                // A daemon that starts anew takes what was counted before as good if there was any reply.
                flows_then: if total.reply_packets > 0 { total.new_flows } else { 0 },
                ..first
            });
            if total.reply_packets != watch.replies || total.new_flows < watch.flows_then {
                *watch = first;
            } else if total.new_flows - watch.flows_then >= FLOWS {
                let since = *watch.suspected.get_or_insert(now);
                if now.since(since) >= PATIENCE {
                    lost.insert(id.clone());
                }
            }
        }
        let changed = lost != self.lost;
        self.lost = lost;
        changed
    }

    /// Who has none.
    pub(super) fn lost(&self) -> &BTreeSet<MemberId> {
        &self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(new_flows: u64, reply_packets: u64) -> BTreeMap<MemberId, Totals> {
        let id = MemberId { pool: "web".parse().unwrap(), address: "10.0.0.1:80".parse().unwrap() };
        [(id, Totals { new_flows, reply_packets, ..Totals::default() })].into()
    }

    #[test]
    fn ten_flows_without_a_reply_are_said_after_a_second_and_taken_back_by_a_reply() {
        let mut paths = ReturnPaths::default();
        assert!(!paths.observe(Millis(0), &totals(0, 0)));
        assert!(!paths.observe(Millis(500), &totals(10, 0)));
        assert!(!paths.observe(Millis(1_000), &totals(12, 0)));
        assert!(paths.observe(Millis(1_500), &totals(12, 0)));
        assert_eq!(paths.lost().len(), 1);
        assert!(paths.observe(Millis(2_000), &totals(13, 1)));
        assert!(paths.lost().is_empty());
    }

    #[test]
    fn few_flows_slow_replies_and_old_counts_are_no_reason() {
        let mut paths = ReturnPaths::default();
        assert!(!paths.observe(Millis(0), &totals(5_000, 5_000)));
        assert!(!paths.observe(Millis(9_000), &totals(5_009, 5_000)));
        assert!(!paths.observe(Millis(10_000), &totals(5_100, 5_000)));
        assert!(!paths.observe(Millis(10_900), &totals(5_200, 5_001)));
        assert!(!paths.observe(Millis(60_000), &totals(5_200, 5_001)));
        // Counters begin anew with a new owner of the index.
        assert!(!paths.observe(Millis(70_000), &totals(3, 0)));
        assert!(paths.lost().is_empty());
    }
}
