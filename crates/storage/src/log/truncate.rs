//! Truncating at the end: a follower gives up what its leader never had.
//!
//! The one tricky idea: what was cut off must not come back after power loss, behind records that took its place. So truncation is the one
//! thing that waits for the disk: files go from the end towards the front, each step durable before the next.

use std::io;

use super::Log;
use crate::disk::OpenMode;
use crate::error::StorageError;
use crate::index::AbortedTxn;
use crate::names::{self, PRODUCER_SNAPSHOT, SEGMENT_EXTENSIONS};
use crate::producer::Producers;
use crate::scan::{Found, Scan};
use crate::segment::{ActiveFiles, ActiveSegment, HEADER_PIECE, Indexer};

use super::recover::{load_producers, snapshot_offsets};

impl Log {
    /// Cuts the log so that it ends at `offset`, or where the batch that reaches beyond it began. Durable when it returns; waits for the
    /// disk.
    ///
    /// Returns whether the recovery point fell: then the caller must write the recovery-point checkpoint before it appends again.
    pub fn truncate_to(&mut self, offset: i64, now: i64) -> Result<bool, StorageError> {
        self.check_healthy()?;
        if offset >= self.log_end_offset {
            // A leader notes where its epoch begins before it has a record of it; another leader may never have had that epoch.
            self.epochs.truncate_from_end(offset);
            return Ok(false);
        }
        let first = self.sealed.first().map_or(self.active.base_offset, |segment| segment.base_offset);
        if offset < first || offset <= self.log_start_offset {
            return self.truncate_fully_and_start_at(offset, now);
        }
        let recovery_point = self.synced_offset;
        self.try_truncate(offset, now).map_err(|error| self.fail(error))?;
        self.assert_invariants();
        Ok(self.synced_offset < recovery_point)
    }

    /// Empties the log; it begins anew at `offset` (a follower that fell behind the leader's log start, a fetched metadata snapshot).
    /// Returns whether the recovery point fell, as [`Log::truncate_to`] does.
    pub fn truncate_fully_and_start_at(&mut self, offset: i64, now: i64) -> Result<bool, StorageError> {
        self.check_healthy()?;
        assert!(offset >= 0, "offsets are not negative");
        let recovery_point = self.synced_offset;
        self.try_truncate_fully(offset, now).map_err(|error| self.fail(error))?;
        self.assert_invariants();
        Ok(self.synced_offset < recovery_point)
    }

    fn try_truncate(&mut self, offset: i64, now: i64) -> io::Result<()> {
        self.leave_compaction()?;
        while self.active.base_offset > offset {
            self.drop_active(now)?;
        }
        let offset = self.cut_active(offset)?;
        if offset <= self.log_start_offset {
            // Nothing readable is left. A segment that begins below the start would have a gap at its begin.
            return self.try_truncate_fully(self.log_start_offset, now);
        }
        self.log_end_offset = offset;
        self.log_start_offset = self.log_start_offset.min(offset);
        self.synced_offset = self.synced_offset.min(offset);
        if let Some(flushing) = &mut self.flushing {
            flushing.end_offset = flushing.end_offset.min(offset);
        }
        self.tail.truncate_to(offset);
        self.epochs.truncate_from_end(offset);
        // A flush that is running may be writing the old entries; the next one writes these again.
        self.epochs.mark_dirty();
        self.remove_snapshots_above(offset)?;
        self.reload_producers(now)?;
        self.changed = true;
        Ok(())
    }

