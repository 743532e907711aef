//! The run directory of one process, and the sweep of what dead processes left.
//!
//! In: nothing. Out: `/run/lbd-tests/<pid>/` with configurations, sockets, logs and generated files. Invariant: the directory
//! exists before the first namespace `lbd-<pid>-*` or pin directory `lbd-test-<pid>-*` of the process and goes after the last;
//! its `lock` is held (flock) exactly as long as the process lives, so a sweep never takes a living one's things, even when
//! a pid is used again. A directory with a file `keep` in it was left standing on purpose and goes only when asked for.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::netns;

const BASE: &str = "/run/lbd-tests";
const BPFFS: &str = "/sys/fs/bpf";
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The directory below a pin path in which the pins of a version of the map ABI are.
pub fn pins_of(pin: &Path, version: u32) -> PathBuf {
    pin.join(format!("v{version}"))
}

/// The directory below a pin path in which this lbd's pins are.
pub fn pins(pin: &Path) -> PathBuf {
    pins_of(pin, lb_common::ABI_VERSION)
}

static CURRENT: Mutex<Weak<RunDir>> = Mutex::new(Weak::new());
static NEXT_PIN: AtomicU32 = AtomicU32::new(0);

/// This process's run directory; removed with the last handle unless [`RunDir::keep`] was called.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    kept: AtomicBool,
    _lock: Flock<File>,
}

impl RunDir {
    /// The run directory of this process, made now if there is none. Making it sweeps what dead processes left.
    pub fn current() -> Result<Arc<RunDir>> {
        let mut current = CURRENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(run_dir) = current.upgrade() {
            return Ok(run_dir);
        }
        let _base = lock_base()?;
        sweep_locked(false)?;
        let path = Path::new(BASE).join(std::process::id().to_string());
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let lock = try_lock(&path.join("lock"))?
            .with_context(|| format!("{} is locked by another process with this pid", path.display()))?;
        let run_dir = Arc::new(RunDir { path, kept: AtomicBool::new(false), _lock: lock });
        *current = Arc::downgrade(&run_dir);
        Ok(run_dir)
    }

    /// Where the files go.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on every drop of a namespace, a process or this directory leaves it standing, and sweeps pass it by:
    /// only [`sweep`] with `kept` takes it away.
    pub fn keep(&self) -> Result<()> {
        let marker = self.path.join("keep");
        fs::write(&marker, "").with_context(|| format!("cannot write {}", marker.display()))?;
        self.kept.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether [`RunDir::keep`] was called.
    pub fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    /// A pin directory name of our own under bpffs, which is mounted if it was not; the directory itself is not made.
    pub fn new_pin_dir(&self) -> Result<PathBuf> {
        mount_bpffs()?;
        let number = NEXT_PIN.fetch_add(1, Ordering::Relaxed);
        Ok(Path::new(BPFFS).join(format!("lbd-test-{}-{number}", std::process::id())))
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if !self.is_kept() {
            // Nothing can be done about a failure here; the next sweep tries again.
            let _ = remove_tree(&self.path);
            let _ = remove_pins(std::process::id());
        }
    }
}

/// Takes away namespaces, processes, pins and files of processes that are gone; with `kept` also what was left standing
/// on purpose. Returns the pids whose things were removed.
pub fn sweep(kept: bool) -> Result<Vec<u32>> {
    let _base = lock_base()?;
    sweep_locked(kept)
}

/// What a process has standing: namespaces, pins, its directory.
pub fn leftovers(pid: u32) -> Result<Vec<String>> {
    let mut left = netns::names()?;
    left.retain(|name| netns::owner(name) == Some(pid));
    let prefix = format!("lbd-test-{pid}-");
    left.extend(names_in(BPFFS)?.into_iter().filter(|name| name.starts_with(&prefix)));
    let path = Path::new(BASE).join(pid.to_string());
    left.extend(path.exists().then(|| path.display().to_string()));
    Ok(left)
}

fn lock_base() -> Result<Flock<File>> {
    fs::create_dir_all(BASE).with_context(|| format!("cannot create {BASE}: are you root?"))?;
    let file = open_lock(&Path::new(BASE).join(".lock"))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("cannot lock {BASE}/.lock"))
}

fn sweep_locked(kept: bool) -> Result<Vec<u32>> {
    let mut pids: Vec<u32> = names_in(BASE)?.iter().filter_map(|name| name.parse().ok()).collect();
    pids.extend(netns::names()?.iter().filter_map(|name| netns::owner(name)));
    pids.sort_unstable();
    pids.dedup();
    let mut swept = Vec::new();
    for pid in pids {
        if is_abandoned(pid, kept)? {
            remove_all_of(pid)?;
            swept.push(pid);
        }
    }
    Ok(swept)
}

/// A process's things are abandoned when its lock is free, or when it has no directory and no longer lives.
fn is_abandoned(pid: u32, kept: bool) -> Result<bool> {
    let path = Path::new(BASE).join(pid.to_string());
    if !path.exists() {
        return Ok(!Path::new(&format!("/proc/{pid}")).exists());
    }
    if path.join("keep").exists() && !kept {
        return Ok(false);
    }
    Ok(try_lock(&path.join("lock"))?.is_some())
}

fn remove_all_of(pid: u32) -> Result<()> {
    for name in netns::names()?.iter().filter(|name| netns::owner(name) == Some(pid)) {
        netns::destroy(name)?;
    }
    remove_pins(pid)?;
    remove_tree(&Path::new(BASE).join(pid.to_string()))
}

fn remove_pins(pid: u32) -> Result<()> {
    let prefix = format!("lbd-test-{pid}-");
    for name in names_in(BPFFS)?.iter().filter(|name| name.starts_with(&prefix)) {
        remove_tree(&Path::new(BPFFS).join(name))?;
    }
    Ok(())
}

fn names_in(dir: &str) -> Result<Vec<String>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {dir}")),
        Ok(entries) => entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<_>>()
            .with_context(|| format!("cannot read {dir}")),
    }
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
    .with_context(|| format!("cannot remove {}", path.display()))
}

fn open_lock(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

/// The lock, or nothing when somebody living holds it.
fn try_lock(path: &Path) -> Result<Option<Flock<File>>> {
    match Flock::lock(open_lock(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn mount_bpffs() -> Result<()> {
    let stat = nix::sys::statfs::statfs(BPFFS).with_context(|| format!("cannot look at {BPFFS}"))?;
    if stat.filesystem_type().0 == BPF_FS_MAGIC {
        return Ok(());
    }
    let none: Option<&str> = None;
    nix::mount::mount(Some("bpf"), BPFFS, Some("bpf"), nix::mount::MsFlags::empty(), none)
        .with_context(|| format!("cannot mount bpffs on {BPFFS}: needs root and CONFIG_BPF_SYSCALL"))
}

/// A file descriptor of a living process, readable once it has ended.
pub(crate) fn pidfd(pid: u32) -> std::io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(std::io::Error::last_os_error)?;
    // SAFETY: the descriptor is new and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
