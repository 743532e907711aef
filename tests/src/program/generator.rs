//! Packets made in the kernel, millions a second, for one program.
//!
//! In: a template, how it varies from packet to packet, the program that gets it. Out: an XDP program that writes the frame anew and
//! tail-calls the other one. `repeat` of BPF_PROG_TEST_RUN hands every round the frame as the round before left it, so each
//! round first takes off (or puts back) what was put in front, then writes every byte. Invariant: the program under test is
//! the one that is shipped, untouched; over the null program, which the same generator calls, its cost is what is left.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::assembler::{Alu, Assembler, Jump, Pseudo, Register, Width};
use super::bpf::{Map, MapKind, Program};
use super::frame::Frame;

const XDP_ABORTED: u32 = 0;
const XDP_DROP: u32 = 1;

// enum bpf_func_id.
const MAP_LOOKUP_ELEM: i32 = 1;
const TAIL_CALL: i32 = 12;
const XDP_ADJUST_HEAD: i32 = 44;

/// Ports of one client address when flows are counted through.
const PORTS: u32 = 1 << 14;
const FIRST_PORT: i32 = 1024;

/// Flows of a template, told apart by the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clients {
    /// The first client address; the next ones follow it. Of an IPv6 address the last four bytes vary.
    pub first: Ipv4Addr,
    /// Flows; `None`: every packet is another flow.
    pub flows: Option<u32>,
}

/// What the addresses and the port of a packet are; the frame's last four bytes of either address.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Listed {
    /// Of the source, as they lie in the frame.
    pub source: [u8; 4],
    /// Of the destination.
    pub destination: [u8; 4],
    /// Source and destination port.
    pub ports: [u8; 4],
}

/// How the template varies.
#[derive(Clone, Copy, Debug)]
pub enum Variation<'a> {
    /// Not at all.
    None,
    /// Clients are counted through: 16,384 ports an address.
    Clients(Clients),
    /// As `Clients`, but each sends two packets in a row, so that its flow is established before the next one begins.
    Pairs(Clients),
    /// As listed, by turns; their number is a power of two.
    List(&'a [Listed]),
}

