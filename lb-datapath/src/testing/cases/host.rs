//! The host model as a machine for cases.
//!
//! In: worlds and frames. Out: verdicts, frames, counters. Invariant: the tables are of the sizes the daemon would give them.

use super::{
    Counts, Machine, World,
    world::{IDS, Place},
};
use crate::{
    pipeline::{Verdict, balance},
    testing::{HEADROOM, HostPacket, HostTables},
};

/// The interfaces of the host model.
const PLACE: Place = Place { ingress: 3, other: 4 };

/// The tick at which the cases happen.
const NOW: u16 = 1000;

/// See the module.
pub struct Host {
    /// The tables, for a look.
    pub tables: HostTables,
    place: Place,
}

impl Host {
    /// Tables for worlds that need no more than this one.
    pub fn new(world: &World) -> Self {
        let mut tables = HostTables::new(world.settings(), IDS);
        tables.now = NOW;
        Self { tables, place: PLACE }
    }

    /// The twin of a machine with these tables, between these interfaces.
    pub fn twin(tables: HostTables, place: Place) -> Self {
        Self { tables, place }
    }
}

impl Machine for Host {
    fn become_world(&mut self, world: &World) -> Result<(), String> {
        world.fill(&mut self.tables, self.place);
        Ok(())
    }

    fn take(&mut self, frame: &[u8], headroom: Option<usize>) -> Result<(Verdict, Vec<u8>), String> {
        let mut packet = HostPacket::with_headroom(frame, headroom.unwrap_or(HEADROOM));
        let verdict = balance(&mut packet, &self.tables);
        Ok((verdict, packet.bytes().to_vec()))
    }

    fn counts(&self) -> Result<Counts, String> {
        Ok(Counts::of(&self.tables.counters(), self.place.ingress))
    }
}
