//! Flows are on their way from other tables: what is not found may be among them.

use lb_common::{Forward, Reason};

use super::{
    Case, World,
    modes::{FIRST, MODES, mode_name, reply_to, request, sent_on, translates},
    world::{BACKEND_PORT, Family},
};
use crate::header::tcp::{ACK, SYN};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::BOTH {
        for forward in MODES {
            cases.extend(moving(forward, family));
        }
    }
    cases
}

/// A packet in the midst of a connection is dropped, for its sender to repeat; so is a reply, which the kernel would answer by a reset. What begins
/// a flow begins it, and what is found goes on.
fn moving(forward: Forward, family: Family) -> Vec<Case> {
    let world = |protocol| World::simple(forward, family, protocol);
    let on_the_way = |world: &World| world.clone().with(|world| world.flows_move = true);
    let name = |what: &str| format!("{}_{what}_while_flows_move_{}", mode_name(forward), family.name());
    let goes_on = |what: &str, protocol: u8, flags: u8| {
        let frame = request(family, protocol, flags);
        let (on, len) = (frame.clone(), frame.packet_len());
        Case::new(name(what), on_the_way(&world(protocol)), &frame)
            .sends(move |_, out| sent_on(&on, forward, family.backend(0), BACKEND_PORT, out))
            .forwards(1, FIRST, len)
    };
    let mut cases = vec![
        Case::new(name("unknown_ack"), on_the_way(&world(6)), &request(family, 6, ACK))
            .drops(1, Reason::FlowsMoving),
        goes_on("syn", 6, SYN).begins(1, FIRST, family.flow_table()),
        goes_on("datagram", 17, 0).begins(1, FIRST, family.flow_table()),
        goes_on("known_syn", 6, SYN)
            .after(&request(family, 6, SYN))
            .counts(&format!("backend {FIRST} repeated_syns"), 1),
    ];
    if translates(forward) {
        // No request has left, so it is a reply of no flow there is.
        let reply = reply_to(&[], family, forward, 6, SYN | ACK);
        let ordinary = Case::new(name("unknown_reply").replace("while", "unless"), world(6), &reply);
        cases.push(ordinary);
        cases.push(
            Case::new(name("unknown_reply"), on_the_way(&world(6)), &reply).drops(0, Reason::FlowsMoving),
        );
    }
    cases
}
