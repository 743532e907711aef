//! The length of a pool's Maglev table changes under traffic: no tracked flow moves, and nothing fails.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lbd_tests::client::{Round, UdpFlows};
use lbd_tests::root_or_skip;
use lbd_tests::server::echo::UdpEcho;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use lbd_tests::web::{POOL, Web, expect_no_failure, standing_connections_stayed, until_answered};

const HEALTH: &str = r#"{ type = "tcp", port = 80, interval = "500ms" }"#;
const PER_SECOND: u32 = 100;
/// Requests answered before and after each change.
const ANSWERS: u64 = 100;
const ECHO: u16 = 7;
const UDP_FLOWS: usize = 500;
/// Tables, slots: larger ones and smaller ones, and back.
const LENGTHS: [u64; 4] = [4_093, 65_537, 16_381, 1_021];

/// The pool shall have a table of this length; it has it when this returns.
fn lengthen(lbd: &Lbd, from: u64, to: u64) -> Result<()> {
    let config = fs::read_to_string(lbd.config_path())?;
    let (before, after) = (format!("maglev = {from}\n"), format!("maglev = {to}\n"));
    ensure!(config.contains(&before), "{config}");
    fs::write(lbd.config_path(), config.replace(&before, &after))?;
    lbd.lbctl(&["apply", "--wait"])?;
    let pools = lbd.lbctl(&["service", "list"])?["pools"].clone();
    let pool = pools.as_array().and_then(|pools| pools.iter().find(|pool| pool["name"] == POOL).cloned());
    ensure!(pool.context("no pool")?["slots"] == to, "{pools}");
    Ok(())
}

fn moves_nothing(name: &str, mode: Mode) -> Result<()> {
    if !root_or_skip(name) {
        return Ok(());
    }
    let settings = |topology: &Topology| {
        let service = topology.service(POOL, &["80/tcp", "7/udp"], HEALTH);
        Settings::new(service.replacen("[[pool]]\n", "[[pool]]\nmaglev = 1021\n", 1))
    };
    let mut web = Web::start(Plan::new(&name.replace('_', ""), mode, Family::V4), settings)?;
    let mut echoes = Vec::new();
    for (index, backend) in web.topology.backends.iter().enumerate() {
        // In dsr and ipip datagrams come for the vip itself.
        let here = match mode {
            Mode::FullNat | Mode::Nat => web.topology.backend_address(index),
            Mode::Dsr | Mode::Ipip => web.topology.vip(),
        };
        echoes.push(UdpEcho::start(&backend.namespace, &backend.name, &[(here, ECHO).into()])?);
    }
    let load = web.load(PER_SECOND)?;
    let (recorder, begin) = (load.recorder(), Instant::now());
    let mut flows = UdpFlows::open(&web.topology.client, web.topology.vip_port(ECHO), UDP_FLOWS)?;
    let whole = Round { answered: UDP_FLOWS as u64, ..Round::default() };
    let mut length = 1_021;
    for next in LENGTHS {
        until_answered(recorder, Instant::now(), ANSWERS)?;
        let round = flows.round(0..UDP_FLOWS, std::time::Duration::from_secs(2))?;
        ensure!(round == whole, "of {length} slots: {round:?}");
        lengthen(&web.lbd, length, next)?;
        length = next;
    }
    until_answered(recorder, Instant::now(), ANSWERS)?;
    let round = flows.round(0..UDP_FLOWS, std::time::Duration::from_secs(2))?;
    ensure!(round == whole, "at the end: {round:?}");
    expect_no_failure(recorder, begin)?;
    standing_connections_stayed(recorder, begin)?;
    web.lbd.stop()
}

#[test]
fn length_full_nat() -> Result<()> {
    moves_nothing("length_full_nat", Mode::FullNat)
}

#[test]
fn length_nat() -> Result<()> {
    moves_nothing("length_nat", Mode::Nat)
}

#[test]
fn length_dsr() -> Result<()> {
    moves_nothing("length_dsr", Mode::Dsr)
}

#[test]
fn length_ipip() -> Result<()> {
    moves_nothing("length_ipip", Mode::Ipip)
}
