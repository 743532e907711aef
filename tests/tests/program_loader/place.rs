//! Where a datapath lives in these tests, and how it is looked at from outside.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lb_userspace::datapath::{Datapath, DatapathError, Demand, InterfaceState, Tuning, detach};
use lb_userspace::spec::{AttachMode, DatapathSpec};
use lb_userspace::store::{Store, Table};
use lbd_tests::netns::link::{End, Mac, Receive, connect};
use lbd_tests::netns::{Namespace, output_of};
use lbd_tests::run_dir::pins;

pub(super) const INTERFACE: &str = "lb0";

/// A namespace with a veth pair, a pin directory and a seed file.
pub(super) struct Place {
    pub(super) namespace: Namespace,
    pub(super) spec: DatapathSpec,
    _files: tempfile::TempDir,
}

impl Place {
    pub(super) fn new(label: &str) -> Result<Self> {
        let namespace = Namespace::new(label)?;
        cable(&namespace)?;
        let files = tempfile::tempdir()?;
        let spec = DatapathSpec {
            interfaces: vec![INTERFACE.into()],
            mode: AttachMode::Native,
            flows: 1024,
            pin: namespace.run_dir().new_pin_dir()?,
            seed_file: files.path().join("seed"),
            ..DatapathSpec::default()
        };
        Ok(Self { namespace, spec, _files: files })
    }

    pub(super) fn demand(&self) -> Demand {
        Demand {
            listeners: 2,
            pools: 1,
            backends: 3,
            maglev_slots: 1021,
            spare_slots: 0,
            flows: self.spec.flows,
        }
    }

    pub(super) fn open(&self) -> Result<Datapath, DatapathError> {
        self.namespace
            .run(|| Datapath::open(&self.spec, Tuning::default(), &self.demand()))
            .expect("the namespace can be entered")
    }

    /// Opens and attaches; every interface must have been had.
    pub(super) fn start(&self) -> Result<Datapath> {
        let mut datapath = self.open()?;
        self.attach(&mut datapath)?;
        Ok(datapath)
    }

    pub(super) fn attach(&self, datapath: &mut Datapath) -> Result<()> {
        let errors = self.namespace.run(|| datapath.attach())??;
        ensure!(errors.is_empty(), "{errors:?}");
        Ok(())
    }

    pub(super) fn maps(&self) -> PathBuf {
        pins(&self.spec.pin).join("maps")
    }

    pub(super) fn state(&self, datapath: &Datapath) -> Result<InterfaceState> {
        self.namespace.run(|| datapath.interfaces())?.pop().context("no interface")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.namespace.run(|| detach(&self.spec.pin));
    }
}

pub(super) fn cable(namespace: &Namespace) -> Result<()> {
    let end = |interface, member, receive| End { namespace, interface, mac: Mac::local(9, member), receive };
    connect(end(INTERFACE, 1, Receive::Plain), end("peer0", 2, Receive::XdpPass), 1500)
}

pub(super) fn link_id(place: &Place) -> Result<String> {
    let shown = output_of(place.namespace.command("ip").args(["-d", "link", "show", "dev", INTERFACE]))?;
    let id = shown.split("prog/xdp id ").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(id.unwrap_or("none").to_owned())
}

/// Backend word 5 of entry 1 is written and must be found again.
pub(super) fn mark(datapath: &mut Datapath) -> Result<()> {
    Ok(datapath.write(Table::Backends, 13, &[0x1234_5678])?)
}

pub(super) fn marked(datapath: &Datapath) -> Result<bool> {
    let mut word = [0];
    datapath.read(Table::Backends, 13, &mut word)?;
    Ok(word == [0x1234_5678])
}
