//! Programs for measuring (cargo feature `bench`, never in the object that the daemon embeds).
//!
//! A plain `repeat` of BPF_PROG_TEST_RUN hands the second round what the first one left. So each round first writes the frame anew
//! from a template, with another client by turns, and then takes it through the pipeline, which is inlined here as in
//! `lbd` itself. `lbd_bench_null` does the same without the pipeline: the difference is the pipeline's.

use aya_ebpf::{
    bindings::{
        BPF_F_MMAPABLE,
        xdp_action::{XDP_ABORTED, XDP_DROP},
    },
    btf_maps::{Array, PerCpuArray},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use lb_datapath::{packet::Packet, pipeline::balance};

use crate::{action, kernel::Kernel, packet::XdpPacket};

/// Words of a frame that are written anew.
const WORDS: usize = 24;

/// What to measure; written by the bench. All in the host's order but `frame`.
#[repr(C)]
pub struct Plan {
    /// The first bytes of the frame.
    frame: [u32; WORDS],
    /// Bytes of the frame.
    frame_len: u32,
    /// Flows minus one; the number of flows is a power of two.
    flow_mask: u32,
    /// Where the varying address word lies in the frame.
    address_offset: u32,
    /// Where the varying port lies in the frame.
    port_offset: u32,
}

#[btf_map]
#[expect(non_upper_case_globals, reason = "the static's name is the map's")]
static bench_plan: Array<Plan, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
#[expect(non_upper_case_globals, reason = "the static's name is the map's")]
static bench_turn: PerCpuArray<u64, 1> = PerCpuArray::new();

/// Writes the frame anew; the flow is that of this turn.
#[inline(always)]
fn renew(packet: &mut XdpPacket) -> Option<()> {
    let plan = bench_plan.get(0)?;
    let turn = bench_turn.get_ptr_mut(0)?;
    // SAFETY: a valid entry of a per-CPU array, of this CPU.
    let index = unsafe {
        *turn = (*turn).wrapping_add(1);
        *turn as u32 & plan.flow_mask
    };
    // What encapsulation put in front is cut off again.
    for len in [20, 40] {
        if packet.has(plan.frame_len + len) && !packet.has(plan.frame_len + len + 1) {
            packet.move_head(len as i32)?;
        }
    }
    packet.store_words(0, &plan.frame)?;
    // 16,384 ports an address.
    if plan.flow_mask != 0 {
        let host = 0x0a00_0001 + (index >> 14);
        let port = 1024 + (index & 0x3fff);
        packet.store_words(plan.address_offset & 0x7f, &[host.to_be()])?;
        packet.store_half(plan.port_offset & 0x7f, (port as u16).to_be())?;
    }
    Some(())
}

/// A round of the balancer.
#[xdp]
pub fn lbd_bench(context: XdpContext) -> u32 {
    let mut packet = XdpPacket::new(context.ctx);
    match renew(&mut packet) {
        Some(()) => action(balance(&mut packet, &Kernel::<false>::new(context.ctx))),
        None => XDP_ABORTED,
    }
}

/// A round of nothing.
#[xdp]
pub fn lbd_bench_null(context: XdpContext) -> u32 {
    let mut packet = XdpPacket::new(context.ctx);
    match renew(&mut packet) {
        Some(()) => XDP_DROP,
        None => XDP_ABORTED,
    }
}
