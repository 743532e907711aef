//! What writes leave behind that fail or are cut off, and the directories themselves.
//!
//! In: the state directory. Out: the same without files that nothing reads. Invariant: what a revision names stays, and so does
//! whatever somebody else has put there.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kept::Kept;
use super::{CONFIGURATIONS, REVISIONS, StateDir, discovered, file};
use crate::spec::Spec;

impl StateDir {
    /// Removes what writes have left that were cut off: files that never came in place, and configurations that no revision names.
    /// Somebody's own files stay, and where a revision cannot be read, so does every configuration: nobody knows what it names.
    pub(super) fn clear_leftovers(&self) {
        let paths = |directory: &str| {
            let entries = fs::read_dir(self.path.join(directory)).into_iter().flatten();
            entries.filter_map(|entry| Some(entry.ok()?.path()))
        };
        let is_fresh = |path: &PathBuf| path.extension().is_some_and(|extension| extension == file::FRESH);
        let fresh = [REVISIONS, CONFIGURATIONS, discovered::DISCOVERED].into_iter().flat_map(paths);
        let mut leftovers: Vec<PathBuf> =
            fresh.filter(is_fresh).chain([self.ejection_file().fresh()]).collect();
        if self.kept.values().all(Kept::is_known) {
            leftovers.extend(paths(CONFIGURATIONS).filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                file::is_checksum(name) && !self.is_named(name)
            }));
        }
        remove_all(leftovers);
    }

    /// Removes the configurations of these that no revision names.
    pub(super) fn clear_configurations<'a>(&self, specs: impl Iterator<Item = &'a Arc<Spec>>) {
        let names = specs.filter_map(|spec| file::json(&**spec, Path::new(CONFIGURATIONS)).ok());
        let unnamed = names.map(|text| file::checksum(&text)).filter(|name| !self.is_named(name));
        if self.kept.values().all(Kept::is_known) {
            remove_all(unnamed.map(|name| self.configuration_path(&name)));
        }
    }

    /// A kept revision names this configuration.
    pub(super) fn is_named(&self, configuration: &str) -> bool {
        self.kept.values().any(|kept| kept.configurations.iter().any(|name| name == configuration))
    }
}

/// Makes a directory for its owner alone, and its name outlive a power cut; one that is there is taken as it is.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    match file::sync_names(directory) {
        // Who may not read the directory above cannot wait for it either.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Removes files that are of no use; what cannot be is logged.
pub(super) fn remove_all(paths: impl IntoIterator<Item = PathBuf>) {
    for path in paths {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!("cannot remove the old {}: {error}", path.display());
            }
            _ => {}
        }
    }
}
