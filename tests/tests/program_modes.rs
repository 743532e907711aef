//! A request and its reply in each mode and family on the real program: every byte, and every counter, moved or not.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use lb_common::{BackendCounters, FlowCounters, InterfaceCounters, Reason, ServiceCounters};
use lb_userspace::datapath::counters::named;
use lbd_tests::checksum::verify_checksums;
use lbd_tests::program::rig::{BACKEND_MAC, BACKENDS, GATEWAY_MAC, OWN_MAC, SOURCES, ends};
use lbd_tests::program::{
    Family, Frame, Mode, Payload, Rig, Wish, XDP_PASS, XDP_TX, flags, may_run, stay_on_cpu,
};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
const PORT: u16 = 4000;
const ETHERNET: usize = 14;

/// Every counter of the program, summed over services and over backends.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Counts {
    interface: InterfaceCounters,
    services: Vec<ServiceCounters>,
    backends: Vec<BackendCounters>,
    flows: [FlowCounters; 2],
    reasons: Vec<(Reason, u64)>,
}

fn counts(rig: &Rig) -> Result<Counts> {
    let counters = rig.datapath.counters();
    let reasons =
        counters.reasons_of(0, 256)?.iter().flat_map(|counts| named(counts).collect::<Vec<_>>()).collect();
    let mut services = counters.services(0, 256)?;
    services.retain(|counters| *counters != ServiceCounters::default());
    let mut backends = counters.backends(0, 4096)?;
    backends.retain(|counters| *counters != BackendCounters::default());
    Ok(Counts {
        interface: counters.interface(rig.interface)?,
        services,
        backends,
        flows: counters.flows()?,
        reasons,
    })
}

/// What the counters must say after so many requests of one flow and so many replies, each of `len` bytes.
fn expected(rig: &Rig, is_tcp: bool, requests: u64, replies: u64, len: u64) -> Counts {
    let (bytes, reply_bytes) = (requests * len, replies * len);
    let begun = FlowCounters { inserted: 1, ..FlowCounters::default() };
    let is_wide = usize::from(rig.wish.family == Family::V6);
    let mut flows = [FlowCounters::default(); 2];
    flows[is_wide] = begun;
    let service =
        ServiceCounters { packets: requests, bytes, new_flows: 1, reply_packets: replies, reply_bytes };
    // The first request is a SYN; the next one says that the client goes on.
    let continued_flows = u64::from(is_tcp && requests > 1);
    let backend = BackendCounters {
        packets: requests,
        bytes,
        new_flows: 1,
        continued_flows,
        reply_packets: replies,
        reply_bytes,
        ..BackendCounters::default()
    };
    Counts {
        interface: InterfaceCounters { transmit_packets: requests + replies, ..InterfaceCounters::default() },
        services: vec![service],
        backends: vec![backend],
        flows,
        reasons: Vec::new(),
    }
}

/// The request as it must leave, given what is free to choose: the backend, and the source of full-nat.
fn sent_on(rig: &Rig, request: &Frame, payload: Payload, left: &[u8]) -> Result<Vec<u8>> {
    let family = rig.wish.family;
    let is_backend = |ip: IpAddr| (0..BACKENDS).any(|index| family.backend(index) == ip);
    let is_source = |ip: IpAddr| (0..SOURCES).any(|index| family.source(index) == ip);
    let (source, destination) = ends(left).context("no packet")?;
    match rig.wish.mode {
        Mode::Dsr => Ok(request.forwarded(BACKEND_MAC, OWN_MAC)),
        Mode::Nat => {
            ensure!(is_backend(destination.ip()) && destination.port() == 8080, "to {destination}");
            let (client, _) = ends(request.bytes()).context("no packet")?;
            Ok(Frame::new(client, destination, payload)?.forwarded(BACKEND_MAC, OWN_MAC))
        }
        Mode::FullNat => {
            ensure!(is_backend(destination.ip()) && destination.port() == 8080, "to {destination}");
            ensure!(is_source(source.ip()) && source.port() >= 61_000, "from {source}");
            Ok(Frame::new(source, destination, payload)?.forwarded(BACKEND_MAC, OWN_MAC))
        }
        Mode::Ipip => {
            let outer_len = if family == Family::V4 { 20 } else { 40 };
            let inner = request.forwarded(BACKEND_MAC, OWN_MAC).split_off(ETHERNET);
            ensure!(left[ETHERNET + outer_len..] == inner, "the inner packet was changed");
            let addresses = outer_addresses(family, left);
            ensure!(is_source(addresses[0]) && is_backend(addresses[1]), "between {addresses:?}");
            let (protocol, len_at) = if family == Family::V4 { (left[23], 16) } else { (left[20], 18) };
            ensure!(protocol == if family == Family::V4 { 4 } else { 41 });
            let counted = if family == Family::V4 { inner.len() + 20 } else { inner.len() };
            ensure!(left[len_at..len_at + 2] == u16::try_from(counted)?.to_be_bytes());
            ensure!(left[..12] == [BACKEND_MAC, OWN_MAC].concat()[..]);
            Ok(left.to_vec())
        }
    }
}

