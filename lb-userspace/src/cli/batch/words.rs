//! A line as words, the way a shell would read it, without all that a shell would do with them.
//!
//! In: one line. Out: its words: apart by blanks, quoted by `'` (as it is) or `"` (`\` takes the next character as it is), `\` outside
//! of quotes likewise; `#` at the beginning of a word ends the line. Invariant: nothing is expanded.

/// The words of a line.
///
/// # Errors
/// In a sentence: a quotation that does not end, a `\` with nothing after it.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '#' if word.is_none() => break,
            letter if letter.is_whitespace() => words.extend(word.take()),
            '\'' | '"' => quoted(letter, &mut rest, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(escaped(&mut rest)?),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Takes what stands between two quotation marks.
fn quoted(mark: char, rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    while let Some(letter) = rest.next() {
        match letter {
            letter if letter == mark => return Ok(()),
            '\\' if mark == '"' => word.push(escaped(rest)?),
            letter => word.push(letter),
        }
    }
    Err(format!("a quotation begins with {mark} and does not end"))
}

fn escaped(rest: &mut std::str::Chars<'_>) -> Result<char, String> {
    rest.next().ok_or_else(|| "nothing follows the \\ at the end of the line".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_apart_by_blanks_and_whole_in_quotes() {
        for (line, words) in [
            ("", &[][..]),
            ("  \t ", &[]),
            ("# all of it", &[]),
            ("a b\tc", &["a", "b", "c"]),
            ("a # b", &["a"]),
            ("a#b", &["a#b"]),
            ("'a b' \"c d\"", &["a b", "c d"]),
            ("x'y z'w", &["xy zw"]),
            (r#""say \"so\"" '\'"#, &["say \"so\"", "\\"]),
            (r"a\ b \#c", &["a b", "#c"]),
            ("''", &[""]),
            ("'#'", &["#"]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
        for bad in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
