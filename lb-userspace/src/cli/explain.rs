//! `lbctl explain`: the decision of the program in the kernel for one packet, as steps a person follows.

use std::net::SocketAddr;

use lb_common::Reason;

use super::Outcome;
use super::session::Session;
use crate::api::types::{Backend, ExplainRequest, Explanation, LeavingPacket, ServiceDetail};
use crate::api::{ApiError, ErrorCode};
use crate::spec::{Forward, Listener, Protocol};

pub(super) async fn run(
    session: &Session,
    protocol: Protocol,
    source: SocketAddr,
    destination: SocketAddr,
    interface: Option<String>,
) -> Outcome {
    if source.is_ipv4() != destination.is_ipv4() {
        let message = format!("{source} and {destination} are of two families; no packet has both");
        return Err(ApiError::new(ErrorCode::Usage, message).hint("give both as IPv4 or both as IPv6"));
    }
    let request = ExplainRequest { protocol, source, destination, interface };
    let found = session.client.explain(&request).await?;
    if session.is_json() {
        session.show(&found, |_, _| String::new())?;
        return Ok(0);
    }
    // Only to tell more: a service that has gone meanwhile, or any other failure, takes nothing from the decision.
    let service = match &found.service {
        Some(name) => session.client.service(name).await.ok(),
        None => None,
    };
    session.show_text(&steps(&request, &found, service.as_ref()))?;
    Ok(0)
}

/// `192.0.2.2:61000 → 10.0.0.11:8443`, and the header around it.
fn leaving(packet: &LeavingPacket) -> String {
    let around = packet.outer.map(|outer| format!(", carried in {} → {}", outer.source, outer.destination));
    format!("{} → {}{}", packet.source, packet.destination, around.unwrap_or_default())
}

/// One step a line: service, selection, backend, forwarding, packet, next hop, verdict.
fn steps(request: &ExplainRequest, found: &Explanation, detail: Option<&ServiceDetail>) -> String {
    let mut text = format!("{} {} → {}\n", request.protocol, request.source, request.destination);
    let mut step = |name: &str, what: String| text.push_str(&format!("  {name:<9} {what}\n"));
    step("service", service(request, found, detail));
    if found.service.is_some() {
        step("selected", selected(found));
    }
    if let Some(address) = found.backend {
        let known =
            detail.and_then(|detail| detail.backends.iter().find(|backend| backend.address == address));
        step("backend", format!("{address}{}", known.map(condition).unwrap_or_default()));
        if let Some(detail) = detail {
            step("forward", forward(detail.service.forward, found.is_reply).to_owned());
        }
    }
    if let Some(packet) = &found.packet {
        step("packet", leaving(packet));
    }
    if let (Some(interface), Some(hop)) = (&found.interface, &found.next_hop) {
        step("next hop", format!("{hop} by {interface}"));
    }
    step("verdict", verdict(found));
    if !found.sentence.is_empty() {
        text.push_str(&format!("{}\n", found.sentence));
    }
    text
}

fn service(request: &ExplainRequest, found: &Explanation, detail: Option<&ServiceDetail>) -> String {
    let Some(name) = &found.service else { return not_served(request, &found.listeners) };
    let role = if found.is_reply { "a reply of a flow of " } else { "" };
    let pool = found.pool.as_ref().map(|pool| format!(", pool {pool}")).unwrap_or_default();
    let forward = detail.map(|detail| format!(", {}", detail.service.forward)).unwrap_or_default();
    format!("{role}{name}{forward}{pool}")
}

/// Why it belongs to no service: not a vip, or a vip without this port.
fn not_served(request: &ExplainRequest, listeners: &[Listener]) -> String {
    if listeners.is_empty() {
        return "none: not for a vip of lbd".to_owned();
    }
    let listeners: Vec<_> = listeners.iter().map(ToString::to_string).collect();
    let (ip, port) = (request.destination.ip(), request.destination.port());
    let (protocol, listeners) = (request.protocol, listeners.join(", "));
    format!("none: {ip} is a vip of lbd, but no listener has {port}/{protocol}; it has {listeners}")
}

