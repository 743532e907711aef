//! Services, pools, backends and next hops: arrays that the daemon writes through mapped memory and the program reads.
//!
//! A multi-word entry is written before anything refers to it and is not changed while anything does; what may change
//! under traffic lies in one [`Word`] each (`policy`, `table`, `backends`, `state`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Address, Word};

/// Words in a directory bucket.
pub const DIRECTORY_WAYS: usize = 8;
/// Maglev slots in one arena word.
pub const SLOTS_PER_WORD: u32 = 4;
/// Bytes of a stored name.
pub const NAME_LEN: usize = 64;

/// A line of the hash table from (vip, port, protocol) to a service id.
///
/// A word: 0 = end of the bucket · otherwise tag (high 32, from the hash) and service id + 1 (low 32; `u32::MAX` = removed,
/// search on). The search reads words 0.. of the home bucket until a 0; a bucket without a 0 continues in the next one
/// (at most one). The named service is compared whole. Besides its services each vip has one word under
/// (vip, port 0, protocol 0) naming any service of it: "this address is a vip"; an any-port listener lies under
/// (vip, port 0, its protocol).
#[repr(C, align(64))]
#[derive(FromBytes, IntoBytes, KnownLayout, Default)]
pub struct DirectoryBucket {
    /// The words.
    pub words: [Word; DIRECTORY_WAYS],
}

/// How packets reach a service's backends; the number in [`service_policy`].
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Forward {
    /// Source and destination rewritten.
    FullNat = 1,
    /// Destination rewritten.
    Nat = 2,
    /// Link address rewritten.
    Dsr = 3,
    /// In an outer IP header.
    Ipip = 4,
}

/// What the Maglev slot of a new flow depends on.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Affinity {
    /// Client address and port, and the listener.
    Flow = 0,
    /// Client address alone.
    Client = 1,
    /// Nothing: each datagram by itself, no flow entry.
    None = 2,
}

/// What happens to a packet when no backend of the pool is usable.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WhenNone {
    /// Answer: TCP reset, ICMP port unreachable.
    Reset = 0,
    /// Drop.
    Drop = 1,
}

/// One listener: vip, port and protocol. Index = service id, from 1; 64 bytes.
#[repr(C, align(64))]
#[derive(FromBytes, IntoBytes, KnownLayout, Default)]
pub struct Service {
    /// The vip.
    pub vip: Address,
    /// Mixed into the Maglev hash under `affinity = "flow"`: from seed, vip, port and protocol, the same on every node.
    pub salt: u64,
    /// See [`service_policy`]; 0 = no such service.
    pub policy: Word,
    /// Port, network bytes; 0 = every port.
    pub port_be: u16,
    /// IP protocol number: 6 or 17.
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
    /// With [`service_policy::FLAG_WRAP`]: where the tunnel ends.
    pub tunnel: Address,
    /// With [`service_policy::FLAG_WRAP`]: where it begins, in the sources map.
    pub tunnel_source: u16,
    /// Unused, 0.
    pub reserved: [u8; 10],
}

/// Bits of [`Service::policy`], low to high: pool id 16 · forward 8 · affinity 8 · when_none 8 · flags 8 · 0.
pub mod service_policy {
    /// Bit position of the pool id.
    pub const POOL: u32 = 0;
    /// Bit position of [`super::Forward`].
    pub const FORWARD: u32 = 16;
    /// Bit position of [`super::Affinity`].
    pub const AFFINITY: u32 = 24;
    /// Bit position of [`super::WhenNone`].
    pub const WHEN_NONE: u32 = 32;
    /// Bit position of the flags.
    pub const FLAGS: u32 = 40;
    /// Flag: translate and leave the packet to this host (services on `lo`).
    pub const FLAG_LOOPBACK: u64 = 1;
    /// Flag: a TCP flow whose backend no longer takes it is reset (`on_loss = "reset"`), not selected again.
    pub const FLAG_RESETS_LOST: u64 = 2;
    /// Flag: what is sent after translation is put into a tunnel (checks through ipip).
    pub const FLAG_WRAP: u64 = 4;
}

/// A pool of one family as the program sees it: where its Maglev table and its backends lie. Index = pool id, from 1;
/// 32 bytes. A pool of the configuration is up to three of these (IPv4 backends, IPv6 backends, both).
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Default)]
pub struct Pool {
    /// Base of the Maglev table in arena words (32) · slots in it (20; 0 = no usable backend) · generation (12).
    pub table: Word,
    /// Index of the pool's block of backends (32) · entries in the block (32; local index 0 is never used).
    pub backends: Word,
    /// Generation of the table, whole; for people, the program does not read it.
    pub generation: Word,
    /// Hash of the table's contents (addresses by slot); for people.
    pub table_hash: Word,
}

/// Four slots of the Maglev arena, each 16 bits: a backend index local to the pool, 0 = nobody.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Default)]
pub struct MaglevWord {
    /// Slots `4 n` to `4 n + 3`, low to high.
    pub slots: Word,
}

