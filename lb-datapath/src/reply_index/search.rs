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

/// Room for a word with this hash, whose key no live flow holds: a word with its tag (stale then), else a free word in the emptier bucket,
/// else a word whose flow is gone.
#[inline(always)]
pub fn room<'t, K: Kind, T: Tables>(
    tables: &'t T,
    hash: u64,
    is_stale: impl Fn(u64) -> bool,
) -> Option<&'t Word> {
    let (home, other) = hash::candidates(hash, K::reply_buckets(tables.constants()));
    let (home, other) = (K::reply_bucket(tables, home)?, K::reply_bucket(tables, other)?);
    if let Some((word, _)) = tagged(home, hash) {
        return Some(word);
    }
    if let Some((word, _)) = tagged(other, hash) {
        return Some(word);
    }
    let (in_home, in_other) = (free(home), free(other));
    if in_home != 0 || in_other != 0 {
        return first_free(if in_home >= in_other { home } else { other });
    }
    for bucket in [home, other] {
        for word in &bucket.words {
            if is_stale(word.load()) {
                return Some(word);
            }
        }
    }
    None
}

/// How many words of a bucket are free.
#[inline(always)]
fn free(bucket: &ReplyBucket) -> u32 {
    bucket.words.iter().fold(0, |count, word| count + (word.load() == 0) as u32)
}

#[inline(always)]
fn first_free(bucket: &ReplyBucket) -> Option<&Word> {
    bucket.words.iter().find(|word| word.load() == 0)
}
