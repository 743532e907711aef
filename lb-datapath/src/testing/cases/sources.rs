//! Who may begin a flow: hosts. What nobody can be answered at is dropped, whatever the mode.

use lb_common::{Affinity, Forward, Reason};

use super::{
    Case, Frame, World,
    modes::{CLIENT_PORT, FIRST, MODES, end, mode_name, packet},
    world::{BACKEND_PORT, Family, PORT, Way},
};
use crate::header::tcp::SYN;

/// What no host sends from.
const NOBODY: [(&str, &str); 8] = [
    ("unspecified", "0.0.0.0"),
    ("this_network", "0.1.2.3"),
    ("multicast", "224.0.0.5"),
    ("broadcast", "255.255.255.255"),
    ("loopback", "127.0.0.1"),
    ("unspecified", "::"),
    ("multicast", "ff02::5"),
    ("loopback", "::1"),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, source) in NOBODY {
        let name =
            |prefix: &str, family: Family| format!("{prefix}_from_{what}_{}_{}", source.len(), family.name());
        for protocol in [6, 17] {
            for forward in MODES {
                let (family, frame) = from(source, protocol);
                let prefix = format!("{}_{protocol}", mode_name(forward));
                let world = World::simple(forward, family, protocol);
                cases.push(Case::new(name(&prefix, family), world, &frame).drops(1, Reason::BadSource));
            }
        }
        let (family, frame) = from(source, 17);
        let world =
            World::simple(Forward::Dsr, family, 17).with(|world| world.listener().affinity = Affinity::None);
        cases.push(Case::new(name("datagram_by_itself", family), world, &frame).drops(1, Reason::BadSource));
    }
    cases.extend(Family::BOTH.map(on_lo));
    cases
}

/// A packet to the vip from there.
fn from(source: &str, protocol: u8) -> (Family, Frame) {
    let source: std::net::IpAddr = source.parse().unwrap();
    let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
    (family, packet(end(source, CLIENT_PORT), end(family.vip(), PORT), protocol, SYN))
}

/// A service on lo has clients there; the packet stays on this host.
fn on_lo(family: Family) -> Case {
    let (_, frame) = from(if family == Family::V4 { "127.0.0.1" } else { "::1" }, 6);
    let world = World::simple(Forward::Nat, family, 6).with(|world| {
        world.listener().loopback = true;
        world.member().way = Way::Local;
    });
    let on = frame.clone().between(end(frame.source, CLIENT_PORT), end(family.backend(0), BACKEND_PORT));
    Case::new(format!("from_loopback_on_lo_{}", family.name()), world, &frame)
        .passes(move |_, _| on.clone())
        .notes(1, Reason::LocalDelivery)
        .forwards(1, FIRST, frame.packet_len())
        .begins(1, FIRST, family.flow_table())
}
