//! Whether the file at a path may be another than before.
//!
//! In: a path. Out: a wake-up for everything that can change what it leads to: the file written or replaced, a directory on the way
//! removed or made again, a symbolic link pointed elsewhere (Kubernetes swaps the link `..data`). Invariant: every directory
//! in which the path is looked up is watched for the one name that is looked up in it, and nothing else.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

/// Symbolic links on one way, as the kernel has it (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// A place on the way: a directory and the name that is looked up in it.
type Step = (PathBuf, OsString);

/// The inotify instance of one path.
pub(super) struct Watch {
    events: AsyncFd<Events>,
    watched: HashMap<WatchDescriptor, Vec<OsString>>,
    /// Where the way ends.
    end: Option<Step>,
}

/// An inotify instance as the runtime waits for it.
struct Events(Inotify);

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

fn register(inotify: Inotify) -> io::Result<AsyncFd<Events>> {
    // SAFETY: the descriptor is the instance's own, the same at every call, and closed only with it, by the `AsyncFd` that holds it.
    Ok(unsafe { AsyncFd::register(Events(inotify)) }?)
}

impl Watch {
    /// Watches the way as it is now. A change of the way is news too: whoever hears of it watches anew.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let mut watched: HashMap<WatchDescriptor, Vec<OsString>> = HashMap::new();
        let end = walk(path, |(directory, name)| {
            let flags = AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_ATTRIB
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_DELETE_SELF
                | AddWatchFlags::IN_MOVE_SELF
                | AddWatchFlags::IN_ONLYDIR;
            match inotify.add_watch(directory, flags) {
                Ok(descriptor) => watched.entry(descriptor).or_default().push(name.clone()),
                // It went away while we were on our way: its parent tells.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(())
        })?;
        Ok(Self { events: register(inotify)?, watched, end })
    }

    /// Until something on the way has changed.
    pub(super) async fn changed(&mut self) {
        loop {
            // A descriptor that cannot be waited for tells nothing: it is read again in its rhythm.
            let Ok(mut ready) = self.events.readable().await else { return std::future::pending().await };
            match ready.get_inner().0.read_events() {
                Ok(events) if events.iter().any(|event| self.concerns(event)) => return,
                Ok(_) => {}
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(_) => return,
            }
        }
    }

    fn concerns(&self, event: &InotifyEvent) -> bool {
        let of_itself = AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_UNMOUNT
            | AddWatchFlags::IN_Q_OVERFLOW;
        if event.mask.intersects(of_itself) {
            return true;
        }
        let Some(name) = &event.name else { return false };
        let is_ours = self.watched.get(&event.wd).is_some_and(|names| names.contains(name));
        is_ours && !(event.mask.contains(AddWatchFlags::IN_CREATE) && self.is_being_written(name))
    }

    /// A file that somebody has just made at the end of the way is empty yet; that it is closed will be told.
    fn is_being_written(&self, name: &OsStr) -> bool {
        let Some((directory, end)) = &self.end else { return false };
        let made = || fs::symlink_metadata(directory.join(end));
        end == name && made().is_ok_and(|made| made.is_file() && made.nlink() == 1)
    }
}

/// Goes the way of a path name by name as the kernel does, telling of each step before it is taken. Returns the last one.
fn walk(path: &Path, mut visit: impl FnMut(&Step) -> io::Result<()>) -> io::Result<Option<Step>> {
    let mut here = PathBuf::from("/");
    let mut ahead: Vec<OsString> = names(path);
    let (mut links, mut last) = (0, None);
    while let Some(name) = ahead.pop() {
        if name == ".." {
            here.pop();
            continue;
        }
        let step = (here.clone(), name);
        visit(&step)?;
        let there = here.join(&step.1);
        last = Some(step);
        match fs::symlink_metadata(&there) {
            Ok(found) if found.is_symlink() => {
                links += 1;
                let Ok(target) = fs::read_link(&there) else { break };
                if links > MOST_LINKS {
                    break;
                }
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                ahead.extend(names(&target));
            }
            Ok(found) if found.is_dir() => here = there,
            Ok(_) | Err(_) => break,
        }
    }
    Ok(last)
}

/// The names of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let named = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<OsString> = named.collect();
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn steps(path: &Path, below: &Path) -> Vec<String> {
        let mut steps = Vec::new();
        walk(path, |(directory, name)| {
            if let Ok(relative) = directory.strip_prefix(below) {
                steps.push(relative.join(name).display().to_string());
            }
            Ok(())
        })
        .unwrap();
        steps
    }

    #[test]
    fn every_name_on_the_way_is_a_step() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().canonicalize().unwrap();
        // As the kubelet does it.
        fs::create_dir(below.join("..2026")).unwrap();
        fs::write(below.join("..2026/web.list"), "").unwrap();
        symlink("..2026", below.join("..data")).unwrap();
        symlink("..data/web.list", below.join("web.list")).unwrap();
        assert_eq!(
            steps(&below.join("web.list"), &below),
            ["web.list", "..data", "..2026", "..2026/web.list"]
        );
        assert_eq!(steps(&below.join("gone/there/x"), &below), ["gone"]);
        assert_eq!(steps(&below.join("..2026/../web.list"), &below)[..2], ["..2026", "web.list"]);
        symlink("circle", below.join("circle")).unwrap();
        assert_eq!(steps(&below.join("circle"), &below).len(), MOST_LINKS + 1);
        symlink(below.join("..data"), below.join("absolute")).unwrap();
        assert!(steps(&below.join("absolute/web.list"), &below).contains(&"..2026/web.list".to_owned()));
    }
}
