//! What a change will have come to: backends it lets in are counted as if they took flows.

use super::*;

const RAMPED: &str = r#"
[datapath]
interfaces = ["eth0"]
[[pool]]
name = "web"
backends = ["10.0.0.1", "10.0.0.2:81"]
slow_start = "30s"
[[service]]
name = "web"
forward = "nat"
listen = ["203.0.113.10:80/tcp"]
pool = "web"
"#;

/// Whether each backend has a weight in the table, as foreseen after `operation`.
#[track_caller]
fn foreseen(world: &World, operation: Operation) -> Option<Vec<(String, u32)>> {
    let candidate = world.membership.prepare(world.now, "uid 0", &Change::one(operation)).unwrap();
    let later = candidate.membership.once_admitted(&world.membership, world.now)?;
    let key = PoolKey { name: "web".to_owned(), variant: Variant::V4 };
    let table = &later.desired().pools[&key];
    Some(table.backends.iter().map(|(key, backend)| (key.to_string(), backend.table_weight())).collect())
}

#[test]
fn a_backend_that_comes_has_its_share_before_its_first_check() {
    let world = running(WEB);
    let table = foreseen(&world, add("web", "10.0.0.3")).unwrap();
    assert_eq!(table.len(), 3);
    let weights: Vec<u32> = table.iter().map(|(_, weight)| *weight).collect();
    assert!(weights.iter().all(|weight| *weight > 0 && *weight == weights[0]), "{table:?}");
}

#[test]
fn a_slow_start_is_over_in_what_is_foreseen() {
    let mut world = running(RAMPED);
    world.wait(60);
    let table = foreseen(&world, add("web", "10.0.0.3")).unwrap();
    assert!(table.iter().all(|(_, weight)| *weight == table[0].1), "{table:?}");
}

#[test]
fn one_that_is_enabled_again_is_waited_for_and_one_that_goes_is_not() {
    let mut world = running(WEB);
    assert_eq!(foreseen(&world, disable(ONE)), None);
    world.done(disable(ONE));
    let table = foreseen(&world, enable(ONE)).unwrap();
    assert!(table.iter().all(|(_, weight)| *weight > 0), "{table:?}");
}

#[test]
fn what_is_unhealthy_or_was_waited_for_already_is_no_matter_of_this_change() {
    let mut world = running(WEB);
    world.done(add("web", "10.0.0.3"));
    assert_eq!(foreseen(&world, weight(ONE, 3)), None, "10.0.0.3 is waited for, but not by this change");
    world.health("web", TWO, Health::Unhealthy);
    assert_eq!(foreseen(&world, weight(TWO, 7)), None);
}

/// Each was foreseen with a source address of its own once, and no change could add more than the 256 that the program knows.
#[test]
fn backends_of_full_nat_have_this_hosts_one_address_as_their_source() {
    let world = running(&WEB.replace("forward = \"nat\"", "forward = \"full-nat\""));
    let operations = (0..600_u16)
        .map(|number| add("web", &format!("10.9.{}.{}", number / 200, number % 200 + 1)))
        .collect();
    let change = Change { operations, options: Options::default() };
    let candidate = world.membership.prepare(world.now, "uid 0", &change).unwrap();
    let later = candidate.membership.once_admitted(&world.membership, world.now).unwrap();
    let key = PoolKey { name: "web".to_owned(), variant: Variant::V4 };
    let backends = &later.desired().pools[&key].backends;
    assert!(backends.len() > 600, "{}", backends.len());
    let sources: BTreeSet<&IpAddr> = backends.values().flat_map(|backend| &backend.sources).collect();
    assert_eq!(sources.len(), 1, "{sources:?}");
    assert!(backends.values().all(|backend| backend.sources.len() == 1));
}
