//! Lookups: offsets by timestamp, and the aborted transactions of a range.
//!
//! The one tricky idea: indexes and headers lead to one batch, and only that batch is decompressed to find the record. Under the log's
//! lock only the segments that may matter are listed ([`LookupJob`]); everything that waits for the disk happens outside, and what it
//! learned of the segments is kept.

use std::io;

use ottla_protocol::records::{Batch, BatchHeader};

use super::Log;
use crate::error::StorageError;
use crate::index::{TimestampOffset, collect_aborted};
use crate::place::Place;
use crate::scan::{Found, Scan};
use crate::segment::{HEADER_PIECE, SealedFiles, search_target};

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

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The first record whose timestamp is this one or later (ListOffsets).
    Timestamp(i64),
    /// The first record among those with the largest timestamp in the log (ListOffsets -3, KIP-734).
    MaxTimestamp,
}

/// A lookup: everything that is needed to perform it without the log.
#[derive(Debug)]
pub struct LookupJob {
    place: Place,
    lookup: Lookup,
    log_start_offset: i64,
    decompressed_bytes_max: usize,
    index_interval_bytes: u32,
    /// Oldest first.
    segments: Vec<Candidate>,
}

/// What a lookup found, and what it learned on the way; to be given to [`Log::end_lookup`].
#[derive(Debug)]
pub struct Looked {
    /// The record, if there is one.
    pub found: Option<FoundOffset>,
    /// Base offset, size and largest timestamp of sealed segments.
    learned: Vec<(i64, u32, Option<TimestampOffset>)>,
}

#[derive(Debug)]
struct Candidate {
    base_offset: i64,
    size: u32,
    /// The outer `None`: to be read from the time index.
    max_timestamp: Option<Option<TimestampOffset>>,
    files: Files,
}

#[derive(Debug)]
enum Files {
    Sealed(SealedFiles),
    /// To be opened.
    Closed,
    /// The active segment, and where in it to begin; that was found under the lock.
    Active(Stretch),
}

/// Where to look within a segment's file.
#[derive(Debug, Clone)]
struct Stretch {
    file: std::sync::Arc<dyn crate::disk::File>,
    position: u32,
    size: u32,
}

impl Log {
    /// Looks a record up and waits for the disk: for sequential callers.
    pub fn lookup(&mut self, lookup: Lookup) -> Result<Option<FoundOffset>, StorageError> {
        let looked = self.begin_lookup(lookup)?.run()?;
        let found = looked.found;
        self.end_lookup(looked);
        Ok(found)
    }

    /// Prepares a lookup, to be run without the log. Waits for the disk only if the active segment is not loaded.
    pub fn begin_lookup(&mut self, lookup: Lookup) -> Result<LookupJob, StorageError> {
        self.check_healthy()?;
        let active =
            self.active_candidate(lookup).map_err(|error| StorageError::at(&self.place.dir, &error))?;
        let first = self.sealed_at(self.log_start_offset).min(self.sealed.len());
        let sealed = self.sealed[first..].iter().map(|segment| Candidate {
            base_offset: segment.base_offset,
            size: segment.size,
            max_timestamp: segment.known_max_timestamp(),
            files: segment.opened().map_or(Files::Closed, |files| Files::Sealed(files.clone())),
        });
        Ok(LookupJob {
            place: self.place.clone(),
            lookup,
            log_start_offset: self.log_start_offset,
            decompressed_bytes_max: self.config.decompressed_bytes_max,
            index_interval_bytes: self.config.index_interval_bytes,
            segments: sealed.chain(active).collect(),
        })
    }

    /// Keeps what a lookup learned.
    pub fn end_lookup(&mut self, looked: Looked) {
        for (base_offset, size, max_timestamp) in looked.learned {
            if let Some(segment) = self.sealed_like(base_offset, size) {
                segment.note_max_timestamp(max_timestamp);
            }
        }
    }

