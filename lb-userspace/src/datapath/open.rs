//! The life of a datapath: opened over what is pinned, attached, reloaded, closed.
//!
//! In: the configuration's datapath part. Out: [`Datapath`]. Invariants: a program is on an interface only with a whole set
//! of maps; a set that cannot take over the old one's contents is filled by the first plan before it gets packets.

mod interfaces;
mod keep;
mod reload;
mod remove;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lb_common::FLOWS_MOVE;
use lb_datapath::cold::MOVE_TICKS;
use remove::remove_all;
pub use remove::{detach, foreign_pins};

use super::attach::Links;
use super::bpffs::Mounted;
use super::grace::Grace;
use super::load::{BALANCER, Programs};
use super::lock::Lock;
use super::maps::Maps;
use super::pins::{self, Adoption, Layout, Previous, Shape, Staged};
use super::seed::Seed;
use super::sizes::{Demand, Sizes};
use super::tuning::{self, Tick, Tuning};
use super::{DatapathError, bpffs, migrate, object, privilege, routes};
use crate::spec::{AttachMode, DatapathSpec};

/// The program in the kernel, its maps and its links. Dropping it leaves them as they are.
#[derive(Debug)]
pub struct Datapath {
    /// Shared with whoever walks the flow tables meanwhile ([`super::flows::WalkedTables`]).
    pub(super) maps: Arc<Maps>,
    pub(super) programs: Programs,
    pub(super) grace: Arc<Grace>,
    pub(super) tick: Tick,
    pub(super) settings: lb_common::Settings,
    object: Vec<u8>,
    pin: PathBuf,
    layout: Layout,
    interfaces: Vec<String>,
    /// The interface that checks through services come in by; not listed.
    probe: Option<String>,
    mode: AttachMode,
    seed: Seed,
    sizes: Sizes,
    tuning: Tuning,
    is_generic: bool,
    links: Links,
    adoption: Adoption,
    /// The set of maps that is not yet in the place of the old one.
    staged: Option<Staged>,
    /// An older version's pins, until the program is in the place of that version's.
    previous: Option<Previous>,
    lock: Arc<Lock>,
    /// The BPF filesystem, if it had to be mounted. Dropped after the lock, which keeps it busy.
    mounted: Option<Mounted>,
}

impl Datapath {
    /// Opens the pins, or makes them; loads the program; puts it on the interfaces that already carry it if the maps
    /// kept their contents.
    ///
    /// # Errors
    /// [`DatapathError`]; nothing on any interface has changed then, and nothing is left where nothing was.
    pub fn open(config: &DatapathSpec, tuning: Tuning, demand: &Demand) -> Result<Self, DatapathError> {
        let object = object::bytes()?;
        // Whatever ends the start: this is dropped last.
        let mut mounted = None;
        bpffs::prepare(&config.pin, &mut mounted)?;
        routes::allow();
        let lock = Arc::new(Lock::take(&config.pin)?);
        let is_new = !Layout::new(&config.pin).base().is_dir();
        let opened = Self::open_locked(config, tuning, demand, object, Arc::clone(&lock));
        if opened.is_err()
            && is_new
            && let Err(error) = undo(&config.pin)
        {
            tracing::warn!("{error}");
        }
        let mut datapath = opened?;
        datapath.mounted = mounted;
        Ok(datapath)
    }

    fn open_locked(
        config: &DatapathSpec,
        tuning: Tuning,
        demand: &Demand,
        object: Vec<u8>,
        lock: Arc<Lock>,
    ) -> Result<Self, DatapathError> {
        let layout = Layout::new(&config.pin);
        for directory in [layout.base().to_path_buf(), layout.links(), layout.programs()] {
            bpffs::make_directory(&directory).map_err(|error| pins::broken(&directory, &error))?;
        }
        let previous = Previous::find(&config.pin);
        let sizes = pins::present_sizes(&layout)
            .or_else(|| pins::present_sizes(&previous.as_ref()?.layout))
            .map_or_else(|| Sizes::of(demand), |present| Sizes::of(demand).at_least(&present));
        let wanted = pins::wanted(&object, &sizes)?;
        let staged = pins::stage(&layout, previous.as_ref(), &wanted)?;
        let mut links = Links::open(&layout)?;
        if let Some(previous) = &previous {
            links.inherit(&previous.layout)?;
        }
        let is_generic = config.mode == AttachMode::Generic || links.any_generic();
        let file_seed = Seed::load_or_create(&config.seed_file)?;
        let before = pins::Remembered::read(&staged.directory)?;
        let seed = Seed::choose(before.seed, file_seed, &config.seed_file);
        // The services in the maps are served until the first plan says otherwise.
        let tuning = Tuning { features: tuning.features | before.features, ..tuning };
        let tick = Tick::of_kernel();
        let settings = tuning::settings(&tuning, is_generic, &sizes, &seed, tick);
        let programs = Programs::load(&object, &settings, &staged.directory, &wanted)?;
        let maps = Arc::new(Maps::open(&staged.directory)?);
        let grace = Grace::new().map_err(|error| DatapathError::Load {
            what: "the wait for running programs".into(),
            reason: error.to_string(),
            remedy: "the kernel has neither membarrier nor maps of maps; see docs/kernel.md".into(),
        })?;
        let mut datapath = Self {
            maps,
            programs,
            grace: Arc::new(grace),
            tick,
            settings,
            object,
            pin: config.pin.clone(),
            layout,
            interfaces: config.interfaces.clone(),
            probe: None,
            mode: config.mode,
            seed,
            sizes,
            tuning,
            is_generic,
            links,
            adoption: staged.adoption.clone(),
            staged: Some(staged),
            previous,
            lock,
            mounted: None,
        };
        datapath.remember_seed();
        datapath.settle(&wanted)?;
        Ok(datapath)
    }

