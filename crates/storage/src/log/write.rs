//! Writing: a run of prepared batches goes into the active segment with one write, and then counts as appended.
//!
//! The one tricky idea: a system call costs as much as copying several kilobytes, so batches that arrive together are written together.
//! A run is one segment's: where a batch might begin a new segment, the run ends before it, and that batch decides.

use std::io::{self, IoSlice};

use ottla_protocol::records::BatchHeader;

use super::Log;
use crate::disk::OpenMode;
use crate::error::StorageError;
use crate::names;
use crate::producer::TxnEnd;
use crate::segment::{ActiveFiles, ActiveSegment, Indexer, fits};
use crate::validate::Prepared;

impl Log {
    /// Ends the active segment and begins another, unless it is empty. The producers' state is written down with it.
    pub fn roll(&mut self, now: i64) -> Result<(), StorageError> {
        self.check_healthy()?;
        if self.active.size > 0 {
            self.try_roll(self.log_end_offset, now).map_err(|error| self.fail_unless_short(error))?;
        }
        Ok(())
    }

    /// Writes prepared batches that follow each other, and takes over in memory as many as were written: all of them, unless it fails.
    /// The second is how many that was.
    pub(super) fn write(&mut self, batches: &[Prepared], now: i64) -> (Result<(), StorageError>, usize) {
        let mut written = 0;
        while written < batches.len() {
            match self.try_write_run(&batches[written..], now) {
                Ok(count) => {
                    batches[written..written + count].iter().for_each(|batch| self.take_over(batch));
                    written += count;
                }
                Err(error) => return (Err(self.fail_unless_short(error)), written),
            }
        }
        self.assert_invariants();
        (Ok(()), written)
    }

    /// A batch that was written is part of the log.
    fn take_over(&mut self, batch: &Prepared) {
        let header = &batch.header;
        assert!(header.base_offset >= self.log_end_offset, "a log is appended to at its end");
        self.changed = true;
        if header.leader_epoch >= 0 {
            self.epochs.assign(header.leader_epoch, header.base_offset);
        }
        let end = if header.is_control() { read_end(batch) } else { None };
        if let Some(completed) = self.producers.apply(header, end)
            && completed.aborted
        {
            self.active.aborted.push(completed.into());
        }
        self.tail.push(header, batch.front(), &batch.rest);
        self.log_end_offset = header.next_offset();
    }

    /// Writes as many batches from the front as go into one segment together. Returns how many; at least one.
    fn try_write_run(&mut self, batches: &[Prepared], now: i64) -> io::Result<usize> {
        let header = &batches[0].header;
        if self.must_roll(header, now)? {
            // Where the log ends, so that there is no gap between segments that recovery could take for a loss; unless a gap within
            // the log (of a compacted leader) is too large to be spanned.
            let end_offset = self.log_end_offset;
            let base_offset =
                if fits(end_offset, header.last_offset()) { end_offset } else { header.base_offset };
            self.try_roll(base_offset, now)?;
        }
        self.create_active()?;
        let count = self.run_length(batches);
        let batches = &batches[..count];
        let segment_bytes = self.segment_bytes();
        let interval = self.config.index_interval_bytes;
        let ActiveSegment { base_offset, size, max_timestamp, files, .. } = &mut self.active;
        let files = files.as_mut().expect("created or loaded above");
        let bytes: usize = batches.iter().map(|batch| batch.header.size()).sum();
        files.allocate_ahead(*size, bytes, segment_bytes);
        let position = u64::from(*size);
        match batches {
            [only] => {
                files.log.write_all_at(&[IoSlice::new(only.front()), IoSlice::new(&only.rest)], position)?;
            }
            _ => {
                let slices =
                    batches.iter().flat_map(|batch| [IoSlice::new(batch.front()), IoSlice::new(&batch.rest)]);
                files.log.write_all_at(&slices.collect::<Vec<_>>(), position)?;
            }
        }
        for batch in batches {
            files.indexer.add(*base_offset, interval, &batch.header, *size);
            *size += batch.header.size() as u32;
        }
        *max_timestamp = files.indexer.max_timestamp;
        self.unflushed_bytes += bytes as u64;
        Ok(count)
    }

    /// How many batches from the front certainly belong into the active segment, which has room for the first.
    fn run_length(&self, batches: &[Prepared]) -> usize {
        let ActiveSegment { base_offset, size, .. } = self.active;
        let Some(indexer) = self.active.files.as_ref().map(|files| &files.indexer) else { return 1 };
        // The first batch of a segment is what its age counts from.
        let Some(first_timestamp) = indexer.first_timestamp.filter(|first| size > 0 && *first >= 0) else {
            return 1;
        };
        let segment_ms = self.segment_ms();
        let (offset_entries_max, time_entries_max) =
            (self.config.index_entries_max(8), self.config.index_entries_max(12));
        let entries_left = (offset_entries_max.saturating_sub(indexer.offsets.len()))
            .min(time_entries_max.saturating_sub(indexer.times.len() + 1));
        let mut end = size as usize + batches[0].header.size();
        let rest = batches[1..].iter().take(entries_left.saturating_sub(1)).take_while(|batch| {
            end = end.saturating_add(batch.header.size());
            end <= self.segment_bytes() as usize
                && fits(base_offset, batch.header.last_offset())
                && batch.header.max_timestamp.saturating_sub(first_timestamp) <= segment_ms
        });
        1 + rest.count()
    }

