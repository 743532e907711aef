//! An endpoint shared by a listener with a port and one that takes every port.

use super::*;

/// A service that takes every port of 192.0.2.1 (lines 4–8), and one at a port of another vip.
fn two(forward: &str, listen: &str, backends: &str) -> String {
    let rest = format!("forward = \"{forward}\"\nhealth.port = 80");
    let any = service("\"192.0.2.1:any/tcp\"", "\"10.0.0.1\", \"10.0.0.2\"", &rest);
    format!("{any}{}", service(listen, backends, &rest).replace("\"s\"", "\"web\""))
}

const HINT: &str = "add the listener 192.0.2.1:443/tcp to one of them, so that this port is not among those that 192.0.2.1:any/tcp takes; or give each backends of its own, or use forward = \"dsr\" or \"ipip\"";

#[test]
fn an_endpoint_that_two_indexes_would_know_is_refused() {
    let both = "service \"s\" (listener 192.0.2.1:any/tcp) and service \"web\" (listener 192.0.2.2:443/tcp) both send flows to 10.0.0.2:443/tcp, where they are not kept apart";
    let nat =
        format!("f:12: {both}: two connections of one client port would be one connection there: {HINT}");
    let full_nat = format!("f:12: {both}: two clients could be given one source port there: {HINT}");
    for (forward, refusal) in [("nat", &nat), ("full-nat", &full_nat)] {
        // However many backends and listeners they share, it is one fault.
        let listen = "\"192.0.2.2:443/tcp\", \"192.0.2.3:443/tcp\"";
        each(&[(two(forward, listen, "\"10.0.0.3\", \"10.0.0.2\", \"10.0.0.1\""), &[refusal])]);
    }
}

#[test]
fn the_backends_port_counts_and_not_the_listeners() {
    let text = two("nat", "\"192.0.2.2:80/tcp\"", "\"10.0.0.1:443\"");
    let said = said(&text);
    assert!(matches!(&said[..], [only] if only.contains("both send flows to 10.0.0.1:443/tcp")), "{said:?}");
}

#[test]
fn endpoints_that_cannot_meet_are_accepted() {
    let vip = "\"192.0.2.2:443/tcp\"";
    each(&[
        // Another backend, another protocol, a mode that gives nothing away.
        (two("nat", vip, "\"10.0.0.3\""), &[]),
        (two("nat", "\"192.0.2.2:443/udp\"", "\"10.0.0.1\""), &[]),
        (two("dsr", vip, "\"10.0.0.1\""), &[]),
        // The vip's own port never comes by the listener that takes the rest.
        (two("full-nat", "\"192.0.2.1:443/tcp\"", "\"10.0.0.1\""), &[]),
        (two("full-nat", "\"192.0.2.1:443/tcp\", \"192.0.2.2:443/tcp\"", "\"10.0.0.1\""), &[]),
        // nat shows the backend the client, full-nat this host.
        (two("nat", vip, "\"10.0.0.1\"").replacen("\"nat\"", "\"full-nat\"", 1), &[]),
        // Of IPv6 there is one index.
        (
            two("nat", "\"[2001:db8::2]:443/tcp\"", "\"2001:db8:1::1\"")
                .replace("192.0.2.1", "[2001:db8::1]")
                .replace("\"10.0.0.1\", \"10.0.0.2\"", "\"2001:db8:1::1\""),
            &[],
        ),
    ]);
}

#[test]
fn one_service_can_be_in_its_own_way() {
    let text = service("\"192.0.2.1:any/tcp\", \"192.0.2.2:443/tcp\"", "\"10.0.0.1\"", "");
    let said = said(&text);
    assert!(
        matches!(&said[..], [only] if only.starts_with("f:6: listeners 192.0.2.1:any/tcp and 192.0.2.2:443/tcp of service \"s\" both send flows to 10.0.0.1:443/tcp")),
        "{said:?}"
    );
}
