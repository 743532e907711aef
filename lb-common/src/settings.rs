//! What the daemon fixes when it loads the program. It lies in frozen read-only data, so the verifier knows every value
//! and removes the branches that cannot be taken.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Some service uses `forward = "nat"`.
pub const FEATURE_NAT: u32 = 1 << 0;
/// Some service uses `forward = "full-nat"`.
pub const FEATURE_FULL_NAT: u32 = 1 << 1;
/// Some service uses `forward = "dsr"`.
pub const FEATURE_DSR: u32 = 1 << 2;
/// Some service uses `forward = "ipip"`.
pub const FEATURE_IPIP: u32 = 1 << 3;
/// Some listener takes every port of its vip.
pub const FEATURE_ANY_PORT: u32 = 1 << 4;
/// Some listener is IPv4.
pub const FEATURE_V4: u32 = 1 << 5;
/// Some listener is IPv6.
pub const FEATURE_V6: u32 = 1 << 6;
/// Some service delivers to this host (services on `lo`).
pub const FEATURE_LOOPBACK: u32 = 1 << 7;
/// Attached in generic mode: frames may be larger than the link's MTU (GRO), so sizes are not judged.
pub const FEATURE_GENERIC: u32 = 1 << 8;
/// The program may add a variable to a pointer, into a packet or a map: it is loaded with CAP_PERFMON.
pub const FEATURE_PERFMON: u32 = 1 << 9;

/// Some service puts translated packets into a tunnel: the hidden ones of checks through ipip.
pub const FEATURE_WRAP: u32 = 1 << 10;

/// What the loader adds for the host it runs on; every other feature is asked for by a service.
pub const FEATURES_OF_HOST: u32 = FEATURE_GENERIC | FEATURE_PERFMON;

/// Load-time constants of the programs.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Settings {
    /// [`crate::ABI_VERSION`] of the daemon.
    pub abi_version: u32,
    /// Which `FEATURE_*` are in use.
    pub features: u32,
    /// Secret of every hash; from the seed file, the same on every node.
    pub seed: [u64; 4],
    /// Buckets in the IPv4 flow table.
    pub flow4_buckets: u32,
    /// Buckets in the wide flow table.
    pub flow6_buckets: u32,
    /// Buckets in the IPv4 reply index.
    pub reply4_buckets: u32,
    /// Buckets in the wide reply index.
    pub reply6_buckets: u32,
    /// Buckets in the service directory.
    pub directory_buckets: u32,
    /// A tick is `1 << tick_shift` jiffies, about a second.
    pub tick_shift: u32,
    /// Idle time of a TCP flow on probation, ticks.
    pub tcp_syn_ticks: u16,
    /// Idle time of an established TCP flow, ticks.
    pub tcp_ticks: u16,
    /// Idle time of a TCP flow that saw a FIN, of either side, or a RST, ticks.
    pub tcp_closing_ticks: u16,
    /// Idle time of a UDP flow, ticks.
    pub udp_ticks: u16,
    /// First source port of full-nat, host order.
    pub snat_port_base: u16,
    /// Number of source ports of full-nat.
    pub snat_port_count: u16,
    /// Entries of the interface counters (a power of two).
    pub interface_slots: u32,
}
