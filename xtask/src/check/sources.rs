//! The files that are committed, or would be.
//!
//! In: what git lists. Out: their text. Files that are not text are left out.

use std::{fs, process::Command};

use anyhow::Result;

use crate::{process, workspace::Workspace};

/// A text file; the path is relative to the root, with `/`.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Everything git tracks or would add.
pub(crate) fn all(workspace: &Workspace) -> Result<Vec<Source>> {
    let mut git = Command::new("git");
    git.current_dir(&workspace.root).args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
    let list = process::capture(&mut git)?;
    let paths = list.split('\0').filter(|path| !path.is_empty());
    // A file that git still lists but that was deleted has no text either.
    Ok(paths
        .filter_map(|path| {
            let text = fs::read_to_string(workspace.root.join(path)).ok()?;
            Some(Source { path: path.to_owned(), text })
        })
        .collect())
}
