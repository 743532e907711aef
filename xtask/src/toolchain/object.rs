//! Is a file a BPF object?
//!
//! In: a path. Out: yes, or why not. Only the head of the file is judged: enough to tell a mistake.

use std::{fs::File, io::Read as _, path::Path};

/// `e_machine` of BPF (elf.h: EM_BPF).
const EM_BPF: u16 = 247;
/// `e_ident`, `e_type`, `e_machine`.
const HEAD_LEN: usize = 20;

pub(super) fn is_bpf(path: &Path) -> Result<(), String> {
    let mut head = [0; HEAD_LEN];
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    file.read_exact(&mut head).map_err(|_| "not an ELF file".to_owned())?;
    if !head.starts_with(b"\x7fELF") {
        return Err("not an ELF file".to_owned());
    }
    let machine = [head[18], head[19]];
    // e_ident[EI_DATA]: 1 is little-endian.
    let machine = if head[5] == 1 { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
    if machine != EM_BPF {
        return Err(format!("an ELF file, but for another machine than BPF (e_machine {machine})"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_this_machine_is_no_bpf_object() {
        let why = is_bpf(&std::env::current_exe().unwrap()).unwrap_err();
        assert!(why.contains("another machine"), "{why}");
    }

    #[test]
    fn what_is_no_elf_is_told() {
        assert!(is_bpf(Path::new(file!()).parent().unwrap()).is_err());
        assert!(is_bpf(Path::new("/no/such/file")).is_err());
        assert_eq!(is_bpf(Path::new("/dev/null")), Err("not an ELF file".to_owned()));
    }

    #[test]
    fn the_head_of_a_bpf_object_is_known() {
        let path = std::env::temp_dir().join(format!("lbd-xtask-elf-{}", std::process::id()));
        let mut head = [0_u8; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[18] = 247;
        std::fs::write(&path, head).unwrap();
        assert_eq!(is_bpf(&path), Ok(()));
        std::fs::remove_file(&path).unwrap();
    }
}
