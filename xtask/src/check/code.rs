//! Rust source without its comments and texts.
//!
//! In: a file's text. Out: the same lines with comments and the contents of string and character literals blanked, so
//! that a rule about code is not broken by prose. Invariant: line numbers stay.

/// The code of `text`, line by line.
pub(crate) fn lines(text: &str) -> Vec<String> {
    let mut stripper = Stripper { rest: text, code: String::with_capacity(text.len()) };
    while stripper.step() {}
    stripper.code.lines().map(str::to_owned).collect()
}

/// The identifiers and keywords of a line of code.
pub(crate) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

struct Stripper<'a> {
    rest: &'a str,
    code: String,
}

impl Stripper<'_> {
    /// Takes the next piece; false at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        let piece = match first {
            '/' if self.rest.starts_with("//") => self.rest.find('\n').unwrap_or(self.rest.len()),
            '/' if self.rest.starts_with("/*") => block_comment_len(self.rest),
            '"' => string_len(self.rest),
            'r' if !self.ends_in_word() => raw_string_len(self.rest).unwrap_or(0),
            '\'' => character_len(self.rest),
            _ => 0,
        };
        if piece == 0 {
            self.code.push(first);
            self.rest = &self.rest[first.len_utf8()..];
        } else {
            let (blanked, rest) = self.rest.split_at(piece);
            self.code.extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            self.rest = rest;
        }
        true
    }

    /// Is the last character part of a word? Then an `r` begins no raw string. (`b` and `c` prefixes may stand.)
    fn ends_in_word(&self) -> bool {
        let mut last = self.code.chars().rev();
        let before = match last.next() {
            Some('b' | 'c') => last.next(),
            other => other,
        };
        before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    }
}

/// Block comments nest.
fn block_comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn raw_string_len(text: &str) -> Option<usize> {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return None;
    }
    let start = hashes + 2;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// 0 for a lifetime: `'a` has no closing quote right behind one character.
fn character_len(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            characters.next();
            text[3.min(text.len())..].find('\'').map_or(0, |at| at + 4)
        }
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_words(text: &str) -> Vec<String> {
        lines(text).iter().flat_map(|line| words(line).map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn comments_and_texts_are_blanked_and_code_stays() {
        let text = r##"use a; // tokio
/* tokio /* nested */ tokio */ b("tokio \" tokio", r#"tokio " tokio"#, 'x', '\'', b'\\', "ü") c
"##;
        assert_eq!(all_words(text), ["use", "a", "b", "b", "c"]);
    }

    #[test]
    fn lifetimes_are_no_characters() {
        assert_eq!(
            all_words("fn f<'a>(x: &'a str, y: &'static str) {}"),
            "fn f a x a str y static str".split(' ').collect::<Vec<_>>()
        );
    }

    #[test]
    fn line_numbers_stay() {
        let code = lines("/* one\ntwo */\nlet s = \"a\nb\";\nend");
        assert_eq!(code.len(), 5);
        assert_eq!(code[4], "end");
    }

    #[test]
    fn a_word_that_ends_in_r_begins_no_raw_string() {
        assert_eq!(all_words("for r in var\"x\" {}"), ["for", "r", "in", "var"]);
    }
}
