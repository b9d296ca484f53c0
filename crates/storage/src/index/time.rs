//! `.timeindex`: from timestamps to offsets (`TimeIndex`).
//!
//! ```text
//! largest timestamp so far: i64 | last offset of the batch that has it, relative to the segment's base: i32
//! ```
//!
//! The one tricky idea: an entry says "up to this offset nothing is newer than this timestamp". So a search for a time may start at
//! the batch of the largest entry that is not newer.

use std::io;
use std::sync::Arc;

use super::floor_entry;
use crate::disk::File;

pub(crate) const ENTRY_BYTES: u32 = 12;

/// A timestamp (ms since the epoch) and the offset that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// The offset.
    pub offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TimeEntry {
    timestamp: i64,
    relative_offset: u32,
}

impl TimeEntry {
    fn from_bytes(bytes: [u8; ENTRY_BYTES as usize]) -> TimeEntry {
        let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
        TimeEntry {
            timestamp: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            relative_offset: u32::from_be_bytes(rest),
        }
    }

    fn to_bytes(self) -> [u8; ENTRY_BYTES as usize] {
        let mut bytes = [0; ENTRY_BYTES as usize];
        bytes[..8].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[8..].copy_from_slice(&self.relative_offset.to_be_bytes());
        bytes
    }

    fn absolute(self, base_offset: i64) -> TimestampOffset {
        TimestampOffset { timestamp: self.timestamp, offset: base_offset + i64::from(self.relative_offset) }
    }
}

/// The time index of a segment that is being written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TimeIndex {
    entries: Vec<TimeEntry>,
}

impl TimeIndex {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds an entry if it says something new: negative timestamps and ones that are not newer do not.
    pub(crate) fn push(&mut self, timestamp: i64, relative_offset: u32) {
        match self.entries.last() {
            Some(last) if timestamp <= last.timestamp => return,
            Some(last) => {
                assert!(relative_offset >= last.relative_offset, "time index offsets must not fall")
            }
            None if timestamp < 0 => return,
            None => {}
        }
        self.entries.push(TimeEntry { timestamp, relative_offset });
    }

    /// The last entry that is not newer than `timestamp`: nothing newer lies before its offset's batch.
    pub(crate) fn floor(&self, timestamp: i64, base_offset: i64) -> Option<TimestampOffset> {
        let count = self.entries.partition_point(|entry| entry.timestamp <= timestamp);
        count.checked_sub(1).map(|last| self.entries[last].absolute(base_offset))
    }

    pub(crate) fn last(&self, base_offset: i64) -> Option<TimestampOffset> {
        self.entries.last().map(|entry| entry.absolute(base_offset))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|entry| entry.to_bytes()).collect()
    }

    /// Reads a file's bytes; `None` if they are not a time index.
    pub(crate) fn decode(bytes: &[u8]) -> Option<TimeIndex> {
        let (entries, rest) = bytes.as_chunks::<{ ENTRY_BYTES as usize }>();
        let entries: Vec<_> = entries.iter().map(|bytes| TimeEntry::from_bytes(*bytes)).collect();
        let grows = entries.windows(2).all(|pair| {
            pair[0].timestamp < pair[1].timestamp && pair[0].relative_offset <= pair[1].relative_offset
        });
        let fits = entries.last().is_none_or(|last| last.relative_offset <= i32::MAX as u32);
        (rest.is_empty() && grows && fits).then_some(TimeIndex { entries })
    }
}

/// The time index of a sealed segment, searched on disk.
#[derive(Debug, Clone)]
pub(crate) struct TimeIndexFile {
    file: Arc<dyn File>,
    count: u32,
}

impl TimeIndexFile {
    /// Takes an open file; `None` if it cannot be a time index.
    pub(crate) fn open(file: Arc<dyn File>) -> io::Result<Option<TimeIndexFile>> {
        let len = file.len()?;
        if len % u64::from(ENTRY_BYTES) != 0 || len > u64::from(u32::MAX) {
            return Ok(None);
        }
        let index = TimeIndexFile { file, count: len as u32 / ENTRY_BYTES };
        if index.count > 1 && index.entry(0)?.timestamp >= index.entry(index.count - 1)?.timestamp {
            return Ok(None);
        }
        Ok(Some(index))
    }

    fn entry(&self, n: u32) -> io::Result<TimeEntry> {
        let mut bytes = [0; ENTRY_BYTES as usize];
        self.file.read_exact_at(&mut bytes, u64::from(n) * u64::from(ENTRY_BYTES))?;
        Ok(TimeEntry::from_bytes(bytes))
    }

    pub(crate) fn floor(&self, timestamp: i64, base_offset: i64) -> io::Result<Option<TimestampOffset>> {
        match floor_entry(self.count, |n| Ok(self.entry(n)?.timestamp <= timestamp))? {
            Some(n) => Ok(Some(self.entry(n)?.absolute(base_offset))),
            None => Ok(None),
        }
    }

    pub(crate) fn last(&self, base_offset: i64) -> io::Result<Option<TimestampOffset>> {
        match self.count.checked_sub(1) {
            Some(n) => Ok(Some(self.entry(n)?.absolute(base_offset))),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, OpenMode, SimDisk};
    use std::io::IoSlice;
    use std::path::Path;

    #[test]
    fn only_news_is_indexed_and_memory_and_file_agree() {
        let mut index = TimeIndex::default();
        for (timestamp, relative_offset) in [(-1, 3), (100, 5), (100, 9), (90, 12), (200, 15)] {
            index.push(timestamp, relative_offset);
        }
        let bytes = index.encode();
        assert_eq!(bytes.len(), 24);
        assert_eq!(bytes[..12], [0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 5]);
        assert_eq!(TimeIndex::decode(&bytes), Some(index.clone()));
        let disk = SimDisk::new(1);
        let file = disk.open(Path::new("/t"), OpenMode::Create).unwrap();
        file.write_all_at(&[IoSlice::new(&bytes)], 0).unwrap();
        let on_disk = TimeIndexFile::open(file).unwrap().unwrap();
        for timestamp in [0, 99, 100, 150, 200, 1000] {
            assert_eq!(on_disk.floor(timestamp, 7).unwrap(), index.floor(timestamp, 7), "{timestamp}");
        }
        assert_eq!(index.floor(150, 7), Some(TimestampOffset { timestamp: 100, offset: 12 }));
        assert_eq!(on_disk.last(7).unwrap(), Some(TimestampOffset { timestamp: 200, offset: 22 }));
        assert_eq!(index.floor(99, 7), None);
    }
}
