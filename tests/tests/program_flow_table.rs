//! The flow table under pressure, on the real program: full tables, floods, two CPUs at once, time that passes without a daemon.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::{FlowCounters, Reason};
use lb_datapath::flow_table::State;
use lb_userspace::spec::TimeoutSpec;
use lbd_tests::program::{
    Clients, Family, Frame, Generator, Listed, Mode, Payload, Rig, Variation, Wish, XDP_TX, flags, may_run,
    stay_on_cpu,
};

const SYN: Payload = Payload::Tcp(flags::SYN);
const ACK: Payload = Payload::Tcp(flags::ACK);
/// Where the flows that shall stay come from, and where floods come from.
const CUSTOMERS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Each flood has clients of its own: an ACK of one whose SYN is still on probation would establish a flow, and rightly.
const ATTACKERS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 128, 0, 1), Ipv4Addr::new(10, 160, 0, 1), Ipv4Addr::new(10, 192, 0, 1)];
/// A generator for the rig's program whose every packet is another flow.
fn distinct(rig: &Rig, first: Ipv4Addr, payload: Payload) -> Result<Generator> {
    let frame = rig.request(first, 1, payload)?;
    Generator::new(&frame, Variation::Clients(Clients { first, flows: None }), &rig.program)
}

/// Begins `flows` flows and establishes each before the next one begins. (All in one run: to change over to a program that is run
/// repeatedly costs the kernel a grace period, some 40 ms.)
fn establish(rig: &Rig, flows: u32) -> Result<()> {
    let frame = rig.request(CUSTOMERS, 1, ACK)?;
    let clients = Variation::Pairs(Clients { first: CUSTOMERS, flows: None });
    Generator::new(&frame, clients, &rig.program)?.send(2 * flows, rig.interface)?;
    Ok(())
}

/// The established flows and their backends.
fn established(rig: &Rig) -> Result<BTreeMap<(IpAddr, u16), u16>> {
    let now = rig.datapath.tick_now()?;
    let flows = rig.datapath.flows().list(now, usize::MAX, |flow| flow.state == State::TcpEstablished);
    Ok(flows.into_iter().map(|flow| ((flow.client, flow.client_port), flow.backend)).collect())
}

fn flow_counters(rig: &Rig) -> Result<FlowCounters> {
    let [v4, wide] = rig.datapath.counters().flows()?;
    Ok(if rig.wish.family == Family::V4 { v4 } else { wide })
}

#[test]
fn as_many_flows_as_were_asked_for_find_room_but_for_a_thousandth() -> Result<()> {
    if !may_run("as_many_flows_as_were_asked_for_find_room_but_for_a_thousandth") {
        return Ok(());
    }
    const FLOWS: u32 = 1 << 16;
    for (mode, family) in [(Mode::Dsr, Family::V4), (Mode::Dsr, Family::V6), (Mode::Nat, Family::V4)] {
        let rig = Rig::new("room", Wish::new(mode, family, FLOWS))?;
        rig.namespace.run(|| establish(&rig, FLOWS))??;
        let counters = flow_counters(&rig)?;
        let lost = FLOWS as usize - established(&rig)?.len();
        println!("{mode:?} {family:?}: {lost} of {FLOWS} flows have no entry; {counters:?}");
        ensure!(lost <= FLOWS as usize / 1000, "{mode:?} {family:?}: {lost} of {FLOWS} found no room");
        ensure!(counters.evicted <= u64::from(FLOWS) / 1000, "{counters:?}");
    }
    Ok(())
}

/// Packets of new flows that nat and full-nat dropped for want of room.
fn flow_table_full(rig: &Rig) -> Result<u64> {
    let counts = rig.datapath.counters().reasons_of(0, 256)?;
    Ok(counts.iter().map(|reasons| reasons[Reason::FlowTableFull as usize]).sum())
}

/// Packets of one flood.
const FLOOD: u32 = 10_000_000;
/// Where a packet costs more and the table is the same.
const SHORT_FLOOD: u32 = 1_000_000;

