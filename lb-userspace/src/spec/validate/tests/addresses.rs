//! Addresses that exist and still get no packet: loopback without lo, sources that a listener takes.

use super::*;

/// What is said of a whole file.
fn whole(datapath: &str, rest: &str) -> Vec<String> {
    let text = format!("[datapath]\n{datapath}\n{rest}");
    let problems = match config::parse(&text, "f") {
        Ok(loaded) => loaded.warnings,
        Err(errors) => errors.problems,
    };
    problems.iter().map(ToString::to_string).collect()
}

const VIP: &str = "\"192.0.2.1:80/tcp\"";
const LO_VIPS: &str = "\"127.0.0.100:80/tcp\", \"[::1]:80/tcp\"";

#[test]
fn loopback_is_for_services_on_lo() {
    let on = |interfaces: &str, listen: &str, backends: &str| {
        whole(&format!("interfaces = [{interfaces}]\n"), &service(listen, backends, ""))
    };
    assert_eq!(on("\"lo\"", "\"127.0.0.100:80/tcp\"", "\"127.0.0.1:8081\""), NOTHING);
    assert_eq!(on("\"lo\", \"eth0\"", "\"127.0.0.100:80/tcp\"", "\"127.0.0.1:8081\""), NOTHING);
    let hint = "use a service on lo, or a backend on another host (another address of this host is not served from outside yet either)";
    let refused = [format!(
        "f:7: 127.0.0.1:8081 cannot be reached from eth0: service \"s\" is there, and the kernel drops packets from outside to 127.0.0.0/8: {hint}"
    )];
    assert_eq!(on("\"eth0\"", VIP, "\"127.0.0.1:8081\""), refused);
    // lo being listed too changes nothing for a vip that is reached from outside.
    assert_eq!(on("\"lo\", \"eth0\"", VIP, "\"127.0.0.1:8081\""), refused);
    let remedy = "add \"lo\" to interfaces in [datapath], or name an address that clients reach";
    let listens = |addr| {
        format!(
            "f:6: service \"s\" listens on {addr}:80/tcp, which is reached from this host only, by lo: {remedy}"
        )
    };
    assert_eq!(
        on("\"eth0\"", LO_VIPS, "\"10.0.0.1\", \"2001:db8::1\""),
        [listens("127.0.0.100"), listens("[::1]")]
    );
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_listener_does_not_take_the_ports_of_a_source() {
    let with = |listen: &str, rest: &str| {
        let other =
            "[[service]]\nname = \"web\"\nlisten = [\"192.0.2.7:443/tcp\"]\nbackends = [\"10.0.0.9\"]\n";
        let both = format!("{other}{}", service(listen, "\"10.0.0.1\"", rest));
        whole("interfaces = [\"eth0\"]\nsnat = [\"192.0.2.1\"]", &both)
    };
    // Answers come back to 192.0.2.1 at 61000 to 65535; the rest of its ports is free.
    for listen in [VIP, "\"192.0.2.1:60999/tcp\"", "\"192.0.2.1:any/udp\"", "\"192.0.2.2:any/tcp\""] {
        let rest = "forward = \"ipip\"\nhealth.type = \"none\"";
        assert_eq!(with(listen, rest), NOTHING, "{listen}");
    }
    let remedy =
        "take 192.0.2.1 out of snat in [datapath], or listen on one port below 61000, or on another address";
    for listen in ["192.0.2.1:any/tcp", "192.0.2.1:61000/tcp", "192.0.2.1:65535/tcp"] {
        assert_eq!(
            with(&format!("\"{listen}\""), "forward = \"dsr\"\nhealth.type = \"none\""),
            [format!(
                "f:10: service \"s\" cannot listen on {listen}: 192.0.2.1 is in snat, and answers of full-nat backends come back to its ports 61000 to 65535: {remedy}"
            )]
        );
    }
}

#[test]
fn sources_that_no_packet_can_have_are_refused() {
    let mistakes = [
        ("0.0.0.0", "it is no single address"),
        ("::", "it is no single address"),
        ("127.0.0.1", "no packet with it leaves this host"),
        ("::1", "no packet with it leaves this host"),
        ("224.0.0.1", "it is a multicast address"),
        ("ff02::1", "it is a multicast address"),
        ("255.255.255.255", "it is the broadcast address"),
        ("169.254.1.1", "a link-local address is never routed"),
        ("fe80::1", "a link-local address is never routed"),
    ];
    let minimal = service(VIP, "\"10.0.0.1\"", "");
    for key in ["snat", "tunnel_source"] {
        for (addr, why) in mistakes {
            let datapath = format!("interfaces = [\"eth0\"]\n{key} = [\"{addr}\"]");
            let refused = format!(
                "f:3: {key} in [datapath] names {addr}, which cannot be a source: {why}: write an address of this host"
            );
            assert_eq!(whole(&datapath, &minimal), [refused]);
        }
    }
    assert_eq!(
        whole("interfaces = [\"eth0\"]\nsnat = [\"::ffff:192.0.2.1\"]", &minimal),
        ["f:3: snat in [datapath] names ::ffff:192.0.2.1, an IPv4 address written as IPv6: write 192.0.2.1"]
    );
    let sources =
        |sources: &str| whole(&format!("interfaces = [\"eth0\"]\ntunnel_source = [\n{sources}]"), &minimal);
    assert_eq!(sources("\"192.0.2.1\",\n\"2001:db8::1\",\n"), NOTHING);
    assert_eq!(
        sources("\"192.0.2.1\",\n\"2001:db8::1\",\n\"192.0.2.2\",\n\"2001:db8::1\",\n"),
        [
            "f:6: tunnel_source names two IPv4 addresses, 192.0.2.1 and 192.0.2.2, in [datapath]: keep one: all tunnels of a family have the same source",
            "f:7: tunnel_source names two IPv6 addresses, 2001:db8::1 and 2001:db8::1, in [datapath]: keep one: all tunnels of a family have the same source",
        ]
    );
}
