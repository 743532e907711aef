//! The filter of endpoints: whose packets may be replies of nat and full-nat backends.
//!
//! A blocked Bloom filter over (backend address, port, protocol): a reply's source sets off a look-up in the reply index
//! only if its bits are set, so everything else a host receives costs one load. A false positive costs one look-up and
//! changes nothing. The daemon recomputes words from its set of endpoints and stores each whole.

use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use crate::Word;

/// 64-bit words in the filter: 1 Mi bits, 128 KiB.
pub const ENDPOINT_FILTER_WORDS: u32 = 16_384;

/// One word of the filter.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Default)]
pub struct FilterWord {
    /// The bits.
    pub word: Word,
}
