//! `lbd exec-check`: what a check's program may do, and that nothing of it is left.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use lbd_tests::root_or_skip;
use lbd_tests::run_dir::RunDir;
use lbd_tests::topology::Binaries;
use lbd_tests::web::until;

/// Words before lbd that leave root nothing but the right to become another user.
const FEW_RIGHTS: [&str; 3] =
    ["setpriv", "--bounding-set=-all,+setuid,+setgid", "--inh-caps=-all,+setuid,+setgid"];
const NOBODYS_RIGHTS: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// A place that the program's user may write to, and lbd where that user may read it.
struct Place {
    _alone: MutexGuard<'static, ()>,
    _run_dir: Arc<RunDir>,
    dir: PathBuf,
    lbd: PathBuf,
    /// An argument that no other process of this host has.
    mark: String,
}

impl Place {
    fn new() -> Result<Place> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // A fork of another test while a script is open for writing would keep it from running (ETXTBSY).
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let run_dir = RunDir::current()?;
        let dir = run_dir.path().join(format!("exec-{number}"));
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, Permissions::from_mode(0o777))?;
        let lbd = dir.join("lbd");
        fs::copy(Binaries::find()?.lbd, &lbd)?;
        // Seconds for `sleep`.
        let mark = format!("{}.{number}", 1_000_000 + std::process::id());
        Ok(Place { _alone: alone, _run_dir: run_dir, dir, lbd, mark })
    }

    /// A shell script; `MARK` in it stands for the mark, `DIR` for the directory.
    fn script(&self, text: &str) -> Result<PathBuf> {
        let path = self.dir.join("check.sh");
        let text = text.replace("MARK", &self.mark).replace("DIR", &self.dir.to_string_lossy());
        fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(path)
    }

    fn start(&self, rights: &[&str], program: &Path) -> Result<Child> {
        let mut command = match rights {
            [] => Command::new(&self.lbd),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.lbd);
                command
            }
        };
        command.args(["exec-check", "--user", "nobody", "--"]).arg(program).arg("--an-argument");
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LBD_ADDRESS", "192.0.2.1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("lbd exec-check does not start")
    }

    /// Runs it to its end; what it reported.
    fn run(&self, rights: &[&str], program: &Path) -> Result<String> {
        report(self.start(rights, program)?)
    }

    /// How many processes bear the mark.
    fn marked(&self) -> Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir("/proc")? {
            // A process may end while it is looked at.
            let line = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
            count += usize::from(String::from_utf8_lossy(&line).contains(&self.mark));
        }
        Ok(count)
    }
}

/// What it says until its end, standard input held open.
fn report(mut child: Child) -> Result<String> {
    let mut text = String::new();
    child.stdout.take().context("a pipe")?.read_to_string(&mut text)?;
    child.wait()?;
    Ok(text)
}

#[test]
fn the_end_of_a_program_is_reported() -> Result<()> {
    if !root_or_skip("the_end_of_a_program_is_reported") {
        return Ok(());
    }
    let place = Place::new()?;
    for rights in [&[][..], &FEW_RIGHTS, &NOBODYS_RIGHTS] {
        for (script, expected) in [
            ("exit 0", "exited 0\n"),
            ("exit 42", "exited 42\n"),
            ("kill -KILL $$", "killed 9\n"),
            ("[ \"$1\" = --an-argument ] && [ \"$LBD_ADDRESS\" = 192.0.2.1 ]", "exited 0\n"),
            ("cat; yes | head -c 100000000", "exited 0\n"),
        ] {
            let said = place.run(rights, &place.script(script)?)?;
            ensure!(said == expected, "{script} with {rights:?}: {said:?}");
        }
        let said = place.run(rights, &place.dir.join("nothing"))?;
        ensure!(said.starts_with("failed cannot run /") && said.contains("No such file"), "{said:?}");
    }
    Ok(())
}

#[test]
fn a_program_has_no_privileges() -> Result<()> {
    if !root_or_skip("a_program_has_no_privileges") {
        return Ok(());
    }
    let place = Place::new()?;
    for rights in [&[][..], &FEW_RIGHTS, &NOBODYS_RIGHTS] {
        let look = "{ id -u; id -g; id -G; pwd; cat /proc/self/oom_score_adj; ulimit -n; ls /proc/self/fd | wc -l; } > DIR/seen && \
                    cat /proc/self/status > DIR/status";
        let said = place.run(rights, &place.script(look)?)?;
        ensure!(said == "exited 0\n", "{said:?} with {rights:?}");
        let seen = fs::read_to_string(place.dir.join("seen"))?;
        // Three streams, and the directory that ls reads.
        ensure!(seen == "65534\n65534\n65534\n/\n1000\n256\n4\n", "{seen:?} with {rights:?}");
        let status = fs::read_to_string(place.dir.join("status"))?;
        for line in [
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
        ] {
            ensure!(status.contains(line), "{line} is not in {status} with {rights:?}");
        }
        fs::remove_file(place.dir.join("seen"))?;
        fs::remove_file(place.dir.join("status"))?;
    }
    Ok(())
}