    fn remember_seed(&self) {
        if let Some(control) = self.maps.control.first() {
            for (word, seed) in control.seed.iter().zip(self.seed.words()) {
                word.store(seed);
            }
        }
    }

    /// Takes over the contents of maps made anew. A set that lacks something waits for the first plan, unless no
    /// packets depend on it yet.
    fn settle(&mut self, wanted: &BTreeMap<&'static str, Shape>) -> Result<(), DatapathError> {
        let is_whole = match &self.staged {
            Some(staged) => migrate::carry_over(staged, wanted, &self.maps)?,
            None => true,
        };
        if is_whole {
            self.carry_flows()?;
        }
        if let Adoption::Migrated { what } = &self.adoption {
            tracing::warn!(is_whole, "pinned maps did not fit and were made anew: {}", what.join("; "));
        }
        if is_whole || self.links.is_empty() { self.take_over() } else { Ok(()) }
    }

    /// Puts the loaded program on the links there are, and its maps in the place of the old ones.
    fn take_over(&mut self) -> Result<(), DatapathError> {
        let has_flows = self.staged.as_ref().is_some_and(migrate::has_flows);
        if has_flows {
            self.announce_move(true)?;
        }
        self.links.replace(self.programs.fd(BALANCER)?)?;
        self.carry_flows()?;
        if has_flows {
            self.announce_move(false)?;
        }
        if let Some(staged) = self.staged.take() {
            pins::commit(&self.layout, &staged)?;
        }
        self.programs.pin(&self.layout.programs())?;
        let Some(previous) = self.previous.take() else { return Ok(()) };
        // Last of all: until here a start begins from it again.
        self.links.pin()?;
        let base = previous.layout.base();
        bpffs::remove_tree(base).map_err(|error| pins::broken(base, &error))
    }

    /// Tells the program that flows are on their way into its tables, or that all are there. It does not count on hearing the end.
    ///
    /// # Errors
    /// [`DatapathError::Load`]: the program's clock cannot be read.
    pub fn announce_move(&self, is_on: bool) -> Result<(), DatapathError> {
        let until = self.tick_now()?.wrapping_add(MOVE_TICKS);
        if let Some(control) = self.maps.control.first() {
            control.flows_move.store(if is_on { FLOWS_MOVE | u64::from(until) } else { 0 });
        }
        Ok(())
    }

    /// Brings live flows into flow tables made anew, or into a reply index.
    fn carry_flows(&self) -> Result<(), DatapathError> {
        let Some(staged) = self.staged.as_ref().filter(|staged| migrate::has_flows(staged)) else {
            return Ok(());
        };
        // Most of them at once; then what packets that the program before was at work on have left in the old tables.
        let now = self.tick_now()?;
        migrate::carry_flows(staged, &self.maps, &self.settings, now)?;
        self.grace.wait().map_err(|error| DatapathError::Load {
            what: "the flows of the old tables".into(),
            reason: error.to_string(),
            remedy: privilege::remedy(Some(&error)),
        })?;
        let carried = migrate::carry_flows(staged, &self.maps, &self.settings, now)?;
        tracing::info!(carried.flows, carried.without_room, "carried flows into tables made anew");
        Ok(())
    }

    /// Maps that were made anew take the place of the old ones; call it when the plan for them was applied.
    ///
    /// # Errors
    /// [`DatapathError`]; the old ones stay.
    pub fn settle_maps(&mut self) -> Result<(), DatapathError> {
        if self.staged.is_some() { self.take_over() } else { Ok(()) }
    }

    /// What was found under the pin path.
    pub fn adoption(&self) -> &Adoption {
        &self.adoption
    }

    /// The load-time constants of the program in use: what hashing and planning need.
    pub fn settings(&self) -> &lb_common::Settings {
        &self.settings
    }

    /// The wait for running programs, for whoever waits beside the owner.
    pub(crate) const fn grace(&self) -> &Arc<Grace> {
        &self.grace
    }

    /// The secret in use.
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// The entries of the maps.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Tells the program that routes or neighbours changed: what it cached is looked up anew.
    pub fn bump_route_generation(&self) {
        if let Some(control) = self.maps.control.first() {
            control.route_generation.store(control.route_generation.load().wrapping_add(1));
        }
    }
}

/// Removes what a start has made that failed. Links that another version has pinned too go on.
fn undo(pin: &Path) -> Result<(), DatapathError> {
    if Previous::find(pin).is_none() {
        return remove_all(pin);
    }
    let layout = Layout::new(pin);
    bpffs::remove_tree(layout.base()).map_err(|error| pins::broken(layout.base(), &error))
}
