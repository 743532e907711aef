//! The XDP programs of lbd: the thinnest shell around `lb-datapath`. It hands a frame and the maps to the pipeline and turns the
//! verdict into a return code. It decides nothing.
#![no_std]
#![no_main]
#![expect(missing_docs, unreachable_pub, reason = "the entry points that aya's macro exports")]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kernel;
mod maps;
mod packet;
mod rounds;
mod settings;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX},
    btf_maps::lpm_trie::Key,
    helpers::bpf_jiffies64,
    macros::xdp,
    programs::XdpContext,
};
use lb_datapath::{
    decap::decapsulate,
    pipeline::{Verdict, balance},
};

use self::{kernel::Kernel, packet::XdpPacket};

/// The balancer.
#[xdp]
#[inline(always)]
pub fn lbd(context: XdpContext) -> u32 {
    action(balance(&mut XdpPacket::new(context.ctx), &Kernel::<false>::new(context.ctx)))
}

/// The same pipeline over a frame of the daemon's (BPF_PROG_TEST_RUN): changes nothing, leaves an `Explanation`.
#[xdp]
#[inline(always)]
pub fn lbd_explain(context: XdpContext) -> u32 {
    action(balance(&mut XdpPacket::new(context.ctx), &Kernel::<true>::new(context.ctx)))
}

/// Returns the present tick: the daemon reads the program's clock by BPF_PROG_TEST_RUN.
#[xdp]
pub fn lbd_clock(_context: XdpContext) -> u32 {
    // SAFETY: the helper takes no arguments.
    let jiffies = unsafe { bpf_jiffies64() };
    (jiffies >> settings::tick_shift()) as u32 & 0xffff
}

/// A backend's side of ipip: takes the outer header off packets from the sources in `decap_sources`.
#[xdp]
pub fn lbd_decap(context: XdpContext) -> u32 {
    action(decapsulate(&mut XdpPacket::new(context.ctx), |source| {
        maps::decap_sources.get(&Key::new(128, source.octets())).is_some()
    }))
}

/// Passes everything: for the far end of a veth, which takes redirected frames only if it runs an XDP program.
#[xdp]
pub fn lbd_pass(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// Drops everything at once: what the bench subtracts.
#[xdp]
pub fn lbd_null(_context: XdpContext) -> u32 {
    XDP_DROP
}

/// The verdict's numbers are the kernel's.
#[inline(always)]
fn action(verdict: Verdict) -> u32 {
    const _: () = assert!(
        Verdict::Drop as u32 == XDP_DROP
            && Verdict::Pass as u32 == XDP_PASS
            && Verdict::Transmit as u32 == XDP_TX
            && Verdict::Redirect as u32 == XDP_REDIRECT
    );
    u32::from(verdict as u8)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
