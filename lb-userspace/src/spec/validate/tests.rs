use super::*;
use crate::config;

mod addresses;
mod endpoints;
mod health;
mod ranges;
mod via;

/// What is said about pools and services written after three lines of head, without the severity.
fn said(text: &str) -> Vec<String> {
    let whole = format!("[datapath]\ninterfaces = [\"eth0\"]\n\n{text}");
    let problems = match config::parse(&whole, "f") {
        Ok(loaded) => loaded.warnings,
        Err(errors) => errors.problems,
    };
    let severity = |problem: &Problem| if problem.is_error() { "" } else { "warning: " };
    problems.iter().map(|problem| format!("{}{problem}", severity(problem))).collect()
}

/// A service on line 4, its listeners on line 6, its backends on line 7, whatever else from line 8 on.
fn service(listen: &str, backends: &str, rest: &str) -> String {
    format!("[[service]]\nname = \"s\"\nlisten = [{listen}]\nbackends = [{backends}]\n{rest}\n")
}

fn each(cases: &[(String, &[&str])]) {
    for (text, expected) in cases {
        assert_eq!(said(text), *expected, "in\n{text}");
    }
}

#[test]
fn families_that_a_mode_cannot_join_are_refused() {
    let (v4, v6) = ("\"192.0.2.1:80/tcp\"", "\"[2001:db8::1]:80/tcp\"");
    let (b4, b6) = ("\"10.0.0.1\"", "\"2001:db8:1::1\"");
    let hint = "add an IPv6 backend, or use forward = \"ipip\", which carries one family inside the other";
    for forward in ["full-nat", "nat", "dsr"] {
        let refusal = format!(
            "f:6: service \"s\" listens on [2001:db8::1]:80/tcp but pool \"s\" has only IPv4 backends, and {forward} does not turn IPv6 into IPv4: {hint}"
        );
        let text = service(v6, b4, &format!("forward = \"{forward}\""));
        assert!(said(&text).contains(&refusal), "{:?}", said(&text));
        assert_eq!(
            said(&service(
                &format!("{v4}, {v6}"),
                &format!("{b4}, {b6}"),
                &format!("forward = \"{forward}\"")
            )),
            [] as [&str; 0]
        );
    }
    assert_eq!(said(&service(v6, b4, "forward = \"ipip\"")), [] as [&str; 0]);
    let partly = said(&service(&format!("{v4}, {v6}"), b4, "when_none = \"drop\""));
    assert!(
        matches!(&partly[..], [only] if only.starts_with("warning: f:6: ") && only.contains("its IPv6 clients are dropped")),
        "{partly:?}"
    );
    let idle = said(&service(v4, &format!("{b4}, {b6}"), ""));
    assert_eq!(
        idle,
        [
            "warning: f:7: backend 2001:db8:1::1 of pool \"s\" gets no packet: no listener of its services is IPv6: add an IPv6 listener, or use forward = \"ipip\""
        ]
    );
}

#[test]
fn ports_that_a_mode_cannot_change_are_refused() {
    let vip = "\"192.0.2.1:443/tcp\"";
    each(&[
        (service(vip, "\"10.0.0.1:8443\"", "forward = \"nat\""), &[]),
        (service(vip, "\"10.0.0.1:443\"", "forward = \"dsr\""), &[]),
        (
            service(vip, "\"10.0.0.1:8443\"", "forward = \"dsr\""),
            &[
                "f:7: backend 10.0.0.1:8443 has port 8443 but service \"s\" listens on 192.0.2.1:443/tcp, and dsr does not rewrite ports: write 10.0.0.1 without a port, or use forward = \"full-nat\" or \"nat\"",
            ],
        ),
        (
            service("\"192.0.2.1:any/tcp\"", "\"10.0.0.1:443\"", ""),
            &[
                "f:7: backend 10.0.0.1:443 has port 443 but service \"s\" listens on 192.0.2.1:any/tcp, which takes every port and keeps the one the client chose: write 10.0.0.1 without a port, or give the service a listener with one port",
            ],
        ),
        (
            service("\"192.0.2.1:any/tcp\"", "\"10.0.0.1\"", ""),
            &[
                "f:7: pool \"s\" has no port to check: its services take any port and backend 10.0.0.1 names none: write the port of the check, health = { port = 443 }, or health = { type = \"none\" }",
            ],
        ),
        (service("\"192.0.2.1:any/tcp\"", "\"10.0.0.1\"", "health.port = 443"), &[]),
        (service("\"192.0.2.1:any/udp\"", "\"10.0.0.1\"", ""), &[]),
    ]);
}

