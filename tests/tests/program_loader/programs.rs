//! The program on its link: loaded anew where a reload asks for it, and explained by the lines of its source.

use anyhow::{Result, ensure};
use lb_userspace::datapath::Tuning;
use lb_userspace::store::Store;
use lbd_tests::netns::output_of;
use lbd_tests::program::may_run;
use lbd_tests::run_dir::pins;

use super::place::{Place, link_id, mark, marked};

#[test]
fn a_reload_changes_the_program_and_keeps_link_and_maps() -> Result<()> {
    if !may_run("a_reload_changes_the_program_and_keeps_link_and_maps") {
        return Ok(());
    }
    let place = Place::new("reload")?;
    let mut datapath = place.start()?;
    mark(&mut datapath)?;
    let before = place.state(&datapath)?.program_id;
    datapath.reconfigure(Tuning::default(), &place.demand())?;
    ensure!(place.state(&datapath)?.program_id == before, "loaded anew for nothing");
    let tuning = Tuning { features: lb_common::FEATURE_DSR | lb_common::FEATURE_V4, ..Tuning::default() };
    datapath.reconfigure(tuning.clone(), &place.demand())?;
    let after = place.state(&datapath)?.program_id;
    ensure!(after != before && link_id(&place)? == after.to_string(), "{before} {after}");
    let loaded = datapath.settings().features & !lb_common::FEATURE_PERFMON;
    ensure!(loaded == tuning.features && marked(&datapath)?);
    datapath.grace()?;
    Ok(())
}

/// They are what makes a verifier's log readable; the object is stripped of everything else that knows them.
#[test]
fn the_kernel_knows_the_lines_of_source() -> Result<()> {
    if !may_run("the_kernel_knows_the_lines_of_source") {
        return Ok(());
    }
    let place = Place::new("lines")?;
    let _datapath = place.start()?;
    let pin = pins(&place.spec.pin).join("programs/lbd_clock");
    let dump = ["prog", "dump", "xlated", "pinned"];
    let shown = output_of(std::process::Command::new("bpftool").args(dump).arg(pin).arg("linum"))?;
    ensure!(shown.contains(".rs line_num:"), "{shown}");
    Ok(())
}
