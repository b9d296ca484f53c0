//! Reads the recorded files, and compares bytes so that a difference can be found.

use std::path::{Path, PathBuf};

/// One line: its words before the bytes, and the fields of bytes at its end.
pub struct Line {
    /// File and line number, for messages.
    pub place: String,
    /// The words.
    pub words: Vec<String>,
    /// The fields of bytes; `None` is null.
    pub bytes: Vec<Option<Vec<u8>>>,
}

impl Line {
    /// The word at `index` as a number.
    pub fn number(&self, index: usize) -> i16 {
        self.words[index].parse().unwrap_or_else(|error| panic!("{}: {error}", self.place))
    }

    /// The only field of bytes.
    pub fn only_bytes(&self) -> &[u8] {
        let [Some(bytes)] = &self.bytes[..] else { panic!("{}: not one field of bytes", self.place) };
        bytes
    }
}

/// The lines of a file which have `words` words before their bytes.
pub fn lines(file: &Path, words: usize) -> Vec<Line> {
    #[allow(clippy::disallowed_methods)] // a test reads its own files
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let lines = text.lines().enumerate().map(|(index, line)| {
        let place = format!("{name}:{}", index + 1);
        let mut parts = line.split(' ');
        let words = parts.by_ref().take(words).map(str::to_owned).collect();
        let bytes = parts.map(|part| field(part, &place)).collect();
        Line { place, words, bytes }
    });
    lines.collect()
}

fn field(part: &str, place: &str) -> Option<Vec<u8>> {
    match part {
        "-" => None,
        "=" => Some(Vec::new()),
        hex => {
            assert!(hex.len().is_multiple_of(2) && hex.is_ascii(), "{place}: not hex");
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16);
            Some((0..hex.len()).step_by(2).map(|at| byte(at).expect("hex digits")).collect())
        }
    }
}

/// A file or folder beside this one.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The files of a folder beside this one, in order.
pub fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} is empty");
    files
}

/// What is wrong with a line, gathered so that one run shows everything.
#[derive(Default)]
pub struct Complaints(Vec<String>);

impl Complaints {
    /// Adds a complaint.
    pub fn add(&mut self, place: &str, what: impl std::fmt::Display) {
        self.0.push(format!("{place}: {what}"));
    }

    /// Compares what was recorded with what we write.
    pub fn compare(&mut self, place: &str, what: &str, recorded: &[u8], ours: Result<Vec<u8>, String>) {
        match ours {
            Err(error) => self.add(place, format!("{what}: {error}")),
            Ok(ours) if ours != recorded => {
                let at = recorded.iter().zip(&ours).take_while(|(one, other)| one == other).count();
                let show = |bytes: &[u8]| format!("{:02x?}", &bytes[at..bytes.len().min(at + 12)]);
                let (theirs, ours) = (show(recorded), show(&ours));
                self.add(place, format!("{what} differs at byte {at}: recorded {theirs}, ours {ours}"));
            }
            Ok(_) => {}
        }
    }

    /// Fails if there was anything to complain about.
    pub fn finish(self, lines: usize) {
        assert!(lines > 0, "nothing was compared");
        let shown = self.0.iter().take(40).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(self.0.is_empty(), "{} of {lines} lines:\n{shown}", self.0.len());
    }
}
