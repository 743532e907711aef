//! A flow table in which every entry is a flow that does not give way, or one that does.

use std::net::SocketAddr;

use lb_common::{Forward, Reason};

use super::{
    Case, Frame, World,
    modes::{FIRST, MODES, end, mode_name, sent_on, translates},
    world::{BACKEND_PORT, Family, PORT},
};
use crate::header::tcp::{ACK, FIN, RST, SYN};

/// Flows, of which the smallest table (64 entries) holds what it can.
const CROWD: u16 = 600;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::BOTH {
        for forward in MODES {
            cases.push(full(forward, family));
            cases.push(closed_by_clients(forward, family));
        }
        cases.push(closed_by_backends(family));
        cases.extend(over(family));
    }
    cases
}

fn client(family: Family, number: u16) -> SocketAddr {
    end(family.client(), 1000 + number)
}

fn from(family: Family, number: u16, flags: u8) -> Frame {
    Frame::tcp(client(family, number), end(family.vip(), PORT), flags)
}

/// A newcomer never takes the place of an established flow: dsr and ipip go by the Maglev table alone, nat and full-nat, which could
/// not find the way back, drop.
fn full(forward: Forward, family: Family) -> Case {
    let (case, syn) =
        crowded(forward, family, "flow_table_full", &[Sent::ByClient(SYN), Sent::ByClient(ACK)]);
    if translates(forward) {
        return keeps_newcomers_out(case, family);
    }
    let on = syn.clone();
    let pressure = ["flows v4 not_stored", "flows wide not_stored"][family.flow_table()];
    case.sends(move |_, out| sent_on(&on, forward, family.backend(0), BACKEND_PORT, out))
        .notes(1, Reason::NotStored)
        .counts(pressure, 1)
        .forwards(1, FIRST, syn.packet_len())
        .begins_unstored(1, FIRST)
}

/// A packet of each flow of the crowd.
#[derive(Clone, Copy)]
enum Sent {
    ByClient(u8),
    /// Of nat: the client's address and port are those of the flow towards the backend, too.
    ByBackend(u8),
}

impl Sent {
    fn frame(self, family: Family, number: u16) -> Frame {
        match self {
            Self::ByClient(flags) => from(family, number, flags),
            Self::ByBackend(flags) => {
                let client = client(family, number);
                Frame::tcp(end(family.backend(0), BACKEND_PORT), client, flags)
            }
        }
    }
}

/// A newcomer after a crowd, of which each has sent this, and its packet.
fn crowded(forward: Forward, family: Family, what: &str, sent: &[Sent]) -> (Case, Frame) {
    let world = World::simple(forward, family, 6).with(|world| world.flows = 1);
    let crowd = (0..CROWD).flat_map(|number| sent.iter().map(move |sent| sent.frame(family, number).bytes()));
    let syn = from(family, CROWD, SYN);
    let name = format!("{}_{what}_{}", mode_name(forward), family.name());
    (Case::new(name, world, &syn).after_many(crowd.collect()), syn)
}

fn keeps_newcomers_out(case: Case, family: Family) -> Case {
    let pressure = ["flows v4 not_stored", "flows wide not_stored"][family.flow_table()];
    case.drops(1, Reason::FlowTableFull).counts(pressure, 1)
}

fn gives_way((case, syn): (Case, Frame), forward: Forward, family: Family) -> Case {
    let len = syn.packet_len();
    let evicted = ["flows v4 evicted", "flows wide evicted"][family.flow_table()];
    case.sends(move |_, out| sent_on(&syn, forward, family.backend(0), BACKEND_PORT, out))
        .counts(evicted, 1)
        .forwards(1, FIRST, len)
        .begins(1, FIRST, family.flow_table())
}

/// Clients have sent FIN. In nat and full-nat the other half is still open, and does not give way; in dsr and ipip nobody here sees what
/// backends send, so that the flow has ended as far as can be known.
fn closed_by_clients(forward: Forward, family: Family) -> Case {
    let sent = [SYN, ACK, FIN | ACK].map(Sent::ByClient);
    let crowded = crowded(forward, family, "half_closed_by_clients", &sent);
    if translates(forward) {
        keeps_newcomers_out(crowded.0, family)
    } else {
        gives_way(crowded, forward, family)
    }
}

/// Backends have sent FIN, and clients may still send.
fn closed_by_backends(family: Family) -> Case {
    let sent = [Sent::ByClient(SYN), Sent::ByClient(ACK), Sent::ByBackend(FIN | ACK), Sent::ByClient(ACK)];
    keeps_newcomers_out(crowded(Forward::Nat, family, "half_closed_by_backends", &sent).0, family)
}

/// Whichever side was the first: with the other's FIN the connection is over, or with anybody's reset.
fn over(family: Family) -> [Case; 4] {
    use Sent::{ByBackend, ByClient};
    let orders = [
        ("closed_by_clients_first", [ByClient(FIN | ACK), ByBackend(ACK), ByBackend(FIN | ACK)]),
        ("closed_by_backends_first", [ByBackend(FIN | ACK), ByClient(ACK), ByClient(FIN | ACK)]),
        ("reset_when_half_closed_by_clients", [ByClient(FIN | ACK), ByClient(ACK), ByClient(RST)]),
        ("reset_when_half_closed_by_backends", [ByBackend(FIN | ACK), ByClient(ACK), ByBackend(RST)]),
    ];
    orders.map(|(what, [first, second, third])| {
        let sent = [ByClient(SYN), ByClient(ACK), first, second, third];
        gives_way(crowded(Forward::Nat, family, what, &sent), Forward::Nat, family)
    })
}
