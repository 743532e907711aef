//! One case measured.
//!
//! In: a rig and a case. Out: a [`Figure`]. The flows are established first, then null and program take turns; the figure is the median
//! of the differences. On a shared machine the spread says how much of it to believe.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::case::{Case, Path};
use crate::program::{
    Clients, Frame, Generator, Listed, Payload, Rig, Variation, XDP_PASS, XDP_TX, flags, stay_on_cpu,
};

const ACK: Payload = Payload::Tcp(flags::ACK);
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Where the clients of new flows begin: none of the established ones is among them.
const NEWCOMERS: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 1);
/// The last bytes of an address that is no vip.
const NOBODY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Turns of null and program each.
    pub turns: usize,
    /// Packets of one turn.
    pub packets: u32,
}

/// ns a packet.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Figure {
    /// Median over the null program.
    pub ns: f64,
    /// The least and the most of the turns.
    pub least_ns: f64,
    /// See `least_ns`.
    pub most_ns: f64,
    /// The least of the program's turns over the least of the null program's: what the packet costs while nothing else is on the CPU's
    /// other hyper-thread. On a machine that is never quiet this is the figure to compare.
    pub floor_ns: f64,
    /// What the null program cost, generator included: median.
    pub null_ns: f64,
}

/// Measures a case; call it inside the rig's namespace.
///
/// # Errors
/// If packets do not go the way that is to be measured.
pub fn measure(rig: &Rig, case: &Case, scale: Scale) -> Result<Figure> {
    // The route cache and the counters are per CPU.
    stay_on_cpu(0)?;
    rig.datapath.flows().flush(rig.datapath.tick_now()?, |_| true);
    match case.path {
        Path::NotOurs => {
            let frame = not_ours(rig)?;
            over_null(rig, &frame, Variation::None, scale, XDP_PASS)
        }
        Path::Tcp => of_clients(rig, ACK, case.flows, scale),
        Path::Udp => of_clients(rig, Payload::Udp, case.flows, scale),
        Path::Reply => of_replies(rig, case.flows, scale),
        Path::Syn => {
            let frame = rig.request(NEWCOMERS, 1, Payload::Tcp(flags::SYN))?;
            let clients = Clients { first: NEWCOMERS, flows: None };
            over_null(rig, &frame, Variation::Clients(clients), scale, XDP_TX)
        }
    }
}

fn not_ours(rig: &Rig) -> Result<Frame> {
    let family = rig.wish.family;
    let end = |last, port| std::net::SocketAddr::new(family.client(last), port);
    Frame::new(end(FIRST, 4000), end(NOBODY, 443), ACK)
}

/// Begins the flows and establishes them: the second packet does, and the third comes after those that lost their place in between.
fn establish(rig: &Rig, frame: &Frame, flows: u32) -> Result<()> {
    let clients = Variation::Clients(Clients { first: FIRST, flows: Some(flows) });
    let generator = Generator::new(frame, clients, &rig.program)?;
    for _ in 0..3 {
        generator.send(flows, rig.interface)?;
    }
    Ok(())
}

fn of_clients(rig: &Rig, payload: Payload, flows: u32, scale: Scale) -> Result<Figure> {
    let frame = rig.request(FIRST, 1, payload)?;
    establish(rig, &frame, flows)?;
    let clients = Clients { first: FIRST, flows: Some(flows) };
    over_null(rig, &frame, Variation::Clients(clients), scale, XDP_TX)
}

/// Each flow's reply is the turned round request as it was sent on.
fn of_replies(rig: &Rig, flows: u32, scale: Scale) -> Result<Figure> {
    let request = rig.request(FIRST, 1, ACK)?;
    establish(rig, &request, flows)?;
    let clients = Clients { first: FIRST, flows: Some(flows) };
    let mut list = Vec::with_capacity(flows as usize);
    let mut template = None;
    for index in 0..flows {
        let (address, port) = clients.client(index);
        let sent_on = rig.run(&rig.request(address, port, ACK)?)?;
        ensure!(sent_on.code == XDP_TX, "flow {index}: code {}", sent_on.code);
        let reply = rig.reply(&sent_on, ACK)?;
        let four = |at: usize| reply.bytes()[at..][..4].try_into();
        list.push(Listed {
            source: four(reply.source_at())?,
            destination: four(reply.destination_at())?,
            ports: four(reply.ports_at())?,
        });
        template.get_or_insert(reply);
    }
    let Some(template) = template else { anyhow::bail!("no flows, no replies") };
    over_null(rig, &template, Variation::List(&list), scale, XDP_TX)
}

/// Null and program by turns.
fn over_null(
    rig: &Rig,
    frame: &Frame,
    variation: Variation<'_>,
    scale: Scale,
    expected: u32,
) -> Result<Figure> {
    let null = Generator::null(frame, variation)?;
    let program = Generator::new(frame, variation, &rig.program)?;
    let per_packet = |generator: &Generator| -> Result<(f64, u32)> {
        let (took, code) = generator.send(scale.packets, rig.interface)?;
        Ok((took.as_secs_f64() * 1e9 / f64::from(scale.packets), code))
    };
    // One turn of each that does not count: caches, branch predictors.
    per_packet(&null)?;
    per_packet(&program)?;
    let (mut nulls, mut whole, mut differences) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scale.turns {
        let (null_ns, _) = per_packet(&null)?;
        let (ns, code) = per_packet(&program)?;
        ensure!(code == expected, "packets do not go the way to be measured: code {code}, not {expected}");
        nulls.push(null_ns);
        whole.push(ns);
        differences.push(ns - null_ns);
    }
    nulls.sort_by(f64::total_cmp);
    whole.sort_by(f64::total_cmp);
    differences.sort_by(f64::total_cmp);
    let at = |sorted: &[f64], index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    Ok(Figure {
        ns: at(&differences, scale.turns / 2),
        least_ns: at(&differences, 0),
        most_ns: at(&differences, scale.turns.saturating_sub(1)),
        floor_ns: at(&whole, 0) - at(&nulls, 0),
        null_ns: at(&nulls, scale.turns / 2),
    })
}
