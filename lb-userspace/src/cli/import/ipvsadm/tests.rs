use super::*;
use crate::config;
use crate::spec::{Affinity, Spec};

/// As a site with everything has it.
const SITE: &str = "\
-A -t 203.0.113.10:80 -s wlc
-a -t 203.0.113.10:80 -r 10.0.0.11:8080 -m -w 1
-a -t 203.0.113.10:80 -r 10.0.0.12:8080 -m -w 5
-A -t 203.0.113.10:443 -s rr -p 300
-a -t 203.0.113.10:443 -r 10.0.0.11:443 -g -w 1
-a -t 203.0.113.10:443 -r 10.0.0.12:443 -g -w 0
-A -u 203.0.113.53:53 -s wrr -o
-a -u 203.0.113.53:53 -r 10.0.0.21:53 -g -w 1
-A -t [2001:db8::10]:80 -s mh -b mh-fallback,mh-port
-a -t [2001:db8::10]:80 -r [2001:db8:1::11]:80 -i -w 2 --tun-type ipip
-A -t 203.0.113.20:0 -s sh -p 600 -M 255.255.255.0
-a -t 203.0.113.20:0 -r 10.0.0.31:0 -g -w 1 -x 100 -y 50
";

fn taken(text: &str) -> (Spec, String, Vec<Problem>) {
    let (text, warnings) = import(text, "rules", &["eth0".to_owned(), "eth1".to_owned()]).unwrap();
    let spec = config::parse(&text, "made").unwrap_or_else(|errors| panic!("{errors}\n{text}")).spec;
    (spec, text, warnings)
}

#[test]
fn a_whole_site_becomes_a_file_that_is_accepted() {
    let (spec, text, warnings) = taken(SITE);
    let services: Vec<_> = spec
        .services
        .iter()
        .map(|service| {
            let pool = spec.pool(&service.pool).unwrap();
            let backends: Vec<String> = pool
                .backends
                .iter()
                .map(|backend| format!("{}={}", backend.address, backend.weight))
                .collect();
            format!("{} {} {} {}", service.listen[0], service.forward, service.affinity, backends.join(" "))
        })
        .collect();
    assert_eq!(
        services,
        [
            "203.0.113.10:80/tcp nat flow 10.0.0.11:8080=1 10.0.0.12:8080=5",
            "203.0.113.10:443/tcp dsr client 10.0.0.11=1 10.0.0.12=0",
            "203.0.113.53:53/udp dsr none 10.0.0.21=1",
            "[2001:db8::10]:80/tcp ipip flow 2001:db8:1::11=2",
            "203.0.113.20:any/tcp dsr client 10.0.0.31=1",
        ]
    );
    assert_eq!(spec.datapath.interfaces, ["eth0", "eth1"]);
    assert!(text.contains("# line 4: -A -t 203.0.113.10:443 -s rr -p 300\n"), "{text}");
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    for part in [
        "rules:1: scheduler wlc becomes weighted Maglev",
        "rules:4: persistence becomes affinity",
        "rules:11: clients of one network (255.255.255.0)",
        "rules:12: limits of connections",
        "rules:11: 203.0.113.20:any/tcp takes every port",
    ] {
        assert!(warnings.iter().any(|warning| warning.contains(part)), "{part}: {warnings:#?}");
    }
    assert!(
        !warnings.iter().any(|warning| warning.contains("rules:9:")),
        "mh is what lbd does: {warnings:#?}"
    );
}

#[test]
fn what_hashes_the_client_keeps_the_client_with_its_server() {
    for (scheduler, affinity) in [
        ("-s mh", Affinity::Client),
        ("-s sh", Affinity::Client),
        ("-s sh -b sh-port", Affinity::Flow),
        ("-s mh -b mh-port", Affinity::Flow),
        ("-s wlc", Affinity::Flow),
    ] {
        let rules =
            format!("-A -t 203.0.113.10:80 {scheduler}\n-a -t 203.0.113.10:80 -r 10.0.0.11:80 -m -w 1\n");
        assert_eq!(taken(&rules).0.services[0].affinity, affinity, "{scheduler}");
    }
}

#[test]
fn what_older_versions_print_is_understood() {
    for option in ["-o", "--ops", "ops"] {
        let rules =
            format!("-A -u 203.0.113.53:53 -s wrr {option}\n-a -u 203.0.113.53:53 -r 10.0.0.21:53 -g\n");
        assert_eq!(taken(&rules).0.services[0].affinity, Affinity::None, "{option}");
    }
}