#[test]
fn floods_of_syns_acks_and_datagrams_evict_no_established_flow() -> Result<()> {
    if !may_run("floods_of_syns_acks_and_datagrams_evict_no_established_flow") {
        return Ok(());
    }
    for (mode, family, packets) in [
        (Mode::Dsr, Family::V4, FLOOD),
        (Mode::Dsr, Family::V6, SHORT_FLOOD),
        (Mode::FullNat, Family::V4, SHORT_FLOOD),
    ] {
        let rig = Rig::new("flood", Wish::new(mode, family, 1 << 14))?;
        rig.namespace.run(|| establish(&rig, 1 << 13))??;
        let before = established(&rig)?;
        ensure!(before.len() >= (1 << 13) - 8, "only {} flows to begin with", before.len());
        for (payload, attackers) in [SYN, ACK, Payload::Udp].into_iter().zip(ATTACKERS) {
            let start = Instant::now();
            rig.namespace.run(|| distinct(&rig, attackers, payload)?.send(packets, rig.interface))??;
            println!("{mode:?} {family:?}: {packets} × {payload:?} in {:.1?}", start.elapsed());
            let after = established(&rig)?;
            let lost = before.iter().find(|(flow, backend)| after.get(flow) != Some(backend));
            ensure!(lost.is_none(), "{payload:?}: {lost:?} lost its entry");
            // Every packet of the flood was a flow of its own, and none promoted itself.
            ensure!(after.len() == before.len(), "{payload:?}: {} flows established", after.len());
        }
        let (counters, dropped) = (flow_counters(&rig)?, flow_table_full(&rig)?);
        println!("{mode:?} {family:?}: {counters:?}, {dropped} dropped as flow_table_full");
        let flood = counters.inserted + counters.not_stored + dropped;
        ensure!(flood >= u64::from(packets), "no flood: {counters:?}");
    }
    Ok(())
}

/// Clients that come while the table is full of forged SYNs still find room: a newcomer takes the place of a flow on probation.
#[test]
fn a_flood_of_syns_does_not_shut_newcomers_out() -> Result<()> {
    if !may_run("a_flood_of_syns_does_not_shut_newcomers_out") {
        return Ok(());
    }
    const NEWCOMERS: u32 = 1000;
    for (mode, family) in [
        (Mode::Dsr, Family::V4),
        (Mode::Nat, Family::V4),
        (Mode::FullNat, Family::V4),
        (Mode::Nat, Family::V6),
    ] {
        let rig = Rig::new("shutout", Wish::new(mode, family, 1 << 14))?;
        rig.namespace.run(|| distinct(&rig, ATTACKERS[0], SYN)?.send(SHORT_FLOOD, rig.interface))??;
        let before = flow_table_full(&rig)?;
        rig.namespace.run(|| establish(&rig, NEWCOMERS))??;
        let found = established(&rig)?.len();
        let dropped = flow_table_full(&rig)? - before;
        println!(
            "{mode:?} {family:?}: {found} of {NEWCOMERS} newcomers have an entry, {dropped} packets dropped"
        );
        ensure!(found * 100 >= NEWCOMERS as usize * 99, "{mode:?} {family:?}: only {found} of {NEWCOMERS}");
    }
    Ok(())
}

/// Flows over a table that holds an eighth of them.
const CONTENDERS: u32 = 1 << 10;
const HAMMERING: Duration = Duration::from_secs(10);

/// Packets that each backend got so far, by counter.
fn by_backend(rig: &Rig) -> Result<Vec<u64>> {
    Ok(rig.datapath.counters().backends(0, 4096)?.iter().map(|counters| counters.packets).collect())
}

/// Sends the flows by turns, in the order of `list`, until the time is over; how many times each.
fn hammer(rig: &Rig, cpu: usize, frame: &Frame, list: &[Listed], until: Instant) -> Result<u64> {
    const ROUNDS: u32 = 256;
    stay_on_cpu(cpu)?;
    let generator = Generator::new(frame, Variation::List(list), &rig.program)?;
    let mut rounds = 0;
    while Instant::now() < until {
        generator.send(CONTENDERS * ROUNDS, rig.interface)?;
        rounds += u64::from(ROUNDS);
    }
    Ok(rounds)
}