    fn try_truncate_fully(&mut self, offset: i64, now: i64) -> io::Result<()> {
        self.leave_compaction()?;
        while !self.sealed.is_empty() {
            self.drop_active(now)?;
        }
        self.place.remove(self.active.base_offset, &SEGMENT_EXTENSIONS)?;
        self.remove_snapshots_above(-1)?;
        self.place.sync()?;
        self.active = ActiveSegment::empty(offset, now);
        (self.log_start_offset, self.log_end_offset, self.synced_offset) = (offset, offset, offset);
        if let Some(flushing) = &mut self.flushing {
            flushing.end_offset = offset;
        }
        self.tail.clear();
        self.unsynced.clear();
        self.epochs.clear();
        self.epochs.mark_dirty();
        self.producers = Producers::starting_at(offset);
        self.changed = true;
        // The empty file is what tells the next process where the log begins.
        self.create_active()?;
        self.place.sync()?;
        self.unsynced_segment = false;
        Ok(())
    }

    /// A compaction that is under way finds that its segments are not what they were, and what it made must not come back.
    fn leave_compaction(&mut self) -> io::Result<()> {
        self.truncations += 1;
        self.finish_swap()
    }

    /// Removes the active segment; the one before it becomes active.
    fn drop_active(&mut self, now: i64) -> io::Result<()> {
        let base_offset = self.active.base_offset;
        self.active.files = None;
        self.place.remove(base_offset, &SEGMENT_EXTENSIONS)?;
        self.place.sync()?;
        let sealed = self.sealed.pop().expect("a segment with a lower base is left");
        let mut active = ActiveSegment::empty(sealed.base_offset, now);
        active.size = sealed.size;
        active.aborted = sealed.aborted;
        self.log_end_offset = base_offset;
        self.active = active;
        Ok(())
    }

    /// Cuts the active segment's file behind the last batch that ends below `offset`, and says where the log ends then.
    fn cut_active(&mut self, offset: i64) -> io::Result<i64> {
        let base_offset = self.active.base_offset;
        let mut end_offset = offset;
        if self.active.size > 0 {
            let log = match self.active.files.take() {
                Some(files) => files.log,
                None => self.place.open(base_offset, names::LOG, OpenMode::Write)?,
            };
            let mut indexer = Indexer::default();
            let mut scan = Scan::new(&*log, 0, u64::from(self.active.size), HEADER_PIECE);
            let mut size = 0;
            while let Found::At(position, header) = scan.next_header()? {
                if header.last_offset() >= offset {
                    end_offset = offset.min(header.base_offset);
                    break;
                }
                indexer.add(base_offset, self.config.index_interval_bytes, &header, position as u32);
                size = position + header.size() as u64;
            }
            log.set_len(size)?;
            log.sync_data()?;
            self.active.size = size as u32;
            self.active.max_timestamp = indexer.max_timestamp;
            self.active.files = Some(ActiveFiles::new(log, indexer));
        }
        self.active.aborted.retain(|AbortedTxn { last_offset, .. }| *last_offset < offset);
        // What lies there describes the longer segment; it is written again when this one is sealed or closed.
        self.place.remove(base_offset, &SEGMENT_EXTENSIONS[1..])?;
        self.place.sync()?;
        Ok(end_offset)
    }

    fn remove_snapshots_above(&self, offset: i64) -> io::Result<()> {
        for found in snapshot_offsets(&self.place)? {
            if found > offset {
                self.place.remove(found, &[PRODUCER_SNAPSHOT])?;
            }
        }
        self.place.sync()
    }

    /// Builds the producers' state anew for the shorter log: from the last snapshot, and the batches behind it.
    fn reload_producers(&mut self, now: i64) -> io::Result<()> {
        let snapshots = snapshot_offsets(&self.place)?;
        let expiry = self.config.producer_id_expiration_ms;
        let mut producers = load_producers(&self.place, snapshots, self.log_start_offset, now, expiry)?;
        let from = producers.end_offset();
        for n in 0..self.sealed.len() {
            if self.next_base(n) > from {
                let segment = &self.sealed[n];
                super::recover::replay(&self.place, segment.base_offset, segment.size, from, &mut producers)?;
            }
        }
        super::recover::replay(&self.place, self.active.base_offset, self.active.size, from, &mut producers)?;
        producers.set_end_offset(self.log_end_offset.max(producers.end_offset()));
        self.producers = producers;
        Ok(())
    }
}
