//! ICMP to a vip.
//!
//! In: a frame with an ICMP message, its type. Out: nothing but a count: it is left to this host, which answers echoes where it
//! holds the vip. Errors are counted by themselves: until they are carried to the flow's backend, they are what path MTU
//! discovery of dsr and ipip backends misses.

use lb_common::Reason;

use crate::{
    classify,
    header::{IpHeader, icmp},
    packet::Packet,
    tables::{Tables, explain, note},
};

/// Counts the message if it is to a vip.
#[inline(always)]
pub fn to_vip<H: IpHeader, T: Tables>(tables: &T, packet: &impl Packet, kind: u8) {
    let Some(destination) = H::load_destination(packet) else { return };
    let Some(found) = classify::vip(tables, &destination) else { return };
    let reason = if icmp::is_error(H::VERSION, kind) { Reason::IcmpErrorToVip } else { Reason::IcmpToVip };
    explain(tables, |explanation| explanation.service = found.id);
    note(tables, found.id, reason);
}
