//! The host model and the program as it is loaded are one: the same frames, sound and damaged, the same verdicts, bytes and counters.
//!
//! All tests of packets on the host rest on that. Frames are those of the named cases, replies to what left, and both with bytes
//! flipped, cut off or added, drawn from a fixed seed that a failure names.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use lb_common::{Affinity, Forward, WhenNone};
use lb_datapath::pipeline::Verdict;
use lb_datapath::testing::cases::world::{Family, Listener, Member, Members, Way};
use lb_datapath::testing::cases::{Host, Machine, World, all};
use lbd_tests::program::rig::ends;
use lbd_tests::program::{EVERYTHING, Stand, may_run, stay_on_cpu};

const MODES: [Forward; 4] = [Forward::FullNat, Forward::Nat, Forward::Dsr, Forward::Ipip];
/// Frames a world.
const FRAMES: usize = 2_000;
/// The least that the kernel takes for a test run.
const SHORTEST: usize = 14;

/// SplitMix64 (public domain).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count as u64).unwrap_or_default()
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        match self.below(4) {
            0 => bytes.truncate(SHORTEST + self.below(bytes.len().saturating_sub(SHORTEST) + 1)),
            1 => bytes.extend(vec![0x5a; self.below(64)]),
            _ => {
                for _ in 0..=self.below(3) {
                    let at = self.below(bytes.len().min(80));
                    bytes[at] ^= u8::try_from(self.next() & 0xff).unwrap_or(1);
                }
            }
        }
    }
}

/// Both families, both protocols, five backends each, in one mode.
fn world(forward: Forward, change: impl Fn(&mut Listener, &mut Members)) -> World {
    let mut world =
        World { listeners: Vec::new(), pools: Vec::new(), features: 0, flows: 1 << 12, flows_move: false };
    for family in Family::BOTH {
        for protocol in [6, 17] {
            let of = World::simple(forward, family, protocol);
            let (mut listener, mut pool) = (of.listeners[0].clone(), of.pools[0].clone());
            let first = pool.members[0].clone();
            pool.members.extend((1..5).map(|number| Member { ip: family.backend(number), ..first.clone() }));
            pool.slots = (0..5).map(Some).collect();
            change(&mut listener, &mut pool);
            listener.pool = world.pools.len();
            world.listeners.push(listener);
            world.pools.push(pool);
        }
    }
    world
}

fn worlds() -> Vec<(String, World)> {
    let mut worlds: Vec<_> =
        MODES.iter().map(|mode| (format!("{mode:?}"), world(*mode, |_, _| {}))).collect();
    let all_ways = |way: Way| {
        move |_: &mut Listener, pool: &mut Members| {
            pool.members.iter_mut().for_each(|member| member.way = way);
        }
    };
    worlds.push((
        "every port".into(),
        world(Forward::Nat, |listener, pool| {
            listener.at = SocketAddr::new(listener.at.ip(), 0);
            pool.members.iter_mut().for_each(|member| member.port = 0);
        }),
    ));
    worlds.push(("narrow".into(), world(Forward::Ipip, all_ways(Way::Back(600)))));
    worlds.push(("elsewhere".into(), world(Forward::Dsr, all_ways(Way::Other))));
    worlds
        .push(("by client".into(), world(Forward::Nat, |listener, _| listener.affinity = Affinity::Client)));
    worlds.push((
        "nobody".into(),
        world(Forward::FullNat, |listener, pool| {
            listener.when_none = WhenNone::Reset;
            pool.slots.clear();
        }),
    ));
    worlds.push((
        "here".into(),
        world(Forward::FullNat, |listener, pool| {
            listener.loopback = true;
            pool.members.iter_mut().for_each(|member| member.way = Way::Local);
        }),
    ));
    worlds
}

/// Whether both know the same way (or none) to the client: the kernel has routes, the host model addresses.
fn is_of_a_known_client(frame: &[u8]) -> bool {
    let known = Family::BOTH.map(|family| [family.client(), family.far_client(), family.stranger()]);
    ends(frame).is_some_and(|(from, _)| known.as_flattened().contains(&from.ip()))
}

