//! Flows carried from flow tables of one size into tables of another.
//!
//! In: the old tables, the new maps, the present tick. Out: each live flow in the new tables with the same backend, state and
//! last-seen time, and for nat its word in the reply index. Invariant: what the program wrote into the new tables
//! meanwhile is not undone, so this runs once before the program moves and once after it, for what changed in between.

use lb_common::{FlowBucket4, FlowBucket6, FlowEntry4, FlowEntry6, ReplyBucket, Settings, WAYS, Word};
use lb_datapath::flow_table::{FlowKey, State, Value};
use lb_datapath::hash;
use lb_datapath::reply_index::{self, ReplyKey};

use super::replies;
use crate::datapath::mapped::compare_exchange;
use crate::datapath::maps::Maps;

/// A bucket of either table.
pub(super) trait Bucket {
    /// Its entries.
    type Entry: Entry;

    /// Its entries.
    fn entries(&self) -> &[Self::Entry];
}

/// An entry of either table.
pub(super) trait Entry {
    /// Its key.
    fn key(&self) -> FlowKey;
    /// Its value.
    fn value(&self) -> &Word;
    /// Takes over another entry's key.
    fn copy_key(&self, from: &Self);
    /// The flow's hash.
    fn hash(settings: &Settings, key: &FlowKey, salt: u64) -> u64;
}

impl Bucket for FlowBucket4 {
    type Entry = FlowEntry4;

    fn entries(&self) -> &[FlowEntry4] {
        &self.entries
    }
}

impl Bucket for FlowBucket6 {
    type Entry = FlowEntry6;

    fn entries(&self) -> &[FlowEntry6] {
        &self.entries
    }
}

impl Entry for FlowEntry4 {
    fn key(&self) -> FlowKey {
        FlowKey::from_key4(self.key.load())
    }

    fn value(&self) -> &Word {
        &self.value
    }

    fn copy_key(&self, from: &Self) {
        self.key.store(from.key.load());
    }

    fn hash(settings: &Settings, key: &FlowKey, salt: u64) -> u64 {
        hash::flow4(settings, key.client.words[3], key.client_port_be, salt)
    }
}

impl Entry for FlowEntry6 {
    fn key(&self) -> FlowKey {
        FlowKey::from_key6(self.key.each_ref().map(Word::load))
    }

    fn value(&self) -> &Word {
        &self.value
    }

    fn copy_key(&self, from: &Self) {
        for (to, from) in self.key.iter().zip(&from.key) {
            to.store(from.load());
        }
    }

    fn hash(settings: &Settings, key: &FlowKey, salt: u64) -> u64 {
        hash::flow6(settings, &key.client, key.client_port_be, key.service_port_be, salt)
    }
}

/// How many flows went where.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(in crate::datapath) struct Carried {
    /// Flows in the new table.
    pub(in crate::datapath) flows: u64,
    /// Flows for which there was no room.
    pub(in crate::datapath) without_room: u64,
}

impl std::ops::AddAssign for Carried {
    fn add_assign(&mut self, other: Self) {
        self.flows += other.flows;
        self.without_room += other.without_room;
    }
}

/// The new set of maps, and the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) maps: &'a Maps,
    pub(super) settings: &'a Settings,
    pub(super) now: u16,
}

/// A flow as it was read.
struct Flow {
    key: FlowKey,
    hash: u64,
    value: Value,
}

