//! Flows in the tables of a program that serves: listed, counted, flushed, swept, explained, carried over.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use lb_common::selected_by;
use lb_datapath::flow_table::State;
use lb_userspace::datapath::explain::{Explained, Question, Verdict};
use lb_userspace::datapath::{Adoption, Datapath, Demand, Tuning};
use lb_userspace::desired::{
    BackendKey, Desired, DesiredBackend, DesiredNextHop, DesiredPool, DesiredService, ListenerKey, PoolKey,
    Variant,
};
use lb_userspace::image::Image;
use lb_userspace::plan::plan;
use lb_userspace::spec::{Affinity, Forward, Protocol, TimeoutSpec, WhenNone};
use lb_userspace::store::Store;
use lbd_tests::program::may_run;

use super::place::{INTERFACE, Place, link_id};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A dsr service on 203.0.113.10:80/tcp with one backend behind the interface.
fn desired(interface: u32) -> Desired {
    let pool = PoolKey { name: "web".into(), variant: Variant::V4 };
    let backend: IpAddr = Ipv4Addr::new(192, 0, 2, 7).into();
    let listener =
        ListenerKey { addr: Ipv4Addr::new(203, 0, 113, 10).into(), port: Some(80), protocol: Protocol::Tcp };
    let service = DesiredService {
        name: "web".into(),
        forward: Forward::Dsr,
        affinity: Affinity::Flow,
        when_none: WhenNone::Reset,
        loopback: false,
        resets_lost: false,
        pool: pool.clone(),
        tunnel: None,
    };
    let member = DesiredBackend { weight: 1, takes_new: true, keeps: true, sources: Vec::new(), way: None };
    let key = BackendKey { ip: backend, port: None };
    let next_hop = DesiredNextHop {
        interface,
        destination_mac: [2, 0, 0, 0, 9, 2],
        source_mac: [2, 0, 0, 0, 9, 1],
        mtu: 1500,
        local: false,
    };
    Desired {
        services: BTreeMap::from([(listener, service)]),
        pools: BTreeMap::from([(
            pool,
            Arc::new(DesiredPool { table_len: 1021, backends: BTreeMap::from([(key, member)]) }),
        )]),
        next_hops: Arc::new(BTreeMap::from([(backend, next_hop)])),
    }
}

/// A datapath that serves [`desired`].
fn serve(place: &Place) -> Result<Datapath> {
    let index = place.namespace.run(|| nix::net::if_::if_nametoindex(INTERFACE))??;
    let desired = desired(index);
    let timeouts = TimeoutSpec {
        tcp_syn: Duration::from_secs(2),
        tcp: Duration::from_secs(600),
        ..TimeoutSpec::default()
    };
    let tuning = Tuning::of(&desired, &timeouts);
    let mut datapath = place
        .namespace
        .run(|| Datapath::open(&place.spec, tuning, &Demand::of(&desired, place.spec.flows)))??;
    let plan = plan(&Image::read(&datapath)?, &desired, datapath.settings())?;
    for change in &plan.changes {
        datapath.apply(change)?;
    }
    place.attach(&mut datapath)?;
    Ok(datapath)
}

