//! Pins that fit are adopted, those that do not are made anew or refused, and one daemon at a time has them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use lb_userspace::datapath::{Adoption, Mode, detach};
use lb_userspace::spec::OnExit;
use lbd_tests::program::{Map, MapKind, may_run};
use lbd_tests::run_dir::pins;
use nix::mount::MsFlags;

use super::place::{INTERFACE, Place, link_id, mark, marked};

#[test]
fn a_restart_adopts_maps_and_replaces_the_program_on_its_link() -> Result<()> {
    if !may_run("a_restart_adopts_maps_and_replaces_the_program_on_its_link") {
        return Ok(());
    }
    let place = Place::new("adopt")?;
    let mut first = place.start()?;
    ensure!(*first.adoption() == Adoption::Fresh, "{:?}", first.adoption());
    mark(&mut first)?;
    let seed = first.seed().fingerprint();
    let before = place.state(&first)?;
    ensure!(before.mode == Some(Mode::Native) && before.program_id != 0, "{before:?}");
    drop(first);
    ensure!(link_id(&place)? == before.program_id.to_string(), "the program went with the daemon");

    fs::write(&place.spec.seed_file, "42".repeat(32))?;
    let mut second = place.start()?;
    ensure!(*second.adoption() == Adoption::Adopted, "{:?}", second.adoption());
    ensure!(marked(&second)?, "the maps lost their contents");
    ensure!(second.seed().fingerprint() == seed, "the pinned seed did not win");
    let after = place.state(&second)?;
    ensure!(after.program_id != before.program_id, "the program was not loaded anew");
    ensure!(link_id(&place)? == after.program_id.to_string());
    ensure!(second.tick_now()? > 0, "the program's clock stands still");
    ensure!(second.counters().interface(after.index)?.drop_packets == 0);

    place.namespace.run(|| second.close(OnExit::Detach))??;
    ensure!(link_id(&place)? == "none", "the program is still attached");
    ensure!(!place.spec.pin.exists(), "pins are left");
    Ok(())
}

#[test]
fn a_map_that_does_not_fit_is_found_and_made_anew() -> Result<()> {
    if !may_run("a_map_that_does_not_fit_is_found_and_made_anew") {
        return Ok(());
    }
    let place = Place::new("misfit")?;
    drop(place.start()?);
    // aya adopts whatever is pinned under a map's name: a hash in the place of an array, other sizes.
    let path = place.maps().join("services");
    fs::remove_file(&path)?;
    pin_map(&path, MapKind::Hash, [8, 16, 32])?;
    let mut datapath = place.open()?;
    let Adoption::Migrated { what } = datapath.adoption() else { bail!("adopted a hash for an array") };
    let text = what.join("; ");
    for part in ["services: ", "type 1 instead of 2", "key size 8", "value size 16", "entries 32", "flags 0"]
    {
        ensure!(text.contains(part), "{part}: {text}");
    }
    // Flows name services by number, and the numbers are lost.
    ensure!(what.iter().filter(|what| what.contains("emptied")).count() == 4 && what.len() == 5, "{what:?}");
    place.attach(&mut datapath)?;
    drop(datapath);
    let again = place.open()?;
    ensure!(*again.adoption() == Adoption::Adopted, "{:?}", again.adoption());
    Ok(())
}

#[test]
fn counters_of_an_older_version_go_on_where_they_were() -> Result<()> {
    if !may_run("counters_of_an_older_version_go_on_where_they_were") {
        return Ok(());
    }
    let place = Place::new("older")?;
    drop(place.start()?);
    let path = place.maps().join("backend_counters");
    fs::remove_file(&path)?;
    // The first five fields, which were all there were.
    let cpus = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let cpus: usize = cpus.trim().rsplit('-').next().context("no CPU")?.parse::<usize>()? + 1;
    let mut values = vec![[0_u64; 5]; cpus];
    values[0] = [1, 2, 3, 4, 5];
    values[cpus - 1] = [10, 20, 30, 40, 50];
    let sums: Vec<u64> = (0..5).map(|field| values.iter().map(|value| value[field]).sum()).collect();
    let older = Map::new(MapKind::PerCpuArray, 4, 40, 16)?;
    older.set(7, values[0].first().context("no CPU")?)?;
    older.pin(&path)?;
    drop(older);

    let mut datapath = place.open()?;
    let Adoption::Migrated { what } = datapath.adoption() else {
        bail!("older counters were adopted as they are")
    };
    ensure!(what.iter().any(|what| what.contains("value size 40 instead of 64")), "{what:?}");
    place.attach(&mut datapath)?;
    let counted = datapath.counters().backends(7, 1)?;
    let [one] = &counted[..] else { bail!("{counted:?}") };
    let first = [one.packets, one.bytes, one.new_flows, one.reply_packets, one.reply_bytes];
    ensure!(first[..] == sums[..], "{one:?}");
    ensure!((one.continued_flows, one.repeated_syns, one.refused_flows) == (0, 0, 0), "{one:?}");
    drop(datapath);
    ensure!(*place.open()?.adoption() == Adoption::Adopted, "made anew again");
    Ok(())
}

