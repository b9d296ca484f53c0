//! Checkpoint files: a version, a count, and one line per entry, replaced atomically (`CheckpointFile`).
//!
//! The one tricky idea: a file that was never written and an empty one both mean "no entries"; anything else that does not read back
//! exactly is an error, because a checkpoint that lies is worse than none.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::io;
use std::path::Path;

use crate::disk::{Disk, read_file, write_atomic};

/// The only version that Kafka has written so far.
const VERSION: i32 = 0;

/// A topic's name and a partition's number: the key of per-directory checkpoints. Storage does not care what they mean.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionName {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
}

impl PartitionName {
    /// Names a partition.
    pub fn new(topic: impl Into<String>, partition: i32) -> PartitionName {
        PartitionName { topic: topic.into(), partition }
    }
}

impl Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

pub(crate) fn malformed(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}

/// Writes lines in the checkpoint format.
pub(crate) fn encode_lines<L: Display>(lines: impl ExactSizeIterator<Item = L>) -> String {
    let mut text = format!("{VERSION}\n{}\n", lines.len());
    for line in lines {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Reads the checkpoint at `path`, one parsed entry per line. `NotFound` becomes an empty list.
pub(crate) fn read_lines<T>(
    disk: &dyn Disk,
    path: &Path,
    parse: impl Fn(&str) -> Option<T>,
) -> io::Result<Vec<T>> {
    let bytes = match read_file(disk, path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed(path, "not text"))?;
    let mut lines = text.lines();
    let Some(version) = lines.next() else { return Ok(Vec::new()) };
    if version.parse() != Ok(VERSION) {
        return Err(malformed(path, &format!("version {version:?} is unknown, expected {VERSION}")));
    }
    let Some(count) = lines.next() else { return Ok(Vec::new()) };
    let count: usize = count.parse().map_err(|_| malformed(path, &format!("bad count {count:?}")))?;
    let mut entries = Vec::new();
    for line in lines {
        entries.push(parse(line).ok_or_else(|| malformed(path, &format!("malformed line {line:?}")))?);
    }
    if entries.len() != count {
        return Err(malformed(path, &format!("{count} entries promised, {} found", entries.len())));
    }
    Ok(entries)
}

/// The checkpoints of a log directory, each a map from partition to offset (`OffsetCheckpointFile`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    /// Offsets below which a log's files are known to be synced.
    RecoveryPoint,
    /// First readable offsets, where they are above the first segment's base.
    LogStart,
    /// High watermarks.
    HighWatermark,
    /// First dirty offsets of compaction.
    Cleaner,
}

impl Checkpoint {
    /// The file's name.
    pub fn file_name(self) -> &'static str {
        match self {
            Checkpoint::RecoveryPoint => "recovery-point-offset-checkpoint",
            Checkpoint::LogStart => "log-start-offset-checkpoint",
            Checkpoint::HighWatermark => "replication-offset-checkpoint",
            Checkpoint::Cleaner => "cleaner-offset-checkpoint",
        }
    }

    pub(super) fn read(self, disk: &dyn Disk, dir: &Path) -> io::Result<BTreeMap<PartitionName, i64>> {
        let entries = read_lines(disk, &dir.join(self.file_name()), |line| {
            let mut words = line.split_whitespace();
            let entry = (
                PartitionName::new(words.next()?, words.next()?.parse().ok()?),
                words.next()?.parse::<i64>().ok()?,
            );
            words.next().is_none().then_some(entry)
        })?;
        Ok(entries.into_iter().collect())
    }

    pub(super) fn write(
        self,
        disk: &dyn Disk,
        dir: &Path,
        offsets: &BTreeMap<PartitionName, i64>,
    ) -> io::Result<()> {
        let lines =
            offsets.iter().map(|(name, offset)| format!("{} {} {offset}", name.topic, name.partition));
        write_atomic(disk, &dir.join(self.file_name()), encode_lines(lines).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    #[test]
    fn checkpoints_have_kafkas_bytes_and_read_back() {
        let disk = SimDisk::new(1);
        let dir = Path::new("/");
        let offsets: BTreeMap<_, _> =
            [(PartitionName::new("a.b", 0), 12), (PartitionName::new("c", 3), 7)].into();
        Checkpoint::RecoveryPoint.write(&disk, dir, &offsets).unwrap();
        let path = Path::new("/recovery-point-offset-checkpoint");
        assert_eq!(disk.contents(path).unwrap(), b"0\n2\na.b 0 12\nc 3 7\n");
        assert_eq!(Checkpoint::RecoveryPoint.read(&disk, dir).unwrap(), offsets);
        assert_eq!(disk.crash().contents(path), disk.contents(path), "durable when written");
        assert!(Checkpoint::LogStart.read(&disk, dir).unwrap().is_empty());
    }

    #[test]
    fn malformed_checkpoints_are_errors() {
        let dir = Path::new("/");
        for text in ["1\n0\n", "0\nx\n", "0\n2\na 0 1\n", "0\n1\na 0\n", "0\n1\na 0 1 2\n", "0\n1\na b 1\n"] {
            let disk = SimDisk::new(1);
            write_atomic(&disk, Path::new("/log-start-offset-checkpoint"), text.as_bytes()).unwrap();
            let error = Checkpoint::LogStart.read(&disk, dir).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
        let disk = SimDisk::new(1);
        write_atomic(&disk, Path::new("/log-start-offset-checkpoint"), b"").unwrap();
        assert!(Checkpoint::LogStart.read(&disk, dir).unwrap().is_empty());
    }
}