    fn active_candidate(&mut self, lookup: Lookup) -> io::Result<Option<Candidate>> {
        let (base_offset, size) = (self.active.base_offset, self.active.size);
        let Some(max) = self.active.max_timestamp.filter(|_| size > 0) else { return Ok(None) };
        let files = self.active.load(&self.place, &self.config)?;
        let offset = match lookup {
            Lookup::MaxTimestamp => max.offset,
            Lookup::Timestamp(timestamp) => {
                let floor = files.indexer.times.floor(timestamp.saturating_sub(1), base_offset);
                floor.map_or(base_offset, |floor| floor.offset)
            }
        };
        let position = files.indexer.offsets.floor(search_target(base_offset, offset));
        let stretch = Stretch { file: files.log.clone(), position, size };
        Ok(Some(Candidate {
            base_offset,
            size,
            max_timestamp: Some(Some(max)),
            files: Files::Active(stretch),
        }))
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
}

impl LookupJob {
    /// Looks. Waits for the disk; two lookups of one log may not run at the same time, as they may have to mend an index.
    pub fn run(mut self) -> Result<Looked, StorageError> {
        let mut learned = Vec::new();
        let found = self.look(&mut learned).map_err(|error| StorageError::at(&self.place.dir, &error))?;
        Ok(Looked { found, learned })
    }

    fn look(
        &mut self,
        learned: &mut Vec<(i64, u32, Option<TimestampOffset>)>,
    ) -> io::Result<Option<FoundOffset>> {
        let mut best: Option<(usize, TimestampOffset)> = None;
        for n in 0..self.segments.len() {
            let Some(max) = self.max_timestamp(n, learned)? else { continue };
            match self.lookup {
                Lookup::MaxTimestamp if best.is_none_or(|(_, best)| max.timestamp > best.timestamp) => {
                    best = Some((n, max));
                }
                Lookup::Timestamp(timestamp) if max.timestamp >= timestamp => {
                    let stretch = self.stretch(n, None)?;
                    let found =
                        self.find_record(&stretch, |header| header.max_timestamp >= timestamp, timestamp)?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                _ => {}
            }
        }
        let Some((n, max)) = best else { return Ok(None) };
        let stretch = self.stretch(n, Some(max.offset))?;
        self.find_record(&stretch, |header| header.max_timestamp == max.timestamp, max.timestamp)
    }

    /// The largest timestamp of the `n`th segment and the last offset of its batch.
    fn max_timestamp(
        &mut self,
        n: usize,
        learned: &mut Vec<(i64, u32, Option<TimestampOffset>)>,
    ) -> io::Result<Option<TimestampOffset>> {
        if let Some(known) = self.segments[n].max_timestamp {
            return Ok(known);
        }
        let Candidate { base_offset, size, .. } = self.segments[n];
        let max_timestamp = self.files(n)?.times.last(base_offset)?;
        learned.push((base_offset, size, max_timestamp));
        self.segments[n].max_timestamp = Some(max_timestamp);
        Ok(max_timestamp)
    }

    /// The files of the `n`th segment, which is sealed.
    fn files(&self, n: usize) -> io::Result<SealedFiles> {
        let Candidate { base_offset, size, files, .. } = &self.segments[n];
        match files {
            Files::Sealed(files) => Ok(files.clone()),
            Files::Closed => SealedFiles::open(&self.place, *base_offset, *size, self.index_interval_bytes),
            Files::Active(_) => unreachable!("everything about the active segment was found under the lock"),
        }
    }

    /// Where in the `n`th segment to begin: at the batch that holds an offset, or where the time index leads.
    fn stretch(&self, n: usize, offset: Option<i64>) -> io::Result<Stretch> {
        let Candidate { base_offset, size, files, .. } = &self.segments[n];
        if let Files::Active(stretch) = files {
            return Ok(stretch.clone());
        }
        let files = self.files(n)?;
        let offset = match (offset, self.lookup) {
            (None, Lookup::Timestamp(timestamp)) => {
                let floor = files.times.floor(timestamp.saturating_sub(1), *base_offset)?;
                floor.map_or(*base_offset, |floor| floor.offset)
            }
            (offset, _) => offset.unwrap_or(*base_offset),
        };
        let position = files.offsets.floor(search_target(*base_offset, offset))?;
        Ok(Stretch { file: files.log, position, size: *size })
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
        match batch.records(self.decompressed_bytes_max) {
            Ok(records) => {
                let mut records = records.iter().map_while(Result::ok);
                let found = records.find(|record| record.timestamp >= timestamp && record.offset >= start)?;
                let leader_epoch = batch.leader_epoch;
                // Some producers number the records in a batch wrong, and nobody has looked into it.
                let offset = found.offset.min(batch.last_offset()).max(batch.base_offset);
                Some(FoundOffset { offset, timestamp: found.timestamp, leader_epoch })
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
