use std::net::IpAddr;

use super::*;
use crate::config;

fn link(index: u32, name: &str, kind: LinkKind, master: Option<u32>) -> Link {
    Link { index, name: name.to_owned(), kind, master }
}

fn route(destination: &str, link: u32, gateway: Option<&str>) -> Route {
    let gateway = gateway.map(|gateway| gateway.parse().unwrap());
    let destination = destination.parse().unwrap();
    Route { destination, kind: RouteKind::Unicast, link, gateway, metric: 0, source: None }
}

/// A host with two cards (eth0 192.168.50.1/24 and the way out, eth1 10.9.0.1/16), docker0, sshd and nginx.
fn host() -> HostNetwork {
    let address = |net: &str, link| HostAddress { net: net.parse().unwrap(), link };
    let socket = |addr: &str, port, program: Option<&str>| LocalSocket {
        addr: addr.parse().unwrap(),
        port,
        protocol: crate::spec::Protocol::Tcp,
        program: program.map(str::to_owned),
    };
    HostNetwork {
        links: vec![
            link(1, "lo", LinkKind::Loopback, None),
            link(2, "eth0", LinkKind::Physical, None),
            link(3, "eth1", LinkKind::Physical, None),
            link(4, "docker0", LinkKind::Bridge, None),
            link(5, "vethab12", LinkKind::Veth, Some(4)),
        ],
        addresses: vec![
            address("127.0.0.1/8", 1),
            address("203.0.113.10/32", 1),
            address("192.168.50.1/24", 2),
            address("2001:db8:50::1/64", 2),
            address("10.9.0.1/16", 3),
            address("172.17.0.1/16", 4),
        ],
        routes: [
            Route { kind: RouteKind::Local, ..route("127.0.0.0/8", 1, None) },
            route("0.0.0.0/0", 2, Some("192.168.50.254")),
            route("192.168.50.0/24", 2, None),
            route("2001:db8:50::/64", 2, None),
            route("10.9.0.0/16", 3, None),
            route("172.17.0.0/16", 4, None),
            Route { kind: RouteKind::Local, ..route("198.51.100.0/24", 1, None) },
            Route { kind: RouteKind::Refuse, ..route("10.66.0.0/16", 0, None) },
        ]
        .into_iter()
        .collect(),
        sockets: vec![
            socket("0.0.0.0", 22, Some("sshd")),
            socket("::", 8080, None),
            socket("127.0.0.1", 8081, None),
        ],
    }
}

/// What this host says of a service with these listeners, backends and further keys on these interfaces.
fn said(interfaces: &str, listen: &str, backends: &str, rest: &str) -> Vec<String> {
    let judgement = judge(&spec(interfaces, listen, backends, rest), &host());
    let severity = |problem: &Problem| if problem.is_error() { "" } else { "warning: " };
    judgement.problems.iter().map(|problem| format!("{}{problem}", severity(problem))).collect()
}

fn spec(interfaces: &str, listen: &str, backends: &str, rest: &str) -> Spec {
    let text = format!(
        "[datapath]\ninterfaces = [{interfaces}]\n[[service]]\nname = \"web\"\nlisten = [{listen}]\nbackends = [{backends}]\n{rest}\n"
    );
    config::parse(&text, "f").unwrap_or_else(|errors| panic!("{errors}")).spec
}

const NOTHING: [&str; 0] = [];
const VIP: &str = "\"203.0.113.10:80/tcp\"";
const LO_VIP: &str = "\"127.0.0.100:80/tcp\"";

#[test]
fn what_can_work_is_left_alone() {
    assert_eq!(said("\"eth0\"", VIP, "\"192.168.50.11\", \"8.8.8.8:8080\"", ""), NOTHING);
    assert_eq!(said("\"eth0\"", VIP, "\"192.168.50.11\"", "forward = \"dsr\""), NOTHING);
    assert_eq!(said("\"eth0\", \"eth1\"", VIP, "\"10.9.0.11\"", "forward = \"nat\""), NOTHING);
    assert_eq!(said("\"lo\"", LO_VIP, "\"127.0.0.1:8081\", \"192.168.50.1:8081\"", ""), NOTHING);
    assert_eq!(said("\"lo\", \"eth0\"", LO_VIP, "\"127.0.0.1:8081\"", ""), NOTHING);
    // A whole network delivered to this host (`ip route add local`) makes each of its addresses a vip.
    assert_eq!(said("\"eth0\"", "\"198.51.100.7:80/tcp\"", "\"192.168.50.11\"", ""), NOTHING);
}

