//! Backends that drain, go down or come back, and what becomes of flows there.

use lb_common::{Forward, Reason};

use super::{
    Case, Frame, Left, World,
    modes::{CLIENT_PORT, FIRST, MODES, SECOND, end, mode_name, reply_to, request, sent_on},
    world::{BACKEND_PORT, Family, PORT},
};
use crate::header::tcp::{ACK, FIN, RST, SYN};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::BOTH {
        for forward in MODES {
            cases.extend(draining(forward, family));
            cases.extend(lost(forward, family));
            cases.extend(ended(forward, family));
        }
        for forward in [Forward::Nat, Forward::FullNat] {
            cases.extend(replies(forward, family));
        }
        cases.push(udp_of_a_drained_backend(family));
    }
    cases
}

/// Two backends, all slots the first one's.
fn world(forward: Forward, family: Family, protocol: u8) -> World {
    World::simple(forward, family, protocol).and_a_second()
}

/// The first backend leaves the table to the second.
pub(super) fn without_first(world: &World, change: impl FnOnce(&mut super::world::Member)) -> World {
    let mut world = world.clone();
    world.pools[0].slots = vec![Some(1)];
    change(world.member());
    world
}

fn drained(world: &World) -> World {
    without_first(world, |first| first.takes_new = false)
}

/// How a request leaves for backend `number`. In full-nat an established flow keeps its port: that of its first packet.
pub(super) fn to(
    frame: &Frame,
    forward: Forward,
    family: Family,
    number: u8,
    stays: bool,
) -> impl Fn(Left<'_>, &[u8]) -> Frame + use<> {
    let frame = frame.clone();
    move |left, out| {
        let seen = if stays { left.first().map_or(out, Vec::as_slice) } else { out };
        sent_on(&frame, forward, family.backend(number), BACKEND_PORT, seen)
    }
}

/// A draining backend keeps the flows it has. One on probation whose client asks anew is no flow yet: it goes to another.
fn draining(forward: Forward, family: Family) -> [Case; 3] {
    let (syn, ack) = (request(family, 6, SYN), request(family, 6, ACK));
    let before = world(forward, family, 6);
    let after = drained(&before);
    let name = |what: &str| format!("{}_{what}_{}", mode_name(forward), family.name());
    let stays = |name, frame: &Frame| {
        Case::new(name, before.clone(), frame)
            .after(&syn)
            .after(&ack)
            .becoming(after.clone())
            .sends(to(frame, forward, family, 0, true))
            .forwards(1, FIRST, frame.packet_len())
    };
    [
        stays(name("flow_of_a_draining_backend_stays"), &ack),
        // Neither does a SYN move an established flow (a duplicate, or forged).
        stays(name("syn_of_a_flow_of_a_draining_backend_stays"), &syn),
        Case::new(name("probation_at_a_draining_backend_begins_anew"), before.clone(), &syn)
            .after(&syn)
            .becoming(after)
            .sends(to(&syn, forward, family, 1, false))
            .forwards(1, SECOND, syn.packet_len())
            .begins(1, SECOND, family.flow_table()),
    ]
}

/// A flow whose backend keeps none, or is gone, is selected again, and counted.
fn lost(forward: Forward, family: Family) -> [Case; 3] {
    let (syn, ack) = (request(family, 6, SYN), request(family, 6, ACK));
    let before = world(forward, family, 6);
    let name = |what: &str| format!("{}_{what}_{}", mode_name(forward), family.name());
    let moved = |name, after: World| {
        Case::new(name, before.clone(), &ack)
            .after(&syn)
            .after(&ack)
            .becoming(after)
            .sends(to(&ack, forward, family, 1, false))
            .forwards(1, SECOND, ack.packet_len())
            .notes(1, Reason::Reselected)
            .counts(["flows v4 reselected", "flows wide reselected"][family.flow_table()], 1)
    };
    let down = without_first(&before, |first| (first.takes_new, first.keeps) = (false, false));
    let gone =
        without_first(&before, |first| (first.takes_new, first.keeps, first.live) = (false, false, false));
    let again = moved(name("moved_flow_stays_where_it_is"), down.clone());
    [
        moved(name("flow_of_a_lost_backend_moves"), down),
        moved(name("flow_of_a_removed_backend_moves"), gone),
        // Moved once, it is a flow like any other, also when the first backend is back.
        Case {
            moved: super::Counts::default(),
            reasons: Vec::new(),
            ..again.after(&ack).becoming(before.clone())
        }
        .sends(move |left, _| sent_on(&ack, forward, family.backend(1), BACKEND_PORT, &left[2]))
        .forwards(1, SECOND, request(family, 6, ACK).packet_len()),
    ]
}

