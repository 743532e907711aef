//! The bytes that the kernel program and the daemon agree on: every map's keys and values, the load-time settings
//! and the numbers of reasons. No logic, no features. A change of any layout or meaning here is a new
//! [`ABI_VERSION`], and the pin path carries that number.
//!
//! Byte order: a field named `*_be`, an [`Address`] and an `ethernet` array hold network bytes as they lie in a packet
//! (loaded and stored natively, never swapped). Everything else is the host's order.
#![no_std]

mod address;
mod counters;
mod endpoint;
mod flow;
mod reason;
mod settings;
mod tables;
mod word;

pub use address::Address;
pub use counters::{BackendCounters, FlowCounters, InterfaceCounters, ServiceCounters};
pub use endpoint::{ENDPOINT_FILTER_WORDS, FilterWord};
pub use flow::{FlowBucket4, FlowBucket6, FlowEntry4, FlowEntry6, REPLY_WAYS, ReplyBucket, WAYS};
pub use reason::{REASON_COUNT, Reason, ReasonKind};
pub use settings::{
    FEATURE_ANY_PORT, FEATURE_DSR, FEATURE_FULL_NAT, FEATURE_GENERIC, FEATURE_IPIP, FEATURE_LOOPBACK,
    FEATURE_NAT, FEATURE_PERFMON, FEATURE_V4, FEATURE_V6, FEATURE_WRAP, FEATURES_OF_HOST, Settings,
};
pub use tables::{
    Affinity, Backend, Control, DIRECTORY_WAYS, DirectoryBucket, Explanation, FLOWS_MOVE, Forward,
    MaglevWord, NAME_LEN, NameEntry, NextHop, Pool, RouteEntry, SLOTS_PER_WORD, Service, Source, WhenNone,
    backend_state, next_hop_kind, selected_by, service_policy,
};
pub use word::Word;

/// Number of this layout; part of the pin path and checked on adoption.
pub const ABI_VERSION: u32 = 2;
