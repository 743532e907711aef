//! The load-time constants in frozen read-only data, read field by field.

use core::mem::offset_of;

use aya_ebpf::Global;
use lb_common::Settings;
use lb_datapath::constants::Constants;

/// Set by the daemon before it loads the program (`override_global`).
#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings {
    abi_version: lb_common::ABI_VERSION,
    features: 0,
    seed: [0; 4],
    flow4_buckets: 0,
    flow6_buckets: 0,
    reply4_buckets: 0,
    reply6_buckets: 0,
    directory_buckets: 0,
    tick_shift: 0,
    tcp_syn_ticks: 0,
    tcp_ticks: 0,
    tcp_closing_ticks: 0,
    udp_ticks: 0,
    snat_port_base: 0,
    snat_port_count: 0,
    interface_slots: 0,
});

/// Reads one field of `SETTINGS`. Volatile: the compiler must not fold the value above, the verifier shall fold the daemon's.
macro_rules! field {
    ($($field:ident).+) => {{
        let settings = (&raw const SETTINGS).cast::<Settings>();
        // SAFETY: `Global<T>` is one `T` (its size is checked below); the static lives forever and is never written
        // while the program runs.
        unsafe { (&raw const (*settings).$($field).+).read_volatile() }
    }};
}

// What `idle_ticks` rests on.
const _: () = assert!(
    cfg!(target_endian = "little")
        && offset_of!(Settings, tcp_syn_ticks) % 8 == 0
        && offset_of!(Settings, tcp_ticks) == offset_of!(Settings, tcp_syn_ticks) + 2
        && offset_of!(Settings, tcp_closing_ticks) == offset_of!(Settings, tcp_syn_ticks) + 4
        && offset_of!(Settings, udp_ticks) == offset_of!(Settings, tcp_syn_ticks) + 6
);
const _: () = assert!(size_of::<Global<Settings>>() == size_of::<Settings>());

/// Access to `SETTINGS`.
#[derive(Clone, Copy)]
pub struct Loaded;

macro_rules! constants {
    ($($field:ident: $kind:ty,)+) => {
        impl Constants for Loaded {
            $(#[inline(always)]
            fn $field(self) -> $kind {
                field!($field)
            })+

            #[inline(always)]
            fn idle_ticks(self) -> u64 {
                let settings = (&raw const SETTINGS).cast::<Settings>();
                // SAFETY: as in `field`; the four half-words lie one after another from an offset that is a multiple of eight.
                unsafe { (&raw const (*settings).tcp_syn_ticks).cast::<u64>().read_volatile() }
            }

            #[inline(always)]
            fn seed(self, index: usize) -> u64 {
                let seed = (&raw const SETTINGS).cast::<Settings>();
                // SAFETY: as in `field`; the index is kept within the four words.
                unsafe { (&raw const (*seed).seed).cast::<u64>().add(index & 3).read_volatile() }
            }
        }
    };
}

constants! {
    features: u32,
    flow4_buckets: u32,
    flow6_buckets: u32,
    reply4_buckets: u32,
    reply6_buckets: u32,
    directory_buckets: u32,
    tick_shift: u32,
    tcp_syn_ticks: u16,
    tcp_ticks: u16,
    tcp_closing_ticks: u16,
    udp_ticks: u16,
    snat_port_base: u16,
    snat_port_count: u16,
    interface_slots: u32,
}

/// `Settings::tick_shift`.
#[inline(always)]
pub fn tick_shift() -> u32 {
    // Six bits are what a shift of 64 bits takes.
    Loaded.tick_shift() & 63
}
