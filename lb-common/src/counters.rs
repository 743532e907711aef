//! Per-CPU counters. Every field counts up from 0 and survives restarts of the daemon (the maps are pinned), and upgrades too: a new
//! field goes to the end, where the counters of an older version count as 0.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What happened to the packets of one interface; map index = interface index modulo the map's entries.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct InterfaceCounters {
    /// Packets left to the kernel, ours or not.
    pub pass_packets: u64,
    /// Packets dropped; the reasons are counted per service.
    pub drop_packets: u64,
    /// Packets sent back out of the interface they came in by.
    pub transmit_packets: u64,
    /// Packets sent out of another interface.
    pub redirect_packets: u64,
}

/// One service (listener). Bytes are of the IP packet as it arrived, link header excluded.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ServiceCounters {
    /// Packets from clients forwarded.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Flows begun (selected without a flow entry to go by).
    pub new_flows: u64,
    /// Replies translated (nat, full-nat).
    pub reply_packets: u64,
    /// Their bytes.
    pub reply_bytes: u64,
}

/// One backend of one pool; map index = [`crate::Backend::counter`].
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct BackendCounters {
    /// Packets from clients forwarded to it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Flows begun with it.
    pub new_flows: u64,
    /// Replies from it translated (nat, full-nat); 0 while `new_flows` rises means no return path.
    pub reply_packets: u64,
    /// Their bytes.
    pub reply_bytes: u64,
    /// TCP flows begun with it whose client went on: a packet came after the SYN.
    pub continued_flows: u64,
    /// SYNs that came again: the client has had no answer.
    pub repeated_syns: u64,
    /// TCP flows that it refused: it ended them (a reset) before the client went on (nat, full-nat).
    pub refused_flows: u64,
}

/// One flow table; map index 0 = IPv4, 1 = wide (IPv6 and any-port).
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct FlowCounters {
    /// Entries written for a new flow.
    pub inserted: u64,
    /// Entries within their time that had to give way: on probation or ending, never established or half-closed.
    pub evicted: u64,
    /// New flows that found no room (pressure).
    pub not_stored: u64,
    /// Flows selected again because their backend no longer takes them.
    pub reselected: u64,
}
