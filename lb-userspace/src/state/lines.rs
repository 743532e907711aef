//! JSON for people, in which a backend is a line.
//!
//! In: what serde_json writes. Out: the same indented, but for what lies deep: that stands in one line. Why: nine lines for each of a
//! hundred thousand backends are nothing a person reads, and more than half of what a change of the file puts on the disk.

use std::io::{self, Write};

use serde_json::ser::{Formatter, PrettyFormatter};

/// Objects and lists within so many others are indented: the file's, its pools, one pool, its backends; a backend no longer.
const INDENTED: usize = 4;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    pretty: PrettyFormatter<'static>,
    /// How many objects and lists are open.
    depth: usize,
}

impl Lines {
    const fn is_indented(&self) -> bool {
        self.depth <= INDENTED
    }
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.is_indented() { self.pretty.begin_array(writer) } else { writer.write_all(b"[") }
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let is_indented = self.is_indented();
        self.depth -= 1;
        if is_indented { self.pretty.end_array(writer) } else { writer.write_all(b"]") }
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        match self.is_indented() {
            true => self.pretty.begin_array_value(writer, first),
            false => writer.write_all(if first { b"" } else { b", " }),
        }
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.is_indented() { self.pretty.end_array_value(writer) } else { Ok(()) }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.is_indented() { self.pretty.begin_object(writer) } else { writer.write_all(b"{") }
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let is_indented = self.is_indented();
        self.depth -= 1;
        if is_indented { self.pretty.end_object(writer) } else { writer.write_all(b"}") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        match self.is_indented() {
            true => self.pretty.begin_object_key(writer, first),
            false => writer.write_all(if first { b"" } else { b", " }),
        }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.is_indented() { self.pretty.end_object_value(writer) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use crate::state::file;

    #[test]
    fn a_backend_is_a_line_and_all_is_read_back() {
        let backend =
            json!({ "address": "10.0.0.1", "origin": { "file": { "line": 3 } }, "more": [1, [], {}] });
        let pool = json!({ "backends": [backend, backend], "empty": [], "name": "p" });
        let spec = json!({ "none": {}, "pools": [pool] });
        let text = file::json(&spec, Path::new("f")).unwrap();
        let line = r#"{"address": "10.0.0.1", "more": [1, [], {}], "origin": {"file": {"line": 3}}}"#;
        let wanted = [
            "{",
            "  \"none\": {},",
            "  \"pools\": [",
            "    {",
            "      \"backends\": [",
            &format!("        {line},"),
            &format!("        {line}"),
            "      ],",
            "      \"empty\": [],",
            "      \"name\": \"p\"",
            "    }",
            "  ]",
            "}",
            "",
        ];
        assert_eq!(text, wanted.join("\n"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), spec);
    }
}