fn selected(found: &Explanation) -> String {
    let slot = found.slot.map(|slot| format!("slot {slot} of the Maglev table")).unwrap_or_default();
    match found.selected_by.as_str() {
        "flow" => "by its tracked flow".to_owned(),
        "maglev" => format!("by {}: no flow is tracked", or(&slot, "the Maglev table")),
        "reselected" => {
            format!(
                "anew by {}: the backend of its tracked flow no longer takes it",
                or(&slot, "the Maglev table")
            )
        }
        _ if found.is_reply => "by the flow it answers".to_owned(),
        _ => "nobody".to_owned(),
    }
}

fn or<'a>(text: &'a str, instead: &'a str) -> &'a str {
    if text.is_empty() { instead } else { text }
}

/// ` (healthy, active, weight 1)`
fn condition(backend: &Backend) -> String {
    let mut words = format!("{}, {}, weight {}", backend.health, backend.state.as_str(), backend.weight);
    if !backend.reason.is_empty() {
        words.push_str(&format!("; {}", backend.reason));
    }
    format!(" ({words})")
}

/// What becomes of the packet's addresses.
const fn forward(forward: Forward, is_reply: bool) -> &'static str {
    match (forward, is_reply) {
        (Forward::FullNat, false) => {
            "full-nat: destination becomes the backend, source an address of this host"
        }
        (Forward::FullNat, true) => "full-nat: source becomes the vip, destination the client",
        (Forward::Nat, false) => "nat: destination becomes the backend, source stays the client",
        (Forward::Nat, true) => "nat: source becomes the vip",
        (Forward::Dsr, _) => "dsr: only the MAC addresses change",
        (Forward::Ipip, _) => "ipip: the whole packet travels in an outer header to the backend",
    }
}

fn verdict(found: &Explanation) -> String {
    let Some(name) = &found.reason else { return found.verdict.clone() };
    let reason = Reason::ALL.iter().find(|reason| reason.name() == name);
    let meaning = reason.map(|reason| format!(": {}", reason.sentence().trim())).unwrap_or_default();
    format!("{} ({name}{meaning})", found.verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::OuterHeader;

    fn request() -> ExplainRequest {
        ExplainRequest {
            protocol: Protocol::Tcp,
            source: "198.51.100.7:4321".parse().unwrap(),
            destination: "203.0.113.10:443".parse().unwrap(),
            interface: None,
        }
    }

    fn found() -> Explanation {
        Explanation {
            verdict: "redirect".to_owned(),
            service: Some("web".parse().unwrap()),
            pool: Some("web".parse().unwrap()),
            backend: Some("10.0.0.11:8443".parse().unwrap()),
            selected_by: "maglev".to_owned(),
            interface: Some("eth1".to_owned()),
            next_hop: Some("02:00:00:00:00:0b".to_owned()),
            packet: Some(LeavingPacket {
                source: "198.51.100.7:4321".parse().unwrap(),
                destination: "203.0.113.10:443".parse().unwrap(),
                outer: Some(OuterHeader {
                    source: "10.0.0.1".parse().unwrap(),
                    destination: "10.0.0.11".parse().unwrap(),
                }),
            }),
            slot: Some(512),
            ..Explanation::default()
        }
    }

    #[test]
    fn a_packet_is_followed_from_service_to_wire() {
        let text = steps(&request(), &found(), None);
        let names: Vec<&str> =
            text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(names, ["service", "selected", "backend", "packet", "next", "verdict"]);
        for part in [
            "198.51.100.7:4321 → 203.0.113.10:443, carried in 10.0.0.1 → 10.0.0.11",
            "slot 512",
            "no flow is tracked",
            "10.0.0.11:8443",
            "02:00:00:00:00:0b by eth1",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_is_not_ours_is_said_in_two_lines() {
        let reason = Reason::ALL[0];
        let pass = Explanation {
            verdict: "pass".to_owned(),
            reason: Some(reason.name().to_owned()),
            ..Explanation::default()
        };
        let text = steps(&request(), &pass, None);
        assert!(text.contains("none: not for a vip of lbd"), "{text}");
        assert!(text.contains(reason.sentence().trim()), "{text}");
        assert!(!text.contains("selected"), "{text}");
        // Another port of a vip.
        let listeners = ["203.0.113.10:80/tcp", "203.0.113.10:443/udp"].map(|text| text.parse().unwrap());
        let text = steps(&request(), &Explanation { listeners: listeners.into(), ..pass }, None);
        let part = "none: 203.0.113.10 is a vip of lbd, but no listener has 443/tcp; it has 203.0.113.10:80/tcp, \
                    203.0.113.10:443/udp";
        assert!(text.contains(part), "{text}");
    }
}
