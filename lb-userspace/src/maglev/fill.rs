//! The filling of a table: contenders take turns until every slot is taken.
//!
//! In: contenders, sorted by weight and then phase. Out: the taker of each slot. Invariant: the result is the one of the
//! plain algorithm ("walk your permutation to the first free slot"); the two ways to find that slot differ in time
//! alone. Walking is fast while many slots are free; near the end, where a walk would meet thousands of taken slots, the
//! few free ones are asked which of them comes first on the way.

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
        super::mix(self.identity ^ 0x0070_6861_7365) >> 32
    }

    /// When it has its first turn, and how long it is from one turn to the next: `phase / weight` and `1 / weight` in units
    /// of 2^-46. No table has more than 2^17 turns, so no time overflows.
    pub(super) const fn times(&self) -> (u64, u64) {
        let weight = self.weight as u64;
        ((self.phase() << 14) / weight, (1 << 46) / weight)
    }

    /// Its permutation of the slots: where it begins and how far apart its slots are.
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of 32 bits")]
    pub(super) const fn permutation(&self, len: u32) -> (u32, u32) {
        let offset = super::mix(self.identity ^ 0x6f66_6673_6574) % len as u64;
        let step = super::mix(self.identity ^ 0x7374_6570) % (len as u64 - 1) + 1;
        (offset as u32, step as u32)
    }
}

/// Fills `len` slots; empty if there is no contender.
pub(super) fn fill(len: u32, contenders: &[Contender]) -> Vec<u16> {
    if contenders.is_empty() || len < 2 {
        return Vec::new();
    }
    let mut slots = Slots::new(len);
    let mut walkers: Vec<Walker> = contenders.iter().map(|contender| Walker::new(contender, len)).collect();
    // A window holds about one turn of each contender; with equal weights exactly one, and they come in order.
    let total: u64 = contenders.iter().map(|contender| u64::from(contender.weight)).sum();
    let window = ((contenders.len() as u64) << 46) / total;
    // A turn's time since the window began (46 bits, as no weight is below 1) above the contender's place: sorts fast.
    let mut turns: Vec<u64> = Vec::with_capacity(2 * contenders.len());
    let mut start = 0;
    while slots.free > 0 {
        for (walker, at) in walkers.iter_mut().zip(0_u64..) {
            while walker.turn < start + window {
                turns.push((walker.turn - start) << 16 | at);
                walker.turn += walker.interval;
            }
        }
        start += window;
        turns.sort_unstable();
        for turn in turns.drain(..).take(slots.free) {
            if let Some(walker) = walkers.get_mut((turn & 0xffff) as usize) {
                slots.give(walker);
            }
        }
    }
    slots.takers
}

/// A contender on its way through the table.
struct Walker {
    index: u16,
    /// When its next turn is.
    turn: u64,
    interval: u64,
    /// The next slot it would take.
    next: u32,
    step: u32,
    /// Inverse of `step` modulo the length; 0 = not yet computed.
    inverse: u32,
}

impl Walker {
    fn new(contender: &Contender, len: u32) -> Self {
        let (turn, interval) = contender.times();
        let (next, step) = contender.permutation(len);
        Self { index: contender.index, turn, interval, next, step, inverse: 0 }
    }
}

/// The table while it is filled.
struct Slots {
    modulus: Modulus,
    takers: Vec<u16>,
    /// A bit per slot, set if it is taken; small enough for the first cache.
    taken: Vec<u64>,
    free: usize,
    /// The free slots, listed once they are few.
    rest: Vec<u32>,
}

impl Slots {
    fn new(len: u32) -> Self {
        let slots = len as usize;
        let taken = vec![0; slots.div_ceil(64)];
        Self { modulus: Modulus::new(len), takers: vec![0; slots], taken, free: slots, rest: Vec::new() }
    }

    /// Gives a contender the first free slot on its walk.
    fn give(&mut self, walker: &mut Walker) {
        // A walk meets len / free slots, asking the rest costs `free` multiplications: equal near the square root.
        let few = self.free * self.free < self.takers.len();
        let slot = if few { self.first_of_rest(walker) } else { self.first_on_walk(walker) };
        walker.next = self.modulus.add(slot, walker.step);
        self.free -= 1;
        if let Some(taker) = self.takers.get_mut(slot as usize) {
            *taker = walker.index;
        }
        if let Some(word) = self.taken.get_mut(slot as usize / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    fn is_taken(&self, slot: u32) -> bool {
        self.taken.get(slot as usize / 64).is_none_or(|word| word >> (slot % 64) & 1 == 1)
    }

    /// The first free slot, walking. There is one, and a step coprime to the length meets it.
    fn first_on_walk(&self, walker: &Walker) -> u32 {
        let mut slot = walker.next;
        while self.is_taken(slot) {
            slot = self.modulus.add(slot, walker.step);
        }
        slot
    }

    /// The first free slot, by how many steps each free one is away.
    fn first_of_rest(&mut self, walker: &mut Walker) -> u32 {
        let modulus = self.modulus;
        if self.rest.is_empty() {
            self.rest = (0..modulus.len).filter(|slot| !self.is_taken(*slot)).collect();
        }
        if walker.inverse == 0 {
            walker.inverse = modulus.inverse(walker.step);
        }
        let back = modulus.len - walker.next;
        let steps = |slot: &u32| modulus.multiply(modulus.add(*slot, back), walker.inverse);
        let nearest = self.rest.iter().zip(0..).map(|(slot, at)| (steps(slot), at)).min();
        nearest.map_or(walker.next, |(_, at)| self.rest.swap_remove(at))
    }
}

/// Arithmetic modulo a prime below 2^17, without divisions.
#[derive(Clone, Copy)]
struct Modulus {
    len: u32,
    /// 2^64 / len, rounded up.
    reciprocal: u64,
}

impl Modulus {
    fn new(len: u32) -> Self {
        Self { len, reciprocal: u64::MAX / u64::from(len) + 1 }
    }

    fn add(self, a: u32, b: u32) -> u32 {
        // Without a branch, which would be mispredicted half of the time: the difference wraps if the sum is smaller.
        let sum = a + b;
        sum.min(sum.wrapping_sub(self.len))
    }

    /// Lemire, Kaser, Kurz, "Faster remainder by direct computation" (2019): exact, as product and length together have at most
    /// 34 + 17 of 64 bits.
    #[expect(clippy::cast_possible_truncation, reason = "a remainder below `len`")]
    fn multiply(self, a: u32, b: u32) -> u32 {
        let fraction = self.reciprocal.wrapping_mul(u64::from(a) * u64::from(b));
        ((u128::from(fraction) * u128::from(self.len)) >> 64) as u32
    }

    /// The inverse: `value^(len - 2)` (Fermat).
    fn inverse(self, value: u32) -> u32 {
        let (mut base, mut exponent, mut result) = (value, self.len - 2, 1);
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = self.multiply(result, base);
            }
            base = self.multiply(base, base);
            exponent >>= 1;
        }
        result
    }
}
