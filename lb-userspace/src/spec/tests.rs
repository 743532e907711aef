use std::time::Duration;

use super::*;

#[test]
fn addresses_print_as_they_were_read() {
    for text in ["203.0.113.10:443/tcp", "[2001:db8::10]:443/udp", "203.0.113.10:any/tcp", "[::1]:any/udp"] {
        assert_eq!(text.parse::<Listener>().map(|listener| listener.to_string()).as_deref(), Ok(text));
    }
    for text in ["10.0.0.11", "10.0.0.12:8443", "2001:db8::20", "[2001:db8::20]:8080"] {
        assert_eq!(text.parse::<BackendAddress>().map(|address| address.to_string()).as_deref(), Ok(text));
    }
    let bracketed = "[2001:db8::20]".parse::<BackendAddress>().map(|address| address.to_string());
    assert_eq!(bracketed.as_deref(), Ok("2001:db8::20"));
}

#[test]
fn bad_listeners_say_what_to_write() {
    let cases = [
        (
            "203.0.113.10:443",
            r#"listener "203.0.113.10:443" has no protocol: write 203.0.113.10:443/tcp or 203.0.113.10:443/udp"#,
        ),
        (
            "203.0.113.10/tcp",
            r#"listener "203.0.113.10/tcp" has no port: write 203.0.113.10:443/tcp, or 203.0.113.10:any/tcp for every port"#,
        ),
        (
            "[2001:db8::10]/udp",
            r#"listener "[2001:db8::10]/udp" has no port: write [2001:db8::10]:443/udp, or [2001:db8::10]:any/udp for every port"#,
        ),
        (
            "203.0.113.10:443/sctp",
            r#"listener "203.0.113.10:443/sctp" has the unknown protocol "sctp": write /tcp or /udp at its end"#,
        ),
        (
            "203.0.113.10:0/tcp",
            r#"listener "203.0.113.10:0/tcp" has the port "0": a port is a number from 1 to 65535, as in 203.0.113.10:443/tcp"#,
        ),
        (
            "203.0.113.10:65536/tcp",
            r#"listener "203.0.113.10:65536/tcp" has the port "65536": a port is a number from 1 to 65535, as in 203.0.113.10:443/tcp"#,
        ),
        (
            "203.0.113.10:+80/tcp",
            r#"listener "203.0.113.10:+80/tcp" has the port "+80": a port is a number from 1 to 65535, as in 203.0.113.10:443/tcp"#,
        ),
        (":443/tcp", r#"listener ":443/tcp" has no address: name the vip, such as 203.0.113.10:443/tcp"#),
        (
            "2001:db8::10:443/tcp",
            r#"listener "2001:db8::10:443/tcp" has an IPv6 address without brackets: write it in brackets, such as [2001:db8::10]:443/tcp"#,
        ),
        (
            "www.example.com:443/tcp",
            r#"listener "www.example.com:443/tcp" has a name where an address belongs: names are not resolved; write the IP address, such as 203.0.113.10:443/tcp"#,
        ),
        (
            "203.0.113.256:443/tcp",
            r#"listener "203.0.113.256:443/tcp" has no valid IP address: write it as 203.0.113.10:443/tcp or [2001:db8::10]:443/tcp"#,
        ),
        (
            "[fe80::1%eth0]:443/tcp",
            r#"listener "[fe80::1%eth0]:443/tcp" has a zone: lbd finds the interface by itself; leave %… out, as in [2001:db8::10]:443/tcp"#,
        ),
        (
            "[::ffff:10.0.0.1]:443/tcp",
            r#"listener "[::ffff:10.0.0.1]:443/tcp" has an IPv4 address written as IPv6: write 10.0.0.1"#,
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse::<Listener>().unwrap_err().to_string(), expected);
    }
}

#[test]
fn bad_backends_say_what_to_write() {
    let cases = [
        (
            "10.0.0.11:443/tcp",
            r#"backend "10.0.0.11:443/tcp" has a protocol or a prefix length: write the address alone, such as 10.0.0.11 or 10.0.0.11:8443; protocols belong to listeners"#,
        ),
        (
            "10.0.0.11:any",
            r#"backend "10.0.0.11:any" has the port "any": a port is a number from 1 to 65535, as in 10.0.0.11 or 10.0.0.11:8443"#,
        ),
        (
            "web-1",
            r#"backend "web-1" has a name where an address belongs: names are not resolved; write the IP address, such as 10.0.0.11 or 10.0.0.11:8443"#,
        ),
        (
            "",
            r#"backend "" has no valid IP address: write it as 10.0.0.11 or 10.0.0.11:8443 or [2001:db8::20]:8443"#,
        ),
        (
            "::ffff:10.0.0.1",
            r#"backend "::ffff:10.0.0.1" has an IPv4 address written as IPv6: write 10.0.0.1"#,
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse::<BackendAddress>().unwrap_err().to_string(), expected);
    }
}

#[test]
fn names_are_what_the_contract_says() {
    for good in ["a", "0", "web-1", "a.b_c-d", &"x".repeat(63)] {
        assert!(good.parse::<Name>().is_ok(), "{good}");
    }
    for bad in ["", "-a", ".a", "_a", "Web", "a b", "ä", &"x".repeat(64)] {
        assert!(bad.parse::<Name>().is_err(), "{bad}");
    }
    let hint = "write up to 63 of a-z 0-9 . _ -, a letter or digit first, such as \"web-1\"";
    let error = "Web".parse::<Name>().unwrap_err().to_string();
    assert_eq!(error, format!("name \"Web\" has the capital letter 'W': {hint}"));
}

#[test]
fn unknown_words_list_the_known_ones() {
    let error = |text: &str| text.parse::<Forward>().unwrap_err().to_string();
    assert_eq!(error("gre"), r#"forward = "gre" is unknown: write "full-nat", "nat", "dsr" or "ipip""#);
    assert_eq!(
        error("gue"),
        r#"forward = "gue" is not yet available: use "ipip", which needs the same of the backends"#
    );
    for forward in Forward::ALL {
        assert_eq!(forward.to_string().parse(), Ok(*forward));
    }
}

#[test]
fn durations_read_as_they_print() {
    for (text, ms) in
        [("2s", 2000), ("500ms", 500), ("1h", 3_600_000), ("1m30s", 90_000), ("0s", 0), ("1d", 86_400_000)]
    {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        assert_eq!(format_duration(Duration::from_millis(ms)), text);
    }
    let hint = r#"write it as "500ms", "2s", "1m30s" or "1h""#;
    for (text, why) in [
        ("", "is empty"),
        ("2", "has no unit"),
        ("s", "is not a number with a unit"),
        ("2.5s", "has no unit"),
        ("-2s", "is not a number with a unit"),
        ("2sec", "has the unknown unit \"sec\""),
        ("1m 30s", "is not a number with a unit"),
        ("99999999999999999999s", "is longer than a year"),
        ("400d", "is longer than a year"),
    ] {
        assert_eq!(parse_duration(text).unwrap_err().to_string(), format!("duration {text:?} {why}: {hint}"));
    }
}

#[test]
fn the_table_size_follows_the_number_of_backends() {
    for (backends, size) in [
        (0, 1021),
        (1, 1021),
        (4, 1021),
        (5, 4093),
        (16, 4093),
        (17, 16_381),
        (65, 16_381),
        (66, 65_537),
        (1000, 65_537),
    ] {
        assert_eq!(maglev_size(backends), size, "{backends} backends");
    }
}

#[test]
fn a_spec_survives_json() {
    let text = r#"{"daemon":{},"datapath":{"interfaces":["eth0"],"timeouts":{"tcp":3600,"udp":"1m"}},
        "pools":[{"name":"web","origin":{"file":{"path":"lbd.toml","line":3}},
          "backends":[{"address":"10.0.0.11","origin":"cli"},{"address":"[2001:db8::1]:8443","weight":5,"origin":{"discovery":{"source":"dns"}}}],
          "health":{"type":"http","path":"/healthz","interval":0.5}}],
        "services":[{"name":"web","origin":"cli","listen":["203.0.113.10:any/tcp"],"pool":"web","forward":"dsr"}]}"#;
    let spec: Spec = serde_json::from_str(text).unwrap();
    let pool = spec.pool(&"web".parse().unwrap()).unwrap();
    assert_eq!(pool.health.interval, Duration::from_millis(500));
    assert_eq!(pool.backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [1, 5]);
    assert_eq!(spec.datapath.timeouts.udp, Duration::from_secs(60));
    let again: Spec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
    assert_eq!(again, spec);
    let gue = text.replace("dsr", "gue");
    let refusal = serde_json::from_str::<Spec>(&gue).unwrap_err().to_string();
    assert!(refusal.starts_with("forward = \"gue\" is not yet available"), "{refusal}");
}

#[test]
fn a_pool_that_only_serves_udp_is_checked_only_when_it_says_how() {
    let mut spec: Spec = serde_json::from_str(
        r#"{"pools":[{"name":"dns","origin":"cli","backends":[{"address":"10.0.0.1","origin":"cli"}],"health_is_default":true}],
            "services":[{"name":"dns","origin":"cli","listen":["203.0.113.10:53/udp"],"pool":"dns"}]}"#,
    )
    .unwrap();
    assert_eq!(spec.health_of(&spec.pools[0]).kind, HealthKind::None);
    assert_eq!(spec.check_port(&spec.pools[0], spec.pools[0].backends[0].address), Some(53));
    spec.services[0].listen.push("203.0.113.10:5353/tcp".parse().unwrap());
    assert_eq!(spec.health_of(&spec.pools[0]).kind, HealthKind::Tcp);
    assert_eq!(spec.check_port(&spec.pools[0], spec.pools[0].backends[0].address), Some(5353));
}

#[test]
fn what_only_a_restart_changes_is_named() {
    let old = Spec::default();
    let mut new = old.clone();
    new.daemon.on_exit = OnExit::Detach;
    new.datapath.timeouts.udp = Duration::from_secs(1);
    assert_eq!(old.needs_restart(&new), [] as [&str; 0]);
    new.datapath.flows = 1024;
    new.datapath.interfaces.push("eth1".to_owned());
    new.daemon.socket = "/elsewhere".into();
    new.daemon.metrics = None;
    new.daemon.read = Some("watch".to_owned());
    assert_eq!(
        old.needs_restart(&new),
        ["daemon.socket", "daemon.metrics", "daemon.read", "datapath.interfaces", "datapath.flows"]
    );
}
