//! What interface.md shows is read as it says.

use std::time::Duration;

use super::*;
use crate::spec::{HealthKind, Origin};

const EXAMPLE: &str = include_str!("contract.toml");

#[test]
fn the_example_of_the_contract_is_read_as_written() {
    let loaded = parse(EXAMPLE, "lbd.toml").unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let no_ipv6_backend = "lbd.toml:33: service \"web\" listens on [2001:db8::10]:443/tcp but pool \"web\" has only IPv4 backends, \
        and full-nat does not turn IPv6 into IPv4: its IPv6 clients are refused: add an IPv6 backend, or use forward = \"ipip\", \
        which carries one family inside the other";
    assert_eq!(warnings, [no_ipv6_backend]);
    let spec = loaded.spec;
    // Every default that the example writes out is the default.
    let defaults = parse(
        &format!("{HEAD}snat = [\"192.0.2.10\"]\ntunnel_source = [\"192.0.2.11\", \"2001:db8::11\"]\n"),
        "x",
    );
    let defaults = defaults.unwrap().spec;
    assert_eq!((&spec.daemon, &spec.datapath), (&defaults.daemon, &defaults.datapath));
    let pool = spec.pool(&"web".parse().unwrap()).unwrap();
    let backends: Vec<_> =
        pool.backends.iter().map(|b| (b.address.to_string(), b.weight, b.origin.to_string())).collect();
    let backend = |address: &str, weight, line| (address.to_owned(), weight, format!("lbd.toml:{line}"));
    assert_eq!(
        backends,
        [backend("10.0.0.11", 1, 28), backend("10.0.0.12:8443", 1, 28), backend("10.0.0.13", 5, 28)]
    );
    assert!(
        matches!(&pool.health.kind, HealthKind::Http(http) if http.path == "/healthz" && http.method == "GET")
    );
    assert_eq!((pool.health.interval, pool.health.rise, pool.health.fall), (Duration::from_secs(2), 2, 3));
    let service = spec.service(&"web".parse().unwrap()).unwrap();
    let listen: Vec<_> = service.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["203.0.113.10:443/tcp", "203.0.113.10:443/udp", "[2001:db8::10]:443/tcp"]);
    assert_eq!(service.origin, Origin::File { path: "lbd.toml".into(), line: 31 });
}

#[test]
fn health_has_four_spellings_with_one_meaning() {
    let pool = |health: &str| {
        let text = format!(
            "{HEAD}[[service]]\nname = \"s\"\nlisten = [\"192.0.2.1:80/tcp\"]\npool = \"p\"\n\
             [[pool]]\nname = \"p\"\nbackends = [\"10.0.0.1\"]\n{health}"
        );
        parse(&text, "lbd.toml").unwrap().spec.pools.remove(0).health
    };
    let inline = pool("health = { type = \"http\", path = \"/h\", rise = 5 }\n");
    assert_eq!(inline, pool("health.type = \"http\"\nhealth.path = \"/h\"\nhealth.rise = 5\n"));
    assert_eq!(inline, pool("[pool.health]\ntype = \"http\"\npath = \"/h\"\nrise = 5\n"));
    let service = format!(
        "{HEAD}[[service]]\nname = \"p\"\nlisten = [\"192.0.2.1:80/tcp\"]\nbackends = [\"10.0.0.1\"]\n\
         [service.health]\ntype = \"http\"\npath = \"/h\"\nrise = 5\n"
    );
    assert_eq!(inline, parse(&service, "lbd.toml").unwrap().spec.pools.remove(0).health);
}

#[test]
fn what_a_health_table_does_not_say_comes_from_the_defaults() {
    let text = format!(
        "{HEAD}[defaults.health]\ntype = \"http\"\npath = \"/up\"\nhost = \"a.example\"\ninterval = \"5s\"\n\
         [[service]]\nname = \"a\"\nlisten = [\"192.0.2.1:80/tcp\"]\nbackends = [\"10.0.0.1\"]\nhealth.interval = \"1s\"\n\
         [[service]]\nname = \"b\"\nlisten = [\"192.0.2.1:53/udp\"]\nbackends = [\"10.0.0.2\"]\n\
         [[service]]\nname = \"c\"\nlisten = [\"192.0.2.1:54/udp\"]\nbackends = [\"10.0.0.2\"]\nhealth.type = \"tcp\"\n"
    );
    let spec = parse(&text, "lbd.toml").unwrap().spec;
    let [a, b, c] = spec.pools.each_ref_array();
    assert_eq!(a.health.interval, Duration::from_secs(1));
    assert!(matches!(&a.health.kind, HealthKind::Http(http) if http.path == "/up"));
    // UDP alone is checked only by what its own pool says.
    assert_eq!(spec.health_of(b).kind, HealthKind::None);
    assert_eq!(spec.health_of(c).kind, HealthKind::Tcp);
    assert_eq!(spec.health_of(c).interval, Duration::from_secs(5));
}

/// The elements of a vector of known length.
trait EachRefArray<T> {
    fn each_ref_array<const N: usize>(&self) -> [&T; N];
}

impl<T> EachRefArray<T> for Vec<T> {
    fn each_ref_array<const N: usize>(&self) -> [&T; N] {
        let elements: Vec<&T> = self.iter().collect();
        elements.try_into().unwrap_or_else(|found: Vec<&T>| panic!("{} elements, not {N}", found.len()))
    }
}

#[test]
fn the_same_texts_have_the_same_fingerprint() {
    let one = parse(EXAMPLE, "lbd.toml").unwrap();
    assert_eq!(one.fingerprint, parse(EXAMPLE, "/elsewhere/lbd.toml").unwrap().fingerprint);
    assert_eq!(one.fingerprint.len(), 64);
    assert_ne!(one.fingerprint, parse(&format!("{EXAMPLE}\n"), "lbd.toml").unwrap().fingerprint);
}

#[test]
fn a_file_without_services_works_and_says_so() {
    let no_service = "lbd.toml: there is no service, so every packet passes untouched: write a [[service]], or add one with \
        `lbctl service add`";
    assert_eq!(said(HEAD), [no_service]);
    assert!(parse(HEAD, "lbd.toml").is_ok());
}
