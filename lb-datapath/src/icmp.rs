//! ICMP to a vip.
//!
//! In: the destination and type of an ICMP message. Out: nothing but a count: it is left to this host, which answers echoes where it
//! holds the vip. Errors are counted by themselves: until they are carried to the flow's backend, they are what path MTU
//! discovery of dsr and ipip backends misses.

use lb_common::{Address, Reason};

use crate::{
    classify,
    header::{IpHeader, icmp},
    tables::{Tables, explain, note},
};

/// Counts the message if it is to a vip.
#[inline(always)]
pub fn to_vip<H: IpHeader, T: Tables>(tables: &T, destination: &Address, kind: u8) {
    let Some(found) = classify::vip(tables, destination) else { return };
    let reason = if icmp::is_error(H::VERSION, kind) { Reason::IcmpErrorToVip } else { Reason::IcmpToVip };
    explain(tables, |explanation| explanation.service = found.id);
    note(tables, found.id, reason);
}
