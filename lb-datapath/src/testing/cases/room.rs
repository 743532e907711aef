//! A flow table in which every entry is an established flow.

use std::net::{Ipv4Addr, SocketAddr};

use lb_common::{Forward, Reason};

use super::{
    Case, Frame, World,
    modes::{FIRST, MODES, end, mode_name, sent_on, translates},
    world::{BACKEND_PORT, Family, PORT},
};
use crate::header::tcp::{ACK, SYN};

/// Flows, of which the smallest table (64 entries) holds what it can.
const CROWD: u16 = 600;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::BOTH {
        for forward in MODES {
            cases.push(full(forward, family));
        }
    }
    cases
}

fn from(family: Family, number: u16, flags: u8) -> Frame {
    let client = match family {
        Family::V4 => {
            let [high, low] = number.to_be_bytes();
            SocketAddr::new(Ipv4Addr::new(10, 77, high, low).into(), 7)
        }
        Family::V6 => end(family.client(), 1000 + number),
    };
    Frame::tcp(client, end(family.vip(), PORT), flags)
}

/// A newcomer never takes the place of an established flow: dsr and ipip go by the Maglev table alone, nat and full-nat, which could
/// not find the way back, drop.
fn full(forward: Forward, family: Family) -> Case {
    let world = World::simple(forward, family, 6).with(|world| world.flows = 1);
    let crowd = (0..CROWD).flat_map(|number| [SYN, ACK].map(|flags| from(family, number, flags).bytes()));
    let syn = from(family, CROWD, SYN);
    let on = syn.clone();
    let pressure = ["flows v4 not_stored", "flows wide not_stored"][family.flow_table()];
    let name = format!("{}_flow_table_full_{}", mode_name(forward), family.name());
    let case = Case::new(name, world, &syn).after_many(crowd.collect());
    if translates(forward) {
        return case.drops(1, Reason::FlowTableFull).counts(pressure, 1);
    }
    case.sends(move |_, out| sent_on(&on, forward, family.backend(0), BACKEND_PORT, out))
        .notes(1, Reason::NotStored)
        .counts(pressure, 1)
        .forwards(1, FIRST, syn.packet_len())
        .begins_unstored(1, FIRST)
}
