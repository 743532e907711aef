//! The datapath's interfaces: the program put on them and taken off, and where packets may be redirected to.

use std::os::fd::AsFd;

use lb_common::InterfaceCounters;
use zerocopy::IntoBytes;

use super::Datapath;
use crate::datapath::attach::{InterfaceState, Outcome};
use crate::datapath::load::BALANCER;
use crate::datapath::{DatapathError, netlink, syscall};
use crate::spec::AttachMode;

impl Datapath {
    /// Puts the program on every listed interface, and off those no longer listed. Called again it mends what changed
    /// since (an interface that came back). The answer has an error for each interface that could not be had; the
    /// others carry the program.
    ///
    /// # Errors
    /// [`DatapathError`] of what concerns all interfaces.
    pub fn attach(&mut self) -> Result<Vec<DatapathError>, DatapathError> {
        if self.staged.is_some() {
            self.take_over()?;
        }
        let mut errors = Vec::new();
        for name in self.interfaces.clone() {
            match self.attach_one(&name) {
                Err(error) => errors.push(error),
                Ok(Outcome::Attached) => {}
                Ok(Outcome::NeedsGeneric) => {
                    self.reload(self.tuning.clone(), true)?;
                    errors.extend(self.attach_one(&name).err());
                }
            }
        }
        for name in self.links.names() {
            if !self.interfaces.contains(&name) && self.probe.as_ref() != Some(&name) {
                self.links.detach(&name)?;
            }
        }
        self.fill_devices()?;
        Ok(errors)
    }

    /// Puts the program on the interface that checks through services come in by. It is none of the listed ones, and nobody is shown it.
    ///
    /// # Errors
    /// [`DatapathError`]; such checks find nothing out then.
    pub fn attach_probe(&mut self, name: &str) -> Result<(), DatapathError> {
        self.probe = Some(name.to_owned());
        // What came in by the driver's hook leaves by the driver's: an interface that has generic mode alone would lose it.
        let mode = if self.is_generic { AttachMode::Generic } else { AttachMode::Auto };
        let outcome = self.links.attach(name, mode, self.programs.fd(BALANCER)?, self.is_generic)?;
        if outcome == Outcome::NeedsGeneric {
            self.reload(self.tuning.clone(), true)?;
            self.links.attach(name, AttachMode::Generic, self.programs.fd(BALANCER)?, true)?;
        }
        self.fill_devices()
    }

    /// Takes the program off that interface again.
    ///
    /// # Errors
    /// [`DatapathError`]: its pin cannot be removed.
    pub fn detach_probe(&mut self) -> Result<(), DatapathError> {
        let Some(name) = self.probe.take() else { return Ok(()) };
        self.links.detach(&name)?;
        self.fill_devices()
    }

    fn attach_one(&mut self, name: &str) -> Result<Outcome, DatapathError> {
        self.links.attach(name, self.mode, self.programs.fd(BALANCER)?, self.is_generic)
    }

    /// The interfaces a packet may be redirected to are the listed ones that are there.
    pub(super) fn fill_devices(&self) -> Result<(), DatapathError> {
        let failed = |error: std::io::Error| DatapathError::Map {
            map: "devices",
            action: "list the interfaces",
            reason: error.to_string(),
        };
        let devices = self.maps.handle("devices", size_of::<[u32; 2]>())?;
        let names = self.interfaces.iter().chain(&self.probe);
        let indexes: Vec<u32> = names.filter_map(|name| netlink::index(name)).collect();
        for index in syscall::keys(devices.as_fd()).map_err(failed)? {
            if !indexes.contains(&index) {
                syscall::delete(devices.as_fd(), index).map_err(failed)?;
            }
        }
        for index in indexes {
            // `struct bpf_devmap_val`: the interface, and no program to run on the way out.
            let value = [index, 0];
            syscall::update(devices.as_fd(), index, value.as_bytes()).map_err(failed)?;
        }
        Ok(())
    }

    /// Every listed interface as it is now.
    pub fn interfaces(&self) -> Vec<InterfaceState> {
        self.links.states(&self.interfaces, |index| self.counters().transmitted(index))
    }

    /// The counters of a listed interface; `None`: it is not listed, or not there.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn interface_counters(&self, name: &str) -> Result<Option<InterfaceCounters>, DatapathError> {
        // Asked for each interface in turn: only its index is looked up, not how all of them do.
        let listed = self.interfaces.iter().find(|listed| *listed == name);
        let index = listed.and_then(|name| netlink::index(name));
        index.map(|index| self.counters().interface(index)).transpose()
    }
}
