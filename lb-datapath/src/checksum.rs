//! Internet checksums, incrementally (RFC 1624) and from the start.
//!
//! In: words as they lie in a packet. Out: a checksum as it lies in a packet. The one's complement sum does not care for byte order as
//! long as all of it is the same (RFC 1071 §2), so nothing is swapped.

/// What a stored checksum of zero means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zero {
    /// A sum like any other (TCP, ICMP, IPv4 header).
    Sum,
    /// UDP: none was computed (RFC 768); it stays so, and a computed zero is written as all ones.
    Absent,
}

/// A sum of 16-bit words, kept wide so that carries are folded once.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sum(u64);

impl Sum {
    /// As a word, which [`Sum::of_word`] takes.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// From [`Sum::word`].
    #[inline(always)]
    pub const fn of_word(word: u64) -> Self {
        Self(word)
    }

    /// Adds a word.
    #[inline(always)]
    #[must_use]
    pub const fn add(self, word: u32) -> Self {
        Self(self.0.wrapping_add(word as u64))
    }

    /// Adds several words.
    #[inline(always)]
    #[must_use]
    pub fn add_all<const N: usize>(self, words: &[u32; N]) -> Self {
        words.iter().fold(self, |sum, word| sum.add(*word))
    }

    /// Adds another sum.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// The sum folded to 16 bits.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
    pub const fn fold(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }

    /// The checksum: the folded sum's complement.
    #[inline(always)]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// The change of covered words: RFC 1624's `~m + m'`, summed over all of them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Delta(Sum);

impl Delta {
    /// `old` becomes `new`.
    #[inline(always)]
    #[must_use]
    pub const fn replace(self, old: u32, new: u32) -> Self {
        Self(self.0.add(!old).add(new))
    }

    /// Several words become others.
    #[inline(always)]
    #[must_use]
    pub fn replace_all<const N: usize>(self, old: &[u32; N], new: &[u32; N]) -> Self {
        old.iter().zip(new).fold(self, |delta, (old, new)| delta.replace(*old, *new))
    }

    /// The checksum after the change.
    #[inline(always)]
    pub fn apply(self, checksum: u16, zero: Zero) -> u16 {
        if matches!(zero, Zero::Absent) && checksum == 0 {
            return 0;
        }
        let new = self.0.add(!checksum as u32).checksum();
        if matches!(zero, Zero::Absent) && new == 0 { 0xffff } else { new }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_incremental_checksum_is_the_recomputed_one(
            words in proptest::collection::vec(any::<u32>(), 10),
            changed in proptest::collection::vec((0_usize..10, any::<u32>()), 0..6),
        ) {
            let mut after = words.clone();
            let mut delta = Delta::default();
            for (at, new) in changed {
                delta = delta.replace(after[at], new);
                after[at] = new;
            }
            let sum = |words: &[u32]| words.iter().fold(Sum::default(), |sum, word| sum.add(*word)).checksum();
            // All zero has no checksum other than all ones; packets are never all zero.
            prop_assume!(after.iter().any(|word| *word != 0) && words.iter().any(|word| *word != 0));
            prop_assert_eq!(delta.apply(sum(&words), Zero::Sum), sum(&after));
        }

        #[test]
        fn a_udp_checksum_is_never_lost_or_made_up(old in any::<u16>(), from in any::<u32>(), to in any::<u32>()) {
            let new = Delta::default().replace(from, to).apply(old, Zero::Absent);
            prop_assert_eq!(old == 0, new == 0);
        }
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // §4: HC = 0xdd2f, m = 0x5555 becomes 0x3285, HC' = 0x0000.
        assert_eq!(Delta::default().replace(0x5555, 0x3285).apply(0xdd2f, Zero::Sum), 0x0000);
    }
}
