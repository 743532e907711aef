//! What a running daemon takes of the machine's memory.
//!
//! In: its process id. Out: bytes of its own, and of its maps in the kernel, the flow tables apart. A page of a map that is mapped
//! into the process is the map's and counts once.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::MapInfo;

/// Maps that are the flow tables.
const FLOW_TABLES: [&str; 4] = ["flows4", "flows6", "replies4", "replies6"];

/// Between two looks at a process that may be at rest: longer than what it does now and then is apart.
const LOOK: Duration = Duration::from_secs(6);
/// So many looks at most.
const LONGEST_REST: usize = 5;
/// Bytes that come and go.
const SAME: u64 = 1 << 20;

/// Bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// The process's own: all that is resident but maps.
    pub(super) own: u64,
    /// Maps in the kernel but the flow tables.
    pub(super) maps: u64,
    /// The flow tables.
    pub(super) flow_tables: u64,
}

impl Memory {
    /// Of the process at rest: what it needed for a moment it gives back some seconds later.
    pub(super) fn at_rest(pid: u32, pin: &Path) -> Result<Self> {
        let mut before = Self::of(pid, pin)?;
        for _ in 0..LONGEST_REST {
            thread::sleep(LOOK);
            let now = Self::of(pid, pin)?;
            if now.own.abs_diff(before.own) < SAME {
                return Ok(now);
            }
            before = now;
        }
        Ok(before)
    }

    /// Of the process as it is now; its maps by the names that they are pinned by.
    fn of(pid: u32, pin: &Path) -> Result<Self> {
        let mut memory = Self { own: resident_but_maps(pid)?, ..Self::default() };
        for (name, bytes) in maps(pin)? {
            if FLOW_TABLES.contains(&name.as_str()) {
                memory.flow_tables += bytes
            } else {
                memory.maps += bytes
            }
        }
        Ok(memory)
    }
}

/// Sum of `Rss` of all mappings but those of BPF maps.
fn resident_but_maps(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let (mut sum, mut is_map) = (0, false);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Rss:") if !is_map => {
                sum +=
                    words.next().and_then(|kib| kib.parse::<u64>().ok()).context("smaps without a number")?
                        * 1024;
            }
            Some(first) if !first.ends_with(':') => is_map = line.contains("bpf-map"),
            _ => {}
        }
    }
    Ok(sum)
}

/// Name and kernel memory of each map that is pinned.
fn maps(pin: &Path) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for set in fs::read_dir(pin).with_context(|| format!("cannot read {}", pin.display()))? {
        let Ok(maps) = fs::read_dir(set?.path().join("maps")) else { continue };
        for map in maps {
            let path = map?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push((name, kernel_memory(&path)?));
        }
    }
    Ok(found)
}

/// `memlock` of a map, as the kernel says it of whoever has it open.
fn kernel_memory(path: &Path) -> Result<u64> {
    let opened = MapInfo::from_pin(path).and_then(|map| map.fd());
    let opened = opened.with_context(|| format!("cannot open {}", path.display()))?;
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", opened.as_fd().as_raw_fd()))?;
    let bytes = text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
    bytes.with_context(|| format!("the kernel does not say how large {} is", path.display()))
}
