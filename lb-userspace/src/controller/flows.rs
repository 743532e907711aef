//! What nobody reports, looked at on the beat.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::effort::Effort;
use super::{Controller, Counters, Fault};
use crate::api::Counters as _;
use crate::api::types::Totals;
use crate::datapath::DatapathError;
use crate::membership::MemberId;
use crate::spec::Name;

impl Controller {
    /// An interface that vanished is said; one that came back carries the program again.
    pub(super) fn mend_interfaces(&mut self) {
        let missing = self.read_datapath().interfaces().iter().any(|state| state.mode.is_none());
        if !missing && !self.faults.contains_key(&Fault::Interfaces) {
            return;
        }
        let attached = self.write_datapath().attach();
        if self.note_attach_errors(&attached.unwrap_or_else(|error| vec![error])) {
            self.publish();
        }
    }

    /// What of the interfaces has changed that nobody reports: a mode, a peer that takes packets or no longer does. True: there is news.
    pub(super) fn look_at_interfaces(&mut self) -> bool {
        let states = self.read_datapath().interfaces();
        self.set_fault(Fault::Losses, states.iter().filter_map(|state| state.fault.clone()).collect());
        let is_news = states != self.interfaces;
        self.interfaces = states;
        is_news
    }

    /// Damaged files of the state directory that nobody has removed yet. True: there is news.
    pub(super) fn look_at_damage(&mut self) -> bool {
        self.damaged.retain(|path, _| path.exists());
        self.set_fault(Fault::Damage, self.damaged.values().cloned().collect())
    }

    /// Pins that somebody took away are made again; what cannot be is said. True: there is news.
    pub(super) fn keep_pins(&mut self) -> bool {
        let lost = self.read_datapath().lost_pins();
        let Some(first) = lost.first() else { return self.set_fault(Fault::Pins, Vec::new()) };
        let what = match lost.len() {
            1 => format!("the pin {} is gone", first.display()),
            count => format!("{count} pins are gone, {} among them", first.display()),
        };
        let again = self.write_datapath().pin_again();
        match again {
            Ok(()) => {
                tracing::warn!(
                    "{what}: somebody removed them or unmounted the BPF filesystem; they are made again"
                );
                self.set_fault(Fault::Pins, Vec::new())
            }
            Err(error) => {
                let sentence = format!(
                    "{what} and cannot be made again: without them the program ends when lbd does, and a restart begins \
                     anew: {error}"
                );
                self.set_fault(Fault::Pins, vec![sentence])
            }
        }
    }

    /// Why the program is not where it should be, for `degraded` and for each interface. True: it is another than before.
    pub(super) fn note_attach_errors(&mut self, errors: &[DatapathError]) -> bool {
        let of_interface = |error: &DatapathError| Some((error.interface()?.to_owned(), error.to_string()));
        self.not_attached = errors.iter().filter_map(of_interface).collect();
        self.set_fault(Fault::Interfaces, errors.iter().map(ToString::to_string).collect())
    }

    /// True: somebody has lost or found the way back through this host.
    pub(super) fn observe_return_paths(&mut self) -> bool {
        if Instant::now() < self.look_for_replies {
            return false;
        }
        let effort = Effort::begin();
        let is_news = self.observe_replies();
        self.look_for_replies = effort.again(Duration::ZERO);
        is_news
    }

    fn observe_replies(&mut self) -> bool {
        let translated: BTreeMap<MemberId, Totals> = {
            let views = self.membership.service_views();
            let pools: BTreeSet<&Name> = views
                .iter()
                .filter(|view| view.spec.forward.translates())
                .map(|view| &view.spec.pool)
                .collect();
            if pools.is_empty() {
                return false;
            }
            let all = self.counters().backends();
            all.into_iter().filter(|(id, _)| pools.contains(&id.pool)).collect()
        };
        let before = self.return_paths.lost().clone();
        let changed = self.return_paths.observe(self.clock.now(), &translated);
        for id in self.return_paths.lost().difference(&before) {
            tracing::warn!("backend {id}: {}", super::publish::NO_RETURN_PATH);
        }
        for id in before.difference(self.return_paths.lost()) {
            tracing::info!("backend {id}: replies come back through this host again");
        }
        changed
    }

    /// The kernel's counters under names.
    pub fn counters(&self) -> Counters {
        Counters {
            datapath: self.shared(),
            names: Arc::clone(&self.published.names),
            flows: Arc::clone(&self.published.flows),
            clock: self.clock,
        }
    }
}
