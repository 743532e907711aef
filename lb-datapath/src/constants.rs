//! Load-time constants as the packet path reads them: one field at a time.
//!
//! In the kernel [`Settings`] lies in frozen read-only data and each field is read by itself, so that the verifier sees a
//! known value and removes the branches it decides. On the host they are read from a plain [`Settings`].

use lb_common::Settings;

macro_rules! constants {
    ($($(#[doc = $doc:literal])+ $field:ident: $kind:ty;)+) => {
        /// Read access to the load-time constants; see the module.
        pub trait Constants: Copy {
            $($(#[doc = $doc])+ fn $field(self) -> $kind;)+

            /// One word of the secret of every hash (index modulo 4).
            fn seed(self, index: usize) -> u64;

            /// The four idle times in one word, as they lie in [`Settings`] on a little-endian machine: `tcp_syn_ticks` lowest.
            #[inline(always)]
            fn idle_ticks(self) -> u64 {
                self.tcp_syn_ticks() as u64
                    | (self.tcp_ticks() as u64) << 16
                    | (self.tcp_closing_ticks() as u64) << 32
                    | (self.udp_ticks() as u64) << 48
            }
        }

        impl Constants for &Settings {
            $(#[inline(always)]
            fn $field(self) -> $kind {
                self.$field
            })+

            #[inline(always)]
            fn seed(self, index: usize) -> u64 {
                let [a, b, c, d] = self.seed;
                match index & 3 {
                    0 => a,
                    1 => b,
                    2 => c,
                    _ => d,
                }
            }
        }
    };
}

constants! {
    /// Which `FEATURE_*` are in use.
    features: u32;
    /// Buckets in the IPv4 flow table.
    flow4_buckets: u32;
    /// Buckets in the wide flow table.
    flow6_buckets: u32;
    /// Buckets in the IPv4 reply index.
    reply4_buckets: u32;
    /// Buckets in the wide reply index.
    reply6_buckets: u32;
    /// Buckets in the service directory.
    directory_buckets: u32;
    /// A tick is `1 << tick_shift` jiffies.
    tick_shift: u32;
    /// Idle time of a TCP flow on probation, ticks.
    tcp_syn_ticks: u16;
    /// Idle time of an established TCP flow, ticks.
    tcp_ticks: u16;
    /// Idle time of a TCP flow that saw a FIN, of either side, or a RST, ticks.
    tcp_closing_ticks: u16;
    /// Idle time of a UDP flow, ticks.
    udp_ticks: u16;
    /// First source port of full-nat, host order.
    snat_port_base: u16;
    /// Number of source ports of full-nat.
    snat_port_count: u16;
    /// Entries of the interface counters (a power of two).
    interface_slots: u32;
}

/// Whether all of `features` (`lb_common::FEATURE_*`) are in use.
#[inline(always)]
pub fn has(constants: impl Constants, features: u32) -> bool {
    constants.features() & features == features
}