#[test]
fn a_service_on_lo_is_for_backends_of_this_host() {
    assert_eq!(
        said("\"lo\"", LO_VIP, "\"192.168.50.11:80\"", ""),
        [
            "f:6: 192.168.50.11:80 cannot be reached from lo: service \"web\" is on lo, and what lo delivers stays on this host: use backends of this host (127.0.0.1:8081), or a service on the interface that leads there"
        ]
    );
    assert_eq!(
        said("\"lo\"", "\"127.0.0.100:8081/tcp\"", "\"127.0.0.1\"", "forward = \"dsr\""),
        [
            "f:3: service \"web\" is on lo with forward = \"dsr\", but lo has neither neighbours nor routers: use forward = \"full-nat\" for services on lo"
        ]
    );
}

#[test]
fn backends_on_this_host_are_refused_with_the_reason() {
    assert_eq!(
        said("\"eth0\"", VIP, "\"192.168.50.1:8081\"", ""),
        [
            "f:6: 192.168.50.1:8081 is an address of this host: a backend here cannot serve packets from eth0 yet, because its answers leave without passing the XDP program that would have to translate them: use a service on lo for clients on this host, or a backend on another host"
        ]
    );
    assert_eq!(
        said("\"eth0\"", VIP, "\"172.17.0.2\"", ""),
        [
            "f:6: 172.17.0.2 is reached by docker0, which is not among the interfaces (eth0): behind a bridge or veth are containers of this host, which cannot serve packets from outside yet, because their answers leave without passing the XDP program and with unfinished checksums: use a backend on another host; if docker0 leads to one, add \"docker0\" to interfaces in [datapath]"
        ]
    );
}

#[test]
fn the_way_to_a_backend_is_named_when_it_is_not_ours() {
    for (forward, why) in [
        ("full-nat", "its answers would arrive there and not be translated back"),
        ("nat", "its answers would arrive there and not be translated back"),
        ("dsr", "lbd sends only by the interfaces it is attached to"),
        ("ipip", "lbd sends only by the interfaces it is attached to"),
    ] {
        assert_eq!(
            said("\"eth0\"", VIP, "\"10.9.0.11\"", &format!("forward = \"{forward}\"")),
            [format!(
                "f:6: 10.9.0.11 is reached by eth1, which is not among the interfaces (eth0): {why}: add \"eth1\" to interfaces in [datapath]"
            )]
        );
    }
    assert_eq!(
        said("\"eth0\"", VIP, "\"8.8.8.8\"", "forward = \"dsr\""),
        [
            "f:6: 8.8.8.8 is behind the router 192.168.50.254, but dsr only rewrites the MAC address, so the backend must be on the same network as eth0: use forward = \"ipip\", which crosses routers, or \"full-nat\""
        ]
    );
    assert_eq!(
        said("\"eth0\"", VIP, "\"10.66.0.1\"", ""),
        [
            "f:6: 10.66.0.1 cannot be reached: the route to 10.66.0.0/16 refuses packets: check `ip route get 10.66.0.1`"
        ]
    );
    assert_eq!(
        said("\"eth0\"", "\"[2001:db8:50::1]:80/tcp\"", "\"2001:db8:77::1\"", ""),
        [
            "warning: f:6: there is no route to 2001:db8:77::1, so it gets no packet until there is one: check `ip route get 2001:db8:77::1`"
        ]
    );
}

#[test]
fn a_port_with_a_local_socket_is_not_taken_unasked() {
    assert_eq!(
        said("\"eth0\"", "\"192.168.50.1:22/tcp\"", "\"192.168.50.11\"", ""),
        [
            "f:5: service \"web\" would take 192.168.50.1:22/tcp from sshd, which listens on port 22/tcp on this host: choose another vip or port, or write shadow_local = true in the service if that is meant"
        ]
    );
    // Every port is that of ssh as well, and a socket on :: takes IPv4 too.
    let any = said("\"eth0\"", "\"192.168.50.1:any/tcp\"", "\"192.168.50.11\"", "health.port = 80");
    assert!(any[0].contains("from sshd, which listens on port 22/tcp"), "{any:?}");
    let dual = said("\"eth0\"", "\"192.168.50.1:8080/tcp\"", "\"192.168.50.11\"", "");
    assert!(dual[0].contains("from a program that listens on port 8080/tcp"), "{dual:?}");
    assert_eq!(
        said("\"eth0\"", "\"192.168.50.1:22/tcp\"", "\"192.168.50.11\"", "shadow_local = true"),
        NOTHING
    );
    assert_eq!(said("\"eth0\"", "\"192.168.50.1:22/udp\"", "\"192.168.50.11\"", ""), NOTHING);
    // A socket of another address is not in the way.
    assert_eq!(said("\"eth0\"", "\"192.168.50.1:8081/tcp\"", "\"192.168.50.11\"", ""), NOTHING);
}

