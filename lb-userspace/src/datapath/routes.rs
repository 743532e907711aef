//! The program's questions about routes.
//!
//! `bpf_fib_lookup` answers only for an interface on which forwarding is on (net/core/filter.c, bpf_ipv4_fib_lookup: FWD_DISABLED). The program
//! asks as `lo`, which is where the kernel's own packets start from, so forwarding has to be on for `lo` alone: nothing arrives there that
//! would be forwarded, and the host's interfaces forward no more than before. In: nothing. Out: sentences on what could not be done; for whom
//! the kernel knew no way.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::{fs, io};

use lb_common::{Address, RouteEntry};
use zerocopy::FromBytes;

use super::counters::possible_cpus;
use super::{Datapath, DatapathError, syscall};

/// For how long a look-up in vain is acted on, ticks: whoever still wants an answer has come again by then.
const RECENT_TICKS: u16 = 4;

/// Entries read in one call.
const BATCH: u32 = 256;

/// The switches, under /proc/sys.
const SWITCHES: [&str; 2] = ["net/ipv4/conf/lo/forwarding", "net/ipv6/conf/lo/forwarding"];

/// Switches forwarding on for `lo`, where it is off.
pub(super) fn allow() {
    for switch in SWITCHES {
        let path = format!("/proc/sys/{switch}");
        // Missing: the family is switched off.
        if fs::read_to_string(&path).is_ok_and(|value| value.trim() == "0")
            && let Err(error) = fs::write(&path, "1")
        {
            tracing::debug!(%error, "cannot write {path}");
        }
    }
}

/// What is wrong: a sentence for each family whose switch is off.
pub fn refused() -> Vec<String> {
    let is_off = |switch: &&&str| {
        fs::read_to_string(format!("/proc/sys/{switch}")).is_ok_and(|value| value.trim() == "0")
    };
    let sentence = |switch: &&str| {
        let key = switch.replace('/', ".");
        format!(
            "{key} is 0 and lbd may not change it, so the kernel tells the program no routes: replies of nat and full-nat \
             are dropped (next_hop_unknown): sysctl -w {key}=1, or use dsr or ipip"
        )
    };
    SWITCHES.iter().filter(is_off).map(sentence).collect()
}

impl Datapath {
    /// Where the program wanted to send to a moment ago, and the kernel knew no way.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn unanswered_routes(&self) -> Result<BTreeSet<IpAddr>, DatapathError> {
        const MAP: &str = "route_cache";
        let handle = self.maps.handle(MAP, size_of::<RouteEntry>())?;
        let failed =
            |error: io::Error| DatapathError::Map { map: MAP, action: "read", reason: error.to_string() };
        let element = possible_cpus().map_err(failed)? * size_of::<RouteEntry>();
        let now = self.tick_now()?;
        let (mut keys, mut values) = (vec![0_u32; BATCH as usize], vec![0_u8; BATCH as usize * element]);
        let (mut found, mut next, end) = (BTreeSet::new(), 0, self.maps.entries(MAP));
        while next < end {
            let wanted = BATCH.min(end - next) as usize;
            let (keys, values) = (&mut keys[..wanted], &mut values[..wanted * element]);
            let read = syscall::lookup_batch(handle, next, keys, values).map_err(failed)?;
            if read == 0 {
                break;
            }
            let entries = values[..read * element].chunks_exact(size_of::<RouteEntry>());
            let entries = entries.filter_map(|bytes| RouteEntry::read_from_bytes(bytes).ok());
            found.extend(
                entries.filter(|entry| is_unanswered(entry, now)).map(|entry| IpAddr::from(entry.address)),
            );
            next = next.saturating_add(u32::try_from(read).unwrap_or(u32::MAX));
        }
        Ok(found)
    }
}

/// The program asked for it in vain, and not long ago: a place of one who has gone keeps its note until somebody else needs the place.
fn is_unanswered(entry: &RouteEntry, now: u16) -> bool {
    let is_recent = now.wrapping_sub(entry.tick) <= RECENT_TICKS;
    entry.interface == 0 && entry.address != Address::default() && is_recent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_was_asked_for_in_vain_a_moment_ago_is_unanswered() {
        let address = Address::from(IpAddr::from([192, 0, 2, 1]));
        let entry = RouteEntry { address, tick: u16::MAX, ..RouteEntry::default() };
        assert!(is_unanswered(&entry, u16::MAX) && is_unanswered(&entry, RECENT_TICKS - 1));
        assert!(!is_unanswered(&entry, RECENT_TICKS), "too long ago");
        assert!(!is_unanswered(&RouteEntry { interface: 2, ..entry }, u16::MAX), "there was a way");
        assert!(!is_unanswered(&RouteEntry::default(), 0), "an empty place");
    }
}
