//! The flow table and the reply index (docs/decisions/0001-flow-table.md has the reasons and the measurements).
//!
//! A value word, low to high: backend index local to its pool 16 (0 = nobody) · last seen 16 (ticks) · state 3 ·
//! source-port attempt 5 (full-nat) · check 24. The check covers key and attempt, so a key and a value stored by two
//! CPUs into one entry never pass for a flow. A state of 0 is a free entry. Pack and unpack: `lb_datapath::flow_table`.

use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use crate::Word;

/// Entries in a flow bucket, IPv4 and wide alike.
pub const WAYS: usize = 4;
/// Words in a bucket of the reply index.
pub const REPLY_WAYS: usize = 8;

/// A flow of an IPv4 service with a fixed port; 16 bytes.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Default)]
pub struct FlowEntry4 {
    /// Client address (32, network bytes), client port (16, network bytes), service id (16), low to high.
    pub key: Word,
    /// See the module.
    pub value: Word,
}

/// A flow of an IPv6 or an any-port service; 32 bytes.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Default)]
pub struct FlowEntry6 {
    /// Client address (two words, network bytes; IPv4-mapped for IPv4), then client port (16, network bytes), service
    /// port (16, network bytes; 0 unless any-port), service id (16), 0 (16), low to high.
    pub key: [Word; 3],
    /// See the module.
    pub value: Word,
}

/// Four IPv4 entries: one cache line.
#[repr(C, align(64))]
#[derive(FromBytes, IntoBytes, KnownLayout, Default)]
pub struct FlowBucket4 {
    /// The entries, in no order.
    pub entries: [FlowEntry4; WAYS],
}

/// Four wide entries: two cache lines.
#[repr(C, align(64))]
#[derive(FromBytes, IntoBytes, KnownLayout, Default)]
pub struct FlowBucket6 {
    /// The entries, in no order.
    pub entries: [FlowEntry6; WAYS],
}

/// Eight words of the reply index: one cache line. A word is 0 (free) or tag of the reply's key (high 32) and the flow's
/// entry number + 1 (low 32), entry number = bucket × 4 + way. A word is a hint: the flow entry it names decides.
#[repr(C, align(64))]
#[derive(FromBytes, IntoBytes, KnownLayout, Default)]
pub struct ReplyBucket {
    /// The words, in no order.
    pub words: [Word; REPLY_WAYS],
}
