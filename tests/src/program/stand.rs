//! The program as a machine for the named cases: tables as a case describes them, written word by word into the maps.
//!
//! In: features and flows, worlds, frames. Out: what the loaded program made of each frame, and every counter. Beside it the host
//! model over tables of the same sizes with the same seed ([`Stand::twin`]). Invariant: program, maps, constants and counters are the
//! daemon's own; only what lies in the maps is a case's, so that it can be what no daemon would write.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{DevMapHash, Map, MapData};
use lb_common::Settings;
use lb_datapath::pipeline::Verdict;
use lb_datapath::testing::cases::world::{IDS, Place};
use lb_datapath::testing::cases::{Counts, Host, Machine, World};
use lb_datapath::testing::{Counters, HostTables};
use lb_userspace::datapath::flows::Flow;
use lb_userspace::datapath::{Datapath, Demand, Tuning, detach};
use lb_userspace::spec::{DatapathSpec, TimeoutSpec};
use lb_userspace::store::{Store, Table};
use zerocopy::{FromBytes, IntoBytes};

use super::bpf::Program;
use super::rig;
use crate::capability::Capability;
use crate::netns::Namespace;
use crate::run_dir::pins;

/// See the module.
#[derive(Debug)]
pub struct Stand {
    /// The namespace that frames are taken in.
    pub namespace: Arc<Namespace>,
    datapath: Datapath,
    program: Program,
    explainer: Program,
    place: Place,
    spec: DatapathSpec,
    _files: tempfile::TempDir,
}

impl Stand {
    /// Loads the program with these `FEATURE_*`, over tables for so many flows.
    pub fn new(label: &str, features: u32, flows: u32) -> Result<Self> {
        Self::loaded_with(label, features, flows, None)
    }

    /// The same with no more than these capabilities.
    pub fn loaded_with(
        label: &str,
        features: u32,
        flows: u32,
        capabilities: Option<&[Capability]>,
    ) -> Result<Self> {
        let namespace = Arc::new(rig::namespace(label)?);
        let place = Place { ingress: rig::cable(&namespace)?, other: rig::second_cable(&namespace)? };
        let files = tempfile::tempdir()?;
        let spec = DatapathSpec {
            flows,
            pin: namespace.run_dir().new_pin_dir()?,
            seed_file: files.path().join("seed"),
            ..DatapathSpec::default()
        };
        std::fs::write(&spec.seed_file, rig::SEED.repeat(16))?;
        // Nothing expires while a case goes on.
        let hour = Duration::from_secs(3600);
        let timeouts = TimeoutSpec { tcp: hour, tcp_syn: hour, tcp_closing: hour, udp: hour };
        let demand = Demand { flows, ..Demand::default() };
        let datapath = rig::open(&namespace, &spec, Tuning { features, timeouts }, &demand, capabilities)?;
        // What the process may do is added by the loader.
        let loaded = datapath.settings().features & !lb_common::FEATURE_PERFMON;
        ensure!(loaded == features, "the program has other features");
        let program = Program::from_pin(&pins(&spec.pin).join("programs/lbd"))?;
        let explainer = Program::from_pin(&pins(&spec.pin).join("programs/lbd_explain"))?;
        let devices = MapData::from_pin(pins(&spec.pin).join("maps/devices"))?;
        let mut devices = DevMapHash::try_from(Map::DevMapHash(devices))?;
        for interface in [place.ingress, place.other] {
            namespace.run(|| devices.insert(interface, interface, None, 0))??;
        }
        Ok(Self { namespace, datapath, program, explainer, place, spec, _files: files })
    }

    /// The host model with this program's constants.
    pub fn twin(&self) -> Result<Host> {
        let mut tables = HostTables::new(*self.datapath.settings(), IDS);
        tables.now = self.datapath.tick_now()?;
        Ok(Host::twin(tables, self.place))
    }

    /// The program's constants.
    pub fn settings(&self) -> &Settings {
        self.datapath.settings()
    }

    /// Forgets every flow.
    pub fn forget(&self) -> Result<()> {
        let now = self.datapath.tick_now()?;
        self.datapath.flows().flush(now, |_| true);
        Ok(())
    }

