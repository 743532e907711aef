//! Which helpers of the kernel a packet's way through the program calls, by name.
//!
//! In: a loaded rig. Out: the functions that are left in the translated program (the verifier turns look-ups in arrays and the clock
//! into instructions, so what is left is really called), and for each a twin of the program in which its calls are cut out and answer
//! −1, a failure. A frame that fares in the twin as in the program did not need the helper: every answer of a helper is
//! judged by the program, so had it been called, the frame would have been dropped or gone elsewhere.
//! (The function tracer would say the same, but a locked-down kernel refuses it.)

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use aya::EbpfLoader;
use aya::programs::Xdp;
use lb_userspace::datapath::OBJECT_VARIABLE;
use zerocopy::IntoBytes;

use super::bpf::Program;
use super::rig::Rig;

/// A helper: the kernel's function and the number a program calls it by (enum bpf_func_id).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Helper {
    /// The kernel's function.
    pub name: &'static str,
    number: i32,
}

/// The helpers lbd may call at all.
const KNOWN: [Helper; 6] = [
    Helper { name: "bpf_user_rnd_u32", number: 7 },
    Helper { name: "bpf_csum_diff", number: 28 },
    Helper { name: "bpf_xdp_adjust_head", number: 44 },
    // bpf_redirect_map, bound to the kind of map at load.
    Helper { name: "dev_hash_map_redirect", number: 51 },
    Helper { name: "bpf_xdp_adjust_tail", number: 65 },
    Helper { name: "bpf_xdp_fib_lookup", number: 69 },
];

/// The helpers left in the program, by name; `None`: the kernel hides its symbols.
pub fn of(program: &Program) -> Result<Option<Vec<Helper>>> {
    let symbols = fs::read_to_string("/proc/kallsyms").context("cannot read /proc/kallsyms")?;
    let parsed = symbols.lines().filter_map(|line| {
        let mut parts = line.split_whitespace();
        let address = u64::from_str_radix(parts.next()?, 16).ok()?;
        Some((address, parts.nth(1)?))
    });
    let parsed: Vec<(u64, &str)> = parsed.collect();
    let base = parsed.iter().find(|(_, name)| *name == "__bpf_call_base").map_or(0, |(address, _)| *address);
    if base == 0 {
        return Ok(None);
    }
    let mut helpers = Vec::new();
    for offset in program.calls()?.kernel {
        let address = base.wrapping_add_signed(offset.into());
        let names: Vec<&str> = parsed.iter().filter(|symbol| symbol.0 == address).map(|s| s.1).collect();
        match KNOWN.iter().find(|helper| names.contains(&helper.name)) {
            Some(helper) => helpers.push(*helper),
            None => bail!("the program calls {names:?}, of which nothing is known here"),
        }
    }
    Ok(Some(helpers))
}

/// The program of a rig, over the same maps and with the same constants, without one helper.
pub fn twin_without(rig: &Rig, helper: Helper) -> Result<Program> {
    let mut object = fs::read(object_path()?)?;
    let cut = cut_out(&mut object, helper.number)?;
    ensure!(cut > 0, "the object does not call {}", helper.name);
    let maps = crate::run_dir::pins(rig.pin()).join("maps");
    let mut loader = EbpfLoader::new();
    loader.override_global("SETTINGS", rig.datapath.settings().as_bytes(), true);
    let names: Vec<(String, PathBuf)> = fs::read_dir(&maps)?
        .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
        .collect::<Result<_, _>>()?;
    for (name, path) in &names {
        loader.map_pin_path(name, path);
    }
    let mut ebpf = loader.load(&object).context("cannot load the twin's object")?;
    let program: &mut Xdp = ebpf.program_mut("lbd").context("the object has no program lbd")?.try_into()?;
    program.load().with_context(|| format!("cannot load the twin without {}", helper.name))?;
    let pin = rig.pin().join(format!("twin_{}", helper.number));
    program.pin(&pin)?;
    let opened = Program::from_pin(&pin);
    fs::remove_file(&pin)?;
    opened
}

/// The object that the loader of this build loads.
fn object_path() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(OBJECT_VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    // Where `cargo xtask build` puts it, and from where it was built into lb-userspace.
    let executable = std::env::current_exe()?;
    let found = executable.ancestors().map(|directory| directory.join("bpf/lbd.bpf.o")).find(|p| p.is_file());
    found.with_context(|| format!("no bpf/lbd.bpf.o beside {}; set {OBJECT_VARIABLE}", executable.display()))
}

/// Replaces every call of a helper in the executable sections by `r0 = -1`; how many there were.
fn cut_out(object: &mut [u8], helper: i32) -> Result<usize> {
    const HEADER_LEN: usize = 64;
    const EXECUTABLE: u64 = 4;
    const CALL: u8 = 0x85;
    const LOAD_IMMEDIATE: u8 = 0x18;
    let at = |object: &[u8], offset: usize, len: usize| -> Result<u64> {
        let bytes = object.get(offset..offset + len).context("the object ends early")?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    ensure!(object.starts_with(b"\x7fELF\x02\x01"), "the object is no little-endian ELF file");
    // Elf64_Ehdr: e_shoff at 40, e_shnum at 60. Elf64_Shdr: sh_flags at 8, sh_offset at 24, sh_size at 32.
    let (table, count) = (usize::try_from(at(object, 40, 8)?)?, usize::try_from(at(object, 60, 2)?)?);
    let mut cut = 0;
    for header in (0..count).map(|index| table + index * HEADER_LEN) {
        if at(object, header + 8, 8)? & EXECUTABLE == 0 {
            continue;
        }
        let start = usize::try_from(at(object, header + 24, 8)?)?;
        let end = start + usize::try_from(at(object, header + 32, 8)?)?;
        let mut position = start;
        while position + 8 <= end {
            let instruction = object.get_mut(position..position + 8).context("the object ends early")?;
            let wide = instruction[0] == LOAD_IMMEDIATE;
            if instruction[0] == CALL && instruction[1] >> 4 == 0 && instruction[4..8] == helper.to_le_bytes()
            {
                instruction.copy_from_slice(&[0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
                cut += 1;
            }
            position += if wide { 16 } else { 8 };
        }
    }
    Ok(cut)
}
