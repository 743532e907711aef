//! Who gets which flow, on the real program over tables that the daemon's planner wrote: shares follow the weights, a lost backend
//! takes nobody else along, and the table depends on the members alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use lb_datapath::flow_table::State;
use lb_userspace::desired::{BackendKey, Desired, DesiredBackend, DesiredPool, PoolKey, Variant};
use lb_userspace::image::Image;
use lb_userspace::store::{Store, Table};
use lbd_tests::program::{
    Clients, Family, Generator, Mode, Payload, Rig, Variation, Wish, XDP_TX, flags, may_run,
};

const SYN: Payload = Payload::Tcp(flags::SYN);
const ACK: Payload = Payload::Tcp(flags::ACK);
const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Slots of a table for 100 backends: the smallest of the sizes in use that is at least 251 times as many.
const TABLE_LEN: u32 = 65_537;

/// The one pool.
fn pool(desired: &mut Desired) -> Result<&mut DesiredPool> {
    desired.pools.values_mut().next().map(Arc::make_mut).context("there is a pool")
}

/// Makes the pool consist of backends of these weights, with ways to all of them.
fn become_weights(desired: &mut Desired, family: Family, weights: &[u32]) -> Result<()> {
    let way = *desired.next_hops.values().next().context("there is a way")?;
    let pool = pool(desired)?;
    let (key, like) = pool.backends.first_key_value().context("there is a backend")?;
    let (port, like) = (key.port, like.clone());
    let backends = weights.iter().zip(0..).map(|(weight, number)| {
        let key = BackendKey { ip: family.backend(number), port };
        (key, DesiredBackend { weight: *weight, ..like.clone() })
    });
    pool.backends = backends.collect();
    let keys: Vec<IpAddr> = pool.backends.keys().map(|key| key.ip).collect();
    Arc::make_mut(&mut desired.next_hops).extend(keys.into_iter().map(|ip| (ip, way)));
    Ok(())
}

/// Goes over to another state, as the daemon would.
fn change(rig: &mut Rig, with: impl FnOnce(&mut Desired) -> Result<()>) -> Result<()> {
    let mut done = Ok(());
    rig.change(|desired| done = with(desired))?;
    done
}

/// A client's address and port, and the backend its entry names.
type Flows = BTreeMap<(IpAddr, u16), IpAddr>;

/// The flows in these states.
fn flows(rig: &Rig, wanted: &[State]) -> Result<Flows> {
    let image = Image::read(&rig.datapath)?;
    let names: BTreeMap<u16, IpAddr> =
        image.pools().flat_map(|pool| pool.backends).map(|backend| (backend.local, backend.key.ip)).collect();
    let flows =
        rig.datapath.flows().list(rig.datapath.tick_now()?, usize::MAX, |flow| wanted.contains(&flow.state));
    let named = flows.into_iter().map(|flow| {
        let backend = names.get(&flow.backend).copied();
        let gone = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        ((flow.client, flow.client_port), backend.unwrap_or(gone))
    });
    Ok(named.collect())
}

/// Sends a packet of each of so many flows, or two in a row.
fn send(rig: &Rig, count: u32, payload: Payload, pairs: bool) -> Result<()> {
    let frame = rig.request(CLIENTS, 1, payload)?;
    let clients = Clients { first: CLIENTS, flows: None };
    let (variation, packets) =
        if pairs { (Variation::Pairs(clients), 2 * count) } else { (Variation::Clients(clients), count) };
    rig.namespace.run(|| {
        let (_, code) = Generator::new(&frame, variation, &rig.program)?.send(packets, rig.interface)?;
        ensure!(code == XDP_TX, "the last packet was not forwarded: {code}");
        Ok(())
    })?
}

