//! Whose the program is that keeps lbd off an interface, and how it is taken off.
//!
//! In: an interface that carries a program. Out: the refusal. A program that is attached by a link goes only with the link: when its
//! last holder lets go, and a holder is a pin or a process. Both are looked for, so that the remedy names what there is;
//! where none is found `ip link` may do, and what else to try is said. Invariant: nothing is changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lb_common::ABI_VERSION;

use crate::datapath::netlink::{Attached, Link};
use crate::datapath::{DatapathError, syscall};

/// Directories deeper than this below a bpffs are not looked into.
const DEPTH: usize = 5;

/// How long who holds a link is remembered.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// What holds the link of a program.
#[derive(Debug, Default)]
struct Holders {
    /// Files in a bpffs.
    pins: Vec<PathBuf>,
    /// Processes, with their names.
    processes: Vec<(u32, String)>,
}

/// The refusal of an interface that carries another program.
pub(super) fn occupied(name: &str, link: &Link) -> DatapathError {
    let program = link.program_id;
    let info = syscall::program_by_id(program).and_then(|fd| syscall::program_info(fd.as_fd()));
    let program_name = match info {
        Ok(info) => format!(" ({})", info.name()),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            " (its name is shown to CAP_SYS_ADMIN only: bpftool prog show)".to_owned()
        }
        Err(_) => String::new(),
    };
    let number = if program == 0 { String::new() } else { format!(" {program}") };
    let remedy = remembered(name, link);
    DatapathError::Occupied { interface: name.to_owned(), program: format!("{number}{program_name}"), remedy }
}

/// The remedy as last found, if that was of this program and is not old: a running lbd tries to have its interface twice a second,
/// and looking through all processes takes its time.
fn remembered(name: &str, link: &Link) -> String {
    static FOUND: Mutex<Remedies> = Mutex::new(Remedies(BTreeMap::new()));
    let look = || remedy(name, link.attached, &Holders::of(link.program_id, link.index));
    FOUND.lock().unwrap_or_else(PoisonError::into_inner).of(link, Instant::now(), look)
}

/// The remedy last found for each interface, by index: several that are occupied do not drive each other out.
struct Remedies(BTreeMap<u32, (Link, Instant, String)>);

impl Remedies {
    fn of(&mut self, link: &Link, now: Instant, look: impl FnOnce() -> String) -> String {
        match self.0.get(&link.index) {
            Some((of, when, remedy)) if of == link && now.saturating_duration_since(*when) < GOOD_FOR => {
                remedy.clone()
            }
            _ => {
                let remedy = look();
                self.0.insert(link.index, (link.clone(), now, remedy.clone()));
                remedy
            }
        }
    }
}

/// What takes the program off.
fn remedy(name: &str, attached: Attached, holders: &Holders) -> String {
    let ours = holders.pins.iter().find_map(|pin| Some((pin, own_pin_path(pin)?)));
    let processes: Vec<String> =
        holders.processes.iter().map(|(pid, name)| format!("process {pid} ({name})")).collect();
    let processes = processes.join(" and ");
    match (ours, holders.pins.first(), processes.is_empty()) {
        (Some((pin, (path, version))), ..) => {
            let off = match version == ABI_VERSION {
                true => format!("`lbd detach --pin {}` takes it off", path.display()),
                false => format!("`rm -r {}` takes it off", path.join(format!("v{version}")).display()),
            };
            match processes.is_empty() {
                true => format!(
                    "it is lbd's own, pinned at {} by an lbd that no longer runs: {off}",
                    pin.display()
                ),
                false => format!(
                    "it is lbd's own, of {processes}: stop {}, then {off}",
                    if holders.processes.len() == 1 { "that one" } else { "them all" }
                ),
            }
        }
        (None, Some(pin), true) => format!("`rm {}` takes it off (its link is pinned there)", pin.display()),
        (None, Some(pin), false) => {
            format!("stop {processes}, then `rm {}` takes it off (its link is pinned there)", pin.display())
        }
        (None, None, false) => match holders.processes.len() {
            1 => format!("it is there as long as {processes} holds its link: stop that one"),
            _ => format!("it is there as long as one of {processes} holds its link: stop them all"),
        },
        (None, None, true) => {
            let mode = match attached {
                Attached::Generic => "xdpgeneric",
                Attached::Hardware => "xdpoffload",
                Attached::None | Attached::Native | Attached::Several => "xdp",
            };
            format!(
                "stop its owner (`bpftool net`, `bpftool link` show what there is), or `ip link set dev {name} {mode} off` takes it off, \
                 unless a link holds it whose pin or process lbd cannot see"
            )
        }
    }
}

/// The pin path of lbd that this is the link's pin of, and its version: `<pin>/v<N>/links/<interface>`.
fn own_pin_path(pin: &Path) -> Option<(&Path, u32)> {
    let links = pin.parent().filter(|links| links.file_name().is_some_and(|name| name == "links"))?;
    let base = links.parent()?;
    let version = base.file_name()?.to_str()?.strip_prefix('v')?.parse().ok()?;
    Some((base.parent()?, version))
}

impl Holders {
    fn of(program: u32, interface: u32) -> Self {
        if program == 0 {
            return Self::default();
        }
        let is_it = |path: &Path| is_link_of(path, program, interface);
        let mut pins = Vec::new();
        for mount in bpffs_mounts(&fs::read_to_string("/proc/self/mounts").unwrap_or_default()) {
            files_below(&mount, DEPTH, &mut |path| {
                if is_it(path) {
                    pins.push(path.to_owned());
                }
            });
        }
        Self { pins, processes: processes(program, interface) }
    }
}

