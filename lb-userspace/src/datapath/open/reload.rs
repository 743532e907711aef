//! Another program over the same maps, or over larger ones.

use std::path::PathBuf;
use std::sync::Arc;

use super::Datapath;
use crate::datapath::DatapathError;
use crate::datapath::load::{BALANCER, Programs};
use crate::datapath::maps::Maps;
use crate::datapath::pins;
use crate::datapath::sizes::{Demand, Sizes};
use crate::datapath::tuning::{self, Tuning};

impl Datapath {
    /// Takes in what a reload changes: loads the program anew, over larger maps if `demand` outgrew them, and puts it in
    /// the place of the present one. Call it before the plan is applied. True: maps were made anew, so read an
    /// [image](crate::image::Image) of them, plan on that, and call [`Self::attach`] after the plan was applied.
    ///
    /// # Errors
    /// [`DatapathError`]; the present program stays.
    pub fn reconfigure(&mut self, tuning: Tuning, demand: &Demand) -> Result<bool, DatapathError> {
        let sizes = self.sizes_for(demand);
        if sizes != self.sizes {
            self.grow(tuning, sizes).map(|()| true)
        } else if tuning != self.tuning {
            self.reload(tuning, self.is_generic).map(|()| false)
        } else {
            Ok(false)
        }
    }

    /// Whether larger maps than there are would be made for a demand.
    pub fn would_grow(&self, demand: &Demand) -> bool {
        self.sizes_for(demand) != self.sizes
    }

    /// The sizes that maps have for a demand: the present ones, or larger ones; the flow tables are as they are.
    pub fn sizes_for(&self, demand: &Demand) -> Sizes {
        let sizes = Sizes::of(demand).at_least(&self.sizes);
        Sizes { flow_buckets: self.sizes.flow_buckets, reply_buckets: self.sizes.reply_buckets, ..sizes }
    }

    /// A set that still waits for its first plan is empty where packets look: it is made again, larger, from the one in use.
    fn grow(&mut self, tuning: Tuning, sizes: Sizes) -> Result<(), DatapathError> {
        let (waits, present) = (self.staged.is_some(), (self.tuning.clone(), self.sizes));
        let grown = self.stage_again(tuning, sizes);
        if grown.is_err() && waits {
            // It went with the attempt.
            self.stage_again(present.0, present.1)?;
        }
        grown
    }

    fn stage_again(&mut self, tuning: Tuning, sizes: Sizes) -> Result<(), DatapathError> {
        let wanted = pins::wanted(&self.object, &sizes)?;
        let staged = pins::stage(&self.layout, self.previous.as_ref(), &wanted)?;
        let settings = tuning::settings(&tuning, self.is_generic, &sizes, &self.seed, self.tick);
        self.programs = Programs::load(&self.object, &settings, &staged.directory, &wanted)?;
        self.maps = Arc::new(Maps::open(&staged.directory)?);
        (self.settings, self.tuning, self.sizes) = (settings, tuning, sizes);
        self.adoption = staged.adoption.clone();
        self.staged = Some(staged);
        self.settle(&wanted)?;
        self.fill_devices()
    }

    pub(super) fn reload(&mut self, tuning: Tuning, is_generic: bool) -> Result<(), DatapathError> {
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
}