/// The members never change, so a flow's backend is always the one the Maglev table has for it: were an entry, torn by two CPUs,
/// taken for a flow, its packet would be counted for another backend. Each flow is sent equally often, so the counters
/// must be an exact multiple of what one quiet round of all flows leaves.
#[test]
fn two_cpus_at_one_small_table_never_give_a_flow_the_backend_of_another() -> Result<()> {
    if !may_run("two_cpus_at_one_small_table_never_give_a_flow_the_backend_of_another") {
        return Ok(());
    }
    if thread::available_parallelism()?.get() < 2 {
        println!("SKIP: two_cpus_at_one_small_table: one CPU");
        return Ok(());
    }
    for family in [Family::V4, Family::V6] {
        let rig = Rig::new("hammer", Wish::new(Mode::Dsr, family, CONTENDERS / 16))?;
        // SYNs leave their entries on probation, so every newcomer takes somebody's place.
        let frame = rig.request(CUSTOMERS, 1, SYN)?;
        let clients = Clients { first: CUSTOMERS, flows: Some(CONTENDERS) };
        let vip: [u8; 4] = frame.bytes()[frame.destination_at()..][..4].try_into()?;
        let mut list: Vec<Listed> = (0..CONTENDERS)
            .map(|index| {
                let (address, port) = clients.client(index);
                let ([a, b], [c, d]) = (port.to_be_bytes(), family.vip().port().to_be_bytes());
                Listed { source: address.octets(), destination: vip, ports: [a, b, c, d] }
            })
            .collect();
        let once = rig.namespace.run(|| -> Result<Vec<u64>> {
            Generator::new(&frame, Variation::List(&list), &rig.program)?.send(CONTENDERS, rig.interface)?;
            by_backend(&rig)
        })??;
        ensure!(once.iter().sum::<u64>() == u64::from(CONTENDERS));
        let until = Instant::now() + HAMMERING;
        let forth = list.clone();
        list.reverse();
        let rounds = rig.namespace.run(|| {
            thread::scope(|scope| -> Result<u64> {
                let other = scope.spawn(|| hammer(&rig, 1, &frame, &list, until));
                let here = hammer(&rig, 0, &frame, &forth, until)?;
                Ok(here + other.join().ok().context("the other thread died")??)
            })
        })??;
        let counters = flow_counters(&rig)?;
        println!(
            "{family:?}: {} packets of {CONTENDERS} flows; {counters:?}",
            rounds * u64::from(CONTENDERS)
        );
        ensure!(counters.evicted > rounds, "hardly any contention: {counters:?}");
        let expected: Vec<u64> = once.iter().map(|packets| packets * (rounds + 1)).collect();
        let found = by_backend(&rig)?;
        let wrong: Vec<_> =
            expected.iter().zip(&found).filter(|(expected, found)| expected != found).collect();
        ensure!(wrong.is_empty(), "packets expected and found at a backend: {wrong:?}");
    }
    Ok(())
}

/// Nobody but the program touches the table here: there is no daemon, and the flows are looked at through the maps.
#[test]
fn flows_expire_and_begin_anew_without_a_daemon() -> Result<()> {
    if !may_run("flows_expire_and_begin_anew_without_a_daemon") {
        return Ok(());
    }
    const FLOWS: u32 = 512;
    let second = Duration::from_secs(1);
    let timeouts = TimeoutSpec { tcp: second, tcp_syn: second, tcp_closing: second, udp: second };
    let rig = Rig::new("expire", Wish { timeouts, ..Wish::new(Mode::Nat, Family::V4, FLOWS) })?;
    rig.namespace.run(|| -> Result<()> {
        let frame = rig.request(CUSTOMERS, 1, Payload::Udp)?;
        let clients = Clients { first: CUSTOMERS, flows: Some(FLOWS) };
        let generator = Generator::new(&frame, Variation::Clients(clients), &rig.program)?;
        let idle_ticks = rig.datapath.settings().udp_ticks;
        for round in 1..=3_u64 {
            let start = rig.datapath.tick_now()?;
            let (_, code) = generator.send(FLOWS, rig.interface)?;
            ensure!(code == XDP_TX, "round {round}: code {code}");
            let counters = flow_counters(&rig)?;
            // None of the entries before was in the way, and none was taken for alive.
            ensure!(counters.inserted == round * u64::from(FLOWS), "round {round}: {counters:?}");
            ensure!(counters.not_stored == 0 && counters.evicted * 50 <= u64::from(FLOWS), "{counters:?}");
            let live = rig.datapath.flows().list(start, usize::MAX, |_| true).len();
            ensure!(live * 50 >= FLOWS as usize * 49, "round {round}: {live} live");
            wait_for_tick(&rig, start.wrapping_add(idle_ticks).wrapping_add(2))?;
            let now = rig.datapath.tick_now()?;
            let live = rig.datapath.flows().list(now, usize::MAX, |_| true).len();
            ensure!(live == 0, "round {round}: {live} flows are alive after their time");
        }
        Ok(())
    })?
}

/// Waits until the program's own clock has reached a tick; there is nothing else to be woken by.
fn wait_for_tick(rig: &Rig, tick: u16) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while rig.datapath.tick_now()?.wrapping_sub(tick) > u16::MAX / 2 {
        ensure!(Instant::now() < deadline, "the program's clock stands still");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
