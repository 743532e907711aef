//! A file that others write: replaced, pointed elsewhere, spoilt, gone.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use anyhow::{Result, ensure};
use lbd_tests::root_or_skip;
use lbd_tests::topology::Settings;
use lbd_tests::web::{expect_no_failure, until, until_answered};

use super::stage::{Stage, pool, put, source, until_eligible, until_failing, until_well};

#[test]
fn a_file_is_followed_and_garbage_changes_nothing() -> Result<()> {
    if !root_or_skip("a_file_is_followed_and_garbage_changes_nothing") {
        return Ok(());
    }
    let stage = Stage::new("file")?;
    let [one, two, three] = [0, 1, 2].map(|index| stage.backend(index));
    let (dir, path) = (stage.dir.join("lists"), stage.dir.join("lists/web.list"));
    let name = format!("file:{}", path.display());
    let discover = format!("discover = {{ type = \"file\", path = \"{}\" }}", path.display());
    let web = stage.balanced(&discover)?;
    // Neither the file nor its directory is there yet.
    until_failing(&web.lbd, &name, "does not exist")?;
    fs::create_dir(&dir)?;
    put(&path, &format!("# two to begin with\n{one}\n{two} weight=3\n"))?;
    until_eligible(&web.lbd, &[one.clone(), two.clone()])?;
    until_well(&web.lbd, &name)?;

    let load = web.load(50)?;
    let begin = Instant::now();
    put(&path, &format!("{one}\n{two}\n{three}\n"))?;
    let all = [one.clone(), two.clone(), three.clone()];
    until_eligible(&web.lbd, &all)?;
    // As the kubelet does it: a directory for each version, and a link to the present one.
    for version in ["..1", "..2"] {
        fs::create_dir(dir.join(version))?;
        put(
            &dir.join(version).join("web.list"),
            &format!("{one}\n{two}\n{three} weight={}\n", version.len()),
        )?;
    }
    symlink("..1", dir.join("..data"))?;
    symlink("..data/web.list", dir.join("link"))?;
    fs::rename(dir.join("link"), &path)?;
    let weight = |wanted: u64| {
        until(&format!("{three} has the weight {wanted}"), || {
            let backends = web.lbd.backends("web")?;
            Ok(backends.iter().any(|row| row["address"] == three.as_str() && row["weight"] == wanted))
        })
    };
    weight(3)?;
    put(&dir.join("..2/web.list"), &format!("{one}\n{two}\n{three} weight=7\n"))?;
    symlink("..2", dir.join("..new"))?;
    fs::rename(dir.join("..new"), dir.join("..data"))?;
    weight(7)?;
    // Spoilt, empty, far too long, gone with its directory.
    for (text, why) in [("<html>502 Bad Gateway</html>\n", "line 1"), ("", "names no backend")] {
        put(&path, text)?;
        until_failing(&web.lbd, &name, why)?;
        until_eligible(&web.lbd, &all)?;
    }
    fs::File::create(dir.join("huge"))?.set_len(1 << 30)?;
    fs::rename(dir.join("huge"), &path)?;
    until_failing(&web.lbd, &name, "is larger than 4 MiB")?;
    fs::remove_dir_all(&dir)?;
    until_failing(&web.lbd, &name, "does not exist")?;
    until_eligible(&web.lbd, &all)?;
    fs::create_dir(&dir)?;
    put(&path, &format!("{one}\n{two}\n{three}\n"))?;
    until_well(&web.lbd, &name)?;
    weight(1)?;
    let end = Instant::now();
    until_answered(load.recorder(), end, 50)?;
    expect_no_failure(load.recorder(), begin)
}

#[test]
fn a_reload_begins_changes_and_ends_sources() -> Result<()> {
    if !root_or_skip("a_reload_begins_changes_and_ends_sources") {
        return Ok(());
    }
    let stage = Stage::new("reload")?;
    let [one, two, three] = [0, 1, 2].map(|index| stage.backend(index));
    let (first, second) = (stage.dir.join("first.list"), stage.dir.join("second.json"));
    put(&first, &format!("{one}\n{two}\n"))?;
    put(&second, &format!("{{\"backends\":[\"{two}\",{{\"address\":\"{three}\",\"weight\":5}}]}}"))?;
    let file = |path: &std::path::Path, rest: &str| {
        format!("[[pool.discover]]\ntype = \"file\"\npath = \"{}\"\n{rest}\n", path.display())
    };
    let web = stage.balanced(&file(&first, ""))?;
    until_eligible(&web.lbd, &[one.clone(), two.clone()])?;
    let reload = |discover: &str| -> Result<()> {
        web.lbd.rewrite_config(&web.topology, &Settings::new(pool(&web.topology, discover)))?;
        web.lbd.reload()
    };
    reload(&(file(&first, "") + &file(&second, "")))?;
    until_eligible(&web.lbd, &[one.clone(), two.clone(), three.clone()])?;
    let row = web.lbd.backends("web")?.into_iter().find(|row| row["address"] == two.as_str());
    ensure!(
        row.as_ref().is_some_and(|row| row["sources"].as_array().is_some_and(|s| s.len() == 2)),
        "{row:?}"
    );
    // Too many now: the answer is refused whole, and what it was stays.
    reload(&(file(&first, "") + &file(&second, "max_backends = 1")))?;
    until_failing(&web.lbd, &format!("file:{}", second.display()), "more than max_backends = 1")?;
    until_eligible(&web.lbd, &[one.clone(), two.clone(), three.clone()])?;
    // The first source ends, and takes what it alone has named.
    reload(&file(&second, ""))?;
    until_eligible(&web.lbd, &[two, three])?;
    ensure!(source(&web.lbd, &format!("file:{}", first.display())).is_err(), "it is still there");
    until_well(&web.lbd, &format!("file:{}", second.display()))
}
