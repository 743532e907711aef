//! Every counter by a name that people can read, and how far they moved.
//!
//! In: [`Counters`], before and after. Out: names with what they gained. Invariant: a counter that has no name here does not
//! exist, so two equal [`Counts`] say that nothing else moved.

use std::collections::BTreeMap;

use lb_common::{BackendCounters, FlowCounters, InterfaceCounters, REASON_COUNT, Reason, ServiceCounters};

use crate::{pipeline::Verdict, testing::Counters};

/// Counters by name; those at 0 are left out.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counts(pub BTreeMap<String, u64>);

impl Counts {
    /// Every counter that is not 0. `ingress` is the interface that frames come in by.
    pub fn of(counters: &Counters, ingress: u32) -> Self {
        let mut counts = Self::default();
        let is_used = |interface: &InterfaceCounters| *interface != InterfaceCounters::default();
        for (index, interface) in counters.interfaces.iter().enumerate().filter(|(_, it)| is_used(it)) {
            let prefix =
                if index == ingress as usize { "ingress".into() } else { format!("interface {index}") };
            counts.interface(&prefix, interface);
        }
        for (id, service) in counters.services.iter().enumerate() {
            counts.service(&format!("service {id}"), service);
        }
        for (index, backend) in counters.backends.iter().enumerate() {
            counts.backend(&format!("backend {index}"), backend);
        }
        for (index, count) in counters.reasons.iter().enumerate().filter(|(_, count)| **count != 0) {
            let (service, number) = (index / REASON_COUNT as usize, index % REASON_COUNT as usize);
            let reason = u8::try_from(number).ok().and_then(Reason::from_number);
            let name = reason.map_or_else(|| format!("{number}"), |reason| reason.name().to_owned());
            counts.add(&format!("service {service} {name}"), *count);
        }
        for (table, flows) in ["v4", "wide"].into_iter().zip(&counters.flows) {
            counts.flows(&format!("flows {table}"), flows);
        }
        counts
    }

    /// Adds to the counter of this name.
    pub fn add(&mut self, name: &str, by: u64) {
        if by != 0 {
            *self.0.entry(name.to_owned()).or_default() += by;
        }
    }

    /// What these gained over `before`.
    ///
    /// # Panics
    /// If a counter went back.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut moved = Self::default();
        for (name, count) in &self.0 {
            let was = before.0.get(name).copied().unwrap_or_default();
            moved.add(name, count.checked_sub(was).unwrap_or_else(|| panic!("{name} went back")));
        }
        assert!(before.0.keys().all(|name| self.0.contains_key(name)), "a counter went back to 0");
        moved
    }

    /// These, those of backend `from` under the name of backend `to`.
    #[must_use]
    pub fn with_backend(&self, from: usize, to: usize) -> Self {
        let (from, to) = (format!("backend {from} "), format!("backend {to} "));
        Self(self.0.iter().map(|(name, count)| (name.replace(&from, &to), *count)).collect())
    }

    /// A verdict of the ingress interface.
    pub fn verdict(&mut self, verdict: Verdict) {
        let name = match verdict {
            Verdict::Pass => "pass",
            Verdict::Drop => "drop",
            Verdict::Transmit => "transmit",
            Verdict::Redirect => "redirect",
        };
        self.add(&format!("ingress {name}_packets"), 1);
    }

    fn interface(&mut self, prefix: &str, counters: &InterfaceCounters) {
        self.add(&format!("{prefix} pass_packets"), counters.pass_packets);
        self.add(&format!("{prefix} drop_packets"), counters.drop_packets);
        self.add(&format!("{prefix} transmit_packets"), counters.transmit_packets);
        self.add(&format!("{prefix} redirect_packets"), counters.redirect_packets);
    }

    fn service(&mut self, prefix: &str, counters: &ServiceCounters) {
        self.add(&format!("{prefix} packets"), counters.packets);
        self.add(&format!("{prefix} bytes"), counters.bytes);
        self.add(&format!("{prefix} new_flows"), counters.new_flows);
        self.add(&format!("{prefix} reply_packets"), counters.reply_packets);
        self.add(&format!("{prefix} reply_bytes"), counters.reply_bytes);
    }

    fn backend(&mut self, prefix: &str, counters: &BackendCounters) {
        self.add(&format!("{prefix} packets"), counters.packets);
        self.add(&format!("{prefix} bytes"), counters.bytes);
        self.add(&format!("{prefix} new_flows"), counters.new_flows);
        self.add(&format!("{prefix} continued_flows"), counters.continued_flows);
        self.add(&format!("{prefix} repeated_syns"), counters.repeated_syns);
        self.add(&format!("{prefix} refused_flows"), counters.refused_flows);
        self.add(&format!("{prefix} reply_packets"), counters.reply_packets);
        self.add(&format!("{prefix} reply_bytes"), counters.reply_bytes);
    }

    fn flows(&mut self, prefix: &str, counters: &FlowCounters) {
        self.add(&format!("{prefix} inserted"), counters.inserted);
        self.add(&format!("{prefix} evicted"), counters.evicted);
        self.add(&format!("{prefix} not_stored"), counters.not_stored);
        self.add(&format!("{prefix} reselected"), counters.reselected);
    }
}
