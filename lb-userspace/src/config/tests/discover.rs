//! `[pool.discover]`.

use super::*;
use crate::spec::{DnsRecords, SourceKind};

/// A pool with what is written of its sources, from line 5 on.
fn pool(discover: &str) -> String {
    format!(
        "[datapath]\ninterfaces = [\"eth0\"]\n[[pool]]\nname = \"web\"\n{discover}\n[[service]]\nname = \"web\"\nlisten = [\"192.0.2.1:80/tcp\"]\npool = \"web\"\n"
    )
}

#[test]
fn one_source_or_several_are_read_with_their_defaults() {
    let one = parse(&pool("discover = { type = \"dns\", name = \"WEB.example.\" }"), "x").unwrap();
    assert_eq!(one.warnings, []);
    let [source] = &one.spec.pools[0].discover[..] else { panic!() };
    assert_eq!(
        (source.name().as_str(), source.allow_empty, source.max_backends),
        ("dns:web.example", false, 1000)
    );
    let several = "[[pool.discover]]\ntype = \"dns\"\nname = \"a\"\nrecord = \"srv\"\nserver = \"10.0.0.53\"\nmin_interval = \"2s\"\n\
                   [[pool.discover]]\ntype = \"file\"\npath = \"/etc/lbd/web.list\"\nallow_empty = true\nmax_backends = 5\n\
                   [[pool.discover]]\ntype = \"http\"\nurl = \"http://[2001:db8::1]:81/x\"\ninterval = \"1s\"\n";
    let several = parse(&pool(several), "x").unwrap().spec;
    let sources = &several.pools[0].discover;
    let names: Vec<String> = sources.iter().map(crate::spec::SourceSpec::name).collect();
    assert_eq!(names, ["dns:a", "file:/etc/lbd/web.list", "http://[2001:db8::1]:81/x"]);
    let SourceKind::Dns(dns) = &sources[0].kind else { panic!() };
    assert_eq!((dns.record, dns.server), (DnsRecords::Srv, Some("10.0.0.53:53".parse().unwrap())));
    assert_eq!((dns.min_interval.as_secs(), dns.max_interval.as_secs()), (2, 60));
    assert!(sources[1].allow_empty && sources[1].max_backends == 5);
    // What goes into the state directory comes back.
    let text = serde_json::to_string(&several).unwrap();
    assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), several);
}

#[test]
fn mistakes_are_named_and_nothing_follows_from_them() {
    let place = |discover: &str| said(&pool(discover));
    for (discover, expected) in [
        (
            "discover = 5",
            "lbd.toml:5: discover is neither a table nor a list of tables in pool \"web\": write discover = { type = \"dns\", name = \"web.example.com\" }",
        ),
        (
            "discover = {}",
            "lbd.toml:5: type is missing in discover of pool \"web\": write \"dns\", \"file\" or \"http\"",
        ),
        (
            "discover = { type = \"consul\" }",
            "lbd.toml:5: type = \"consul\" is unknown in discover of pool \"web\": write \"dns\", \"file\" or \"http\"",
        ),
        (
            "discover = { type = \"dns\" }",
            "lbd.toml:5: name is missing in discover of pool \"web\": write name = \"web.example.com\"",
        ),
        (
            "discover = { type = \"dns\", name = \"10.0.0.1\" }",
            "lbd.toml:5: name = \"10.0.0.1\" is an address, not a name in discover of pool \"web\": write backends = [\"10.0.0.1\"] in the pool",
        ),
        (
            "discover = { type = \"dns\", name = \"a..b\" }",
            "lbd.toml:5: name = \"a..b\" is no name of the DNS in discover of pool \"web\": write the whole name, such as \"web.example.com\" (one with other letters in its xn-- form)",
        ),
        (
            "discover = { type = \"dns\", name = \"a\", record = \"mx\" }",
            "lbd.toml:5: record = \"mx\" is unknown in discover of pool \"web\": write \"a\", \"aaaa\", \"a+aaaa\" or \"srv\"",
        ),
        (
            "discover = { type = \"dns\", name = \"a\", record = \"srv\", port = 80 }",
            "lbd.toml:5: port means nothing for record = \"srv\", whose records have their own in discover of pool \"web\": remove it",
        ),
        (
            "discover = { type = \"dns\", name = \"a\", server = \"dns.example\" }",
            "lbd.toml:5: server = \"dns.example\" is no address of a DNS server in discover of pool \"web\": write \"127.0.0.1:5353\", or leave it out for those of /etc/resolv.conf",
        ),
        (
            "discover = { type = \"dns\", name = \"a\", min_interval = \"2m\" }",
            "lbd.toml:5: min_interval = \"2m\" is longer than max_interval = \"1m\" in discover of pool \"web\": write the shorter one as min_interval",
        ),
        (
            "discover = { type = \"dns\", name = \"a\", url = \"http://a/\" }",
            "lbd.toml:5: url means nothing for type = \"dns\" in discover of pool \"web\": remove it",
        ),
        (
            "discover = { type = \"file\", path = \"web.list\" }",
            "lbd.toml:5: path = \"web.list\" is no absolute path of a file in discover of pool \"web\": write \"/etc/lbd/web.list\"",
        ),
        (
            "discover = { type = \"http\", url = \"http://a/\", ca = \"/ca.pem\" }",
            "lbd.toml:5: ca means nothing for a url that is not https in discover of pool \"web\": remove it, or write https://",
        ),
        (
            "discover = { type = \"file\", path = \"/a\", max_backends = 0 }",
            "lbd.toml:5: max_backends = 0 is out of range in discover of pool \"web\": write a number from 1 to 65535",
        ),
        (
            "discover = { type = \"file\", pth = \"/a\", path = \"/a\" }",
            "lbd.toml:5: unknown key \"pth\" in discover of pool \"web\": did you mean \"path\"?",
        ),
    ] {
        assert_eq!(place(discover), [expected]);
    }
    let twice = "[[pool.discover]]\ntype = \"dns\"\nname = \"a\"\nrecord = \"a\"\n[[pool.discover]]\ntype = \"dns\"\nname = \"A.\"\nrecord = \"aaaa\"";
    assert_eq!(
        place(twice),
        [
            "lbd.toml:9: pool \"web\" discovers dns:a twice, first at lbd.toml:5: write it once (record = \"a+aaaa\" asks for both families)"
        ]
    );
    // Without any source the pool is empty, and that is said as ever.
    assert!(place("").iter().any(|sentence| sentence.contains("has no backends")), "{:?}", place(""));
}
