//! Search in the reply index and room in it for a new word.

use lb_common::{ReplyBucket, Word};

use super::entry_of;
use crate::{flow_table::Kind, hash, tables::Tables};

/// The word of a bucket whose tag is that of `hash`. There is at most one: a newcomer with the same tag takes its place.
#[inline(always)]
fn tagged(bucket: &ReplyBucket, hash: u64) -> Option<(&Word, u32)> {
    for word in &bucket.words {
        if let Some(number) = entry_of(word.load(), hash) {
            return Some((word, number));
        }
    }
    None
}

/// The entry number in the word with the tag of `hash` in one of its two candidate buckets: the home one if `home`, else the other.
#[inline(always)]
pub fn hint<K: Kind, T: Tables>(tables: &T, hash: u64, home: bool) -> Option<u32> {
    let (first, second) = hash::candidates(hash, K::reply_buckets(tables.constants()));
    let bucket = K::reply_bucket(tables, if home { first } else { second })?;
    tagged(bucket, hash).map(|(_, number)| number)
}

/// Room for a word with this hash, whose key no live flow holds: a word with its tag (stale then), else a free one.
#[inline(always)]
pub fn room<K: Kind, T: Tables>(tables: &T, hash: u64) -> Option<&Word> {
    let (home, other) = hash::candidates(hash, K::reply_buckets(tables.constants()));
    let (home, other) = (K::reply_bucket(tables, home)?, K::reply_bucket(tables, other)?);
    if let Some((word, _)) = tagged(home, hash) {
        return Some(word);
    }
    if let Some((word, _)) = tagged(other, hash) {
        return Some(word);
    }
    // Home first, not the emptier: eight words at half load overflow so rarely (0.8 %) that counting is not worth its branches.
    let word = first_free(home);
    if word.is_some() { word } else { first_free(other) }
}

/// Frees the first word that is stale in the two buckets of `hash`; false if none is.
#[inline(always)]
pub fn free_stale<'t, K: Kind, T: Tables>(
    tables: &'t T,
    hash: u64,
    mut is_stale: impl FnMut(&'t Word) -> bool,
) -> bool {
    let (home, other) = hash::candidates(hash, K::reply_buckets(tables.constants()));
    // VERIFIER: "infinite loop detected": no loop over the two, which a CPU that guesses wrong would never leave.
    free_stale_in::<K, T>(tables, home, &mut is_stale) || free_stale_in::<K, T>(tables, other, &mut is_stale)
}

#[inline(always)]
fn free_stale_in<'t, K: Kind, T: Tables>(
    tables: &'t T,
    bucket: u32,
    is_stale: &mut impl FnMut(&'t Word) -> bool,
) -> bool {
    let Some(bucket) = K::reply_bucket(tables, bucket) else { return false };
    for word in &bucket.words {
        if is_stale(word) {
            if !T::OBSERVE {
                word.store(0);
            }
            return true;
        }
    }
    false
}

/// A word of the two buckets of `hash` whose flow gives way. The search begins where the newcomer's hash says: in a flood every word of a bucket is
/// taken as often as every other, and a flow that is just being established is not the next to go. (VERIFIER: to find the oldest of sixteen it
/// walks a million instructions.)
#[inline(always)]
pub fn yielding<K: Kind, T: Tables>(tables: &T, hash: u64, gives_way: impl Fn(u64) -> bool) -> Option<&Word> {
    let (home, other) = hash::candidates(hash, K::reply_buckets(tables.constants()));
    let (home, other) = (K::reply_bucket(tables, home)?, K::reply_bucket(tables, other)?);
    let start = hash::tag32(hash) as usize & 7;
    yielding_in(home, (start, true), &gives_way)
        .or_else(|| yielding_in(home, (start, false), &gives_way))
        .or_else(|| yielding_in(other, (start, true), &gives_way))
        .or_else(|| yielding_in(other, (start, false), &gives_way))
}

/// The words from `start` on, or those before it. VERIFIER: in two searches, because a word at a variable index would be a variable in a
/// pointer (see `flow_table::entry`).
#[inline(always)]
fn yielding_in<'t>(
    bucket: &'t ReplyBucket,
    (start, is_late): (usize, bool),
    gives_way: &impl Fn(u64) -> bool,
) -> Option<&'t Word> {
    for (index, word) in bucket.words.iter().enumerate() {
        if (index >= start) == is_late && gives_way(word.load()) {
            return Some(word);
        }
    }
    None
}

#[inline(always)]
fn first_free(bucket: &ReplyBucket) -> Option<&Word> {
    bucket.words.iter().find(|word| word.load() == 0)
}
