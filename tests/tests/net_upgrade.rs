//! Another lbd takes the place of one that was killed, with other maps: flow tables of another size, or another version of the map ABI.
//! Connections do not notice.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lb_common::ABI_VERSION;
use lbd_tests::root_or_skip;
use lbd_tests::run_dir::{pins, pins_of};
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use lbd_tests::web::{PATIENCE, POOL, Web, expect_no_failure, standing_connections_stayed, until_answered};

const HEALTH: &str =
    r#"{ type = "http", port = 80, path = "/healthz", interval = "500ms", timeout = "400ms" }"#;
const PER_SECOND: u32 = 100;
/// Requests answered in each part of a test.
const ANSWERS: u64 = 200;
const FLOWS: u32 = 4096;

/// With new connections and standing ones: lbd is killed, something is changed, lbd is started. Nothing fails, and standing connections stay
/// with their backends.
fn goes_on(
    name: &str,
    (mode, family): (Mode, Family),
    change: impl FnOnce(&Lbd) -> Result<()>,
) -> Result<Option<Web>> {
    if !root_or_skip(name) {
        return Ok(None);
    }
    let settings = |topology: &Topology| Settings {
        flows: FLOWS,
        on_exit: "keep".to_owned(),
        ..Settings::new(topology.service(POOL, &["80/tcp"], HEALTH))
    };
    let mut web = Web::start(Plan::new(&name.replace('_', ""), mode, family), settings)?;
    let load = web.load(PER_SECOND)?;
    let (recorder, begin) = (load.recorder(), Instant::now());
    until_answered(recorder, begin, ANSWERS)?;
    web.lbd.kill()?;
    until_answered(recorder, Instant::now(), ANSWERS)?;
    change(&web.lbd)?;
    web.lbd.start_again(&web.topology)?;
    web.lbd.wait_eligible(POOL, 3, PATIENCE)?;
    until_answered(recorder, Instant::now(), ANSWERS)?;
    expect_no_failure(recorder, begin)?;
    standing_connections_stayed(recorder, begin)?;
    let versions = fs::read_dir(web.lbd.pin())?.map(|entry| Ok(entry?.file_name()));
    let versions: Vec<_> = versions.collect::<Result<_>>()?;
    ensure!(versions == [format!("v{ABI_VERSION}").as_str()], "{versions:?} are left");
    Ok(Some(web))
}

/// The flow tables shall hold twice as many.
fn double(lbd: &Lbd) -> Result<()> {
    let config = fs::read_to_string(lbd.config_path())?;
    let (before, after) = (format!("flows = {FLOWS}"), format!("flows = {}", 2 * FLOWS));
    ensure!(config.contains(&before), "{config}");
    Ok(fs::write(lbd.config_path(), config.replace(&before, &after))?)
}

/// What is pinned becomes that of version 1: the same maps, but for the reply index, which means nothing to this lbd.
fn becomes_1(lbd: &Lbd) -> Result<()> {
    fs::rename(pins(lbd.pin()), pins_of(lbd.pin(), 1)).context("the pins cannot be renamed")?;
    for name in ["replies4", "replies6"] {
        fs::remove_file(pins_of(lbd.pin(), 1).join("maps").join(name))?;
    }
    Ok(())
}

macro_rules! upgrades {
    ($($name:ident: $mode:ident, $family:ident, $change:expr;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            let done = goes_on(stringify!($name), (Mode::$mode, Family::$family), $change)?;
            done.map_or(Ok(()), |mut web| web.lbd.stop())
        }
    )*};
}

upgrades! {
    doubled_full_nat_v4: FullNat, V4, double;
    doubled_full_nat_v6: FullNat, V6, double;
    doubled_nat: Nat, V4, double;
    doubled_dsr: Dsr, V4, double;
    doubled_ipip: Ipip, V4, double;
    abi_1_full_nat_v4: FullNat, V4, becomes_1;
    abi_1_full_nat_v6: FullNat, V6, becomes_1;
    abi_1_nat: Nat, V4, becomes_1;
    abi_1_dsr: Dsr, V4, becomes_1;
    abi_1_ipip: Ipip, V4, becomes_1;
}

#[test]
fn what_another_version_left_is_taken_over_by_a_start_that_was_cut_short() -> Result<()> {
    let cut_short = |lbd: &Lbd| {
        becomes_1(lbd)?;
        let (old, new) = (pins_of(lbd.pin(), 1), pins(lbd.pin()));
        // Killed when the new set was half made, and one link was already pinned.
        fs::create_dir_all(new.join("maps_new"))?;
        fs::create_dir_all(new.join("links"))?;
        let link = fs::read_dir(old.join("links"))?.next().context("nothing is pinned")??;
        Ok(fs::rename(link.path(), new.join("links").join(link.file_name()))?)
    };
    let done = goes_on("cut_short", (Mode::FullNat, Family::V4), cut_short)?;
    done.map_or(Ok(()), |mut web| web.lbd.stop())
}