#[test]
fn a_hundred_thousand_flows_spread_as_one_two_five() -> Result<()> {
    if !may_run("a_hundred_thousand_flows_spread_as_one_two_five") {
        return Ok(());
    }
    const FLOWS: u32 = 100_000;
    for (mode, family, payload) in [(Mode::Dsr, Family::V4, SYN), (Mode::Nat, Family::V6, Payload::Udp)] {
        let mut rig = Rig::new("weights", Wish::new(mode, family, 1 << 17))?;
        change(&mut rig, |desired| become_weights(desired, family, &[1, 2, 5]))?;
        send(&rig, FLOWS, payload, false)?;
        let image = Image::read(&rig.datapath)?;
        let counters = rig.datapath.counters().backends(0, 4096)?;
        let mut total = 0;
        for (number, weight) in (0..).zip([1_u64, 2, 5]) {
            let ip = family.backend(number);
            let backend = image.pools().flat_map(|pool| pool.backends).find(|backend| backend.key.ip == ip);
            let index = backend.context("the backend is in the maps")?.counter;
            let got = counters.get(index as usize).context("it has a counter")?.new_flows;
            let due = u64::from(FLOWS) * weight / 8;
            println!("{mode:?} {family:?}: weight {weight}: {got} flows, {due} due");
            ensure!(got.abs_diff(due) * 100 <= due * 3, "weight {weight} got {got} flows, {due} are due");
            total += got;
        }
        // nat drops a flow for which it finds no room, rather than lose its replies.
        ensure!(total * 1000 >= u64::from(FLOWS) * 999, "{total} flows began");
    }
    Ok(())
}

/// 100 backends of equal weight.
fn hundred(label: &str, flows: u32) -> Result<Rig> {
    let mut rig = Rig::new(label, Wish::new(Mode::Dsr, Family::V4, flows))?;
    change(&mut rig, |desired| {
        become_weights(desired, Family::V4, &[1; 100])?;
        pool(desired)?.table_len = TABLE_LEN;
        Ok(())
    })?;
    Ok(rig)
}

/// The backend that goes.
fn lost() -> IpAddr {
    Family::V4.backend(42)
}

fn lose(rig: &mut Rig) -> Result<()> {
    change(rig, |desired| {
        pool(desired)?.backends.retain(|key, _| key.ip != lost());
        Ok(())
    })
}

/// The table holds 90 % of the flows it was made for; one of 100 backends is removed, and every client goes on.
#[test]
fn no_tracked_flow_moves_but_those_of_the_backend_that_goes() -> Result<()> {
    if !may_run("no_tracked_flow_moves_but_those_of_the_backend_that_goes") {
        return Ok(());
    }
    const CAPACITY: u32 = 1 << 16;
    const FLOWS: u32 = CAPACITY / 10 * 9;
    let mut rig = hundred("tracked", CAPACITY)?;
    send(&rig, FLOWS, ACK, true)?;
    let before = flows(&rig, &[State::TcpEstablished])?;
    let [counted, _] = rig.datapath.counters().flows()?;
    ensure!(
        before.len() * 1000 >= FLOWS as usize * 999,
        "only {} of {FLOWS} flows are tracked",
        before.len()
    );
    lose(&mut rig)?;
    send(&rig, FLOWS, ACK, false)?;
    let after = flows(&rig, &[State::TcpEstablished])?;
    let [recounted, _] = rig.datapath.counters().flows()?;
    let (theirs, others): (Flows, Flows) = before.iter().partition(|(_, backend)| **backend == lost());
    println!(
        "{} flows tracked, {} of them at the lost backend; evicted before {}, since {}; no room before {}, since {}",
        before.len(),
        theirs.len(),
        counted.evicted,
        recounted.evicted - counted.evicted,
        counted.not_stored,
        recounted.not_stored - counted.not_stored,
    );
    let moved: Vec<_> = others.iter().filter(|(flow, backend)| after.get(flow) != Some(backend)).collect();
    ensure!(moved.is_empty(), "{} flows of other backends moved, as {:?}", moved.len(), moved.first());
    ensure!(!theirs.is_empty() && theirs.keys().all(|flow| after.get(flow).is_some_and(|to| *to != lost())));
    ensure!(recounted.reselected == theirs.len() as u64, "reselected: {recounted:?}");
    ensure!(recounted.evicted == counted.evicted, "somebody had to give way: {recounted:?}");
    Ok(())
}