fn outer_addresses(family: Family, frame: &[u8]) -> [IpAddr; 2] {
    match family {
        Family::V4 => [26, 30].map(|at| {
            let octets: [u8; 4] = frame[at..at + 4].try_into().unwrap();
            octets.into()
        }),
        Family::V6 => [22, 38].map(|at| {
            let octets: [u8; 16] = frame[at..at + 16].try_into().unwrap();
            octets.into()
        }),
    }
}

fn there_and_back(mode: Mode, family: Family, payloads: [Payload; 2]) -> Result<()> {
    let rig = Rig::new("modes", Wish::new(mode, family, 1 << 10))?;
    rig.namespace.run(|| -> Result<()> {
        stay_on_cpu(0)?;
        let (mut requests, mut replies, mut len) = (0, 0, 0);
        for payload in payloads {
            let request = rig.request(CLIENT, PORT, payload)?;
            let ran = rig.run(&request)?;
            ensure!(ran.code == XDP_TX, "{mode:?} {family:?}: {ran:?}");
            ensure!(
                ran.frame == sent_on(&rig, &request, payload, &ran.frame)?,
                "{mode:?} {family:?}: {ran:02x?}"
            );
            verify_checksums(&ran.frame).map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
            len = u64::try_from(request.bytes().len() - ETHERNET)?;
            requests += 1;
            if matches!(mode, Mode::Nat | Mode::FullNat) {
                let reply = rig.reply(&ran, payload)?;
                let back = rig.run(&reply)?;
                let (client, vip) = ends(request.bytes()).context("no packet")?;
                let as_sent = Frame::new(vip, client, payload)?.forwarded(GATEWAY_MAC, OWN_MAC);
                ensure!(back.code == XDP_TX && back.frame == as_sent, "{mode:?} {family:?}: {back:02x?}");
                replies += 1;
            }
        }
        let found = counts(&rig)?;
        let is_tcp = payloads.iter().any(|payload| matches!(payload, Payload::Tcp { .. }));
        let expected = expected(&rig, is_tcp, requests, replies, len);
        ensure!(found == expected, "{mode:?} {family:?}: {found:?}\nexpected {expected:?}");
        untouched(&rig, &expected)
    })?
}

/// What is not ours goes by unchanged, and nothing but the interface's counter knows of it.
fn untouched(rig: &Rig, before: &Counts) -> Result<()> {
    let family = rig.wish.family;
    let end = |ip, port| std::net::SocketAddr::new(ip, port);
    let client = end(family.client(CLIENT), PORT);
    let passed = [
        // Another port of the vip, another address, a backend's own connection, a health check's answer.
        (client, end(family.vip().ip(), 22)),
        (client, end(family.source(3), 80)),
        (end(family.backend(1), 40_000), client),
        (end(family.backend(1), 8080), end(family.source(0), 50_000)),
    ];
    for (source, destination) in passed {
        let frame = Frame::new(source, destination, Payload::Tcp(flags::ACK))?;
        let ran = rig.run(&frame)?;
        ensure!(ran.code == XDP_PASS && ran.frame == frame.bytes(), "{source} → {destination}: {ran:02x?}");
    }
    let mut expected = before.clone();
    expected.interface.pass_packets += u64::try_from(passed.len())?;
    let found = counts(rig)?;
    ensure!(found == expected, "{found:?}\nexpected {expected:?}");
    Ok(())
}

macro_rules! modes {
    ($($name:ident: $mode:ident $family:ident;)+) => {
        $(#[test]
        fn $name() -> Result<()> {
            if !may_run(stringify!($name)) {
                return Ok(());
            }
            let tcp = [Payload::Tcp(flags::SYN), Payload::Tcp(flags::ACK)];
            there_and_back(Mode::$mode, Family::$family, tcp)?;
            there_and_back(Mode::$mode, Family::$family, [Payload::Udp, Payload::Udp])
        })+
    };
}

modes! {
    dsr_v4: Dsr V4;
    dsr_v6: Dsr V6;
    ipip_v4: Ipip V4;
    ipip_v6: Ipip V6;
    nat_v4: Nat V4;
    nat_v6: Nat V6;
    full_nat_v4: FullNat V4;
    full_nat_v6: FullNat V6;
}
