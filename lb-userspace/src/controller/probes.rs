//! The way of checks through services: made when one needs it, mended, removed with the last.
//!
//! In: what the membership checks, what netlink says of the way. Out: the program on it, and the word to the checks that it is there.
//! Invariant: a check leaves only while the way is whole, so that a fault of this host's is no backend's.

use super::{Controller, Fault};
use crate::health::Prober;
use crate::netlink::{ProbePath, ProbeWish, make_probe_path};
use crate::spec::{PROBE_INNER, PROBE_OUTER};

/// The controller's part of it.
#[derive(Debug)]
pub(super) struct Probes {
    path: ProbePath,
    prober: Prober,
    /// What was asked for last; `None`: nothing yet.
    wish: Option<Option<ProbeWish>>,
}

impl Probes {
    pub(super) const fn new(path: ProbePath, prober: Prober) -> Self {
        Self { path, prober, wish: None }
    }
}

impl Controller {
    /// What the way has to carry; `None`: no check needs it.
    fn probe_wish(&self) -> Option<ProbeWish> {
        let families = self.membership.probe_families();
        let prefix = self.membership.file().datapath.probe_prefix;
        families.contains(&true).then_some(ProbeWish { prefix, families })
    }

    /// Makes the way before the first check leaves, or removes what an earlier run left.
    pub(super) async fn begin_probes(&mut self) {
        let wish = self.probe_wish();
        if let Some(wish) = wish {
            let made = make_probe_path(&wish).await;
            self.probes.wish = Some(Some(wish));
            self.take_probe_path(made.map_err(|error| error.to_string()));
        }
        self.probes.wish = Some(wish);
        self.probes.path.set(wish);
    }

    /// Asks for the way, or lets it go, as checks come and go.
    pub(super) fn follow_probes(&mut self) {
        let wish = self.probe_wish();
        if self.probes.wish == Some(wish) {
            return;
        }
        self.probes.wish = Some(wish);
        self.probes.prober.not_ready();
        if wish.is_none() {
            let detached = self.write_datapath().detach_probe();
            if let Err(error) = detached {
                tracing::warn!("{error}");
            }
            self.set_fault(Fault::Probes, Vec::new());
        }
        self.probes.path.set(wish);
    }

    /// How it stands with the way now.
    pub(super) fn take_probe_path(&mut self, result: Result<(), String>) {
        let Some(Some(wish)) = self.probes.wish else { return };
        // Replies find their way by the veth, which may be another now.
        self.read_datapath().bump_route_generation();
        let attached = result.and_then(|()| {
            self.write_datapath().attach_probe(PROBE_OUTER).map_err(|error| error.to_string())
        });
        match &attached {
            Ok(()) => {
                self.probes.prober.ready(PROBE_INNER, [true, false].map(|is_v4| wish.prefix.prober(is_v4)))
            }
            Err(_) => self.probes.prober.not_ready(),
        }
        let sentence = |reason| format!("checks with via = \"service\" find out nothing: {reason}");
        if self.set_fault(Fault::Probes, attached.err().map(sentence).into_iter().collect()) {
            self.publish();
        }
    }
}