/// Flows that nobody remembers: nearly all meet whom they met before.
#[test]
fn untracked_flows_move_by_less_than_a_hundredth_beyond_those_that_must() -> Result<()> {
    if !may_run("untracked_flows_move_by_less_than_a_hundredth_beyond_those_that_must") {
        return Ok(());
    }
    const FLOWS: u32 = 100_000;
    let mut rig = hundred("untracked", 1 << 17)?;
    let spread = |rig: &Rig| -> Result<Flows> {
        rig.datapath.flows().flush(rig.datapath.tick_now()?, |_| true);
        send(rig, FLOWS, SYN, false)?;
        let spread = flows(rig, &[State::TcpProbation])?;
        ensure!(spread.len() * 1000 >= FLOWS as usize * 999, "only {} of {FLOWS} are seen", spread.len());
        Ok(spread)
    };
    let before = spread(&rig)?;
    lose(&mut rig)?;
    let after = spread(&rig)?;
    let seen_twice = before.iter().filter_map(|(flow, from)| Some((*from, *after.get(flow)?)));
    let (must, others): (Vec<_>, Vec<_>) = seen_twice.partition(|(from, _)| *from == lost());
    let moved = others.iter().filter(|(from, to)| from != to).count();
    println!("{} flows had to move, {moved} of {} others did", must.len(), others.len());
    ensure!(must.iter().all(|(_, to)| *to != lost()));
    ensure!(moved * 100 < others.len(), "{moved} of {} flows moved without need", others.len());
    Ok(())
}

/// What the maps hold of the pool: who has which slot, by address, and the hash of that.
fn table(rig: &Rig) -> Result<(u64, Vec<Option<BackendKey>>)> {
    let image = Image::read(&rig.datapath)?;
    let key = PoolKey { name: "web".into(), variant: Variant::V4 };
    let pool = image.pools().find(|pool| pool.key.as_ref() == Some(&key)).context("there is a pool")?;
    let mut words = [0_u64; 4];
    rig.datapath.read(Table::Pools, usize::from(pool.id) * 4, &mut words)?;
    let table = lb_datapath::maglev::TableWord::unpack(words[0]);
    let mut arena = vec![0; table.slots.div_ceil(4) as usize];
    rig.datapath.read(Table::Maglev, table.base as usize, &mut arena)?;
    let owner =
        |local| pool.backends.iter().find(|backend| backend.local == local).map(|backend| backend.key);
    let slots = lb_userspace::maglev::unpack(&arena, table.slots).map(owner).collect();
    ensure!(words[3] == pool.table_hash, "the hash in the maps is another");
    Ok((pool.table_hash, slots))
}

/// Two nodes with the same members, one of which was told of them at once, the other in another order and with others in between.
#[test]
fn the_table_in_the_maps_depends_on_the_members_alone() -> Result<()> {
    if !may_run("the_table_in_the_maps_depends_on_the_members_alone") {
        return Ok(());
    }
    let wish = || Wish::new(Mode::Nat, Family::V4, 1 << 10);
    let weights = [1, 2, 5, 1, 3];
    let mut told_at_once = Rig::new("atonce", wish())?;
    change(&mut told_at_once, |desired| become_weights(desired, Family::V4, &weights))?;

    let mut eventful = Rig::new("eventful", wish())?;
    for history in [&[7_u32, 1][..], &[1; 90], &[0, 2, 0, 1, 3], &[1, 2, 5]] {
        change(&mut eventful, |desired| become_weights(desired, Family::V4, history))?;
    }
    // From the last to the first, one at a time.
    for first in (0..weights.len()).rev() {
        change(&mut eventful, |desired| {
            become_weights(desired, Family::V4, &weights)?;
            let ips: Vec<IpAddr> = (0..).take(first).map(|number| Family::V4.backend(number)).collect();
            pool(desired)?.backends.retain(|key, _| !ips.contains(&key.ip));
            Ok(())
        })?;
    }
    let (one, other) = (table(&told_at_once)?, table(&eventful)?);
    ensure!(one.1.iter().all(Option::is_some), "a slot of nobody");
    ensure!(one == other, "hashes {:016x} and {:016x}", one.0, other.0);

    // And it depends on them: another weight is another table.
    change(&mut eventful, |desired| become_weights(desired, Family::V4, &[1, 2, 5, 1, 4]))?;
    ensure!(table(&eventful)?.0 != one.0, "another weight, the same hash");
    Ok(())
}