    fn write<T: FromBytes + IntoBytes>(&mut self, table: Table, entries: &mut [T]) -> Result<()> {
        let (chunks, rest) = entries.as_mut_bytes().as_chunks::<8>();
        ensure!(rest.is_empty(), "{table:?} is not made of words");
        let words: Vec<u64> = chunks.iter().map(|chunk| u64::from_ne_bytes(*chunk)).collect();
        self.datapath.write(table, 0, &words).with_context(|| format!("cannot write {table:?}"))
    }

    fn fill(&mut self, world: &World) -> Result<()> {
        let mut tables: HostTables = HostTables::new(*self.datapath.settings(), IDS);
        world.fill(&mut tables, self.place);
        self.datapath.announce_move(world.flows_move)?;
        self.write(Table::Directory, &mut tables.directory)?;
        self.write(Table::Services, &mut tables.services)?;
        self.write(Table::Pools, &mut tables.pools)?;
        self.write(Table::Maglev, &mut tables.maglev)?;
        self.write(Table::Backends, &mut tables.backends)?;
        self.write(Table::NextHops, &mut tables.next_hops)?;
        self.write(Table::Sources, &mut tables.sources)?;
        self.write(Table::EndpointFilter, &mut tables.endpoint_filter)
    }

    fn read_counters(&self) -> Result<Counters> {
        let counters = self.datapath.counters();
        let ids = u32::try_from(IDS)?;
        Ok(Counters {
            interfaces: counters.interfaces()?,
            services: counters.services(0, ids)?,
            backends: counters.backends(0, ids)?,
            reasons: counters.reasons_of(0, ids)?.concat(),
            flows: counters.flows()?,
        })
    }
}

impl Machine for Stand {
    fn become_world(&mut self, world: &World) -> Result<(), String> {
        self.fill(world).map_err(|error| format!("{error:#}"))
    }

    fn take(&mut self, frame: &[u8], headroom: Option<usize>) -> Result<(Verdict, Vec<u8>), String> {
        run(&self.program, frame, self.place.ingress, headroom)
    }

    fn counts(&self) -> Result<Counts, String> {
        let counters = self.read_counters().map_err(|error| format!("{error:#}"))?;
        Ok(Counts::of(&counters, self.place.ingress))
    }
}

/// Takes a frame through a program.
fn run(
    program: &Program,
    frame: &[u8],
    ingress: u32,
    headroom: Option<usize>,
) -> Result<(Verdict, Vec<u8>), String> {
    let ran = program.run_with_room(frame, ingress, headroom).map_err(|error| format!("{error:#}"))?;
    let verdict = match ran.code {
        1 => Verdict::Drop,
        2 => Verdict::Pass,
        3 => Verdict::Transmit,
        4 => Verdict::Redirect,
        code => return Err(format!("return code {code}")),
    };
    Ok((verdict, ran.frame))
}

/// A stand whose explaining program is asked before each frame: it must say what the program then does, and change nothing.
#[derive(Debug)]
pub struct Explained<'a>(pub &'a mut Stand);

impl Explained<'_> {
    /// Every counter and every flow.
    fn state(&self) -> Result<(Counts, Vec<Flow>), String> {
        let datapath = &self.0.datapath;
        let now = datapath.tick_now().map_err(|error| error.to_string())?;
        // Ages go on by themselves.
        let flows = datapath.flows().list(now, usize::MAX, |_| true).into_iter();
        let flows = flows.map(|flow| Flow { idle: Duration::ZERO, ..flow }).collect();
        Ok((self.0.counts()?, flows))
    }
}

impl Machine for Explained<'_> {
    fn become_world(&mut self, world: &World) -> Result<(), String> {
        self.0.become_world(world)
    }

    fn take(&mut self, frame: &[u8], headroom: Option<usize>) -> Result<(Verdict, Vec<u8>), String> {
        let before = self.state()?;
        let said = run(&self.0.explainer, frame, self.0.place.ingress, headroom)?;
        let after = self.state()?;
        if before != after {
            return Err(format!("explaining changed {before:?}\ninto {after:?}"));
        }
        let done = self.0.take(frame, headroom)?;
        if said.0 != done.0 || (done.0 != Verdict::Drop && said.1 != done.1) {
            return Err(format!("explained as {said:02x?}\nwhat became {done:02x?}"));
        }
        Ok(done)
    }

    fn counts(&self) -> Result<Counts, String> {
        self.0.counts()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // The lock is this process's own, so the pins go while the datapath is open.
        let _ = self.datapath.close(lb_userspace::spec::OnExit::Detach);
        let _ = detach(&self.spec.pin);
    }
}
