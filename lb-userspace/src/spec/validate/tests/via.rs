//! Checks that go through services, and their addresses.

use super::*;

fn through(listen: &str, backends: &str, more: &str) -> String {
    service(listen, backends, &format!("{more}health = {{ via = \"service\" }}"))
}

#[test]
fn what_cannot_travel_is_refused_with_what_can() {
    let tcp = "\"192.0.2.1:80/tcp\"";
    let health =
        |health: &str| service(tcp, "\"10.0.0.1\"", &format!("health = {{ via = \"service\", {health} }}"));
    each(&[
        (through(tcp, "\"10.0.0.1\"", ""), &[]),
        (health("type = \"http\""), &[]),
        (
            health("type = \"icmp\""),
            &[
                "f:4: pool \"s\" has a health check of type icmp with via = \"service\", but such a check is no packet that a service forwards: use type tcp, http, https, grpc, udp or dns, or write via = \"direct\"",
            ],
        ),
        (
            health("type = \"exec\", command = [\"/bin/true\"]"),
            &[
                "f:4: pool \"s\" has a health check of type exec with via = \"service\", but such a check goes where its program goes: use type tcp, http, https, grpc, udp or dns, or write via = \"direct\"",
            ],
        ),
        (
            health("type = \"udp\", send = 'ping'"),
            &[
                "f:4: pool \"s\" is checked by udp with via = \"service\", but service \"s\" has no udp listener that could be asked: give the service one, write the port of the check if it takes every port, or write via = \"direct\"",
            ],
        ),
        (
            health("port = 8080"),
            &[
                "f:4: pool \"s\" is checked by tcp with via = \"service\", but service \"s\" has no tcp listener on port 8080 that could be asked: take the port out: such a check asks a listener of each service, where clients do",
            ],
        ),
    ]);
}

#[test]
fn the_addresses_of_such_checks_are_nobodys() {
    let vip = "\"192.0.2.1:80/tcp\"";
    each(&[
        (
            through(vip, "\"198.18.0.7\"", ""),
            &[
                "f:7: backend 198.18.0.7 of pool \"s\" has an address in 198.18.0.0/15, which checks with via = \"service\" use for themselves: write another prefix, which nobody uses, into probe_prefix in [datapath]",
            ],
        ),
        // Nobody else minds.
        (service(vip, "\"198.18.0.7\"", ""), &[]),
    ]);
}
