//! The segment that compaction writes: `*.cleaned` files next to the segments that it is to replace.
//!
//! The one tricky idea: its files stay open. Whoever takes it into the log reads through these handles while the names change under them.

use std::io::{self, IoSlice};
use std::sync::Arc;

use ottla_protocol::records::BatchHeader;

use super::Source;
use crate::disk::{File, OpenMode};
use crate::index::{AbortedTxn, OffsetIndexFile, TimeIndexFile, encode_aborted};
use crate::meaning::rewritable;
use crate::names::{CLEANED, LOG, OFFSET_INDEX, SEGMENT_EXTENSIONS, TIME_INDEX, TXN_INDEX};
use crate::place::Place;
use crate::segment::{Indexer, SealedFiles, SealedSegment, fits};

/// Bytes that are gathered for one write.
const WRITE_BYTES: usize = 1 << 20;
/// Bytes that are made durable in one go: a whole segment would hold up the disk for those who produce.
const UNSYNCED_BYTES_MAX: u64 = 16 << 20;

/// A segment that is complete, durable, and not part of the log yet.
#[derive(Debug)]
#[must_use = "a cleaned segment counts when it is swapped in"]
pub struct CleanedSegment {
    pub(crate) segment: SealedSegment,
    /// Bytes of its batches.
    pub(crate) size: u32,
    /// What it replaces, oldest first.
    pub(crate) sources: Vec<Source>,
    /// How often the log had been truncated when its segments were looked at.
    pub(crate) truncations: u64,
}

/// The segment while it is being written.
#[derive(Debug)]
pub(super) struct Output {
    base_offset: i64,
    interval: u32,
    log: Arc<dyn File>,
    indexer: Indexer,
    /// What is not written yet.
    buffer: Vec<u8>,
    /// Bytes that are written.
    written: u64,
    /// Bytes that are durable.
    synced: u64,
}

/// The extension of a file of the segment while it is not part of the log.
pub(crate) fn cleaned(extension: &str) -> String {
    format!("{extension}{CLEANED}")
}

/// Removes the files of a segment that is not wanted.
pub(crate) fn remove_cleaned(place: &Place, base_offset: i64) -> io::Result<()> {
    SEGMENT_EXTENSIONS.iter().try_for_each(|extension| place.remove(base_offset, &[&cleaned(extension)]))
}

impl Output {
    pub(super) fn create(place: &Place, base_offset: i64, interval: u32) -> io::Result<Output> {
        remove_cleaned(place, base_offset)?;
        let log = place.open(base_offset, &cleaned(LOG), OpenMode::Truncate)?;
        let buffer = Vec::with_capacity(WRITE_BYTES);
        Ok(Output { base_offset, interval, log, indexer: Indexer::default(), buffer, written: 0, synced: 0 })
    }

    /// Adds a whole batch.
    pub(super) fn push(&mut self, batch: &[u8]) -> io::Result<()> {
        let header = BatchHeader::read(batch).map_err(io::Error::other)?;
        let position = self.written + self.buffer.len() as u64;
        // A delete horizon makes records a little longer, and a segment may be full already.
        if position + batch.len() as u64 > i32::MAX as u64 || !fits(self.base_offset, header.last_offset()) {
            let reason = "a cleaned segment is larger than a segment can be";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        self.indexer.add(self.base_offset, self.interval, &header, position as u32);
        if self.buffer.len() + batch.len() > WRITE_BYTES {
            self.write_out()?;
        }
        self.buffer.extend_from_slice(batch);
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.log.write_all_at(&[IoSlice::new(&self.buffer)], self.written)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        if self.written - self.synced >= UNSYNCED_BYTES_MAX {
            // All of it is written anew if it is tried again.
            self.log.sync_data().map_err(rewritable)?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Completes all files and makes them durable, names included.
    pub(super) fn finish(
        mut self,
        place: &Place,
        sources: Vec<Source>,
        aborted: Vec<AbortedTxn>,
        modified: Option<i64>,
    ) -> io::Result<CleanedSegment> {
        self.write_out()?;
        self.indexer.note_max_timestamp(self.base_offset);
        let (base_offset, size) = (self.base_offset, self.written as u32);
        let offsets = place.write(base_offset, &cleaned(OFFSET_INDEX), &self.indexer.offsets.encode())?;
        let times = place.write(base_offset, &cleaned(TIME_INDEX), &self.indexer.times.encode())?;
        if !aborted.is_empty() {
            let index = place.write(base_offset, &cleaned(TXN_INDEX), &encode_aborted(&aborted))?;
            index.sync_data().map_err(rewritable)?;
        }
        if let Some(modified) = modified {
            self.log.set_modified(modified)?;
        }
        // All of it is written anew if it is tried again.
        for file in [&self.log, &offsets, &times] {
            file.sync_data().map_err(rewritable)?;
        }
        place.sync()?;
        let lost = || io::Error::other("an index that was just written is not readable");
        let files = SealedFiles {
            log: self.log,
            offsets: OffsetIndexFile::open(offsets, size)?.ok_or_else(lost)?,
            times: TimeIndexFile::open(times)?.ok_or_else(lost)?,
        };
        let segment = SealedSegment::cleaned(base_offset, size, aborted, &self.indexer, files);
        Ok(CleanedSegment { segment, size, sources, truncations: 0 })
    }
}
