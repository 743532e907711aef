//! The datapath's interfaces: the program put on them and taken off, and where packets may be redirected to.

use std::os::fd::AsFd;

use lb_common::InterfaceCounters;
use zerocopy::IntoBytes;

use super::Datapath;
use crate::datapath::attach::{InterfaceState, Outcome};
use crate::datapath::load::BALANCER;
use crate::datapath::{DatapathError, netlink, syscall};

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
            if !self.interfaces.contains(&name) {
                self.links.detach(&name)?;
            }
        }
        self.fill_devices()?;
        Ok(errors)
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
        let indexes: Vec<u32> = self.interfaces.iter().filter_map(|name| netlink::index(name)).collect();
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
