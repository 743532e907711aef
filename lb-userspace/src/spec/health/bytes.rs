//! Bytes as text: what a udp check sends and expects.
//!
//! In: text in which `\xNN`, `\n`, `\r`, `\t`, `\0` and `\\` stand for bytes. Out: the bytes. Invariant: a backslash always
//! means something, so a typing mistake is an error and not another datagram.

use crate::spec::SyntaxError;

/// The bytes that this text stands for.
///
/// # Errors
/// A backslash before something else than the above.
pub fn unescape(text: &str) -> Result<Vec<u8>, SyntaxError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (byte, len) = escaped(after).ok_or_else(|| SyntaxError {
            message: format!("{text:?} has a backslash that begins no escape"),
            hint: r"write \xNN (two hexadecimal digits), \n, \r, \t, \0 or \\, in single quotes, such as '\x01ping\n'".to_owned(),
        })?;
        bytes.push(byte);
        rest = after.get(len..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// The byte that what follows a backslash stands for, and how much of the text that was.
fn escaped(text: &str) -> Option<(u8, usize)> {
    let plain = |byte| Some((byte, 1));
    match text.chars().next()? {
        'n' => plain(b'\n'),
        'r' => plain(b'\r'),
        't' => plain(b'\t'),
        '0' => plain(0),
        '\\' => plain(b'\\'),
        'x' => {
            let digits = text.get(1..3).filter(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()))?;
            Some((u8::from_str_radix(digits, 16).ok()?, 3))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_bytes() {
        assert_eq!(unescape(r"a\x00\xfFb\n\r\t\0\\é").unwrap(), b"a\0\xffb\n\r\t\0\\\xc3\xa9");
        assert_eq!(unescape("").unwrap(), b"");
        assert_eq!(unescape(r"\\x41\x41").unwrap(), br"\x41A");
    }

    #[test]
    fn a_backslash_that_means_nothing_is_refused() {
        for bad in [r"\", r"\x", r"\x4", r"\xg0", r"\x+1", r"\q", r"a\xé1"] {
            let error = unescape(bad).unwrap_err();
            assert!(error.message.contains("begins no escape"), "{bad}: {error}");
        }
    }
}
