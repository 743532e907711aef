//! Type information that the kernel takes.
//!
//! In: the BPF object as rustc and bpf-linker made it. Out: the same object with unions that the kernel's BTF check accepts.
//! rustc describes an enum as a union whose variants begin behind their tag, and the kernel refuses a union with a
//! member that does not begin at 0 (kernel/bpf/btf.c, btf_struct_check_meta: "Invalid member bits_offset"); without BTF
//! no `#[btf_map]` can be made. Only what people read of those types changes. Invariant: bytes outside `.BTF` stay.

const ELF_HEADER_LEN: usize = 64;
const SECTION_HEADER_LEN: usize = 64;
const BTF_MAGIC: u16 = 0xeb9f;
const TYPE_LEN: usize = 12;
const MEMBER_LEN: usize = 12;

// enum of kinds, include/uapi/linux/btf.h.
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;

/// Makes every member of a union begin at 0. What cannot be made sense of is left for the loader to refuse.
pub(super) fn mend(object: &mut [u8]) {
    if let Some((start, len)) = section(object, b".BTF")
        && let Some(btf) = object.get_mut(start..start.saturating_add(len))
    {
        // A type that is cut short ends the walk; the loader says so better.
        let _ = mend_types(btf);
    }
}

/// Offset and length of a section of a 64-bit little-endian ELF file.
fn section(object: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    let header = object.get(..ELF_HEADER_LEN)?;
    if header.get(..6)? != [0x7f, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    let table = number(header, 40, 8)?;
    let count = number(header, 60, 2)?;
    let names = number(header, 62, 2)?;
    let at = |index: usize| {
        object.get(table.checked_add(index * SECTION_HEADER_LEN)?..)?.get(..SECTION_HEADER_LEN)
    };
    let place = |section: &[u8]| Some((number(section, 24, 8)?, number(section, 32, 8)?));
    let (names, _) = place(at(names)?)?;
    (0..count).find_map(|index| {
        let section = at(index)?;
        let text = object.get(names.checked_add(number(section, 0, 4)?)?..)?;
        (text.starts_with(name) && text.get(name.len()) == Some(&0)).then(|| place(section))?
    })
}

fn mend_types(btf: &mut [u8]) -> Option<()> {
    if number(btf, 0, 2)? != usize::from(BTF_MAGIC) {
        return None;
    }
    let start = number(btf, 4, 4)?.checked_add(number(btf, 8, 4)?)?;
    let types = btf.get_mut(start..start.checked_add(number(btf, 12, 4)?)?)?;
    let mut at = 0;
    while at < types.len() {
        let info = u32::try_from(number(types, at + 4, 4)?).ok()?;
        let (kind, members) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        at += TYPE_LEN;
        if kind == KIND_UNION {
            for member in 0..members {
                let offset = types.get_mut(at + member * MEMBER_LEN + 8..)?.get_mut(..4)?;
                // The low 24 bits if the top byte is a bit field's width, else all of it, which is below that.
                offset.get_mut(..3)?.fill(0);
            }
        }
        at += trailing(kind, members)?;
    }
    Some(())
}

/// Bytes behind a type of this kind.
const fn trailing(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => members * MEMBER_LEN,
        KIND_ENUM | KIND_FUNC_PROTO => members * 8,
        1..=18 => 0,
        _ => return None,
    })
}

/// A little-endian number of `len` bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    let mut value = [0; 8];
    value.get_mut(..len)?.copy_from_slice(bytes.get(at..at.checked_add(len)?)?);
    usize::try_from(u64::from_le_bytes(value)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// BTF with an int, a struct of two members and a union of two members; the last ones begin at 32.
    fn btf() -> Vec<u8> {
        let types = words(&[
            0,
            KIND_INT << 24,
            4,
            32, //
            0,
            KIND_STRUCT << 24 | 2,
            8,
            0,
            1,
            0,
            0,
            1,
            32, //
            0,
            KIND_UNION << 24 | 2,
            8,
            0,
            1,
            0,
            0,
            1,
            32,
        ]);
        let len = u32::try_from(types.len()).unwrap();
        [words(&[0x0001_eb9f, 24, 0, len, len, 1]), types, vec![0]].concat()
    }

    #[test]
    fn members_of_unions_begin_at_0_and_those_of_structs_where_they_did() {
        let mut bytes = btf();
        mend_types(&mut bytes).unwrap();
        let expected = btf();
        let last_member = 24 + 16 + 36 + 12 + 12 + 8;
        assert_eq!(expected[last_member], 32);
        assert_eq!(bytes[last_member], 0);
        bytes[last_member] = 32;
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_cut_short_or_no_elf_is_left_alone() {
        for len in [0, 3, 30, 60] {
            let mut bytes = btf()[..len].to_vec();
            let _ = mend_types(&mut bytes);
            assert_eq!(bytes, btf()[..len]);
        }
        let mut text = b"no object".to_vec();
        mend(&mut text);
        assert_eq!(text, b"no object");
        assert_eq!(section(&[0x7f; 200], b".BTF"), None);
    }
}