/// A TCP segment of a client to the vip, checksums left at 0: dsr touches neither.
fn segment(client_port: u16, flags: u8) -> Vec<u8> {
    let mut frame =
        vec![2, 0, 0, 0, 9, 1, 2, 0, 0, 0, 9, 2, 8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    frame.extend_from_slice(&[198, 51, 100, 9, 203, 0, 113, 10]);
    frame.extend_from_slice(&client_port.to_be_bytes());
    frame.extend_from_slice(&[0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.resize(60, 0);
    frame
}

#[test]
fn flows_are_listed_counted_flushed_swept_and_explained() -> Result<()> {
    if !may_run("flows_are_listed_counted_flushed_swept_and_explained") {
        return Ok(());
    }
    let place = Place::new("flows")?;
    let mut datapath = serve(&place)?;
    let index = place.state(&datapath)?.index;
    let send = |datapath: &Datapath, port, flags| -> Result<Verdict> {
        Ok(place.namespace.run(|| datapath.run_frame(&segment(port, flags), index))??.0)
    };
    for port in 2000..2010 {
        ensure!(send(&datapath, port, SYN)? == Verdict::Transmit, "port {port} is not forwarded");
    }
    for port in 2000..2003 {
        send(&datapath, port, ACK)?;
    }
    let now = datapath.tick_now()?;
    let counts = datapath.flows().count(now);
    let count = counts.by_backend.values().next().copied().unwrap_or_default();
    ensure!((counts.v4, counts.wide) == (10, 0), "{counts:?}");
    ensure!((count.established, count.probation) == (3, 7), "{counts:?}");
    let flows = datapath.flows().list(now, 4, |flow| flow.state == State::TcpEstablished);
    ensure!(flows.len() == 3, "{flows:?}");
    for flow in &flows {
        ensure!(flow.client == IpAddr::from([198, 51, 100, 9]) && (2000..2003).contains(&flow.client_port));
        ensure!(flow.idle <= Duration::from_secs(3) && flow.backend != 0, "{flow:?}");
    }
    ensure!(datapath.flows().list(now, 4, |_| true).len() == 4, "the limit");

    explain_both(&place, &mut datapath, index)?;
    ensure!(datapath.flows().count(now) == counts, "explain made or changed a flow");
    ensure!(datapath.counters().services(0, 16)?.iter().map(|s| s.packets).sum::<u64>() == 13);
    ensure!(datapath.counters().interface(index)?.transmit_packets == 13);

    ensure!(datapath.flows().flush(now, |flow| flow.client_port == 2000) == 1);
    let held = datapath.scan()?.held;
    ensure!(held.len() == 1, "{held:?}");
    // Entries on probation are over after two seconds and a tick by the program's own clock.
    let end = Instant::now() + Duration::from_secs(10);
    while datapath.tick_now()?.wrapping_sub(now) < 4 && Instant::now() < end {
        std::thread::yield_now();
    }
    datapath.scan()?;
    let left = datapath.flows().list(datapath.tick_now()?, 100, |_| true);
    ensure!(left.len() == 2 && left.iter().all(|flow| flow.state == State::TcpEstablished), "{left:?}");
    datapath.flows().flush(datapath.tick_now()?, |_| true);
    ensure!(datapath.scan()?.held.is_empty(), "a flushed flow holds its backend");
    Ok(())
}

#[test]
fn flows_move_into_tables_of_another_size() -> Result<()> {
    if !may_run("flows_move_into_tables_of_another_size") {
        return Ok(());
    }
    let mut place = Place::new("resize")?;
    let datapath = serve(&place)?;
    let index = place.state(&datapath)?.index;
    let send = |datapath: &Datapath, port, flags| -> Result<Verdict> {
        Ok(place.namespace.run(|| datapath.run_frame(&segment(port, flags), index))??.0)
    };
    for port in 2000..2100 {
        send(&datapath, port, SYN)?;
        send(&datapath, port, ACK)?;
    }
    let sorted = |datapath: &Datapath| -> Result<Vec<(u16, u16, u16)>> {
        let flows = datapath.flows().list(datapath.tick_now()?, 1000, |_| true);
        let mut flows: Vec<_> = flows.iter().map(|f| (f.client_port, f.service, f.backend)).collect();
        flows.sort_unstable();
        Ok(flows)
    };
    let before = sorted(&datapath)?;
    ensure!(before.len() == 100, "{before:?}");
    drop(datapath);
    for flows in [8192, 256] {
        place.spec.flows = flows;
        let datapath = serve(&place)?;
        let Adoption::Migrated { what } = datapath.adoption() else { bail!("{:?}", datapath.adoption()) };
        ensure!(what.len() == 4 && what[0].contains("flows4: entries"), "{what:?}");
        ensure!(sorted(&datapath)? == before, "flows were lost: {flows}");
        ensure!(datapath.flows().places() == u64::from(flows) * 2);
        // The program finds them: a segment in the midst of a flow makes no new one.
        send(&datapath, 2050, ACK)?;
        ensure!(datapath.counters().services(0, 16)?.iter().map(|s| s.new_flows).sum::<u64>() == 100);
    }
    Ok(())
}

/// Two growths in a row, the first of which makes the directory anew: nobody has planned anything for its larger one yet.
#[test]
fn a_set_that_waits_for_its_plan_never_meets_packets() -> Result<()> {
    if !may_run("a_set_that_waits_for_its_plan_never_meets_packets") {
        return Ok(());
    }
    let place = Place::new("waits")?;
    let mut datapath = serve(&place)?;
    let index = place.state(&datapath)?.index;
    let desired = desired(index);
    let tuning = Tuning::of(&desired, &TimeoutSpec::default());
    let serving = link_id(&place)?;
    for (listeners, maglev_slots) in [(5_000, 1_021), (5_000, 8_000_000)] {
        let demand = Demand { listeners, maglev_slots, ..place.demand() };
        ensure!(datapath.reconfigure(tuning.clone(), &demand)?, "{demand:?} needs no larger maps");
        ensure!(link_id(&place)? == serving, "a program over tables that nobody has filled meets packets");
    }
    for change in &plan(&Image::read(&datapath)?, &desired, datapath.settings())?.changes {
        datapath.apply(change)?;
    }
    place.attach(&mut datapath)?;
    ensure!(link_id(&place)? != serving);
    let (verdict, _) = place.namespace.run(|| datapath.run_frame(&segment(2000, SYN), index))??;
    ensure!(verdict == Verdict::Transmit, "{verdict:?}");
    Ok(())
}

fn explain_both(place: &Place, datapath: &mut Datapath, index: u32) -> Result<()> {
    let mut ask = |port: u16| -> Result<Explained> {
        let question = Question {
            protocol: Protocol::Tcp,
            source: (Ipv4Addr::new(198, 51, 100, 9), port).into(),
            destination: (Ipv4Addr::new(203, 0, 113, 10), 80).into(),
        };
        Ok(place.namespace.run(|| datapath.explain(&question, index))??)
    };
    let known = ask(2001)?;
    ensure!(known.verdict == Verdict::Transmit && !known.is_syn, "{known:?}");
    ensure!(known.explanation.selected_by == selected_by::FLOW, "{known:?}");
    let unknown = ask(3000)?;
    ensure!(unknown.is_syn && unknown.explanation.selected_by == selected_by::MAGLEV, "{unknown:?}");
    ensure!(unknown.frame.starts_with(&[2, 0, 0, 0, 9, 2, 2, 0, 0, 0, 9, 1]), "the next hop's addresses");
    ensure!(unknown.explanation.backend == known.explanation.backend && unknown.explanation.service != 0);
    Ok(())
}