#[test]
fn a_vip_that_nobody_sends_here_is_named() {
    assert_eq!(
        said("\"eth0\"", "\"192.168.50.99:80/tcp\"", "\"192.168.50.11\"", ""),
        [
            "warning: f:5: service \"web\" listens on 192.168.50.99, which is neither on this host nor routed to it: it belongs to the network of eth0, where nobody answers for it: add it, `ip addr add 192.168.50.99/32 dev lo`; lbd adds no addresses"
        ]
    );
    assert_eq!(
        said("\"eth0\"", "\"203.0.113.99:80/tcp\"", "\"192.168.50.11\"", ""),
        [
            "warning: f:5: service \"web\" listens on 203.0.113.99, which is neither on this host nor routed to it as far as this host can tell: route it to this host in your network, and add it here, `ip addr add 203.0.113.99/32 dev lo`, so that ping and ICMP errors work"
        ]
    );
}

#[test]
fn interfaces_and_sources_must_be_here() {
    assert_eq!(
        said("\"eht0\"", VIP, "\"192.168.50.1\"", ""),
        ["datapath.interfaces: there is no interface \"eht0\": did you mean \"eth0\"?"]
    );
    assert_eq!(
        said("\"wan\"", VIP, "\"192.168.50.1\"", ""),
        [
            "datapath.interfaces: there is no interface \"wan\": this host has lo, eth0, eth1, docker0, vethab12"
        ]
    );
    let mut spec = spec("\"eth0\"", VIP, "\"192.168.50.11\"", "");
    spec.datapath.snat = vec!["192.168.50.1".parse().unwrap(), "192.168.50.2".parse().unwrap()];
    let problems: Vec<String> = judge(&spec, &host()).problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "datapath.snat: 192.168.50.2 is no address of this host: answers to it come here only if the network routes it here: add it, `ip addr add 192.168.50.2/32 dev lo`, where your network routes it to this host"
        ]
    );
}

#[test]
fn reach_is_known_for_every_backend() {
    let mut host = host();
    let listed = ["eth0".to_owned()];
    let at = |host: &HostNetwork, addr: &str, listed: &[String]| {
        host.locate(addr.parse().unwrap(), listed).as_str()
    };
    for (addr, reach) in [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("192.168.50.1", "local"),
        ("198.51.100.9", "local"),
        ("172.17.0.2", "container"),
        ("192.168.50.11", "remote"),
        ("10.9.0.11", "remote"),
        ("2001:db8:77::1", "remote"),
    ] {
        assert_eq!(at(&host, addr, &listed), reach, "{addr}");
    }
    // Listed by the operator: packets go out there and come back there.
    assert_eq!(at(&host, "172.17.0.2", &["docker0".to_owned()]), "remote");
    // A bridge with a card in it is the network outside.
    host.links.push(link(6, "eth2", LinkKind::Physical, Some(4)));
    assert_eq!(at(&host, "172.17.0.2", &listed), "remote");
    let judged = judge(&spec("\"eth0\"", VIP, "\"192.168.50.11\", \"192.168.50.12\"", ""), &host);
    let reach: Vec<_> = judged.reach.values().flat_map(|pool| pool.values()).collect();
    assert_eq!(reach, [&Reach::Remote, &Reach::Remote]);
}

#[test]
fn the_longest_prefix_and_the_smallest_metric_win() {
    let slow = Route { metric: 200, ..route("10.0.0.0/8", 3, None) };
    let routes: Routes = [
        route("0.0.0.0/0", 2, None),
        slow,
        route("10.0.0.0/8", 2, None),
        route("10.1.2.0/24", 3, None),
        route("10.1.2.0/24", 4, None),
    ]
    .into_iter()
    .collect();
    let links =
        |addr: &str| routes.lookup(addr.parse().unwrap()).iter().map(|route| route.link).collect::<Vec<_>>();
    assert_eq!(links("10.1.2.3"), [3, 4]);
    assert_eq!(links("10.2.0.1"), [2]);
    assert_eq!(links("8.8.8.8"), [2]);
    assert_eq!(links("::1"), [] as [u32; 0]);
}

