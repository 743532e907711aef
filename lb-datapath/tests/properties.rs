//! What holds for any frame, on the host: a damaged frame yields a verdict and goes nowhere but to a backend of the pool; what leaves is
//! summed as if it had been made anew.
#![cfg(feature = "testing")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::LazyLock,
};

use lb_common::Forward;
use lb_datapath::{
    pipeline::Verdict,
    testing::cases::{
        Frame, Host, Machine, Payload, World, all,
        frame::Tcp,
        world::{BACKEND_MAC, BACKEND_PORT, Family, GATEWAY_MAC, Member, OWN_MAC, PORT},
    },
};
use proptest::prelude::*;

const MODES: [Forward; 4] = [Forward::FullNat, Forward::Nat, Forward::Dsr, Forward::Ipip];
const MEMBERS: u8 = 5;

/// One mode, both protocols, five backends.
fn world(forward: Forward, family: Family) -> World {
    World::simple(forward, family, 6).with(|world| {
        let first = world.pools[0].members[0].clone();
        let others = (1..MEMBERS).map(|number| Member { ip: family.backend(number), ..first.clone() });
        world.pools[0].members.extend(others);
        world.pools[0].slots = (0..usize::from(MEMBERS)).map(Some).collect();
        let mut udp = world.listeners[0].clone();
        udp.protocol = 17;
        world.listeners.push(udp);
    })
}

/// The addresses of a frame's first IP header.
fn ends(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match frame.get(12..14)? {
        [8, 0] => {
            let at = |at: usize| <[u8; 4]>::try_from(frame.get(at..at + 4)?).ok();
            Some((IpAddr::from(at(26)?), IpAddr::from(at(30)?)))
        }
        [0x86, 0xdd] => {
            let at = |at: usize| <[u8; 16]>::try_from(frame.get(at..at + 16)?).ok();
            Some((IpAddr::from(at(22)?), IpAddr::from(at(38)?)))
        }
        _ => None,
    }
}

/// Larger than the way: its sender is told.
fn is_an_answer(frame: &[u8], out: &[u8]) -> bool {
    let (Some((from, to)), Some(back)) = (ends(frame), ends(out)) else { return false };
    let icmp = if from.is_ipv4() { out[23] == 1 } else { out[20] == 58 };
    icmp && back == (to, from) && out[..6] == frame[6..12] && out[6..12] == frame[..6]
}

/// What left must go to a backend of the pool, by the way to one, or from the vip to a client if it came from such a backend.
fn goes_where_it_may(forward: Forward, family: Family, frame: &[u8], out: &[u8]) -> bool {
    let (Some((of, _)), Some((from, to))) = (ends(frame), ends(out)) else { return false };
    let is_a_member = |ip| (0..MEMBERS).any(|number| family.backend(number) == ip);
    if out[..12] == *[GATEWAY_MAC, OWN_MAC].as_flattened() {
        let translates = matches!(forward, Forward::Nat | Forward::FullNat);
        return translates && is_a_member(of) && from == family.vip() && !is_a_member(to);
    }
    out[..12] == *[BACKEND_MAC, OWN_MAC].as_flattened()
        && if forward == Forward::Dsr { to == family.vip() } else { is_a_member(to) }
}

/// A way to damage a frame.
#[derive(Clone, Debug)]
enum Damage {
    CutTo(prop::sample::Index),
    Flip(Vec<(prop::sample::Index, u8)>),
    Lengthen(u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Damage::CutTo),
        // Mostly in the headers: the first 80 bytes are drawn from again.
        prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..5).prop_map(Damage::Flip),
        any::<u8>().prop_map(Damage::Lengthen),
    ]
}

fn damaged(mut bytes: Vec<u8>, damage: &Damage) -> Vec<u8> {
    match damage {
        Damage::CutTo(len) => bytes.truncate(len.index(bytes.len() + 1)),
        Damage::Flip(flips) => {
            let headers = bytes.len().min(80);
            flips.iter().for_each(|(at, mask)| bytes[at.index(headers)] ^= mask);
        }
        Damage::Lengthen(by) => bytes.extend(vec![0x5a; usize::from(*by)]),
    }
    bytes
}

/// The frames of all cases, as far as they do not depend on those before.
static CORPUS: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| all().iter().map(|case| (case.frame)(&[])).collect());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_frame_goes_to_a_backend_of_the_pool_or_nowhere(
        mode in 0..MODES.len(),
        v6 in any::<bool>(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), damage()), 100),
    ) {
        let (forward, family) = (MODES[mode], if v6 { Family::V6 } else { Family::V4 });
        let mut host = Host::new(&world(forward, family));
        host.become_world(&world(forward, family)).unwrap();
        for (which, damage) in &damages {
            let frame = damaged(CORPUS[which.index(CORPUS.len())].clone(), damage);
            let before = host.counts().unwrap();
            let (verdict, out) = host.take(&frame, None).unwrap();
            match verdict {
                Verdict::Pass => prop_assert_eq!(&out, &frame, "passed, but not untouched"),
                Verdict::Drop => {}
                Verdict::Transmit if frame.len() > 1400 && is_an_answer(&frame, &out) => {}
                Verdict::Transmit => prop_assert!(
                    goes_where_it_may(forward, family, &frame, &out),
                    "{frame:02x?}\nleft as {out:02x?}"
                ),
                Verdict::Redirect => prop_assert!(false, "there is one way out"),
            }
            // Every verdict is counted once, and a drop says why.
            let moved = host.counts().unwrap().since(&before);
            let verdicts: u64 =
                moved.0.iter().filter(|(name, _)| name.starts_with("ingress")).map(|(_, by)| by).sum();
            prop_assert_eq!(verdicts, 1);
            if verdict == Verdict::Drop {
                prop_assert!(moved.0.keys().any(|name| name.starts_with("service")), "dropped in silence");
            }
        }
    }
}

