//! The life of a datapath: opened over what is pinned, attached, reloaded, closed.
//!
//! In: the configuration's datapath part. Out: [`Datapath`]. Invariants: a program is on an interface only with a whole set
//! of maps; a set that cannot take over the old one's contents is filled by the first plan before it gets packets.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zerocopy::IntoBytes;

use super::attach::{InterfaceState, Links, Outcome};
use super::grace::Grace;
use super::load::{BALANCER, Programs};
use super::lock::Lock;
use super::maps::Maps;
use super::pins::{self, Adoption, Layout, Shape, Staged};
use super::seed::Seed;
use super::sizes::{Demand, Sizes};
use super::tuning::{self, Tick, Tuning};
use super::{DatapathError, bpffs, migrate, object, privilege, routes, syscall};
use crate::spec::{AttachMode, DatapathSpec, OnExit};

/// The program in the kernel, its maps and its links. Dropping it leaves them as they are.
#[derive(Debug)]
pub struct Datapath {
    pub(super) maps: Maps,
    pub(super) programs: Programs,
    pub(super) grace: Grace,
    pub(super) tick: Tick,
    pub(super) settings: lb_common::Settings,
    object: Vec<u8>,
    pin: PathBuf,
    layout: Layout,
    interfaces: Vec<String>,
    mode: AttachMode,
    seed: Seed,
    sizes: Sizes,
    tuning: Tuning,
    is_generic: bool,
    links: Links,
    adoption: Adoption,
    /// The set of maps that is not yet in the place of the old one.
    staged: Option<Staged>,
    _lock: Arc<Lock>,
}