#[test]
fn root_and_unknown_users_run_nothing() -> Result<()> {
    if !root_or_skip("root_and_unknown_users_run_nothing") {
        return Ok(());
    }
    let place = Place::new()?;
    let script = place.script("touch DIR/ran")?;
    for (user, why) in [("root", "is root"), ("no-such-user", "there is no user no-such-user")] {
        let mut command = Command::new(&place.lbd);
        command.args(["exec-check", "--user", user, "--"]).arg(&script).stdin(Stdio::piped());
        let said = report(command.stdout(Stdio::piped()).spawn()?)?;
        ensure!(said.starts_with("failed ") && said.contains(why), "{said:?}");
    }
    // Somebody without rights cannot become another.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65533", "--regid=65533", "--clear-groups"]).arg(&place.lbd);
    command.args(["exec-check", "--user", "nobody", "--"]).arg(&script).stdin(Stdio::piped());
    let said = report(command.stdout(Stdio::piped()).spawn()?)?;
    ensure!(said.contains("cannot become the user nobody"), "{said:?}");
    ensure!(!place.dir.join("ran").exists());
    Ok(())
}

/// What a daemon does to get away from those who started it.
const GETS_AWAY: &str =
    "setsid sh -c 'setsid sleep MARK & setsid sh -c \"sleep MARK & sleep MARK\" &' &\ntrap '' TERM HUP INT";

#[test]
fn what_a_program_leaves_behind_is_killed_when_it_ends() -> Result<()> {
    if !root_or_skip("what_a_program_leaves_behind_is_killed_when_it_ends") {
        return Ok(());
    }
    let place = Place::new()?;
    for rights in [&[][..], &FEW_RIGHTS, &NOBODYS_RIGHTS] {
        let script = place.script(&format!("{GETS_AWAY}\nuntil [ -e DIR/go ]; do :; done\nexit 3"))?;
        let child = place.start(rights, &script)?;
        until("three sleepers", || Ok(place.marked()? >= 3))?;
        fs::write(place.dir.join("go"), "")?;
        let said = report(child)?;
        ensure!(said == "exited 3\n", "{said:?} with {rights:?}");
        // It has ended only when all of it has.
        ensure!(place.marked()? == 0, "{} are left with {rights:?}", place.marked()?);
        fs::remove_file(place.dir.join("go"))?;
    }
    Ok(())
}

#[test]
fn a_program_that_does_not_end_is_killed_with_all_it_started() -> Result<()> {
    if !root_or_skip("a_program_that_does_not_end_is_killed_with_all_it_started") {
        return Ok(());
    }
    let place = Place::new()?;
    let script = place.script(&format!("{GETS_AWAY}\nexec sleep MARK"))?;
    for rights in [&[][..], &FEW_RIGHTS, &NOBODYS_RIGHTS] {
        let mut child = place.start(rights, &script)?;
        until("four sleepers", || Ok(place.marked()? >= 4))?;
        drop(child.stdin.take());
        let said = report(child)?;
        ensure!(said.is_empty(), "{said:?} with {rights:?}");
        ensure!(place.marked()? == 0, "{} are left with {rights:?}", place.marked()?);
    }
    // The process outside is killed, by the kernel for want of memory say.
    let mut child = place.start(&[], &script)?;
    until("four sleepers", || Ok(place.marked()? >= 4))?;
    child.kill()?;
    child.wait()?;
    until("the end of all", || Ok(place.marked()? == 0))
}

/// 256 processes at most, and they are gone with the check.
#[test]
fn a_fork_bomb_is_bounded_and_ends() -> Result<()> {
    if !root_or_skip("a_fork_bomb_is_bounded_and_ends") {
        return Ok(());
    }
    let place = Place::new()?;
    let script = place.script("bomb() { bomb MARK & bomb MARK & exec sleep MARK; }\nbomb 2> /dev/null")?;
    for rights in [&[][..], &NOBODYS_RIGHTS] {
        let mut child = place.start(rights, &script)?;
        until("a crowd", || Ok(place.marked()? >= 100))?;
        let most = place.marked()?;
        ensure!(most <= 256, "{most} processes");
        drop(child.stdin.take());
        report(child)?;
        ensure!(place.marked()? == 0, "{} are left", place.marked()?);
    }
    Ok(())
}