/// A packet to the vip, every field that the packet path carries along drawn.
fn request(family: Family) -> impl Strategy<Value = Frame> {
    let payload = prop_oneof![
        (any::<(u32, u32, u8, u16)>(), 1_u16.., 0_usize..600).prop_map(|(fields, port, data)| {
            let (sequence, acknowledgment, flags, window) = fields;
            Payload::Tcp(Tcp { ports: [port, PORT], sequence, acknowledgment, flags, window, data })
        }),
        (1_u16.., any::<bool>(), 0_usize..600).prop_map(|(port, summed, data)| Payload::Udp {
            ports: [port, PORT],
            summed,
            data
        }),
    ];
    let before = prop::collection::vec(any::<u8>(), 0..=10);
    let client = any::<u16>().prop_map(move |number| match family {
        Family::V4 => IpAddr::from(Ipv4Addr::from(0x0a01_0000 + u32::from(number))),
        Family::V6 => family.client(),
    });
    (payload, before, client, any::<(u8, u16, bool)>(), 2_u8..).prop_map(
        move |(payload, before, client, (class, id, whole), hops)| {
            Frame::new(client, family.vip(), payload).with(|frame| {
                (frame.class, frame.id, frame.hops) = (class, id, hops);
                frame.fragment = if whole { 0x4000 } else { 0 };
                if family == Family::V4 {
                    frame.options = before.iter().flat_map(|byte| [*byte; 4]).collect();
                } else {
                    let options = |byte: &u8| (60, vec![0, 0, *byte, 0, 0, 0, 0, 0]);
                    frame.extensions = before.iter().take(4).map(options).collect();
                }
            })
        },
    )
}

/// The source port where the transport header of a frame like this lies.
fn source_port(frame: &Frame, out: &[u8]) -> u16 {
    let extensions: usize = frame.extensions.iter().map(|(_, bytes)| bytes.len()).sum();
    let at = 14 + if frame.source.is_ipv4() { 20 } else { 40 } + frame.options.len() + extensions;
    u16::from_be_bytes([out[at], out[at + 1]])
}

fn ports(frame: &Frame) -> [u16; 2] {
    match frame.payload {
        Payload::Tcp(Tcp { ports, .. }) | Payload::Udp { ports, .. } => ports,
        _ => [0; 2],
    }
}

fn there_and_back(
    forward: Forward,
    family: Family,
    frame: &Frame,
    answer: &Frame,
) -> Result<(), TestCaseError> {
    let mut host = Host::new(&world(forward, family));
    host.become_world(&world(forward, family)).unwrap();
    let (verdict, out) = host.take(&frame.bytes(), None).unwrap();
    prop_assert_eq!(verdict, Verdict::Transmit);
    let backend = SocketAddr::new(ends(&out).unwrap().1, BACKEND_PORT);
    let client = SocketAddr::new(frame.source, ports(frame)[0]);
    let source = match forward {
        Forward::FullNat => SocketAddr::new(family.source(), source_port(frame, &out)),
        _ => client,
    };
    let expected = frame.clone().forwarded(BACKEND_MAC, OWN_MAC).between(source, backend);
    prop_assert_eq!(out, expected.bytes(), "the request");

    // The client of an answer has a way back only if it is the one the host model knows.
    let known = frame.source == family.client();
    let answer = Frame { payload: same_protocol(&answer.payload, &frame.payload), ..answer.clone() };
    let back = answer.between(backend, source);
    let (verdict, out) = host.take(&back.bytes(), None).unwrap();
    if !known {
        prop_assert_eq!(verdict, Verdict::Drop);
        return Ok(());
    }
    prop_assert_eq!(verdict, Verdict::Transmit);
    let vip = SocketAddr::new(family.vip(), PORT);
    let expected = back.forwarded(GATEWAY_MAC, OWN_MAC).between(vip, client);
    prop_assert_eq!(out, expected.bytes(), "the reply");
    Ok(())
}

/// A payload of the other's protocol.
fn same_protocol(payload: &Payload, other: &Payload) -> Payload {
    if std::mem::discriminant(payload) == std::mem::discriminant(other) {
        payload.clone()
    } else {
        other.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Checksums are updated by what changed (RFC 1624); the frame they are compared with is summed from the start.
    #[test]
    fn what_is_translated_is_summed_as_if_made_anew_v4(
        full_nat in any::<bool>(),
        near in any::<bool>(),
        frame in request(Family::V4),
        answer in request(Family::V4),
    ) {
        let forward = if full_nat { Forward::FullNat } else { Forward::Nat };
        let frame = if near { Frame { source: Family::V4.client(), ..frame } } else { frame };
        there_and_back(forward, Family::V4, &frame, &answer)?;
    }

    #[test]
    fn what_is_translated_is_summed_as_if_made_anew_v6(
        full_nat in any::<bool>(),
        frame in request(Family::V6),
        answer in request(Family::V6),
    ) {
        let forward = if full_nat { Forward::FullNat } else { Forward::Nat };
        there_and_back(forward, Family::V6, &frame, &answer)?;
    }
}
