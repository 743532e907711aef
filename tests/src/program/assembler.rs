//! A handful of BPF instructions, written down at run time.
//!
//! In: one method call an instruction. Out: the words for `BPF_PROG_LOAD`. The packet generator is made with it: its template and offsets
//! become immediates, and it needs neither the BPF toolchain nor a place in the object that is shipped.
//! Encoding: Documentation/bpf/standardization/instruction-set.rst.

/// A register, 0 to 10.
pub(super) type Register = u8;

/// What a two-word load refers to, in the field of its source register.
#[derive(Clone, Copy)]
pub(super) enum Pseudo {
    /// The map with this descriptor.
    Map = 1,
    /// The first value of the array with this descriptor.
    Value = 2,
}

/// Width of a load or a store.
#[derive(Clone, Copy)]
pub(super) enum Width {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
    Double = 0x18,
}

/// Two-operand operations of the 64-bit ALU class.
#[derive(Clone, Copy)]
pub(super) enum Alu {
    Add = 0x00,
    Sub = 0x10,
    Or = 0x40,
    And = 0x50,
    ShiftRight = 0x70,
    Move = 0xb0,
}

/// Comparisons of the jump class.
#[derive(Clone, Copy)]
pub(super) enum Jump {
    Equal = 0x10,
    Greater = 0x20,
    NotEqual = 0x50,
}

const CLASS_LOAD_IMMEDIATE: u8 = 0x18;
const CLASS_LOAD: u8 = 0x61;
const CLASS_STORE_IMMEDIATE: u8 = 0x62;
const CLASS_STORE: u8 = 0x63;
const CLASS_JUMP: u8 = 0x05;
const CLASS_ALU32: u8 = 0x04;
const CLASS_ALU64: u8 = 0x07;
const FROM_REGISTER: u8 = 0x08;
const TO_NETWORK: u8 = 0xdc;
/// 64 bits; which operation is in the immediate, 0 = add.
const ATOMIC: u8 = 0xdb;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// A place that a jump goes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// See the module.
#[derive(Default)]
pub(super) struct Assembler {
    code: Vec<u64>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    fn push(&mut self, opcode: u8, destination: Register, source: Register, offset: i16, immediate: i32) {
        let registers = u64::from(destination) | u64::from(source) << 4;
        let offset = u64::from(offset.cast_unsigned());
        let immediate = u64::from(immediate.cast_unsigned());
        self.code.push(u64::from(opcode) | registers << 8 | offset << 16 | immediate << 32);
    }

    /// A place to be named later with [`Self::here`].
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is the next instruction.
    pub(super) fn here(&mut self, label: Label) {
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(self.code.len());
        }
    }

    /// `destination = destination OP source`, 64 bits.
    pub(super) fn alu(&mut self, operation: Alu, destination: Register, source: Register) {
        self.push(CLASS_ALU64 | FROM_REGISTER | operation as u8, destination, source, 0, 0);
    }

    /// `destination = destination OP immediate`, 64 bits, the immediate sign-extended.
    pub(super) fn alu_immediate(&mut self, operation: Alu, destination: Register, immediate: i32) {
        self.push(CLASS_ALU64 | operation as u8, destination, 0, 0, immediate);
    }

    /// `destination = destination OP immediate`, 32 bits; the upper half becomes 0.
    pub(super) fn alu32_immediate(&mut self, operation: Alu, destination: Register, immediate: u32) {
        self.push(CLASS_ALU32 | operation as u8, destination, 0, 0, immediate.cast_signed());
    }

    /// The low `bits` (16 or 32) of a register in network order; the rest becomes 0.
    pub(super) fn big_endian(&mut self, register: Register, bits: i32) {
        self.push(TO_NETWORK, register, 0, 0, bits);
    }

    /// `destination = *(source + offset)`.
    pub(super) fn load(&mut self, width: Width, destination: Register, source: Register, offset: i16) {
        self.push(CLASS_LOAD | width as u8, destination, source, offset, 0);
    }

    /// `*(destination + offset) = source`.
    pub(super) fn store(&mut self, width: Width, destination: Register, offset: i16, source: Register) {
        self.push(CLASS_STORE | width as u8, destination, source, offset, 0);
    }

    /// `*(destination + offset) += source`, 64 bits, whole whatever other CPUs do.
    pub(super) fn atomic_add(&mut self, destination: Register, offset: i16, source: Register) {
        self.push(ATOMIC, destination, source, offset, 0);
    }

    /// `*(destination + offset) = immediate`.
    pub(super) fn store_immediate(
        &mut self,
        width: Width,
        destination: Register,
        offset: i16,
        immediate: i32,
    ) {
        self.push(CLASS_STORE_IMMEDIATE | width as u8, destination, 0, offset, immediate);
    }

    /// The address of a map or of an array's first value.
    pub(super) fn load_map(&mut self, destination: Register, pseudo: Pseudo, descriptor: i32) {
        self.push(CLASS_LOAD_IMMEDIATE, destination, pseudo as u8, 0, descriptor);
        self.push(0, 0, 0, 0, 0);
    }

    /// Jumps if `destination OP source`.
    pub(super) fn jump(&mut self, comparison: Jump, destination: Register, source: Register, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(CLASS_JUMP | FROM_REGISTER | comparison as u8, destination, source, 0, 0);
    }

    /// Jumps if `destination OP immediate`.
    pub(super) fn jump_immediate(
        &mut self,
        comparison: Jump,
        destination: Register,
        immediate: i32,
        to: Label,
    ) {
        self.jumps.push((self.code.len(), to));
        self.push(CLASS_JUMP | comparison as u8, destination, 0, 0, immediate);
    }

    /// Calls a helper by its number (enum bpf_func_id).
    pub(super) fn call(&mut self, helper: i32) {
        self.push(CALL, 0, 0, 0, helper);
    }

    /// Returns register 0.
    pub(super) fn exit(&mut self) {
        self.push(EXIT, 0, 0, 0, 0);
    }

    /// The instructions.
    pub(super) fn finish(mut self) -> Vec<u64> {
        for (at, label) in self.jumps {
            let target = self.labels.get(label.0).copied().flatten().expect("a label that was placed");
            let distance =
                i16::try_from(target.cast_signed() - at.cast_signed() - 1).expect("a short program");
            if let Some(word) = self.code.get_mut(at) {
                *word |= u64::from(distance.cast_unsigned()) << 16;
            }
        }
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_encoded_as_the_kernel_reads_them() {
        let mut assembler = Assembler::default();
        let end = assembler.label();
        assembler.alu_immediate(Alu::Move, 0, -1);
        assembler.jump_immediate(Jump::Equal, 0, 0, end);
        assembler.store(Width::Half, 10, -2, 3);
        assembler.here(end);
        assembler.jump_immediate(Jump::Equal, 0, 0, end);
        assembler.exit();
        // As `llvm-mc -triple bpfel` has it: b7 00 .. ff ff ff ff; 15 00 01 00; 6b 3a fe ff; 15 00 ff ff (to itself); 95.
        let code = [
            0xffff_ffff_0000_00b7,
            0x0000_0000_0001_0015,
            0x0000_0000_fffe_3a6b,
            0x0000_0000_ffff_0015,
            0x95,
        ];
        assert_eq!(assembler.finish(), code);
    }
}
