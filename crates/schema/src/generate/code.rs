//! Lines of Rust with their indentation, and the conditions on versions that occur in them.

use std::fmt::Write;

use crate::versions::Versions;

/// A Rust file while it grows.
#[derive(Debug, Default)]
pub struct Code {
    text: String,
    depth: usize,
}

impl Code {
    /// Adds a line. One that starts with `}` closes a block, one that ends with `{` opens one.
    pub fn line(&mut self, line: impl AsRef<str>) {
        let line = line.as_ref();
        if line.starts_with(['}', ']']) {
            self.depth -= 1;
        }
        writeln!(self.text, "{:indent$}{line}", "", indent = self.depth * 4)
            .expect("a String takes everything");
        if line.ends_with(['{', '[']) {
            self.depth += 1;
        }
    }

    /// Adds several lines.
    pub fn lines<const N: usize>(&mut self, lines: [&str; N]) {
        for line in lines {
            self.line(line);
        }
    }

    /// The finished file.
    pub fn finish(self) -> String {
        assert_eq!(self.depth, 0, "every block is closed:\n{}", self.text);
        self.text
    }
}

/// The condition that `version`, known to be within `parent`, is within `range`; nothing where it always is.
pub fn within(range: Versions, parent: Versions) -> Option<String> {
    match (range.min <= parent.min, range.max >= parent.max) {
        (true, true) => None,
        (false, true) => Some(format!("version >= {}", range.min)),
        (true, false) => Some(format!("version <= {}", range.max)),
        (false, false) if range.min == range.max => Some(format!("version == {}", range.min)),
        (false, false) => Some(format!("({}..={}).contains(&version)", range.min, range.max)),
    }
}