impl Clients {
    /// The address and port of flow `index`: what the generator writes.
    pub fn client(&self, index: u32) -> (Ipv4Addr, u16) {
        let port = FIRST_PORT.cast_unsigned() + index % PORTS;
        (Ipv4Addr::from(u32::from(self.first) + index / PORTS), u16::try_from(port).unwrap_or(u16::MAX))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Generator {
    program: Program,
    frame: Frame,
    /// Kept: the program refers to them by number alone.
    _maps: (Map, Map, Option<Map>),
}

impl Generator {
    /// A generator whose packets go to `target`.
    pub fn new(frame: &Frame, variation: Variation<'_>, target: &Program) -> Result<Self> {
        let turn = Map::new(MapKind::Array, 4, 8, 1)?;
        let targets = Map::new(MapKind::Programs, 4, 4, 1)?;
        targets.set(0, &target.descriptor())?;
        let list = match variation {
            Variation::List(entries) => Some(listed(entries)?),
            _ => None,
        };
        let code = write(frame, variation, &turn, &targets, list.as_ref());
        let program = Program::load("lbd_generator", &code)?;
        Ok(Self { program, frame: frame.clone(), _maps: (turn, targets, list) })
    }

    /// A generator whose packets go to nobody: what the others' figures are over.
    pub fn null(frame: &Frame, variation: Variation<'_>) -> Result<Self> {
        let mut assembler = Assembler::default();
        assembler.alu_immediate(Alu::Move, 0, XDP_DROP.cast_signed());
        assembler.exit();
        Self::new(frame, variation, &Program::load("lbd_null", &assembler.finish())?)
    }

    /// Sends `packets` packets as from `interface` of the caller's namespace: the CPU time they took and the last one's return code.
    pub fn send(&self, packets: u32, interface: u32) -> Result<(Duration, u32)> {
        let (took, code) = self.program.repeat(self.frame.bytes(), interface, packets)?;
        ensure!(code != XDP_ABORTED, "the generator could not write its frame, or the program aborted");
        Ok((took, code))
    }
}

fn listed(entries: &[Listed]) -> Result<Map> {
    ensure!(entries.len().is_power_of_two(), "{} packets listed, not a power of two", entries.len());
    let map = Map::new(MapKind::Array, 4, 12, u32::try_from(entries.len())?)?;
    for (index, entry) in (0..).zip(entries) {
        map.set(index, entry)?;
    }
    Ok(map)
}

const CONTEXT: Register = 6;
const DATA: Register = 7;
const END: Register = 8;
const INDEX: Register = 9;
const STACK: Register = 10;

fn write(frame: &Frame, variation: Variation<'_>, turn: &Map, targets: &Map, list: Option<&Map>) -> Vec<u64> {
    let mut a = Assembler::default();
    let (fits, abort) = (a.label(), a.label());
    let len = i32::try_from(frame.bytes().len()).expect("a small frame");
    a.alu(Alu::Move, CONTEXT, 1);
    bounds(&mut a);
    // The frame's length over the template's: cut off in front, or put back.
    a.alu(Alu::Move, 2, END);
    a.alu(Alu::Sub, 2, DATA);
    a.alu_immediate(Alu::Add, 2, -len);
    a.jump_immediate(Jump::Equal, 2, 0, fits);
    a.alu(Alu::Move, 1, CONTEXT);
    a.call(XDP_ADJUST_HEAD);
    a.jump_immediate(Jump::NotEqual, 0, 0, abort);
    bounds(&mut a);
    a.here(fits);
    a.alu(Alu::Move, 2, DATA);
    a.alu_immediate(Alu::Add, 2, len);
    a.jump(Jump::Greater, 2, END, abort);
    template(&mut a, frame.bytes());
    let count = match variation {
        Variation::None => Some(1),
        Variation::Clients(source) => source.flows,
        Variation::Pairs(source) => source.flows.map(|flows| 2 * flows),
        Variation::List(entries) => u32::try_from(entries.len()).ok(),
    };
    next_turn(&mut a, turn, count);
    match variation {
        Variation::None => {}
        Variation::Clients(source) => count_clients(&mut a, frame, source),
        Variation::Pairs(source) => {
            a.alu_immediate(Alu::ShiftRight, INDEX, 1);
            count_clients(&mut a, frame, source);
        }
        Variation::List(_) => {
            a.store(Width::Word, STACK, -4, INDEX);
            a.load_map(1, Pseudo::Map, list.map_or(-1, Map::descriptor));
            a.alu(Alu::Move, 2, STACK);
            a.alu_immediate(Alu::Add, 2, -4);
            a.call(MAP_LOOKUP_ELEM);
            a.jump_immediate(Jump::Equal, 0, 0, abort);
            for (offset, at) in [(0, frame.source_at()), (4, frame.destination_at()), (8, frame.ports_at())] {
                a.load(Width::Word, 2, 0, offset);
                a.store(Width::Word, DATA, offset_of(at), 2);
            }
        }
    }
    a.alu(Alu::Move, 1, CONTEXT);
    a.load_map(2, Pseudo::Map, targets.descriptor());
    a.alu_immediate(Alu::Move, 3, 0);
    a.call(TAIL_CALL);
    a.here(abort);
    a.alu_immediate(Alu::Move, 0, XDP_ABORTED.cast_signed());
    a.exit();
    a.finish()
}

fn offset_of(at: usize) -> i16 {
    i16::try_from(at).expect("a small frame")
}

/// Reads where the frame begins and ends.
fn bounds(a: &mut Assembler) {
    a.load(Width::Word, DATA, CONTEXT, 0);
    a.load(Width::Word, END, CONTEXT, 4);
}

/// Writes every byte of the template, in the words that programs read: those of the headers behind the link header, which lie at 2 modulo 4.
/// A CPU that reads across two words it has just written waits until both are out of its store buffer, some 10 ns and more that no
/// packet out of a card's memory costs.
fn template(a: &mut Assembler, bytes: &[u8]) {
    let (first, bytes) = bytes.split_at(2);
    let (words, rest) = bytes.as_chunks::<4>();
    a.store_immediate(Width::Half, DATA, 0, i32::from(u16::from_le_bytes([first[0], first[1]])));
    for (index, word) in words.iter().enumerate() {
        a.store_immediate(Width::Word, DATA, offset_of(2 + index * 4), i32::from_le_bytes(*word));
    }
    for (index, byte) in rest.iter().enumerate() {
        a.store_immediate(Width::Byte, DATA, offset_of(2 + words.len() * 4 + index), i32::from(*byte));
    }
}

/// Takes a number from the count of packets, modulo the flows.
fn next_turn(a: &mut Assembler, turn: &Map, flows: Option<u32>) {
    a.load_map(1, Pseudo::Value, turn.descriptor());
    a.load(Width::Double, INDEX, 1, 0);
    a.alu(Alu::Move, 2, INDEX);
    a.alu_immediate(Alu::Add, 2, 1);
    a.store(Width::Double, 1, 0, 2);
    a.alu32_immediate(Alu::And, INDEX, flows.map_or(u32::MAX, |flows| flows - 1));
}

fn count_clients(a: &mut Assembler, frame: &Frame, source: Clients) {
    a.alu(Alu::Move, 2, INDEX);
    a.alu_immediate(Alu::ShiftRight, 2, PORTS.ilog2().cast_signed());
    a.alu_immediate(Alu::Add, 2, u32::from(source.first).cast_signed());
    a.big_endian(2, 32);
    a.store(Width::Word, DATA, offset_of(frame.source_at()), 2);
    a.alu32_immediate(Alu::And, INDEX, PORTS - 1);
    a.alu_immediate(Alu::Add, INDEX, FIRST_PORT);
    a.big_endian(INDEX, 16);
    // With the destination port, as one word (see `template`).
    let [_, _, upper, lower] = frame.bytes()[frame.ports_at()..][..4] else { unreachable!("two ports") };
    a.alu_immediate(Alu::Or, INDEX, i32::from_le_bytes([0, 0, upper, lower]));
    a.store(Width::Word, DATA, offset_of(frame.ports_at()), INDEX);
}