#[test]
fn affinity_none_is_for_udp_that_is_not_translated() {
    let (tcp, udp) = ("\"192.0.2.1:53/tcp\"", "\"192.0.2.1:53/udp\"");
    let none = |forward: &str| format!("forward = \"{forward}\"\naffinity = \"none\"");
    each(&[
        (service(udp, "\"10.0.0.1\"", &none("dsr")), &[]),
        (
            service(udp, "\"10.0.0.1\"", &none("full-nat")),
            &[
                "f:4: service \"s\" has affinity = \"none\" with forward = \"full-nat\": replies could not be matched to a flow: use forward = \"dsr\" or \"ipip\", or affinity = \"flow\"",
            ],
        ),
        (
            service(&format!("{udp}, {tcp}"), "\"10.0.0.1\"", &none("ipip")),
            &[
                "f:6: service \"s\" has affinity = \"none\" with the listener 192.0.2.1:53/tcp: a TCP connection needs one backend: use affinity = \"flow\", or give the TCP listeners a service of their own",
            ],
        ),
    ]);
}

#[test]
fn what_is_defined_twice_names_both_places() {
    let vip = "\"192.0.2.1:80/tcp\"";
    each(&[
        (
            service(&format!("{vip},\n{vip}"), "\"10.0.0.1\"", ""),
            &["f:7: listener 192.0.2.1:80/tcp is in service \"s\" twice, first at f:6: name it once"],
        ),
        (
            service(vip, "\"10.0.0.1\",\n\"10.0.0.1\"", ""),
            &[
                "f:8: backend 10.0.0.1 is in pool \"s\" twice, first at f:7: name it once; a larger share is a larger weight",
            ],
        ),
        (
            service(vip, "\"10.0.0.1\"", "[[pool]]\nname = \"s\"\nbackends = [\"10.0.0.2\"]"),
            &[
                "f:4: pool \"s\" (the backends written in the service) is defined twice, also at f:8: write pool = \"s\" in the service and its backends in [[pool]], or rename the pool",
            ],
        ),
        (
            format!(
                "{}{}",
                service(vip, "\"10.0.0.1\"", ""),
                service("\"192.0.2.2:80/tcp\"", "\"10.0.0.1\"", "").replace("\"s\"", "\"s\" # again")
            ),
            &[
                "f:9: pool \"s\" (the backends written in the service) is defined twice, also at f:4 (the backends written in the service): write pool = \"s\" in the service and its backends in [[pool]], or rename the pool",
                "f:9: service \"s\" is defined twice, first at f:4: give one of them another name, or write all listeners in one service",
            ],
        ),
    ]);
}

#[test]
fn addresses_that_no_host_has_are_refused() {
    for (addr, why) in [
        ("0.0.0.0", "it is no single address"),
        ("224.0.0.1", "it is a multicast address"),
        ("255.255.255.255", "it is the broadcast address"),
        ("0.1.2.3", "0.0.0.0/8 is no host's address"),
        ("250.0.0.1", "240.0.0.0/4 is reserved"),
        ("169.254.1.1", "a link-local address is never routed"),
    ] {
        let listener = said(&service(&format!("\"{addr}:80/tcp\""), "\"10.0.0.1\"", ""));
        assert_eq!(
            listener,
            [format!(
                "f:6: service \"s\" cannot listen on {addr}:80/tcp: {why}: name one unicast address that clients send to"
            )]
        );
        let backend = said(&service("\"192.0.2.1:80/tcp\"", &format!("\"{addr}\""), ""));
        assert_eq!(
            backend,
            [format!(
                "f:7: backend {addr} of pool \"s\" cannot be reached: {why}: name the address of one server"
            )]
        );
    }
    for addr in ["::", "ff02::1", "fe80::1"] {
        assert!(unusable(addr.parse().unwrap()).is_some(), "{addr}");
    }
    each(&[(
        service("\"192.0.2.1:80/tcp\"", "\"192.0.2.1:8080\"", ""),
        &[
            "f:7: backend 192.0.2.1:8080 has the address of service \"s\" itself: its packets would come back here: write the backend's own address, not the vip",
        ],
    )]);
}

