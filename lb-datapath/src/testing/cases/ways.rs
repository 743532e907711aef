//! The way out: unknown, gone, by another interface, to this host; and what is needed to go it.

use lb_common::{Forward, Reason};

use super::{
    Case, Left, World,
    modes::{CLIENT_PORT, FIRST, MODES, end, mode_name, packet, reply_to, request, sent_on},
    world::{BACKEND_PORT, FAR_MAC, Family, OTHER_MAC, PORT, Way},
};
use crate::header::tcp::{ACK, SYN};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::BOTH {
        for forward in MODES {
            cases.push(unknown(forward, family));
            cases.push(gone(forward, family));
            cases.push(by_another_interface(forward, family));
            cases.push(missing(forward, family));
        }
        for forward in [Forward::Nat, Forward::FullNat] {
            cases.extend(replies(forward, family));
        }
        for protocol in [6, 17] {
            cases.extend(delivered_here(family, protocol));
        }
        for forward in [Forward::FullNat, Forward::Ipip] {
            cases.push(without_source(forward, family));
        }
        cases.push(without_room(family));
    }
    cases
}

fn world(forward: Forward, family: Family, way: Way) -> World {
    World::simple(forward, family, 6).with(|world| world.member().way = way)
}

/// The neighbour is not resolved and the kernel knows no way either. nat may leave its request to the kernel, which asks; every
/// other mode's packet would be a martian there.
fn unknown(forward: Forward, family: Family) -> Case {
    let syn = request(family, 6, SYN);
    let name = format!("{}_way_unknown_{}", mode_name(forward), family.name());
    let case = Case::new(name, world(forward, family, Way::Unknown), &syn);
    if forward != Forward::Nat {
        return case.drops(1, Reason::NextHopUnknown).inserts(family.flow_table());
    }
    let client = end(family.client(), CLIENT_PORT);
    // The kernel takes the hop off.
    let on = syn.clone().between(client, end(family.backend(0), BACKEND_PORT));
    case.passes(move |_, _| on.clone())
        .notes(1, Reason::NextHopByStack)
        .forwards(1, FIRST, syn.packet_len())
        .begins(1, FIRST, family.flow_table())
}

fn gone(forward: Forward, family: Family) -> Case {
    let name = format!("{}_interface_gone_{}", mode_name(forward), family.name());
    Case::new(name, world(forward, family, Way::Gone), &request(family, 6, SYN))
        .drops(1, Reason::RedirectFailed)
        .inserts(family.flow_table())
}

fn by_another_interface(forward: Forward, family: Family) -> Case {
    let syn = request(family, 6, SYN);
    let on = syn.clone();
    let name = format!("{}_by_another_interface_{}", mode_name(forward), family.name());
    Case::new(name, world(forward, family, Way::Other), &syn)
        .redirects(move |_, out| {
            let on = sent_on(&on, forward, family.backend(0), BACKEND_PORT, out);
            on.with(|frame| frame.link = [FAR_MAC, OTHER_MAC])
        })
        .forwards(1, FIRST, syn.packet_len())
        .begins(1, FIRST, family.flow_table())
}

/// A slot names a backend that is not there: a fault of lbd, which must not send the packet anywhere.
fn missing(forward: Forward, family: Family) -> Case {
    let name = format!("{}_backend_missing_{}", mode_name(forward), family.name());
    let world = World::simple(forward, family, 6).with(|world| world.member().live = false);
    Case::new(name, world, &request(family, 6, SYN)).drops(1, Reason::BackendMissing)
}

fn without_source(forward: Forward, family: Family) -> Case {
    let name = format!("{}_source_missing_{}", mode_name(forward), family.name());
    let world = World::simple(forward, family, 6).with(|world| world.member().sources = 0);
    let case = Case::new(name, world, &request(family, 6, SYN)).drops(1, Reason::SourceMissing);
    // ipip enters the flow and then finds no outer source; full-nat needs it for the entry.
    if forward == Forward::Ipip { case.inserts(family.flow_table()) } else { case }
}

/// The driver left too little room for an outer header.
fn without_room(family: Family) -> Case {
    let world = World::simple(Forward::Ipip, family, 6);
    let case = Case::new(format!("no_headroom_{}", family.name()), world, &request(family, 6, SYN));
    let case = Case { headroom: Some(16), ..case };
    case.drops(1, Reason::NoHeadroom).inserts(family.flow_table())
}

/// To clients behind another interface, and to clients to whom there is no way.
fn replies(forward: Forward, family: Family) -> [Case; 2] {
    let name = |what: &str| format!("{}_{what}_{}", mode_name(forward), family.name());
    let world = World::simple(forward, family, 6);
    let vip = end(family.vip(), PORT);
    let far = end(family.far_client(), CLIENT_PORT);
    let stranger = end(family.stranger(), CLIENT_PORT);
    let reply = move |left: Left<'_>, client| {
        let reply = reply_to(left, family, forward, 6, SYN | ACK);
        if forward == Forward::FullNat {
            reply
        } else {
            reply.between(end(family.backend(0), BACKEND_PORT), client)
        }
    };
    let case = |what, client| {
        Case::made(name(what), world.clone(), move |left| reply(left, client).bytes())
            .after(&packet(client, vip, 6, SYN))
    };
    [
        case("reply_by_another_interface", far)
            .redirects(move |left, _| reply(left, far).between(vip, far).forwarded(FAR_MAC, OTHER_MAC))
            .replies(1, FIRST, reply(&[], far).packet_len()),
        // It never goes to the kernel, where its source would be a stranger's.
        case("reply_without_a_way", stranger).drops(1, Reason::NextHopUnknown),
    ]
}

/// Services on lo: translated, and left to this host, with the hops they have.
fn delivered_here(family: Family, protocol: u8) -> [Case; 2] {
    let world = World::simple(Forward::FullNat, family, protocol).with(|world| {
        world.listener().loopback = true;
        world.member().way = Way::Local;
    });
    let name = |what: &str| format!("{what}_{}_{}", family.name(), if protocol == 6 { "tcp" } else { "udp" });
    let syn = request(family, protocol, SYN).with(|frame| frame.hops = 1);
    let on = syn.clone();
    let reply = move |left: Left<'_>| {
        reply_to(left, family, Forward::FullNat, protocol, ACK).with(|frame| frame.hops = 1)
    };
    [
        Case::new(name("request_delivered_here"), world.clone(), &syn)
            .passes(move |_, out| {
                let sent = on.clone().with(|frame| frame.hops = 2);
                let sent = sent_on(&sent, Forward::FullNat, family.backend(0), BACKEND_PORT, out);
                sent.with(|frame| frame.link = on.link)
            })
            .notes(1, Reason::LocalDelivery)
            .forwards(1, FIRST, syn.packet_len())
            .begins(1, FIRST, family.flow_table()),
        Case::made(name("reply_delivered_here"), world, move |left| reply(left).bytes())
            .after(&syn)
            .passes(move |left, _| {
                reply(left).between(end(family.vip(), PORT), end(family.client(), CLIENT_PORT))
            })
            .notes(1, Reason::LocalDelivery)
            .replies(1, FIRST, reply(&[]).packet_len()),
    ]
}
