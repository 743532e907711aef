//! What the kernel's tables say of backends when a daemon starts.
//!
//! In: the tables of an earlier run ([`Image`]), what is configured now. Out: who took flows, and the ways to them with the source
//! addresses that were in use: good until checks and the kernel have spoken. Invariant: a membership that begins with it asks the
//! tables for nothing new of a backend whose configuration is as it was.

use lb_common::next_hop_kind;
use zerocopy::IntoBytes as _;

use crate::desired::{DesiredNextHop, PoolKey, Variant};
use crate::image::{BackendView, Image};
use crate::membership::{MemberId, Pinned, WayState};
use crate::spec::{DatapathSpec, Name};

impl Pinned {
    /// What these tables say; `datapath`: what is configured now.
    pub(super) fn of(image: &Image, datapath: &DatapathSpec) -> Self {
        let mut pinned = Self::default();
        for pool in image.pools() {
            let Some(key) = pool.key else { continue };
            let Ok(name) = key.name.parse::<Name>() else { continue };
            for backend in pool.backends {
                // An older entry beside the one that new flows go to only keeps what it has.
                let held =
                    pinned.members.entry(MemberId { pool: name.clone(), address: backend.key }).or_default();
                held.takes_new |= backend.takes_new;
                held.keeps |= backend.keeps;
                pinned.note_way(image, &key, &backend, datapath);
            }
        }
        pinned
    }

    fn note_way(&mut self, image: &Image, key: &PoolKey, backend: &BackendView, datapath: &DatapathSpec) {
        let configured = match key.variant {
            Variant::Any => &datapath.tunnel_source,
            Variant::V4 | Variant::V6 => &datapath.snat,
        };
        let ip = backend.key.ip;
        // Where sources are configured they do not come of the way.
        let is_own = !configured.iter().any(|source| source.is_ipv4() == ip.is_ipv4());
        let source = backend.source.filter(|_| is_own);
        let known = self.ways.remove(&ip);
        let before = known.as_ref().and_then(source_of);
        let source = if backend.takes_new { source.or(before) } else { before.or(source) };
        let way = match next_hop(image, backend.next_hop) {
            Some(hop) => Some(WayState::Resolved { hop, source }),
            // The program needs none for it.
            None if backend.takes_new && known.is_none() => Some(WayState::Unneeded { source }),
            None => known,
        };
        self.ways.extend(way.map(|way| (ip, way)));
    }
}

fn source_of(way: &WayState) -> Option<std::net::IpAddr> {
    match way {
        WayState::Resolved { source, .. } | WayState::Unneeded { source } => *source,
        WayState::Resolving | WayState::Unresolved { .. } => None,
    }
}

/// A next hop of the tables.
fn next_hop(image: &Image, index: u32) -> Option<DesiredNextHop> {
    let hop = image.next_hops.get(index as usize)?;
    if index == 0 || hop.kind == 0 {
        return None;
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l] = <[u8; 12]>::try_from(hop.ethernet.as_bytes()).ok()?;
    Some(DesiredNextHop {
        interface: hop.interface,
        destination_mac: [a, b, c, d, e, f],
        source_mac: [g, h, i, j, k, l],
        mtu: hop.mtu,
        local: hop.kind == next_hop_kind::LOCAL,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::health::Health;
    use crate::membership::{Event, Membership, Millis, Start};
    use crate::plan::tests::model::{World, way};

    fn file(forward: &str, datapath: &str) -> Arc<crate::spec::Spec> {
        let text = format!(
            "[datapath]\ninterfaces = [\"eth0\"]\n{datapath}\n[[service]]\nname = \"web\"\nforward = \"{forward}\"\n\
             listen = [\"203.0.113.10:80/tcp\"]\nbackends = [\"10.0.0.1\", \"10.0.0.2\"]\n"
        );
        Arc::new(config::parse(&text, "f").unwrap().spec)
    }

    /// A restart writes nothing into the tables of a pool that is as it was, and nobody of it is out until checks have spoken.
    #[test]
    fn a_restart_asks_nothing_new_of_the_tables() {
        let cases = [
            ("full-nat", ""),
            ("full-nat", "snat = [\"192.0.2.7\", \"192.0.2.8\"]"),
            ("ipip", ""),
            ("ipip", "tunnel_source = [\"192.0.2.9\"]"),
            ("nat", ""),
            ("dsr", ""),
        ];
        for (forward, datapath) in cases {
            let start = Start { file: file(forward, datapath), ..Start::default() };
            let mut before = Membership::start(Millis(0), start.clone()).unwrap().membership;
            for ip in before.next_hop_targets() {
                let state = WayState::Resolved { hop: way(1), source: Some("192.0.2.1".parse().unwrap()) };
                before.handle(Millis(0), Event::Way { ip, state });
            }
            for target in before.health_targets() {
                let detail = Arc::from("connected");
                before.handle(Millis(0), Event::Health { id: target.id, health: Health::Healthy, detail });
            }
            let mut world = World::new();
            world.go_to(before.desired());
            world.restart();
            let pinned = Pinned::of(&world.image, &start.file.datapath);
            let after = Membership::start(Millis(0), Start { pinned, ..start }).unwrap().membership;
            assert!(
                after.pool_views(&[])[0].backends.iter().all(|backend| backend.eligible),
                "{forward} {datapath}"
            );
            assert_eq!(after.desired().pools, before.desired().pools, "{forward} {datapath}");
            assert_eq!(after.desired().next_hops, before.desired().next_hops, "{forward} {datapath}");
        }
    }
}