/// One backend of one pool; 64 bytes.
#[repr(C, align(64))]
#[derive(FromBytes, IntoBytes, KnownLayout, Default)]
pub struct Backend {
    /// Where it is.
    pub address: Address,
    /// See [`backend_state`].
    pub state: Word,
    /// Index in the backend counters.
    pub counter: u32,
    /// First of its source addresses in the sources map: of full-nat, or of the tunnel.
    pub source: u16,
    /// Number of its source addresses.
    pub source_count: u16,
    /// Pool it belongs to; a flow whose pool differs is selected again.
    pub pool: u16,
    /// Port, network bytes; 0 = the listener's.
    pub port_be: u16,
    /// 4 or 6.
    pub family: u8,
    /// Unused, 0.
    pub reserved: [u8; 27],
}

/// Bits of [`Backend::state`], low to high: next hop index 32 (0 = unresolved) · flags 16 · 0.
pub mod backend_state {
    /// Flag: the entry is in use.
    pub const LIVE: u64 = 1 << 32;
    /// Flag: new flows may be sent to it (besides being in the Maglev table).
    pub const TAKES_NEW: u64 = 1 << 33;
    /// Flag: flows that have it keep it; without it they are selected again.
    pub const KEEPS: u64 = 1 << 34;
}

/// A way out; index from 1, immutable while referred to; 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct NextHop {
    /// Destination and source link addresses as they lie in a frame (twelve bytes).
    pub ethernet: [u32; 3],
    /// Outgoing interface.
    pub interface: u32,
    /// Largest IP packet it takes, bytes.
    pub mtu: u16,
    /// See [`next_hop_kind`]; 0 = entry not in use.
    pub kind: u8,
    /// Unused, 0.
    pub reserved: [u8; 13],
}

/// Numbers of [`NextHop::kind`].
pub mod next_hop_kind {
    /// A neighbour on an Ethernet link.
    pub const NEIGHBOUR: u8 = 1;
    /// This host: the packet is left to the kernel after translation.
    pub const LOCAL: u8 = 2;
}

/// A source address of full-nat or of a tunnel.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Source {
    /// The address.
    pub address: Address,
}

/// One entry of the per-CPU route cache, filled by the program from `bpf_fib_lookup`: the way to a client for replies, and to
/// a backend whose next hop is not resolved. Direct-mapped by a hash of the address; valid for two ticks and while
/// `generation` is [`Control::route_generation`].
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct RouteEntry {
    /// Destination; all zero = empty.
    pub address: Address,
    /// As [`NextHop::ethernet`].
    pub ethernet: [u32; 3],
    /// Outgoing interface; 0: the kernel knew no way when it was asked, and the daemon may have it find one.
    pub interface: u32,
    /// [`Control::route_generation`] when it was filled.
    pub generation: u32,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// Tick when it was filled.
    pub tick: u16,
    /// Unused, 0.
    pub reserved: [u8; 24],
}

/// Words by which the daemon tells the program something at once; map index 0.
#[repr(C, align(64))]
#[derive(FromBytes, IntoBytes, KnownLayout, Default)]
pub struct Control {
    /// Counted up by the daemon when routes or neighbours change: cached routes are looked up anew.
    pub route_generation: Word,
    /// The seed of every hash; all 0 = not set. Whoever opens the pins goes on with this one: flows and tables were made
    /// with it. The program has it from its settings.
    pub seed: [Word; 4],
    /// 0, or [`FLOWS_MOVE`] and the tick (16 bits) until which flows may be on their way from other tables into the program's: what it does not find
    /// may be among them. Whoever sees that the tick is past stores 0.
    pub flows_move: Word,
    /// Unused, 0.
    pub reserved: [Word; 2],
}

/// Flows are on their way ([`Control::flows_move`]).
pub const FLOWS_MOVE: u64 = 1 << 16;

/// A name kept beside an id, so that the pins explain themselves: UTF-8, padded with 0. In `pool_names` a `/v4`, `/v6` or `/any`
/// follows the pool's name; `service_names` holds the configured service's name.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct NameEntry {
    /// The bytes.
    pub bytes: [u8; NAME_LEN + 8],
}

/// What the explain program found; map index 0, read by the daemon after a BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Explanation {
    /// Service id, 0 = none.
    pub service: u16,
    /// Pool id, 0 = none.
    pub pool: u16,
    /// Backend index local to the pool, 0 = none.
    pub backend: u16,
    /// Reason number, 0 = none.
    pub reason: u8,
    /// See [`selected_by`].
    pub selected_by: u8,
    /// Next hop used, if one was.
    pub next_hop: NextHop,
    /// Maglev slot consulted, `u32::MAX` = none.
    pub slot: u32,
    /// 1 = the packet was recognised as a reply.
    pub is_reply: u32,
}

/// Numbers of [`Explanation::selected_by`].
pub mod selected_by {
    /// No backend was selected.
    pub const NOTHING: u8 = 0;
    /// An entry of the flow table.
    pub const FLOW: u8 = 1;
    /// The Maglev table.
    pub const MAGLEV: u8 = 2;
    /// The Maglev table, because the flow's backend no longer takes it.
    pub const RESELECTED: u8 = 3;
}