#[test]
fn one_packet_scheduling_through_nat_is_not_taken_over_and_said() {
    let rules = "-A -u 203.0.113.53:53 -s mh -o\n-a -u 203.0.113.53:53 -r 10.0.0.21:5353 -m -w 1\n";
    let (spec, _, warnings) = taken(rules);
    assert_eq!(spec.services[0].affinity, Affinity::Client, "mh goes by the client");
    assert!(warnings[0].to_string().contains("one-packet"), "{warnings:?}");
}

#[test]
fn what_cannot_be_taken_over_is_refused_with_its_line() {
    let service = "-A -t 203.0.113.10:80 -s mh\n";
    for (rules, line, part) in [
        ("-A -f 1 -s wlc\n", 1, "firewall mark"),
        ("# x\n\n-A -f 1 -s wlc -6\n-a -f 1 -r 10.0.0.1:0 -g -w 1\n", 3, "firewall mark"),
        ("-A --sctp-service 203.0.113.10:80 -s wlc\n", 1, "SCTP"),
        ("-A -t www.example.org:http -s wlc\n", 1, "www.example.org:http"),
        (&format!("{service}-a -t 203.0.113.10:80 -r web1:http -m -w 1\n"), 2, "web1:http"),
        (&format!("{service}-a -t 203.0.113.11:80 -r 10.0.0.1:80 -m -w 1\n"), 2, "was not added"),
        (
            &format!(
                "{service}-a -t 203.0.113.10:80 -r 10.0.0.1:80 -m\n-a -t 203.0.113.10:80 -r 10.0.0.2:80 -g\n"
            ),
            3,
            "of nat and of dsr",
        ),
        (
            &format!("{service}-a -t 203.0.113.10:80 -r 10.0.0.1:80 -i --tun-type gue --tun-port 6080\n"),
            2,
            "gue",
        ),
        (&format!("{service}-a -t 203.0.113.10:80 -r 10.0.0.1:80 -m -w 70000\n"), 2, "70000"),
        (&format!("{service}{service}"), 2, "twice"),
        ("-A -u 203.0.113.10:5060 -s rr -p 60 --pe sip\n", 1, "sip"),
        ("IP Virtual Server version 1.2.1 (size=4096)\n", 1, "no line of ipvsadm-save"),
        // As versions before 1.31 wrote it.
        ("-A -u 203.0.113.10:5060 -s rr -p 60 pe sip\n", 1, "sip"),
        ("-A -t 203.0.113.10:80 -s fo\n", 1, "backup"),
        ("-A -t 203.0.113.10:80 -s ovf\n", 1, "backup"),
        // What lbd's own reader refuses.
        ("-A -t 203.0.113.20:0 -s rr -p 60\n-a -t 203.0.113.20:0 -r 10.0.0.31:8080 -m\n", 2, "8080"),
        (&format!("{service}\n-a -t 203.0.113.10:80 -r 127.0.0.1:80 -g\n"), 3, "127.0.0.1"),
        (&format!("{service}-a -t 203.0.113.10:80 -r 203.0.113.10:80 -g\n"), 2, "203.0.113.10"),
        (
            &format!(
                "-A -t 203.0.113.20:0 -s mh\n-a -t 203.0.113.20:0 -r 10.0.0.1:0 -m\n\
                 {service}-a -t 203.0.113.10:80 -r 10.0.0.1:80 -m\n"
            ),
            3,
            "10.0.0.1:80/tcp, where they are not kept apart",
        ),
    ] {
        let problems = import(rules, "rules", &["eth0".to_owned()]).unwrap_err();
        let said = problems[0].to_string();
        assert!(said.starts_with(&format!("rules:{line}: ")) && said.contains(part), "{rules}: {said}");
    }
    assert_eq!(import("-A -f 1 -s rr\n-A -f 2 -s rr\n", "rules", &[]).unwrap_err().len(), 2, "all at once");
    assert!(import("\n# nothing\n", "rules", &[]).unwrap_err()[0].message.contains("no virtual service"));
}

#[test]
fn a_service_without_servers_is_left_out_and_said() {
    let (spec, _, warnings) = taken(&format!("{SITE}-A -t 203.0.113.99:25 -s mh\n"));
    assert_eq!(spec.services.len(), 5);
    assert!(
        warnings
            .iter()
            .any(|warning| warning.to_string().starts_with("rules:13: 203.0.113.99:25/tcp has no"))
    );
}