impl Datapath {
    /// Opens the pins, or makes them; loads the program; puts it on the interfaces that already carry it if the maps
    /// kept their contents.
    ///
    /// # Errors
    /// [`DatapathError`]; nothing on any interface has changed then, and nothing is left where nothing was.
    pub fn open(config: &DatapathSpec, tuning: Tuning, demand: &Demand) -> Result<Self, DatapathError> {
        let object = object::bytes()?;
        bpffs::prepare(&config.pin)?;
        routes::allow();
        let lock = Arc::new(Lock::take(&config.pin)?);
        let is_new = !Layout::new(&config.pin).base().is_dir();
        let opened = Self::open_locked(config, tuning, demand, object, Arc::clone(&lock));
        if opened.is_err()
            && is_new
            && let Err(error) = remove_all(&config.pin)
        {
            tracing::warn!("{error}");
        }
        opened
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
        let sizes = pins::present_sizes(&layout)
            .map_or_else(|| Sizes::of(demand), |present| Sizes::of(demand).at_least(&present));
        let wanted = pins::wanted(&object, &sizes)?;
        let staged = pins::stage(&layout, &wanted)?;
        let links = Links::open(&layout)?;
        let is_generic = config.mode == AttachMode::Generic || links.any_generic();
        let file_seed = Seed::load_or_create(&config.seed_file)?;
        let before = pins::Remembered::read(&staged.directory)?;
        let seed = Seed::choose(before.seed, file_seed, &config.seed_file);
        // The services in the maps are served until the first plan says otherwise.
        let tuning = Tuning { features: tuning.features | before.features, ..tuning };
        let tick = Tick::of_kernel();
        let settings = tuning::settings(&tuning, is_generic, &sizes, &seed, tick);
        let programs = Programs::load(&object, &settings, &staged.directory, &wanted)?;
        let maps = Maps::open(&staged.directory)?;
        let grace = Grace::new().map_err(|error| DatapathError::Load {
            what: "the wait for running programs".into(),
            reason: error.to_string(),
            remedy: "the kernel has neither membarrier nor maps of maps; see docs/kernel.md".into(),
        })?;
        let mut datapath = Self {
            maps,
            programs,
            grace,
            tick,
            settings,
            object,
            pin: config.pin.clone(),
            layout,
            interfaces: config.interfaces.clone(),
            mode: config.mode,
            seed,
            sizes,
            tuning,
            is_generic,
            links,
            adoption: staged.adoption.clone(),
            staged: Some(staged),
            _lock: lock,
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
        self.links.replace(self.programs.fd(BALANCER)?)?;
        self.carry_flows()?;
        if let Some(staged) = self.staged.take() {
            pins::commit(&self.layout, &staged)?;
        }
        self.programs.pin(&self.layout.programs())
    }

    /// Brings live flows into flow tables made anew.
    fn carry_flows(&self) -> Result<(), DatapathError> {
        let Some(staged) = self.staged.as_ref().filter(|staged| migrate::has_flows(staged)) else {
            return Ok(());
        };
        // Packets that the program before was at work on are in the old tables after this.
        self.grace.wait().map_err(|error| DatapathError::Load {
            what: "the flows of the old tables".into(),
            reason: error.to_string(),
            remedy: privilege::remedy(Some(&error)),
        })?;
        let carried = migrate::carry_flows(staged, &self.maps, &self.settings, self.tick_now()?)?;
        tracing::info!(carried.flows, carried.without_room, "carried flows into tables of another size");
        Ok(())
    }

    /// Maps that were made anew take the place of the old ones; call it when the plan for them was applied.
    ///
    /// # Errors
    /// [`DatapathError`]; the old ones stay.
    pub fn settle_maps(&mut self) -> Result<(), DatapathError> {
        if self.staged.is_some() { self.take_over() } else { Ok(()) }
    }

    /// Directories under the pin path that another version of lbd left: this one can neither use nor follow them.
    pub fn foreign_pins(&self) -> Vec<PathBuf> {
        foreign_pins(&self.pin)
    }

    /// What was found under the pin path.
    pub fn adoption(&self) -> &Adoption {
        &self.adoption
    }

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
    fn fill_devices(&self) -> Result<(), DatapathError> {
        let failed = |error: std::io::Error| DatapathError::Map {
            map: "devices",
            action: "list the interfaces",
            reason: error.to_string(),
        };
        let devices = self.maps.handle("devices", size_of::<[u32; 2]>())?;
        let indexes: Vec<u32> =
            self.interfaces().into_iter().map(|state| state.index).filter(|index| *index != 0).collect();
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
        self.interfaces.iter().map(|name| self.links.state(name)).collect()
    }

    /// Takes in what a reload changes: loads the program anew, over larger maps if `demand` outgrew them, and puts it in
    /// the place of the present one. Call it before the plan is applied. True: maps were made anew, so read an
    /// [image](crate::image::Image) of them, plan on that, and call [`Self::attach`] after the plan was applied.
    ///
    /// # Errors
    /// [`DatapathError`]; the present program stays.
    pub fn reconfigure(&mut self, tuning: Tuning, demand: &Demand) -> Result<bool, DatapathError> {
        let sizes = Sizes::of(demand).at_least(&self.sizes);
        let sizes =
            Sizes { flow_buckets: self.sizes.flow_buckets, reply_buckets: self.sizes.reply_buckets, ..sizes };
        if sizes != self.sizes {
            self.grow(tuning, sizes).map(|()| true)
        } else if tuning != self.tuning {
            self.reload(tuning, self.is_generic).map(|()| false)
        } else {
            Ok(false)
        }
    }

    fn grow(&mut self, tuning: Tuning, sizes: Sizes) -> Result<(), DatapathError> {
        if self.staged.is_some() {
            self.take_over()?;
        }
        let wanted = pins::wanted(&self.object, &sizes)?;
        let staged = pins::stage(&self.layout, &wanted)?;
        let settings = tuning::settings(&tuning, self.is_generic, &sizes, &self.seed, self.tick);
        self.programs = Programs::load(&self.object, &settings, &staged.directory, &wanted)?;
        self.maps = Maps::open(&staged.directory)?;
        (self.settings, self.tuning, self.sizes) = (settings, tuning, sizes);
        self.adoption = staged.adoption.clone();
        self.staged = Some(staged);
        self.settle(&wanted)?;
        self.fill_devices()
    }

    fn reload(&mut self, tuning: Tuning, is_generic: bool) -> Result<(), DatapathError> {
        let settings = tuning::settings(&tuning, is_generic, &self.sizes, &self.seed, self.tick);
        let wanted = pins::wanted(&self.object, &self.sizes)?;
        let programs = Programs::load(&self.object, &settings, &self.maps_directory(), &wanted)?;
        self.links.replace(programs.fd(BALANCER)?)?;
        if self.staged.is_none() {
            programs.pin(&self.layout.programs())?;
        }
        self.programs = programs;
        self.settings = settings;
        self.tuning = tuning;
        self.is_generic = is_generic;
        Ok(())
    }

    fn maps_directory(&self) -> PathBuf {
        self.staged.as_ref().map_or_else(|| self.layout.maps(), |staged| staged.directory.clone())
    }

    /// The load-time constants of the program in use: what hashing and planning need.
    pub fn settings(&self) -> &lb_common::Settings {
        &self.settings
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

    /// Ends the daemon's hold; drop the datapath after it: the kernel goes on forwarding (`keep`), or everything is removed (`detach`).
    ///
    /// # Errors
    /// [`DatapathError`] if something pinned cannot be removed.
    pub fn close(&mut self, on_exit: OnExit) -> Result<(), DatapathError> {
        match on_exit {
            OnExit::Keep => Ok(()),
            OnExit::Detach => remove_all(&self.pin),
        }
    }
}

/// Removes program, pins and maps of a pin path. The answer names the interfaces that carried the program.
///
/// # Errors
/// [`DatapathError::Locked`] while a daemon runs; [`DatapathError::Pin`] if something cannot be removed.
pub fn detach(pin: &Path) -> Result<Vec<String>, DatapathError> {
    if !bpffs::is_prepared(pin) {
        return Ok(Vec::new());
    }
    let _lock = Lock::take(pin)?;
    let interfaces = bpffs::names(&Layout::new(pin).links()).map_err(|error| pins::broken(pin, &error))?;
    remove_all(pin)?;
    Ok(interfaces.iter().map(|file| pins::link_interface(file)).collect())
}

/// Directories of pins under this path that are of another ABI.
pub fn foreign_pins(pin: &Path) -> Vec<PathBuf> {
    let own = Layout::new(pin);
    let is_version = |name: &str| name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok());
    // A directory that cannot be read is told of by whoever has to use it.
    let names = bpffs::names(pin).unwrap_or_default();
    let directories = names.iter().filter(|name| is_version(name)).map(|name| pin.join(name));
    directories.filter(|directory| directory != own.base()).collect()
}

/// Links first: they keep program and maps alive.
fn remove_all(pin: &Path) -> Result<(), DatapathError> {
    let layout = Layout::new(pin);
    if let Ok(mut links) = Links::open(&layout) {
        for name in links.names() {
            links.detach(&name)?;
        }
    }
    bpffs::remove_tree(layout.base()).map_err(|error| pins::broken(layout.base(), &error))?;
    match std::fs::remove_dir(pin) {
        // The pin path may itself be the mount point, or hold what is not ours.
        Err(error)
            if !matches!(
                error.raw_os_error(),
                Some(libc::EBUSY | libc::ENOTEMPTY | libc::EPERM | libc::EACCES | libc::ENOENT)
            ) =>
        {
            Err(pins::broken(pin, &error))
        }
        _ => Ok(()),
    }
}
