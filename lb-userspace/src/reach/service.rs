//! Whether this host has the listed interfaces, and whether packets to a service's vips come here.
//!
//! In: settings, a service, the snapshot. Out: problems. Invariant: lbd adds no addresses and takes no port from a program
//! of this host unasked.

use std::net::IpAddr;

use super::host::{HostNetwork, LocalSocket};
use super::on_loopback;
use crate::spec::{DatapathSpec, Forward, Listener, Place, Problem, ServiceSpec, nearest};

/// What is wrong with `interfaces`, `snat` and `tunnel_source` on this host.
pub fn judge_interfaces(datapath: &DatapathSpec, host: &HostNetwork) -> Vec<Problem> {
    let setting = |key: &str| Place::Setting { key: format!("datapath.{key}") };
    let names = || host.links.iter().map(|link| link.name.as_str());
    let missing = datapath.interfaces.iter().filter(|name| host.link_named(name).is_none()).map(|name| {
        let hint = match nearest(name, names()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("this host has {}", names().collect::<Vec<_>>().join(", ")),
        };
        Problem::error(setting("interfaces"), format!("there is no interface {name:?}"), hint)
    });
    let foreign = datapath.snat.iter().filter(|addr| !host.owns(**addr)).map(|addr| {
        Problem::warning(
            setting("snat"),
            format!("{addr} is no address of this host: answers to it come here only if the network routes it here"),
            format!("add it, `ip addr add {addr}/{} dev lo`, where your network routes it to this host", bits(*addr)),
        )
    });
    missing.chain(foreign).collect()
}

/// What is wrong with a service's vips and ports on this host.
pub fn judge_service(service: &ServiceSpec, listed: &[String], host: &HostNetwork) -> Vec<Problem> {
    let mut problems = Vec::new();
    if on_loopback(service, listed) && service.forward != Forward::FullNat {
        problems.push(Problem::error(
            &service.origin,
            format!(
                "service {:?} is on lo with forward = \"{}\", but lo has neither neighbours nor routers",
                service.name.as_str(),
                service.forward
            ),
            "use forward = \"full-nat\" for services on lo",
        ));
    }
    for (position, listener) in service.listen.iter().enumerate() {
        let place = Place::from(&service.listener_origin(position));
        problems.extend(vip(service, listener, &place, listed, host));
        problems.extend(shadowed(service, listener, &place, host));
    }
    problems
}

/// A vip that nobody sends here, as far as this host can tell.
fn vip(
    service: &ServiceSpec,
    listener: &Listener,
    place: &Place,
    listed: &[String],
    host: &HostNetwork,
) -> Option<Problem> {
    let (addr, name) = (listener.addr, service.name.as_str());
    // A loopback vip without lo has been refused by `validate`.
    if addr.is_loopback() || host.owns(addr) {
        return None;
    }
    let add = format!("`ip addr add {addr}/{} dev lo`", bits(addr));
    if on_loopback(service, listed) {
        let message = format!(
            "service {name:?} listens on {addr}, which is no address of this host, so lo does not deliver it"
        );
        return Some(Problem::warning(place.clone(), message, format!("add it: {add}")));
    }
    let neighbours =
        host.addresses.iter().find(|own| own.net.contains(&addr)).and_then(|own| host.link(own.link));
    Some(match neighbours {
        Some(link) => Problem::warning(
            place.clone(),
            format!(
                "service {name:?} listens on {addr}, which is neither on this host nor routed to it: it belongs to the network of {}, \
                 where nobody answers for it",
                link.name
            ),
            format!("add it, {add}; lbd adds no addresses"),
        ),
        None => Problem::warning(
            place.clone(),
            format!(
                "service {name:?} listens on {addr}, which is neither on this host nor routed to it as far as this host can tell"
            ),
            format!(
                "route it to this host in your network, and add it here, {add}, so that ping and ICMP errors work"
            ),
        ),
    })
}

/// A listener that would take the packets of a program on this host: of sshd, in the worst case.
fn shadowed(
    service: &ServiceSpec,
    listener: &Listener,
    place: &Place,
    host: &HostNetwork,
) -> Option<Problem> {
    if service.shadow_local || !host.owns(listener.addr) {
        return None;
    }
    let socket = host.sockets.iter().find(|socket| socket.takes(listener))?;
    Some(Problem::error(
        place.clone(),
        format!(
            "service {:?} would take {listener} from {} on this host",
            service.name.as_str(),
            describe(socket)
        ),
        "choose another vip or port, or write shadow_local = true in the service if that is meant",
    ))
}

fn describe(socket: &LocalSocket) -> String {
    match &socket.program {
        Some(program) => format!("{program}, which listens on port {}/{}", socket.port, socket.protocol),
        None => format!("a program that listens on port {}/{}", socket.port, socket.protocol),
    }
}

/// The prefix length of a single address.
const fn bits(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