/// The answer to a packet without options: both ends exchanged, which leaves its sums right.
fn answer(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let (address, len, ports) = if frame[12] == 8 { (26, 4, 34) } else { (22, 16, 54) };
    let mut exchange = |at: usize, len: usize| {
        if at + 2 * len <= bytes.len() {
            let (from, to) = bytes[at..at + 2 * len].split_at_mut(len);
            from.swap_with_slice(to);
        }
    };
    exchange(0, 6);
    exchange(address, len);
    exchange(ports, 2);
    bytes
}

/// Takes a frame through both; what left.
fn both(stand: &mut Stand, host: &mut Host, frame: &[u8], label: &str) -> Result<(Verdict, Vec<u8>)> {
    let there = stand.take(frame, None).map_err(anyhow::Error::msg)?;
    let here = host.take(frame, None).map_err(anyhow::Error::msg)?;
    if here.0 != there.0 {
        // The reasons are among the counters.
        let (counted, program) = (host.counts(), stand.counts());
        bail!("{label}: host {:?}, program {:?}: {frame:02x?}\n{counted:?}\n{program:?}", here.0, there.0);
    }
    // A dropped frame's bytes are nobody's.
    ensure!(
        here.0 == Verdict::Drop || here.1 == there.1,
        "{label}: {:?}\n   host {:02x?}\nprogram {:02x?}\n     in {frame:02x?}",
        here.0,
        here.1,
        there.1
    );
    Ok(here)
}

fn agree(stand: &mut Stand, label: &str, world: &World, seed: u64) -> Result<()> {
    let corpus: Vec<Vec<u8>> = all().iter().map(|case| (case.frame)(&[])).collect();
    let mut host = stand.twin()?;
    stand.forget()?;
    stand.become_world(world).map_err(anyhow::Error::msg)?;
    host.become_world(world).map_err(anyhow::Error::msg)?;
    let before = stand.counts().map_err(anyhow::Error::msg)?;
    let mut draw = Draw(seed);
    for number in 0..FRAMES {
        let label = format!("{label}, seed {seed:#x}, frame {number}");
        let mut frame = corpus[draw.below(corpus.len())].clone();
        let is_sound = draw.below(2) == 0;
        if !is_sound {
            draw.damage(&mut frame);
        }
        let (verdict, out) = both(stand, &mut host, &frame, &label)?;
        if is_sound && verdict == Verdict::Transmit && is_of_a_known_client(&frame) && draw.below(2) == 0 {
            let mut reply = answer(&out);
            if draw.below(3) == 0 {
                draw.damage(&mut reply);
            }
            both(stand, &mut host, &reply, &format!("{label}, the reply to {frame:02x?}"))?;
        }
    }
    let there = stand.counts().map_err(anyhow::Error::msg)?.since(&before);
    let here = host.counts().map_err(anyhow::Error::msg)?;
    ensure!(here == there, "{label}: host {:?}\nprogram {:?}", here.0, there.0);
    let verdicts: Vec<_> = here.0.iter().filter(|(name, _)| name.starts_with("ingress")).collect();
    println!("{label}: {FRAMES} frames and replies: {verdicts:?}");
    Ok(())
}

#[test]
fn host_model_and_program_agree_on_every_frame() -> Result<()> {
    if !may_run("host_model_and_program_agree_on_every_frame") {
        return Ok(());
    }
    let mut stand = Stand::new("agree", EVERYTHING, 1 << 12)?;
    let namespace = stand.namespace.clone();
    namespace.run(|| -> Result<()> {
        stay_on_cpu(0)?;
        for ((label, world), seed) in worlds().into_iter().zip(0x5eed_0001_u64..) {
            ensure!(world.features() & !EVERYTHING == 0, "{label} needs another program");
            agree(&mut stand, &label, &world, seed)?;
        }
        Ok(())
    })?
}
