//! A program that takes its time and says when it begins and when it ends.
//!
//! In: nothing. Out: an XDP program that takes about a millisecond for each packet, and how often it has begun and ended. What waits for programs under
//! way is tried with it: no packet of a real one takes long enough to be met.

use std::path::Path;

use anyhow::Result;

use super::assembler::{Alu, Assembler, Jump, Pseudo, Register};
use super::bpf::{Map, MapKind, Program};

/// enum bpf_func_id; 20 to 40 ns.
const KTIME_GET_NS: i32 = 5;
/// The verifier goes through each round; it takes a million instructions.
const ROUNDS: i32 = 30_000;

const ROUND: Register = 6;
const COUNTS: Register = 9;
const BEGUN: i16 = 0;
const ENDED: i16 = 8;

/// See the module.
#[derive(Debug)]
pub struct Slow {
    program: Program,
    counts: Map,
}

impl Slow {
    /// Loads it.
    pub fn new() -> Result<Self> {
        let counts = Map::new(MapKind::Array, 4, 16, 1)?;
        let mut a = Assembler::default();
        a.load_map(COUNTS, Pseudo::Value, counts.descriptor());
        count(&mut a, BEGUN);
        let again = a.label();
        a.alu_immediate(Alu::Move, ROUND, ROUNDS);
        a.here(again);
        a.call(KTIME_GET_NS);
        a.alu_immediate(Alu::Sub, ROUND, 1);
        a.jump_immediate(Jump::NotEqual, ROUND, 0, again);
        count(&mut a, ENDED);
        a.alu_immediate(Alu::Move, 0, super::XDP_PASS.cast_signed());
        a.exit();
        Ok(Self { program: Program::load("lbd_slow", &a.finish())?, counts })
    }

    /// Pins it where nothing is yet.
    pub fn pin(&self, path: &Path) -> Result<()> {
        self.program.pin(path)
    }

    /// How often it has begun, and ended.
    pub fn counts(&self) -> Result<(u64, u64)> {
        let [begun, ended] = self.counts.get(0)?;
        Ok((begun, ended))
    }
}

fn count(a: &mut Assembler, offset: i16) {
    a.alu_immediate(Alu::Move, 1, 1);
    a.atomic_add(COUNTS, offset, 1);
}