/// Whether a file of a bpffs is the pin of an XDP link between this program and this interface.
fn is_link_of(path: &Path, program: u32, interface: u32) -> bool {
    let Ok(object) = syscall::open_pin(path) else { return false };
    let is_link = syscall::kind(object.as_fd()).is_ok_and(|kind| kind == Some(syscall::ObjectKind::Link));
    is_link
        && syscall::link_info(object.as_fd()).is_ok_and(|info| {
            info.kind == syscall::LINK_TYPE_XDP && info.program_id == program && info.interface == interface
        })
}

/// The mount points of bpffs in a text as /proc/self/mounts has it.
fn bpffs_mounts(mounts: &str) -> Vec<PathBuf> {
    let mount = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (target, kind) = (words.next()?, words.next()?);
        // Blanks in a path are written as \040.
        (kind == "bpf").then(|| PathBuf::from(target.replace("\\040", " ")))
    };
    mounts.lines().filter_map(mount).collect()
}

/// Every file below a directory. What cannot be read is passed over: the rest may hold what is looked for.
fn files_below(directory: &Path, depth: usize, found: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => files_below(&path, depth - 1, found),
            Ok(kind) if kind.is_file() => found(&path),
            _ => {}
        }
    }
}

/// The processes that hold the link: /proc/PID/fdinfo says of a descriptor of a link which it is.
fn processes(program: u32, interface: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let mut descriptors = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let is_it = |descriptor: fs::DirEntry| {
            let is_link = |target: PathBuf| target.to_string_lossy().starts_with("anon_inode:bpf");
            let information = || entry.path().join("fdinfo").join(descriptor.file_name());
            fs::read_link(descriptor.path()).is_ok_and(is_link)
                && fs::read_to_string(information())
                    .is_ok_and(|text| is_link_info_of(&text, program, interface))
        };
        if process != std::process::id() && descriptors.any(is_it) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push((process, name.trim().to_owned()));
        }
    }
    found
}

/// Whether a text of /proc/PID/fdinfo is that of an XDP link between this program and this interface.
fn is_link_info_of(text: &str, program: u32, interface: u32) -> bool {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    field("link_type") == Some("xdp")
        && field("prog_id") == Some(&program.to_string())
        && field("ifindex") == Some(&interface.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::netlink;

    fn said(pins: &[&str], processes: &[u32]) -> String {
        let pins = pins.iter().map(PathBuf::from).collect();
        let processes = processes.iter().map(|pid| (*pid, "lbd".to_owned())).collect();
        remedy("eth0", Attached::Generic, &Holders { pins, processes })
    }

    #[test]
    fn the_remedy_is_the_one_that_takes_this_program_off() {
        let own = format!("/sys/fs/bpf/x/v{ABI_VERSION}/links/eth0");
        let text = said(&[&own], &[]);
        assert!(
            text.contains("no longer runs") && text.contains("`lbd detach --pin /sys/fs/bpf/x`"),
            "{text}"
        );
        let text = said(&[&own], &[17]);
        assert!(text.contains("of process 17 (lbd): stop that one, then `lbd detach"), "{text}");
        assert!(said(&["/sys/fs/bpf/x/v999/links/eth0"], &[]).contains("`rm -r /sys/fs/bpf/x/v999`"));
        assert!(said(&["/sys/fs/bpf/katran"], &[]).starts_with("`rm /sys/fs/bpf/katran` takes it off"));
        assert!(said(&["/sys/fs/bpf/katran"], &[17]).starts_with("stop process 17 (lbd), then `rm"));
        let text = said(&[], &[17, 18]);
        assert!(
            text.contains("as long as one of process 17 (lbd) and process 18 (lbd) holds its link"),
            "{text}"
        );
        assert!(said(&[], &[17]).contains("as long as process 17 (lbd) holds its link: stop that one"));
        let text = said(&[], &[]);
        assert!(
            text.contains("ip link set dev eth0 xdpgeneric off") && text.contains("unless a link"),
            "{text}"
        );
    }

    #[test]
    fn each_occupied_interface_is_looked_at_once_in_a_while() {
        let (mut remedies, start) = (Remedies(BTreeMap::new()), Instant::now());
        let lo = netlink::link(netlink::index("lo").unwrap()).unwrap();
        let (mut other, mut another_program) = (lo.clone(), lo.clone());
        other.index += 1;
        another_program.program_id += 1;
        let mut looks = 0;
        let mut ask = |link: &Link, seconds| {
            let now = start + Duration::from_secs(seconds);
            remedies.of(link, now, || {
                looks += 1;
                looks.to_string()
            })
        };
        assert_eq!([ask(&lo, 0), ask(&other, 0), ask(&lo, 1), ask(&other, 9)], ["1", "2", "1", "2"]);
        assert_eq!(ask(&lo, 10), "3", "old");
        assert_eq!([ask(&another_program, 11), ask(&another_program, 12)], ["4", "4"]);
    }

    #[test]
    fn mounts_and_descriptors_are_read() {
        let mounts = "proc /proc proc rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\nnone /a\\040b bpf rw 0 0\n";
        assert_eq!(bpffs_mounts(mounts), [Path::new("/sys/fs/bpf"), Path::new("/a b")]);
        let text = "pos:\t0\nlink_type:\txdp\nlink_id:\t5\nprog_tag:\t8a\nprog_id:\t77\nifindex:\t3\n";
        assert!(
            is_link_info_of(text, 77, 3) && !is_link_info_of(text, 77, 4) && !is_link_info_of(text, 7, 3)
        );
        assert!(!is_link_info_of(&text.replace("xdp", "tcx"), 77, 3));
    }
}
