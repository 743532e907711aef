//! The filling of a table: contenders take turns until every slot is taken.
//!
//! In: contenders, sorted by weight and then phase. Out: the taker of each slot. Invariant: the result is the one of the
//! plain algorithm ("walk your permutation to the first free slot"); the two ways to find that slot differ in time
//! alone. Walking is fast while many slots are free; near the end, where a walk would meet thousands of taken slots, the
//! few free ones are asked which of them comes first on the way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A member that takes turns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contender {
    /// What is written into its slots.
    pub(super) index: u16,
    /// Above 0.
    pub(super) weight: u16,
    /// Hash of address and port.
    pub(super) identity: u64,
}

impl Contender {
    /// Where between two turns its turns lie, as a fraction of 2^32.
    pub(super) const fn phase(&self) -> u64 {
        super::mix(self.identity ^ 0x7068_6173_65) >> 32
    }

    /// When it has a turn: `(turn + phase) / weight`, in units of 2^-46. A turn has at most 17 bits and a phase 32, so
    /// nothing overflows.
    pub(super) fn time(&self, turn: u64) -> u64 {
        time(turn, self.phase(), self.weight)
    }

    /// Its permutation of the slots: where it begins and how far apart its slots are.
    pub(super) const fn permutation(&self, len: u32) -> (u64, u64) {
        let offset = super::mix(self.identity ^ 0x6f66_6673_6574) % len as u64;
        let step = super::mix(self.identity ^ 0x7374_6570) % (len - 1) as u64 + 1;
        (offset, step)
    }
}

fn time(turn: u64, phase: u64, weight: u16) -> u64 {
    ((turn << 32 | phase) << 14) / u64::from(weight)
}

/// A place in a contender's permutation.
struct Walk {
    /// The next slot it would take.
    next: u64,
    step: u64,
    /// Inverse of `step` modulo the length; 0 = not yet computed.
    inverse: u64,
}

/// Contenders of one weight: they have their turns in a fixed order, round after round.
struct Group<'a> {
    contenders: &'a [Contender],
    phases: Vec<u64>,
    first: usize,
}

/// Fills `len` slots; empty if there is no contender.
pub(super) fn fill(len: u32, contenders: &[Contender]) -> Vec<u16> {
    if contenders.is_empty() || len < 2 {
        return Vec::new();
    }
    let mut slots = Slots::new(len);
    let walk = |contender: &Contender| {
        let (next, step) = contender.permutation(len);
        Walk { next, step, inverse: 0 }
    };
    let mut walks: Vec<Walk> = contenders.iter().map(walk).collect();
    let groups = groups(contenders);
    // The next turn of each group: time, group, turn, place in the group.
    let mut queue: BinaryHeap<Reverse<(u64, usize, u64, usize)>> =
        groups.iter().enumerate().map(|(at, group)| Reverse((group.time(0, 0), at, 0, 0))).collect();
    while slots.free > 0 {
        let Some(mut head) = queue.peek_mut() else { break };
        let Reverse((when, at, turn, place)) = &mut *head;
        let Some(group) = groups.get(*at) else { break };
        let taker = group.first + *place;
        *place += 1;
        if *place == group.contenders.len() {
            (*turn, *place) = (*turn + 1, 0);
        }
        *when = group.time(*turn, *place);
        drop(head);
        if let (Some(walk), Some(contender)) = (walks.get_mut(taker), contenders.get(taker)) {
            slots.give(walk, contender.index);
        }
    }
    slots.takers
}

fn groups(contenders: &[Contender]) -> Vec<Group<'_>> {
    let mut first = 0;
    let mut groups = Vec::new();
    for contenders in contenders.chunk_by(|a, b| a.weight == b.weight) {
        let phases = contenders.iter().map(Contender::phase).collect();
        groups.push(Group { contenders, phases, first });
        first += contenders.len();
    }
    groups
}

impl Group<'_> {
    fn time(&self, turn: u64, place: usize) -> u64 {
        let weight = self.contenders.first().map_or(1, |contender| contender.weight);
        time(turn, self.phases.get(place).copied().unwrap_or_default(), weight)
    }
}

/// The table while it is filled.
struct Slots {
    len: u64,
    takers: Vec<u16>,
    /// A bit per slot, set if it is taken; small enough for the first cache.
    taken: Vec<u64>,
    free: usize,
    /// The free slots, listed once they are few.
    rest: Vec<u64>,
}

impl Slots {
    fn new(len: u32) -> Self {
        let len_slots = len as usize;
        let taken = vec![0; len_slots.div_ceil(64)];
        Self { len: len.into(), takers: vec![0; len_slots], taken, free: len_slots, rest: Vec::new() }
    }

    /// Gives `index` the first free slot on its walk.
    fn give(&mut self, walk: &mut Walk, index: u16) {
        // A walk meets len / free slots, asking the rest costs `free` multiplications: equal near the square root.
        let few = self.free * self.free < self.takers.len();
        let slot = if few { self.first_of_rest(walk) } else { self.first_on_walk(walk) };
        walk.next = (slot + walk.step) % self.len;
        self.free -= 1;
        if let Ok(at) = usize::try_from(slot)
            && let (Some(word), Some(taker)) = (self.taken.get_mut(at / 64), self.takers.get_mut(at))
        {
            *word |= 1 << (at % 64);
            *taker = index;
        }
    }

    fn is_taken(&self, slot: u64) -> bool {
        let word = usize::try_from(slot / 64).ok().and_then(|at| self.taken.get(at));
        word.is_none_or(|word| word >> (slot % 64) & 1 == 1)
    }

    /// The first free slot, walking. There is one, and a step coprime to the length meets it.
    fn first_on_walk(&self, walk: &Walk) -> u64 {
        let mut slot = walk.next;
        while self.is_taken(slot) {
            slot += walk.step;
            if slot >= self.len {
                slot -= self.len;
            }
        }
        slot
    }

    /// The first free slot, by how many steps each free one is away.
    fn first_of_rest(&mut self, walk: &mut Walk) -> u64 {
        if self.rest.is_empty() {
            self.rest = (0..self.len).filter(|slot| !self.is_taken(*slot)).collect();
        }
        if walk.inverse == 0 {
            walk.inverse = inverse(walk.step, self.len);
        }
        let steps = |slot: &u64| (slot + self.len - walk.next) % self.len * walk.inverse % self.len;
        let nearest = self.rest.iter().enumerate().min_by_key(|(_, slot)| steps(slot));
        match nearest.map(|(at, _)| at) {
            Some(at) => self.rest.swap_remove(at),
            None => walk.next,
        }
    }
}

/// The inverse of `value` modulo the prime `len`: `value^(len - 2)` (Fermat).
fn inverse(value: u64, len: u64) -> u64 {
    let (mut base, mut exponent, mut result) = (value % len, len - 2, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result * base % len;
        }
        base = base * base % len;
        exponent >>= 1;
    }
    result
}