#[test]
fn pools_that_nobody_can_use_are_named() {
    let used = "[[service]]\nname = \"s\"\nlisten = [\"192.0.2.1:80/tcp\"]\npool = \"wbe\"\n";
    each(&[
        (
            service("\"192.0.2.1:80/tcp\"", "", ""),
            &[
                "f:4: service \"s\" has no backends, so nobody would answer: write backends = [\"10.0.0.11\", \"10.0.0.12\"]",
            ],
        ),
        (
            format!("[[pool]]\nname = \"web\"\n{used}"),
            &[
                "warning: f:4: pool \"web\" is used by no service: write pool = \"web\" in a service, or as backup of a pool that has one, or remove it",
                "f:4: pool \"web\" has no backends, so nobody would answer: write backends = [\"10.0.0.11\", \"10.0.0.12\"]",
                "f:6: service \"s\" names the pool \"wbe\", which does not exist: did you mean \"web\"?",
            ],
        ),
        (
            service("\"192.0.2.1:80/tcp\"", "{ address = \"10.0.0.1\", weight = 0 }", ""),
            &[
                "warning: f:4: every backend of service \"s\" has weight 0, so none takes a new flow: give at least one a weight of 1 or more",
            ],
        ),
    ]);
    let many: Vec<String> = (0..1100).map(|n| format!("\"10.1.{}.{}\"", n / 250, n % 250 + 1)).collect();
    each(&[(
        service("\"192.0.2.1:80/tcp\"", &many.join(", "), "maglev = 1021"),
        &[
            "f:4: pool \"s\" has 1100 backends with weight but only 1021 slots (maglev = 1021): choose a larger table, or leave maglev out",
        ],
    )]);
}

#[test]
fn a_health_request_is_one_request() {
    let health = |health: &str| {
        service("\"192.0.2.1:80/tcp\"", "\"10.0.0.1\"", &format!("health = {{ type = \"http\", {health} }}"))
    };
    each(&[
        (health("path = \"/a?b=c\", method = \"HEAD\", host = \"a.example:8080\""), &[]),
        (
            health("path = \"healthz\""),
            &[
                "f:4: pool \"s\" has the health path \"healthz\": begin it with \"/\" and percent-encode spaces and other special characters",
            ],
        ),
        (
            health("path = \"/ HTTP/1.1\\r\\nX: y\""),
            &[
                "f:4: pool \"s\" has the health path \"/ HTTP/1.1\\r\\nX: y\": begin it with \"/\" and percent-encode spaces and other special characters",
            ],
        ),
        (
            health("method = \"get\""),
            &["f:4: pool \"s\" has the health method \"get\": write \"GET\" or \"HEAD\""],
        ),
        (
            health("host = \"a\\nb\""),
            &[
                "f:4: pool \"s\" has the health host \"a\\nb\": write a host name, such as \"www.example.com\"",
            ],
        ),
        (
            health("expect = [99]"),
            &["f:8: expect = 99 is out of range in health of service \"s\": write a number from 100 to 599"],
        ),
    ]);
}

#[test]
fn the_same_backend_from_two_origins_is_one_backend() {
    use crate::spec::{BackendSpec, Origin};
    let mut spec = config::parse(
        &format!(
            "[datapath]\ninterfaces = [\"eth0\"]\n{}",
            service("\"192.0.2.1:80/tcp\"", "\"10.0.0.1\"", "")
        ),
        "f",
    )
    .unwrap()
    .spec;
    let again = BackendSpec { origin: Origin::Cli, ..spec.pools[0].backends[0].clone() };
    spec.pools[0].backends.push(again.clone());
    assert_eq!(validate(&spec), []);
    spec.pools[0].backends.push(again);
    assert_eq!(
        validate(&spec).iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["cli: backend 10.0.0.1 is in pool \"s\" twice: name it once; a larger share is a larger weight"]
    );
}

#[test]
fn a_large_spec_is_judged_in_linear_time() {
    let services: String = (0..1000)
        .map(|n| {
            let backends: Vec<String> =
                (0..100).map(|b| format!("\"10.{}.{}.{}\"", n / 200, n % 200, b + 1)).collect();
            format!(
                "[[service]]\nname = \"s{n}\"\nlisten = [\"192.0.{}.{}:80/tcp\"]\nbackends = [{}]\n",
                n / 200,
                n % 200 + 1,
                backends.join(", ")
            )
        })
        .collect();
    let started = std::time::Instant::now();
    assert_eq!(said(&services), [] as [&str; 0]);
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn swaps_count_once_and_far_words_are_not_suggested() {
    assert_eq!(edit_distance("intervall", "interval"), 1);
    assert_eq!(edit_distance("pahT", "path"), 2);
    assert_eq!(edit_distance("tiemout", "timeout"), 1);
    assert_eq!(edit_distance("", "abc"), 3);
    assert_eq!(nearest("intervall", ["rise", "interval"].into_iter()), Some("interval"));
    assert_eq!(nearest("colour", ["rise", "interval"].into_iter()), None);
}