#[test]
fn backends_of_a_backup_are_judged_for_the_services_of_the_pool_it_stands_in_for() {
    let text = |forward: &str, backup: &str| {
        format!(
            "[datapath]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nlisten = [{VIP}]\npool = \"web\"\nforward = \"{forward}\"\n[[pool]]\nname = \"web\"\nbackends = [\"192.168.50.11\"]\nbackup = \"sorry\"\n[[pool]]\nname = \"sorry\"\nbackends = [\"{backup}\"]\n"
        )
    };
    let said = |forward: &str, backup: &str| -> Vec<String> {
        let spec =
            config::parse(&text(forward, backup), "f").unwrap_or_else(|errors| panic!("{errors}")).spec;
        judge(&spec, &host()).problems.iter().map(ToString::to_string).collect()
    };
    assert_eq!(said("full-nat", "192.168.50.12"), NOTHING);
    for (forward, backup) in [("full-nat", "192.168.50.1"), ("full-nat", "10.9.0.11"), ("dsr", "8.8.8.8")] {
        let problems = said(forward, backup);
        assert!(problems.iter().any(|problem| problem.contains(backup)), "{forward} {backup}: {problems:?}");
    }
}

#[test]
fn sockets_are_looked_at_where_one_could_be_shadowed() {
    let needs = |listen: &str, rest: &str| {
        let spec = spec("\"eth0\"", listen, "\"10.0.0.1:80\"", rest);
        let needs = needs_sockets(&spec, &host());
        let shadowed = host().sockets.iter().any(|socket| is_shadowed(&spec, &host(), socket));
        assert!(needs || !shadowed, "{listen} {rest}");
        // What is judged without them is what is judged with them.
        let without = HostNetwork { sockets: Vec::new(), ..host() };
        assert!(needs || judge(&spec, &host()) == judge(&spec, &without), "{listen} {rest}");
        needs
    };
    assert!(needs(VIP, ""), "the vip is here");
    assert!(!needs("\"198.18.0.10:22/tcp\"", ""), "nobody here has that one");
    assert!(needs("\"192.168.50.1:22/tcp\"", ""));
    assert!(needs("\"198.18.0.10:80/tcp\", \"192.168.50.1:80/tcp\"", ""), "one of two");
    assert!(!needs("\"192.168.50.1:22/tcp\"", "shadow_local = true"), "that is meant");
}

#[test]
fn full_nats_own_source_is_no_place_to_listen_where_answers_come_in() {
    let says = |listen: &str, rest: &str| said("\"eth0\"", listen, "\"192.168.50.11\"", rest).join("\n");
    let high = says("\"192.168.50.1:61000/tcp\"", "");
    assert!(
        high.starts_with("f:5: service \"web\" cannot listen on 192.168.50.1:61000/tcp: full-nat sends to its backends from 192.168.50.1"),
        "{high}"
    );
    assert!(
        says("\"192.168.50.1:any/tcp\"", "health.port = 80\nshadow_local = true").contains("cannot listen")
    );
    assert_eq!(says("\"192.168.50.1:60999/tcp\"", ""), "");
    assert_eq!(says("\"10.9.0.1:61000/tcp\"", ""), "", "the backend is not behind that card");
    assert_eq!(says("\"192.168.50.1:61000/tcp\"", "forward = \"nat\""), "", "nobody is sent to from there");
}

#[test]
fn full_nats_source_is_the_one_that_the_kernel_takes() {
    let address = |net: &str, link| HostAddress { net: net.parse().unwrap(), link };
    let is_refused = |host: &HostNetwork, listener: &str, backend: &str| {
        let spec = spec("\"eth0\"", &format!("\"{listener}\""), &format!("\"{backend}\""), "");
        judge(&spec, host).problems.iter().any(|problem| problem.to_string().contains("cannot listen"))
    };
    let mut host = host();
    host.addresses.extend([address("192.168.50.100/32", 2), address("2001:db8:50::100/64", 2)]);
    let near = "192.168.50.11";
    assert!(!is_refused(&host, "192.168.50.100:61000/tcp", near), "keepalived's address is nobody's source");
    assert!(is_refused(&host, "192.168.50.1:61000/tcp", near));
    assert!(is_refused(&host, "192.168.50.1:61000/tcp", "8.8.8.8"), "by the router in its network");
    for listener in ["[2001:db8:50::1]:61000/tcp", "[2001:db8:50::100]:61000/tcp"] {
        assert!(
            !is_refused(&host, listener, "2001:db8:50::11"),
            "which of two it is, is not known: {listener}"
        );
    }
    host.addresses.retain(|own| own.net.addr() != "2001:db8:50::100".parse::<IpAddr>().unwrap());
    assert!(is_refused(&host, "[2001:db8:50::1]:61000/tcp", "2001:db8:50::11"));

    let vip = Some("203.0.113.10".parse().unwrap());
    host.routes = [Route { source: vip, ..route("192.168.50.0/24", 2, None) }].into_iter().collect();
    assert!(is_refused(&host, "203.0.113.10:61000/tcp", near), "the route says so");
    assert!(!is_refused(&host, "192.168.50.1:61000/tcp", near));
}
