//! The two flow tables as one: IPv4 services with a fixed port (16-byte entries) and everything else (32-byte entries).

use lb_common::{Address, FlowBucket4, FlowBucket6, FlowEntry4, FlowEntry6, ReplyBucket, WAYS, Word};

use super::{FlowKey, key4, key6};
use crate::{constants::Constants, hash, tables::Tables};

/// An entry of either table.
pub trait Entry {
    /// The key, packed.
    type Key: Copy;

    /// Whether the entry's key is this one.
    fn holds(&self, key: Self::Key) -> bool;
    /// The key as it is now.
    fn key(&self) -> Self::Key;
    /// Replaces the key.
    fn store_key(&self, key: Self::Key);
    /// The value word.
    fn value(&self) -> &Word;
}

impl Entry for FlowEntry4 {
    type Key = u64;

    #[inline(always)]
    fn holds(&self, key: u64) -> bool {
        self.key.load() == key
    }

    #[inline(always)]
    fn key(&self) -> u64 {
        self.key.load()
    }

    #[inline(always)]
    fn store_key(&self, key: u64) {
        self.key.store(key);
    }

    #[inline(always)]
    fn value(&self) -> &Word {
        &self.value
    }
}

impl Entry for FlowEntry6 {
    type Key = [u64; 3];

    #[inline(always)]
    fn holds(&self, key: [u64; 3]) -> bool {
        let ([a, b, c], [x, y, z]) = (&self.key, key);
        // The word with the client's port differs most; the others are looked at only if it agrees.
        c.load() == z && b.load() == y && a.load() == x
    }

    #[inline(always)]
    fn key(&self) -> [u64; 3] {
        let [a, b, c] = &self.key;
        [a.load(), b.load(), c.load()]
    }

    #[inline(always)]
    fn store_key(&self, key: [u64; 3]) {
        let ([a, b, c], [x, y, z]) = (&self.key, key);
        a.store(x);
        b.store(y);
        c.store(z);
    }

    #[inline(always)]
    fn value(&self) -> &Word {
        &self.value
    }
}

/// A flow table together with its reply index.
pub trait Kind: 'static {
    /// An entry.
    type Entry: Entry + 'static;

    /// Index in the flow counters.
    const INDEX: u32;

    /// Packs a key.
    fn pack(key: &FlowKey) -> <Self::Entry as Entry>::Key;
    /// Unpacks a key.
    fn unpack(key: <Self::Entry as Entry>::Key) -> FlowKey;
    /// The hash of a flow.
    fn hash(constants: impl Constants, key: &FlowKey, salt: u64) -> u64;
    /// Buckets in the table.
    fn buckets(constants: impl Constants) -> u32;
    /// The entries of a bucket.
    fn bucket<T: Tables>(tables: &T, index: u32) -> Option<&[Self::Entry; WAYS]>;
    /// Buckets in its reply index.
    fn reply_buckets(constants: impl Constants) -> u32;
    /// A bucket of its reply index.
    fn reply_bucket<T: Tables>(tables: &T, index: u32) -> Option<&ReplyBucket>;
}

/// IPv4 services with a fixed port.
pub enum Narrow {}

impl Kind for Narrow {
    type Entry = FlowEntry4;

    const INDEX: u32 = 0;

    #[inline(always)]
    fn pack(key: &FlowKey) -> u64 {
        key4(key.client.words[3], key.client_port_be, key.service)
    }

    #[inline(always)]
    fn unpack(key: u64) -> FlowKey {
        FlowKey::from_key4(key)
    }

    #[inline(always)]
    fn hash(constants: impl Constants, key: &FlowKey, salt: u64) -> u64 {
        hash::flow4(constants, key.client.words[3], key.client_port_be, salt)
    }

    #[inline(always)]
    fn buckets(constants: impl Constants) -> u32 {
        constants.flow4_buckets()
    }

    #[inline(always)]
    fn bucket<T: Tables>(tables: &T, index: u32) -> Option<&[FlowEntry4; WAYS]> {
        tables.flow4(index).map(|bucket: &FlowBucket4| &bucket.entries)
    }

    #[inline(always)]
    fn reply_buckets(constants: impl Constants) -> u32 {
        constants.reply4_buckets()
    }

    #[inline(always)]
    fn reply_bucket<T: Tables>(tables: &T, index: u32) -> Option<&ReplyBucket> {
        tables.reply4(index)
    }
}

/// IPv6 services and services on every port.
pub enum Wide {}

impl Kind for Wide {
    type Entry = FlowEntry6;

    const INDEX: u32 = 1;

    #[inline(always)]
    fn pack(key: &FlowKey) -> [u64; 3] {
        key6(&key.client, key.client_port_be, key.service_port_be, key.service)
    }

    #[inline(always)]
    fn unpack(key: [u64; 3]) -> FlowKey {
        FlowKey::from_key6(key)
    }

    #[inline(always)]
    fn hash(constants: impl Constants, key: &FlowKey, salt: u64) -> u64 {
        let client: &Address = &key.client;
        hash::flow6(constants, client, key.client_port_be, key.service_port_be, salt)
    }

    #[inline(always)]
    fn buckets(constants: impl Constants) -> u32 {
        constants.flow6_buckets()
    }

    #[inline(always)]
    fn bucket<T: Tables>(tables: &T, index: u32) -> Option<&[FlowEntry6; WAYS]> {
        tables.flow6(index).map(|bucket: &FlowBucket6| &bucket.entries)
    }

    #[inline(always)]
    fn reply_buckets(constants: impl Constants) -> u32 {
        constants.reply6_buckets()
    }

    #[inline(always)]
    fn reply_bucket<T: Tables>(tables: &T, index: u32) -> Option<&ReplyBucket> {
        tables.reply6(index)
    }
}
