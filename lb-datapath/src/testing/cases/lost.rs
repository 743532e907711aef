//! What is learnt of a backend from a client's next packet, and flows that are reset when it is lost.

use lb_common::{Forward, Reason};

use super::{
    Case, Left, World,
    answers::reset,
    members::{to, without_first},
    modes::{FIRST, MODES, SECOND, end, mode_name, reply_to, request, sent_on},
    world::{BACKEND_PORT, Family, GATEWAY_MAC, OWN_MAC, PORT},
};
use crate::header::tcp::{ACK, FIN, RST, SYN};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::BOTH {
        for forward in MODES {
            cases.extend(progress(forward, family));
            cases.extend(resets(forward, family));
        }
        for forward in [Forward::Nat, Forward::FullNat] {
            cases.extend(refusals(forward, family));
            cases.extend(late_fins(forward, family));
        }
        cases.push(datagram(family));
    }
    cases
}

fn name(forward: Forward, what: &str, family: Family) -> String {
    format!("{}_{what}_{}", mode_name(forward), family.name())
}

/// The same as the first packet left, whatever left since.
fn on(
    frame: &super::Frame,
    forward: Forward,
    family: Family,
) -> impl Fn(Left<'_>, &[u8]) -> super::Frame + use<> {
    let frame = frame.clone();
    move |left, _| sent_on(&frame, forward, family.backend(0), BACKEND_PORT, &left[0])
}

/// A client that asks again has had no answer; one that goes on in any way has. Both are counted once for what they say.
fn progress(forward: Forward, family: Family) -> Vec<Case> {
    let (syn, ack) = (request(family, 6, SYN), request(family, 6, ACK));
    let world = World::simple(forward, family, 6);
    let after_syn = |what: &str, frame: &super::Frame| {
        Case::new(name(forward, what, family), world.clone(), frame)
            .after(&syn)
            .sends(on(frame, forward, family))
            .forwards(1, FIRST, frame.packet_len())
    };
    let ends = [("fin", FIN | ACK), ("rst", RST)].map(|(how, flags)| {
        let frame = request(family, 6, flags);
        after_syn(&format!("{how}_after_syn_says_it_answered"), &frame)
            .counts(&format!("backend {FIRST} continued_flows"), 1)
    });
    let mut cases = vec![
        after_syn("syn_again", &syn).counts(&format!("backend {FIRST} repeated_syns"), 1),
        after_syn("ack_after_syns", &ack).after(&syn).counts(&format!("backend {FIRST} continued_flows"), 1),
        after_syn("established_flow_says_nothing_more", &ack).after(&ack),
        after_syn("syn_of_an_established_flow_says_nothing", &syn).after(&ack),
        // It has reset what came late of a flow that had its port before, and waits on.
        after_syn("syn_after_rst_is_the_same_flows", &syn)
            .after(&request(family, 6, RST))
            .counts(&format!("backend {FIRST} repeated_syns"), 1),
    ];
    cases.extend(ends);
    cases
}

/// A reset before the client went on is a refusal, one after it is an end.
fn refusals(forward: Forward, family: Family) -> [Case; 3] {
    let (syn, ack) = (request(family, 6, SYN), request(family, 6, ACK));
    let world = World::simple(forward, family, 6);
    let reply =
        move |left: Left<'_>| reply_to(left.get(..1).unwrap_or_default(), family, forward, 6, RST | ACK);
    let case = |what: &str| {
        let case = Case::made(name(forward, what, family), world.clone(), move |left| reply(left).bytes());
        case.after(&syn)
    };
    let back =
        move |case: Case| {
            let (vip, client) = (end(family.vip(), PORT), end(family.client(), super::modes::CLIENT_PORT));
            case.sends(move |left, _| reply(left).between(vip, client).forwarded(GATEWAY_MAC, OWN_MAC))
                .replies(1, FIRST, reply(&[]).packet_len())
        };
    [
        back(case("reset_of_a_beginning_is_a_refusal")).counts(&format!("backend {FIRST} refused_flows"), 1),
        back(case("reset_of_an_established_flow_is_none").after(&ack)),
        back(case("second_reset_is_none").after_made(move |left| reply(left).bytes())),
    ]
}