#[test]
fn what_a_crash_left_is_made_whole() -> Result<()> {
    if !may_run("what_a_crash_left_is_made_whole") {
        return Ok(());
    }
    let place = Place::new("crash")?;
    mark(&mut place.start()?)?;
    let base = pins(&place.spec.pin);
    // A new set was begun, and of the old one some maps are gone.
    fs::create_dir(base.join("maps_new"))?;
    pin_map(&base.join("maps_new/flows4"), MapKind::Array, [4, 8, 1])?;
    for name in ["flows4", "replies6", "sources"] {
        fs::remove_file(place.maps().join(name))?;
    }
    let mut datapath = place.open()?;
    let Adoption::Migrated { what } = datapath.adoption() else { bail!("missing maps were not seen") };
    ensure!(what.len() == 3 && what.iter().all(|w| w.contains("not pinned")), "{what:?}");
    ensure!(marked(&datapath)?, "maps that were there lost their contents");
    // A crash before the first plan: the same again.
    drop(datapath);
    datapath = place.open()?;
    ensure!(matches!(datapath.adoption(), Adoption::Migrated { .. }), "{:?}", datapath.adoption());
    place.attach(&mut datapath)?;
    drop(datapath);
    // A crash between the two renames of a commit.
    fs::rename(base.join("maps"), base.join("maps_new"))?;
    fs::create_dir(base.join("maps_old"))?;
    let datapath = place.open()?;
    ensure!(*datapath.adoption() == Adoption::Adopted, "{:?}", datapath.adoption());
    ensure!(marked(&datapath)?, "the new set is not in place");
    Ok(())
}

#[test]
fn what_is_not_ours_among_the_pins_is_refused_by_name() -> Result<()> {
    if !may_run("what_is_not_ours_among_the_pins_is_refused_by_name") {
        return Ok(());
    }
    let place = Place::new("foreign")?;
    drop(place.start()?);
    let stray = place.maps().join("somebody_elses");
    pin_map(&stray, MapKind::Array, [4, 8, 1])?;
    let error = place.open().err().context("a foreign map was taken")?.to_string();
    ensure!(error.contains("somebody_elses") && error.contains("not a map of lbd"), "{error}");
    fs::remove_file(&stray)?;

    let control = place.maps().join("control");
    fs::remove_file(&control)?;
    fs::rename(pins(&place.spec.pin).join("programs/lbd_clock"), &control)?;
    let error = place.open().err().context("a program was taken for a map")?.to_string();
    ensure!(error.contains("control") && error.contains("is a program"), "{error}");
    Ok(())
}

#[test]
fn one_lbd_per_pin_path_and_none_is_detached_under_it() -> Result<()> {
    if !may_run("one_lbd_per_pin_path_and_none_is_detached_under_it") {
        return Ok(());
    }
    let place = Place::new("lock")?;
    let datapath = place.start()?;
    let error = place.open().err().context("two had the pin path")?.to_string();
    ensure!(error.contains(&format!("process {}", std::process::id())), "{error}");
    let error = detach(&place.spec.pin).err().context("detached under a daemon")?.to_string();
    ensure!(error.contains("is in use by"), "{error}");
    drop(datapath);
    let interfaces = place.namespace.run(|| detach(&place.spec.pin))??;
    ensure!(interfaces == [INTERFACE], "{interfaces:?}");
    ensure!(place.namespace.run(|| detach(&place.spec.pin))??.is_empty(), "twice is once");
    Ok(())
}

/// A map that lbd did not make, pinned.
fn pin_map(path: &Path, kind: MapKind, [key_len, value_len, entries]: [u32; 3]) -> Result<()> {
    Map::new(kind, key_len, value_len, entries)?.pin(path)
}

#[test]
fn a_bpffs_that_had_to_be_mounted_goes_unless_something_is_pinned_in_it() -> Result<()> {
    if !may_run("a_bpffs_that_had_to_be_mounted_goes_unless_something_is_pinned_in_it") {
        return Ok(());
    }
    let mut place = Place::new("mount")?;
    let files = tempfile::tempdir()?;
    let pin = files.path().join("bpf");
    place.spec.pin = pin.clone();
    let is_mounted = || -> Result<bool> {
        Ok(std::fs::read_to_string("/proc/self/mounts")?.contains(&format!(" {} bpf ", pin.display())))
    };
    let seed = std::mem::replace(&mut place.spec.seed_file, files.path().join("not-a-seed"));
    std::fs::write(&place.spec.seed_file, "x")?;
    ensure!(place.open().is_err(), "that is a seed?");
    ensure!(!is_mounted()? && !pin.exists(), "a start that failed leaves its mount");
    place.spec.seed_file = seed;

    let mut datapath = place.start()?;
    ensure!(is_mounted()?, "nothing was mounted: what is tested?");
    place.namespace.run(|| datapath.close(OnExit::Detach))??;
    drop(datapath);
    ensure!(!is_mounted()? && !pin.exists(), "the mount is left");

    // What somebody mounts over it is not lbd's to unmount.
    let mut datapath = place.start()?;
    place.namespace.run(|| datapath.close(OnExit::Detach))??;
    nix::mount::mount(Some("bpf"), &pin, Some("bpf"), MsFlags::empty(), None::<&str>)?;
    drop(datapath);
    let is_left = is_mounted()?;
    nix::mount::umount(&pin)?;
    ensure!(is_left && is_mounted()?, "the mount of somebody else is gone");
    nix::mount::umount(&pin)?;

    drop(place.start()?);
    ensure!(is_mounted()?, "the pins are gone with the mount");
    // The next one has found it mounted, and leaves it so.
    let mut datapath = place.start()?;
    place.namespace.run(|| datapath.close(OnExit::Detach))??;
    drop(datapath);
    ensure!(is_mounted()?, "somebody else's mount is gone");
    nix::mount::umount(&pin)?;
    Ok(())
}
