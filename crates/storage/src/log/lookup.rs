//! Lookups: offsets by timestamp, and the aborted transactions of a range.
//!
//! The one tricky idea: indexes and headers lead to one batch, and only that batch is decompressed to find the record.

use std::io;

use ottla_protocol::records::{Batch, BatchHeader};

use super::Log;
use crate::disk::File;
use crate::error::StorageError;
use crate::index::{TimestampOffset, collect_aborted};
use crate::scan::{Found, Scan};
use crate::segment::{HEADER_PIECE, search_target};

/// A record that a lookup found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp.
    pub timestamp: i64,
    /// The leader epoch of its batch, or -1.
    pub leader_epoch: i32,
}

/// Where to look within a segment's file.
struct Stretch {
    file: std::sync::Arc<dyn File>,
    position: u32,
    size: u32,
}

impl Log {
    /// The first record whose timestamp is `timestamp` or later (ListOffsets). Waits for the disk.
    pub fn lookup_timestamp(&mut self, timestamp: i64) -> Result<Option<FoundOffset>, StorageError> {
        self.check_healthy()?;
        self.try_lookup(timestamp).map_err(|error| StorageError::at(&self.place.dir, &error))
    }

    /// The first record among those with the largest timestamp in the log (ListOffsets -3, KIP-734). Waits for the disk.
    pub fn max_timestamp(&mut self) -> Result<Option<FoundOffset>, StorageError> {
        self.check_healthy()?;
        self.try_max_timestamp().map_err(|error| StorageError::at(&self.place.dir, &error))
    }

    /// Producer id and first offset of each aborted transaction that overlaps `start_offset..end_offset`.
    pub fn aborted_transactions(&self, start_offset: i64, end_offset: i64) -> Vec<(i64, i64)> {
        let mut found = Vec::new();
        let from = self.sealed_at(start_offset);
        let sealed = self.sealed[from.min(self.sealed.len())..].iter().map(|segment| &segment.aborted);
        for aborted in sealed.chain([&self.active.aborted]) {
            if collect_aborted(aborted, start_offset, end_offset, &mut found) {
                break;
            }
        }
        found.into_iter().map(|txn| (txn.producer_id, txn.first_offset)).collect()
    }

    fn segment_count(&self) -> usize {
        self.sealed.len() + 1
    }

    /// The largest timestamp of the `n`th segment and the last offset of its batch.
    fn segment_max_timestamp(&mut self, n: usize) -> io::Result<Option<TimestampOffset>> {
        match self.sealed.get_mut(n) {
            Some(sealed) => sealed.max_timestamp(&self.place, &self.config),
            None => Ok(self.active.max_timestamp),
        }
    }

    /// The stretch of the `n`th segment in which to look for records not older than `timestamp`, or for an offset.
    fn stretch(&mut self, n: usize, target: Target) -> io::Result<Stretch> {
        if let Some(sealed) = self.sealed.get_mut(n) {
            let (base_offset, size) = (sealed.base_offset, sealed.size);
            let files = sealed.files(&self.place, &self.config)?;
            let offset = match target {
                Target::Offset(offset) => offset,
                Target::Timestamp(timestamp) => {
                    files.times.floor(timestamp - 1, base_offset)?.map_or(base_offset, |floor| floor.offset)
                }
            };
            let position = files.offsets.floor(search_target(base_offset, offset))?;
            return Ok(Stretch { file: files.log.clone(), position, size });
        }
        let (base_offset, size) = (self.active.base_offset, self.active.size);
        let files = self.active.load(&self.place, &self.config)?;
        let offset = match target {
            Target::Offset(offset) => offset,
            Target::Timestamp(timestamp) => files
                .indexer
                .times
                .floor(timestamp - 1, base_offset)
                .map_or(base_offset, |floor| floor.offset),
        };
        let position = files.indexer.offsets.floor(search_target(base_offset, offset));
        Ok(Stretch { file: files.log.clone(), position, size })
    }

    fn try_lookup(&mut self, timestamp: i64) -> io::Result<Option<FoundOffset>> {
        let first = self.sealed_at(self.log_start_offset);
        for n in first..self.segment_count() {
            if self.segment_max_timestamp(n)?.is_none_or(|max| max.timestamp < timestamp) {
                continue;
            }
            let stretch = self.stretch(n, Target::Timestamp(timestamp))?;
            let found = self.find_record(&stretch, |header| header.max_timestamp >= timestamp, timestamp)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn try_max_timestamp(&mut self) -> io::Result<Option<FoundOffset>> {
        let mut best: Option<(usize, TimestampOffset)> = None;
        for n in self.sealed_at(self.log_start_offset)..self.segment_count() {
            if let Some(max) = self.segment_max_timestamp(n)?
                && best.is_none_or(|(_, best)| max.timestamp > best.timestamp)
            {
                best = Some((n, max));
            }
        }
        let Some((n, max)) = best else { return Ok(None) };
        let stretch = self.stretch(n, Target::Offset(max.offset))?;
        self.find_record(&stretch, |header| header.max_timestamp == max.timestamp, max.timestamp)
    }

    /// The first readable record that is not older than `timestamp`, in the batches that `wanted` picks.
    fn find_record(
        &self,
        stretch: &Stretch,
        wanted: impl Fn(&BatchHeader) -> bool,
        timestamp: i64,
    ) -> io::Result<Option<FoundOffset>> {
        let (position, size) = (u64::from(stretch.position), u64::from(stretch.size));
        let mut scan = Scan::new(&*stretch.file, position, size, HEADER_PIECE);
        while let Found::At(position, header) = scan.next_header()? {
            if header.last_offset() < self.log_start_offset || !wanted(&header) {
                continue;
            }
            let mut bytes = vec![0; header.size()];
            stretch.file.read_exact_at(&mut bytes, position)?;
            if let Some(found) = self.find_in_batch(&bytes, timestamp) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn find_in_batch(&self, bytes: &[u8], timestamp: i64) -> Option<FoundOffset> {
        let batch = Batch::parse(bytes).ok()?;
        let start = self.log_start_offset;
        match batch.records(self.config.decompressed_bytes_max) {
            Ok(records) => {
                let mut records = records.iter().map_while(Result::ok);
                let found = records.find(|record| record.timestamp >= timestamp && record.offset >= start)?;
                let leader_epoch = batch.leader_epoch;
                Some(FoundOffset { offset: found.offset, timestamp: found.timestamp, leader_epoch })
            }
            // A batch that cannot be unpacked within bounds: its begin is early enough for every reader.
            Err(_) => Some(FoundOffset {
                offset: batch.base_offset.max(start),
                timestamp: batch.max_timestamp,
                leader_epoch: batch.leader_epoch,
            }),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Timestamp(i64),
    Offset(i64),
}