impl Target<'_> {
    /// Carries every live flow of `old` into `new`, and its reply word into `words`.
    pub(super) fn carry<B: Bucket>(&self, old: &[B], new: &[B], words: &[ReplyBucket]) -> Carried {
        let mut carried = Carried::default();
        for from in old.iter().flat_map(Bucket::entries) {
            let Some(flow) = self.live(from) else { continue };
            match self.store(new, from, &flow) {
                Some(number) => {
                    carried.flows += 1;
                    self.index(words, &flow, number);
                }
                None => carried.without_room += 1,
            }
        }
        carried
    }

    /// Writes the reply word of every live flow into `words`; the flows stay where they are.
    pub(super) fn carry_index<B: Bucket>(&self, flows: &[B], words: &[ReplyBucket]) -> Carried {
        let mut carried = Carried::default();
        for (bucket, entries) in (0..).zip(flows) {
            for (way, entry) in (0..).zip(entries.entries()) {
                if let Some(flow) = self.live(entry) {
                    self.index(words, &flow, FlowKey::entry_number(bucket, way));
                    carried.flows += 1;
                }
            }
        }
        carried
    }

    /// The live flow in an entry.
    fn live<E: Entry>(&self, entry: &E) -> Option<Flow> {
        let value = Value(entry.value().load());
        if value.state() == State::Free {
            return None;
        }
        let key = entry.key();
        let hash = E::hash(self.settings, &key, self.maps.services.get(usize::from(key.service))?.salt);
        (value.is_of(hash) && value.is_live(self.settings, self.now)).then_some(Flow { key, hash, value })
    }

    /// Stores a flow and says in which entry it is.
    fn store<B: Bucket>(&self, new: &[B], from: &B::Entry, flow: &Flow) -> Option<u32> {
        let Flow { key, hash, value } = *flow;
        let (home, other) = hash::candidates(hash, u32::try_from(new.len()).ok()?);
        let entries = || {
            [home, other].into_iter().filter_map(|bucket| Some((bucket, new.get(bucket as usize)?))).flat_map(
                |(bucket, entries)| {
                    (0..).map(move |way| FlowKey::entry_number(bucket, way)).zip(entries.entries())
                },
            )
        };
        let present = entries().find(|(_, entry)| {
            let present = Value(entry.value().load());
            present.state() != State::Free && present.is_of(hash) && entry.key() == key
        });
        if let Some((number, entry)) = present {
            let present = Value(entry.value().load());
            if is_newer(value, present) {
                // Refreshed by the program at this very moment: then that is newer still.
                compare_exchange(entry.value(), present.0, value.0);
            }
            return Some(number);
        }
        // An entry that the program takes at the same moment is in its check for one of the two flows only.
        let (number, entry) = entries().find(|(_, entry)| entry.value().load() == 0)?;
        entry.copy_key(from);
        compare_exchange(entry.value(), 0, value.0).then_some(number)
    }

    /// Stores the flow's word of the reply index, if its replies come this way, over one with its tag.
    fn index(&self, words: &[ReplyBucket], flow: &Flow, number: u32) {
        let reply: Option<ReplyKey> =
            replies::key(self.maps, self.settings, &flow.key, flow.hash, flow.value);
        let Some(reply) = reply else { return };
        let hash = reply.hash(self.settings);
        let (home, other) = hash::candidates(hash, u32::try_from(words.len()).unwrap_or_default());
        let buckets: Vec<&ReplyBucket> =
            [home, other].into_iter().filter_map(|bucket| words.get(bucket as usize)).collect();
        let places = || buckets.iter().flat_map(|bucket| &bucket.words);
        let word = reply_index::word(hash, number);
        let free = |bucket: &&&ReplyBucket| bucket.words.iter().filter(|word| word.load() == 0).count();
        if let Some(tagged) = places().find(|word| reply_index::entry_of(word.load(), hash).is_some()) {
            tagged.store(word);
        } else if let Some(place) = buckets
            .iter()
            .max_by_key(free)
            .and_then(|bucket| bucket.words.iter().find(|word| word.load() == 0))
        {
            compare_exchange(place, 0, word);
        }
    }
}

/// Whether the old table knows more of a flow than the new one.
fn is_newer(old: Value, new: Value) -> bool {
    let ahead = old.last_seen().wrapping_sub(new.last_seen());
    let is_later = ahead != 0 && ahead < u16::MAX / 2;
    is_later || (ahead == 0 && new.state().is_probation() && !old.state().is_probation())
}

const _: () = assert!(WAYS == 4, "FlowKey::entry_number counts the entries of a bucket");

#[cfg(test)]
mod tests {
    use super::*;

    fn value(last_seen: u16, state: State) -> Value {
        Value::new(7, 1, last_seen, state, 0)
    }

    #[test]
    fn the_later_packet_and_the_farther_state_win() {
        let (young, old) = (value(101, State::TcpProbation), value(100, State::TcpEstablished));
        assert!(is_newer(young, old) && !is_newer(old, young));
        let established = value(100, State::TcpEstablished);
        assert!(is_newer(established, value(100, State::TcpProbation)));
        assert!(!is_newer(value(100, State::TcpProbation), established));
        assert!(
            is_newer(value(3, State::TcpEstablished), value(65_530, State::TcpEstablished)),
            "the clock went round"
        );
    }
}
