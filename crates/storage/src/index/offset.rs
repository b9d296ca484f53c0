//! `.index`: from offsets to positions (`OffsetIndex`).
//!
//! ```text
//! last offset of a batch, relative to the segment's base: i32 | position of that batch in the .log: i32
//! ```
//!
//! The one tricky idea: the entry names the batch's *last* offset. The batch that holds an offset is thus at or behind the largest
//! entry that is not above it, and a short walk over headers finds it.

use std::io;
use std::sync::Arc;

use super::floor_entry;
use crate::disk::File;

pub(crate) const ENTRY_BYTES: u32 = 8;

/// An entry: the batch at `position` ends with offset `base + relative_offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) relative_offset: u32,
    pub(crate) position: u32,
}

impl OffsetEntry {
    fn to_bytes(self) -> [u8; ENTRY_BYTES as usize] {
        (u64::from(self.relative_offset) << 32 | u64::from(self.position)).to_be_bytes()
    }

    fn from_bytes(bytes: [u8; ENTRY_BYTES as usize]) -> OffsetEntry {
        let word = u64::from_be_bytes(bytes);
        OffsetEntry { relative_offset: (word >> 32) as u32, position: word as u32 }
    }
}

/// The index of a segment that is being written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OffsetIndex {
    entries: Vec<OffsetEntry>,
}

impl OffsetIndex {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn push(&mut self, relative_offset: u32, position: u32) {
        if let Some(last) = self.entries.last() {
            assert!(
                last.relative_offset < relative_offset && last.position < position,
                "index entries must grow: {last:?}, then {relative_offset} at {position}"
            );
        }
        assert!(relative_offset <= i32::MAX as u32 && position <= i32::MAX as u32, "an index holds i32s");
        self.entries.push(OffsetEntry { relative_offset, position });
    }

    /// Where to start walking for `relative_offset`: the position of a batch at or before it.
    pub(crate) fn floor(&self, relative_offset: u32) -> u32 {
        let count = self.entries.partition_point(|entry| entry.relative_offset <= relative_offset);
        count.checked_sub(1).map_or(0, |last| self.entries[last].position)
    }

    /// The last indexed position at or before `position`.
    pub(crate) fn floor_position(&self, position: u32) -> u32 {
        let count = self.entries.partition_point(|entry| entry.position <= position);
        count.checked_sub(1).map_or(0, |last| self.entries[last].position)
    }

    pub(crate) fn last_position(&self) -> u32 {
        self.entries.last().map_or(0, |entry| entry.position)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|entry| entry.to_bytes()).collect()
    }

    /// Reads a file's bytes; `None` if they are not an index into a `.log` of `size` bytes.
    pub(crate) fn decode(bytes: &[u8], size: u32) -> Option<OffsetIndex> {
        let (entries, rest) = bytes.as_chunks::<{ ENTRY_BYTES as usize }>();
        let entries: Vec<_> = entries.iter().map(|bytes| OffsetEntry::from_bytes(*bytes)).collect();
        let grows = entries.windows(2).all(|pair| {
            pair[0].relative_offset < pair[1].relative_offset && pair[0].position < pair[1].position
        });
        let fits =
            entries.last().is_none_or(|last| last.position < size && last.relative_offset <= i32::MAX as u32);
        (rest.is_empty() && grows && fits).then_some(OffsetIndex { entries })
    }
}

/// The index of a sealed segment, searched on disk.
#[derive(Debug, Clone)]
pub(crate) struct OffsetIndexFile {
    file: Arc<dyn File>,
    count: u32,
}

impl OffsetIndexFile {
    /// Takes an open file; `None` if it cannot be the index of a `.log` of `size` bytes (its ends are looked at, as Kafka does).
    pub(crate) fn open(file: Arc<dyn File>, size: u32) -> io::Result<Option<OffsetIndexFile>> {
        let len = file.len()?;
        if len % u64::from(ENTRY_BYTES) != 0 || len > u64::from(u32::MAX) {
            return Ok(None);
        }
        let index = OffsetIndexFile { file, count: len as u32 / ENTRY_BYTES };
        if index.count == 0 {
            return Ok(Some(index));
        }
        let (first, last) = (index.entry(0)?, index.entry(index.count - 1)?);
        let sane = last.position < size
            && last.relative_offset <= i32::MAX as u32
            && (index.count == 1
                || first.relative_offset < last.relative_offset && first.position < last.position);
        Ok(sane.then_some(index))
    }

    fn entry(&self, n: u32) -> io::Result<OffsetEntry> {
        let mut bytes = [0; ENTRY_BYTES as usize];
        self.file.read_exact_at(&mut bytes, u64::from(n) * u64::from(ENTRY_BYTES))?;
        Ok(OffsetEntry::from_bytes(bytes))
    }

    pub(crate) fn floor(&self, relative_offset: u32) -> io::Result<u32> {
        match floor_entry(self.count, |n| Ok(self.entry(n)?.relative_offset <= relative_offset))? {
            Some(n) => Ok(self.entry(n)?.position),
            None => Ok(0),
        }
    }

    pub(crate) fn floor_position(&self, position: u32) -> io::Result<u32> {
        match floor_entry(self.count, |n| Ok(self.entry(n)?.position <= position))? {
            Some(n) => Ok(self.entry(n)?.position),
            None => Ok(0),
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
    fn memory_and_file_find_the_same() {
        let mut index = OffsetIndex::default();
        for n in 1..100u32 {
            index.push(n * 10, n * 5000);
        }
        let bytes = index.encode();
        assert_eq!(bytes.len(), 99 * 8);
        assert_eq!(bytes[..8], [0, 0, 0, 10, 0, 0, 0x13, 0x88]);
        assert_eq!(OffsetIndex::decode(&bytes, 600_000), Some(index.clone()));
        let disk = SimDisk::new(1);
        let file = disk.open(Path::new("/i"), OpenMode::Create).unwrap();
        file.write_all_at(&[IoSlice::new(&bytes)], 0).unwrap();
        let on_disk = OffsetIndexFile::open(file, 600_000).unwrap().unwrap();
        for target in [0, 9, 10, 11, 555, 990, 5000] {
            assert_eq!(on_disk.floor(target).unwrap(), index.floor(target), "{target}");
            assert_eq!(on_disk.floor_position(target * 500).unwrap(), index.floor_position(target * 500));
        }
        assert_eq!(
            (index.floor(9), index.floor(10), index.floor(19), index.floor(20)),
            (0, 5000, 5000, 10_000)
        );
    }

    #[test]
    fn insane_indexes_are_recognised() {
        let mut index = OffsetIndex::default();
        index.push(5, 100);
        index.push(9, 200);
        let mut bytes = index.encode();
        assert_eq!(OffsetIndex::decode(&bytes, 200), None, "points behind the log");
        assert_eq!(OffsetIndex::decode(&bytes[..15], 300), None, "a part of an entry");
        bytes.rotate_left(8);
        assert_eq!(OffsetIndex::decode(&bytes, 300), None, "not sorted");
    }
}