    fn segment_ms(&self) -> i64 {
        self.config.segment_ms.saturating_sub(self.config.jitter_ms(self.active.base_offset))
    }

    /// Positions in an index are `i32`s, whatever the configuration says.
    pub(super) fn segment_bytes(&self) -> u32 {
        self.config.segment_bytes.min(i32::MAX as u32)
    }

    fn must_roll(&mut self, header: &BatchHeader, now: i64) -> io::Result<bool> {
        let base_offset = self.active.base_offset;
        if self.active.size == 0 {
            return Ok(!fits(base_offset, header.last_offset()));
        }
        let (created_at, size) = (self.active.created_at, self.active.size as usize);
        let full = size.saturating_add(header.size()) > self.segment_bytes() as usize;
        let segment_ms = self.segment_ms();
        let (offset_entries_max, time_entries_max) =
            (self.config.index_entries_max(8), self.config.index_entries_max(12));
        let indexer = &self.active.load(&self.place, &self.config)?.indexer;
        let age = match indexer.first_timestamp {
            Some(first) if first >= 0 => header.max_timestamp.saturating_sub(first),
            _ => now.saturating_sub(created_at),
        };
        // The last place in the time index is kept for the entry that sealing adds.
        let indexes_full =
            indexer.offsets.len() >= offset_entries_max || indexer.times.len() + 1 >= time_entries_max;
        // The next segment needs the name of this one to be durable (see `create_active`). Whoever may not wait lets it grow further.
        let due = (full || age > segment_ms || indexes_full) && self.may_roll();
        let outgrown = size.saturating_add(header.size()) > i32::MAX as usize;
        Ok(due || outgrown || !fits(base_offset, header.last_offset()))
    }

    /// Whether a new segment may be begun now.
    pub(super) fn may_roll(&self) -> bool {
        self.config.rolls_may_wait || self.is_name_durable()
    }

    /// Whether the names of all segments would survive power loss.
    fn is_name_durable(&self) -> bool {
        !self.unsynced_segment && !self.flushing.is_some_and(|flushing| flushing.new_segment)
    }

    /// Whether the active segment is as large as it should get: it ends as soon as its name is durable, so a flush should come soon.
    pub fn is_overdue(&self) -> bool {
        self.active.size >= self.segment_bytes() && !self.is_name_durable()
    }

    pub(super) fn try_roll(&mut self, base_offset: i64, now: i64) -> io::Result<()> {
        assert!(base_offset >= self.log_end_offset, "a segment begins where the log ends, or after a gap");
        // What may fail for want of space comes first: then nothing has changed.
        let mut unsynced = Vec::new();
        if self.active.size > 0 {
            self.active.load(&self.place, &self.config)?;
            unsynced = self.active.write_to_seal(&self.place)?;
        }
        unsynced.push(self.place.write(base_offset, names::PRODUCER_SNAPSHOT, &self.producers.snapshot())?);
        if self.active.size == 0 {
            // Nothing in it: it begins elsewhere.
            if base_offset != self.active.base_offset && self.active.files.is_some() {
                self.place.remove(self.active.base_offset, &names::SEGMENT_EXTENSIONS)?;
            }
            self.active = ActiveSegment::empty(base_offset, now);
            if self.sealed.is_empty() {
                (self.log_start_offset, self.synced_offset) = (base_offset, base_offset);
            }
        } else {
            let full = std::mem::replace(&mut self.active, ActiveSegment::empty(base_offset, now));
            self.sealed.push(full.seal());
        }
        self.unsynced.extend(unsynced);
        self.unsynced_dir = true;
        self.log_end_offset = base_offset;
        self.producers.set_end_offset(base_offset);
        Ok(())
    }

    /// Makes sure that the active segment has its file open.
    pub(super) fn create_active(&mut self) -> io::Result<()> {
        if self.active.files.is_some() {
            return Ok(());
        }
        if self.active.size > 0 {
            return self.active.load(&self.place, &self.config).map(|_| ());
        }
        // Names of segments become durable in their order, else power loss could leave the second of two and take the first.
        if !self.is_name_durable() {
            self.place.sync()?;
        }
        let log = self.place.open(self.active.base_offset, names::LOG, OpenMode::Truncate)?;
        self.unsynced_segment = true;
        self.active.files = Some(ActiveFiles::new(log, Indexer::default()));
        self.unsynced_dir = true;
        Ok(())
    }
}

/// The marker of a control batch that is about to be written.
fn read_end(batch: &Prepared) -> Option<TxnEnd> {
    let mut bytes = batch.front().to_vec();
    bytes.extend_from_slice(&batch.rest);
    TxnEnd::read(&ottla_protocol::records::Batch::parse(&bytes).ok()?)
}
