//! Files that list backends.
//!
//! In: a path. Out: its backends, whenever they may have changed. Invariants: the way to the file is watched before it is read, so that
//! no change falls between; no more than [`MOST_BYTES`] are read; what is no ordinary file is not read at all.

mod watch;

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::rhythm::FILE_INTERVAL;
use super::{Answer, Found, MOST_BYTES, backends};
use crate::spec::format_duration;
use watch::Watch;

/// Changes that come together are read once, and no file is read more often than this allows.
const SETTLE: Duration = Duration::from_millis(20);

/// A file, and what tells of its changes.
pub(super) struct Watched {
    path: PathBuf,
    /// So many backends it may name.
    most: u32,
    watch: Option<Watch>,
    /// That it cannot be watched was said.
    complained: bool,
}

impl Watched {
    pub(super) fn new(path: &Path, most: u32) -> Self {
        Self { path: path.to_owned(), most, watch: None, complained: false }
    }

    /// Reads it as it is now; [`Self::changed`] tells of every later change.
    pub(super) async fn read(&mut self) -> Result<Answer, String> {
        let (path, most) = (self.path.clone(), self.most);
        let work = tokio::task::spawn_blocking(move || (Watch::of(&path), found(&path, most)));
        let (watch, found) =
            work.await.map_err(|error| format!("reading {} failed: {error}", self.path.display()))?;
        self.watch = watch.inspect_err(|error| self.complain(error)).ok();
        Ok(Answer { found: found?, stands: FILE_INTERVAL })
    }

    fn complain(&mut self, error: &std::io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            let (path, interval) = (self.path.display(), format_duration(FILE_INTERVAL));
            tracing::warn!(
                "cannot watch {path} ({error}), so it is read every {interval} instead: raise fs.inotify.max_user_instances and max_user_watches"
            );
        }
    }

    /// Until it may be another than was read; for ever, if nobody can tell.
    pub(super) async fn changed(&mut self) {
        match &mut self.watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// What the file says now.
fn found(path: &Path, most: u32) -> Result<Found, String> {
    let bytes = read(path).map_err(|why| format!("{} {why}", path.display()))?;
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let found = match (is_json, std::str::from_utf8(&bytes)) {
        (true, _) => backends::of_json(&bytes, most),
        (false, Ok(text)) => backends::of_lines(text, most),
        (false, Err(_)) => Err("it is no text".to_owned()),
    };
    found.map_err(|why| format!("{} is no list of backends: {why}", path.display()))
}

/// The sentence of an error goes on after the path.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let fault = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    // A pipe would hold up whoever opens it until somebody writes.
    let file: File =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(fault)?;
    if !file.metadata().map_err(fault)?.is_file() {
        return Err("is no ordinary file".to_owned());
    }
    let (mut bytes, most) = (Vec::new(), u64::try_from(MOST_BYTES).unwrap_or(u64::MAX));
    file.take(most + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() > MOST_BYTES {
        return Err(format!("is larger than {} MiB, of which nothing is read further", MOST_BYTES >> 20));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