/// A backend's FIN before the client went on is of the connection that had the port before: no refusal, no end.
fn late_fins(forward: Forward, family: Family) -> [Case; 2] {
    let (syn, ack) = (request(family, 6, SYN), request(family, 6, ACK));
    let world = World::simple(forward, family, 6);
    let fin =
        move |left: Left<'_>| reply_to(left.get(..1).unwrap_or_default(), family, forward, 6, FIN | ACK);
    let (vip, client) = (end(family.vip(), PORT), end(family.client(), super::modes::CLIENT_PORT));
    let what = name(forward, "late_fin_is_no_refusal", family);
    let is_none = Case::made(what, world.clone(), move |left| fin(left).bytes())
        .after(&syn)
        .sends(move |left, _| fin(left).between(vip, client).forwarded(GATEWAY_MAC, OWN_MAC))
        .replies(1, FIRST, fin(&[]).packet_len());
    let goes_on = Case::new(name(forward, "ack_after_late_fin", family), world, &ack)
        .after(&syn)
        .after_made(move |left| fin(left).bytes())
        .sends(on(&ack, forward, family))
        .counts(&format!("backend {FIRST} continued_flows"), 1)
        .forwards(1, FIRST, ack.packet_len());
    [is_none, goes_on]
}

/// `on_loss = "reset"`: whatever the client sends is answered by a reset that it accepts, but a SYN begins anew elsewhere.
fn resets(forward: Forward, family: Family) -> Vec<Case> {
    let (syn, ack) = (request(family, 6, SYN), request(family, 6, ACK));
    let acknowledgment = 0x0506_0708;
    let world =
        World::simple(forward, family, 6).and_a_second().with(|world| world.listener().resets_lost = true);
    let down = without_first(&world, |first| (first.takes_new, first.keeps) = (false, false));
    let gone =
        without_first(&world, |first| (first.takes_new, first.keeps, first.live) = (false, false, false));
    let case = |what: &str, after: &World, frame: &super::Frame| {
        Case::new(name(forward, what, family), world.clone(), frame)
            .after(&syn)
            .after(&ack)
            .becoming(after.clone())
    };
    let is_reset = |case: Case, of: &super::Frame| {
        let answer = reset(of, acknowledgment, 0, RST);
        case.sends(move |_, _| answer.clone()).notes(1, Reason::FlowResetAnswered)
    };
    let begins = |case: Case| {
        case.sends(to(&syn, forward, family, 1, false)).forwards(1, SECOND, syn.packet_len()).begins(
            1,
            SECOND,
            family.flow_table(),
        )
    };
    let (fin, end) = (request(family, 6, FIN | ACK), request(family, 6, RST));
    vec![
        is_reset(case("flow_of_a_lost_backend_is_reset", &down, &ack), &ack),
        is_reset(case("flow_of_a_removed_backend_is_reset", &gone, &ack), &ack),
        is_reset(case("fin_to_a_lost_backend_is_reset", &down, &fin), &fin),
        // The first answer may have been lost.
        is_reset(case("lost_flow_is_reset_as_often_as_it_asks", &down, &ack).after(&ack), &ack),
        case("reset_to_a_lost_backend_is_not_answered", &down, &end).drops(1, Reason::FlowLost),
        begins(case("syn_at_a_lost_backend_begins_anew", &down, &syn)),
        begins(case("syn_after_the_reset_begins_anew", &down, &syn).after(&ack)),
    ]
}

/// A datagram cannot be reset: it is selected again.
fn datagram(family: Family) -> Case {
    let frame = request(family, 17, 0);
    let before = World::simple(Forward::Nat, family, 17)
        .and_a_second()
        .with(|world| world.listener().resets_lost = true);
    let after = without_first(&before, |first| (first.takes_new, first.keeps) = (false, false));
    Case::new(format!("datagram_to_a_lost_backend_moves_{}", family.name()), before, &frame)
        .after(&frame)
        .becoming(after)
        .sends(to(&frame, Forward::Nat, family, 1, false))
        .forwards(1, SECOND, frame.packet_len())
        .notes(1, Reason::Reselected)
        .counts(["flows v4 reselected", "flows wide reselected"][family.flow_table()], 1)
}