/// After FIN or RST a SYN is another connection, which begins like any new one; anything else still belongs to the old one.
fn ended(forward: Forward, family: Family) -> Vec<Case> {
    let (syn, ack) = (request(family, 6, SYN), request(family, 6, ACK));
    let before = world(forward, family, 6);
    let after = drained(&before);
    let mut cases = Vec::new();
    for (how, end) in [("fin", FIN | ACK), ("rst", RST)] {
        let name = |what: &str| format!("{}_{what}_after_{how}_{}", mode_name(forward), family.name());
        let ended = |name, frame: &Frame| {
            let end = request(family, 6, end);
            Case::new(name, before.clone(), frame).after(&syn).after(&ack).after(&end).becoming(after.clone())
        };
        cases.push(
            ended(name("syn_begins_anew"), &syn)
                .sends(to(&syn, forward, family, 1, false))
                .forwards(1, SECOND, syn.packet_len())
                .begins(1, SECOND, family.flow_table()),
        );
        cases.push(
            ended(name("last_ack_meets_its_backend"), &ack)
                .sends(to(&ack, forward, family, 0, true))
                .forwards(1, FIRST, ack.packet_len()),
        );
    }
    cases
}

/// A datagram's flow stays at a draining backend from the first one on: UDP has no SYN.
fn udp_of_a_drained_backend(family: Family) -> Case {
    let frame = request(family, 17, 0);
    let before = world(Forward::Nat, family, 17);
    let after = drained(&before);
    Case::new(format!("datagram_of_a_draining_backend_stays_{}", family.name()), before, &frame)
        .after(&frame)
        .becoming(after)
        .sends(to(&frame, Forward::Nat, family, 0, true))
        .forwards(1, FIRST, frame.packet_len())
}

/// Replies of flows that ended or whose backend went.
fn replies(forward: Forward, family: Family) -> [Case; 4] {
    let (syn, ack) = (request(family, 6, SYN), request(family, 6, ACK));
    let before = world(forward, family, 6);
    let name = |what: &str| format!("{}_{what}_{}", mode_name(forward), family.name());
    // The reply to the first packet that left, whatever left since.
    let reply = move |left: Left<'_>| reply_to(left.get(..1).unwrap_or_default(), family, forward, 6, ACK);
    let back = move |left: Left<'_>| {
        use super::world::{GATEWAY_MAC, OWN_MAC};
        let (vip, client) = (end(family.vip(), PORT), end(family.client(), CLIENT_PORT));
        reply(left).between(vip, client).forwarded(GATEWAY_MAC, OWN_MAC)
    };
    let translated =
        |case: Case| case.sends(move |left, _| back(left)).replies(1, FIRST, reply(&[]).packet_len());
    let case =
        |what: &str| Case::made(name(what), before.clone(), move |left| reply(left).bytes()).after(&syn);
    let lost = without_first(&before, |first| (first.takes_new, first.keeps) = (false, false));
    [
        translated(case("reply_after_fin").after(&request(family, 6, FIN | ACK))),
        translated(case("reply_of_a_draining_backend").after(&ack).becoming(drained(&before))),
        translated(case("reply_of_a_lost_backend").after(&ack).becoming(lost.clone())),
        // The flow has another backend by now: this is nobody's reply.
        case("reply_of_the_backend_before")
            .after(&ack)
            .becoming(lost)
            .after(&ack)
            .passes(move |left, _| reply(left)),
    ]
}
