//! What discovery sources last said, so that a restart goes on with it.
//!
//! In: each answer that differs from the last. Out: all of them, when lbd starts again. Invariants: a file for each source, plain like
//! the others and with a checksum; no revision speaks of it, because an answer is no configuration; one that cannot be used is as
//! if the source had not answered yet, which it will.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{StateDir, StateError, file};
use crate::moment::Millis;
use crate::spec::{Backends, Name, SourceId};

pub(super) const DISCOVERED: &str = "discovered";
/// Of a source's name, what a file's name repeats.
const NAME_LEN: usize = 80;

/// What a source said, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// When it said so for the first time.
    pub time: Millis,
    /// What it said, as far as this host could take it.
    pub backends: Backends,
    /// Backends that it no longer names and that stay for want of others.
    pub lingering: Backends,
}

/// An answer as its file has it.
#[derive(Serialize, Deserialize)]
struct Stored {
    pool: Name,
    source: String,
    time: Millis,
    backends: Backends,
    #[serde(default, skip_serializing_if = "Backends::is_empty")]
    lingering: Backends,
}

/// The files of answers. Clones are of the same directory, which is held as long as its [`StateDir`] is.
#[derive(Clone, Debug)]
pub struct AnswerFiles {
    directory: PathBuf,
}

impl StateDir {
    /// Where answers are written down.
    pub fn answer_files(&self) -> AnswerFiles {
        AnswerFiles { directory: self.path.join(DISCOVERED) }
    }
}

impl AnswerFiles {
    /// Every answer that can be used; files that cannot are said in the log.
    pub fn read(&self) -> BTreeMap<SourceId, Said> {
        let mut said = BTreeMap::new();
        for path in self.paths() {
            match file::read::<Stored>(&path) {
                Ok(Stored { pool, source, time, backends, lingering }) => {
                    said.insert(SourceId { pool, source }, Said { time, backends, lingering });
                }
                Err(file::Unread::Missing) => {}
                Err(file::Unread::Damaged(why) | file::Unread::Foreign(why)) => {
                    tracing::warn!("{why}; its discovery source will say it again");
                }
                Err(file::Unread::System(error)) => {
                    tracing::warn!(
                        "cannot read {} ({error}); its discovery source will say it again",
                        path.display()
                    );
                }
            }
        }
        said
    }

    /// Writes an answer down in the place of the source's last one.
    ///
    /// # Errors
    /// It could not be written: a restart would go on with the one before, or, where only its name is not surely on the disk, with either.
    pub fn write(&self, id: &SourceId, said: &Said) -> Result<(), StateError> {
        let path = self.path_of(id);
        let fault =
            |error: io::Error| StateError::System { what: "make", path: path.display().to_string(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(fault)?;
        let stored = Stored {
            pool: id.pool.clone(),
            source: id.source.clone(),
            time: said.time,
            backends: said.backends.clone(),
            lingering: said.lingering.clone(),
        };
        file::write_over(&path, &file::json(&stored, &path)?)
    }

    /// Removes what was written of sources that are not among these. What cannot be removed is tried again next time.
    pub fn forget<'a>(&self, kept: impl IntoIterator<Item = &'a SourceId>) {
        let kept: BTreeSet<PathBuf> = kept.into_iter().map(|id| self.path_of(id)).collect();
        for path in self.paths().into_iter().filter(|path| !kept.contains(path)) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!("cannot remove the old {}: {error}", path.display());
            }
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        // One that was never put in place says nothing.
        let is_in_place = |path: &PathBuf| path.extension().is_none_or(|extension| extension != file::FRESH);
        let mut paths: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_in_place).collect();
        paths.sort();
        paths
    }

    fn path_of(&self, id: &SourceId) -> PathBuf {
        self.directory.join(file_name(id))
    }
}

/// `web@dns_web.example-1a2b3c4d`: what it is of for people, and eight digits so that no two sources share a file.
fn file_name(id: &SourceId) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    let source: String = id.source.chars().take(NAME_LEN).map(plain).collect();
    let digest = file::checksum(&id.source);
    Path::new(&format!("{}@{source}-{}", id.pool, digest.get(..8).unwrap_or_default())).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(source: &str) -> SourceId {
        SourceId { pool: "web".parse().unwrap(), source: source.to_owned() }
    }

    fn said(backend: &str) -> Said {
        let backends = [(backend.parse().unwrap(), 3)].into();
        Said { time: Millis(1_000), backends, lingering: Backends::new() }
    }

    #[test]
    fn answers_outlive_the_daemon_and_damage_costs_one_of_them() {
        let directory = tempfile::tempdir().unwrap();
        let (dns, http) = (id("dns:web.example"), id("http://10.0.0.1/a?b=c"));
        {
            let (state, _) = StateDir::open(directory.path()).unwrap();
            let answers = state.answer_files();
            assert_eq!(answers.read(), BTreeMap::new());
            answers.write(&dns, &said("10.0.0.1:80")).unwrap();
            answers.write(&dns, &said("10.0.0.2:80")).unwrap();
            answers.write(&http, &said("2001:db8::1")).unwrap();
        }
        let text = fs::read_to_string(directory.path().join("discovered").join(file_name(&dns))).unwrap();
        assert!(text.contains("\"10.0.0.2:80\": 3") && text.contains("dns:web.example"), "{text}");
        let (state, left) = StateDir::open(directory.path()).unwrap();
        let answers = state.answer_files();
        assert!(left.damaged.is_empty() && left.highest == 0, "answers are no revisions");
        assert_eq!(
            answers.read(),
            [(dns.clone(), said("10.0.0.2:80")), (http.clone(), said("2001:db8::1"))].into()
        );
        assert!(!text.contains("lingering"), "as it was before anybody could linger: {text}");
        let lingering = Said { lingering: said("10.0.0.9").backends, ..said("2001:db8::1") };
        answers.write(&http, &lingering).unwrap();
        assert_eq!(answers.read()[&http], lingering);
        answers.write(&http, &said("2001:db8::1")).unwrap();
        for len in 0..text.len() {
            fs::write(answers.path_of(&dns), &text[..len]).unwrap();
            assert_eq!(
                answers.read(),
                [(http.clone(), said("2001:db8::1"))].into(),
                "cut off after {len} bytes"
            );
        }
        answers.forget([&dns]);
        assert_eq!(answers.paths(), [answers.path_of(&dns)]);
    }
}
