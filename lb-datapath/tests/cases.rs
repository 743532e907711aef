//! The named cases against the host model.
#![cfg(feature = "testing")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use lb_common::Reason;
use lb_datapath::{
    pipeline::Verdict,
    testing::cases::{Case, Host, all, judge},
};

#[test]
fn every_case_goes_as_written() {
    let mut wrong = Vec::new();
    let cases = all();
    for case in &cases {
        if let Err(what) = judge(case, &mut Host::new(&case.world)) {
            wrong.push(format!("{}: {what}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let mut count = BTreeMap::<String, usize>::new();
    all().into_iter().for_each(|case| *count.entry(case.name).or_default() += 1);
    count.retain(|_, count| *count > 1);
    assert!(count.is_empty(), "{count:?}");
}

/// Every reason can be brought about in a test run, so there is no list of exceptions.
#[test]
fn every_reason_has_a_case() {
    let raised: BTreeSet<Reason> = all().into_iter().flat_map(|case| case.reasons).collect();
    let missing: Vec<&Reason> = Reason::ALL.iter().filter(|reason| !raised.contains(reason)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

/// A case that expects something else is found out: by its verdict, by one byte, by one counter more or less.
#[test]
fn a_wrong_case_is_found_out() {
    let wrong: [fn(&mut Case); 4] = [
        |case| case.verdict = Verdict::Redirect,
        |case| {
            let right = std::mem::replace(&mut case.out, Box::new(|_, _| Vec::new()));
            case.out = Box::new(move |left, out| {
                let mut bytes = right(left, out);
                bytes[24] ^= 1;
                bytes
            });
        },
        |case| case.moved.add("flows v4 evicted", 1),
        |case| drop(case.moved.0.pop_first()),
    ];
    for change in wrong {
        let mut case = all().into_iter().find(|case| case.name == "full_nat_v4_tcp_new").expect("a case");
        assert_eq!(judge(&case, &mut Host::new(&case.world)), Ok(()));
        change(&mut case);
        assert!(judge(&case, &mut Host::new(&case.world)).is_err());
    }
}

/// An empty entry of the route cache is of the address `::`. To a backend there, there is no way, however young the clock.
#[test]
fn an_empty_cached_route_is_no_route() {
    let mut case = all().into_iter().find(|case| case.name == "dsr_way_unknown_v6").expect("a case");
    case.world.member().ip = Ipv6Addr::UNSPECIFIED.into();
    let mut host = Host::new(&case.world);
    host.tables.now = 0;
    assert_eq!(judge(&case, &mut host), Ok(()));
}
