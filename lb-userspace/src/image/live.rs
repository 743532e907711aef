//! The image of the maps in use, and the walk over the flow tables that is under way beside its changes.
//!
//! In: one image after the other, and what a walk has found. Out: the image, with the numbers free that no flow holds. Invariant: a walk frees
//! only what rested when it began and in every image since; no image takes the place of another without the walk's knowing.

use std::ops::Deref;

use super::Image;
use crate::ids::Rest;
use crate::store::FlowScan;

/// See the module.
#[derive(Clone, Debug)]
pub struct LiveImage {
    image: Image,
    /// What the walk that is under way can free. `None`: there is no walk.
    walk: Option<Rest>,
}

impl From<Image> for LiveImage {
    fn from(image: Image) -> Self {
        Self { image, walk: None }
    }
}

impl Deref for LiveImage {
    type Target = Image;

    fn deref(&self) -> &Image {
        &self.image
    }
}

impl LiveImage {
    /// The maps are as in this image now. What is in use in it is none of the walk's business any more.
    pub fn replace(&mut self, image: Image) {
        self.image = image;
        if let Some(resting) = &mut self.walk {
            resting.keep_common(&self.image.resting());
        }
    }

    /// Takes in that a grace period has passed which began after the last change.
    pub const fn note_grace(&mut self) {
        self.image.unsettled = false;
    }

    /// Whether a walk is under way.
    pub const fn is_walked(&self) -> bool {
        self.walk.is_some()
    }

    /// A walk begins: whatever it finds, it finds later than now.
    pub fn begin_walk(&mut self) {
        self.walk = Some(self.image.resting());
    }

    /// The walk has ended and has found this; `None`: it has failed. True: there was something that it could free.
    pub fn end_walk(&mut self, found: Option<&FlowScan>) -> bool {
        let (Some(resting), Some(scan)) = (self.walk.take(), found) else { return false };
        let is_wanted = self.image.wants_scan();
        if is_wanted {
            self.image.note_scan(scan, &resting);
        }
        is_wanted
    }
}
