//! Appending: as a leader, who assigns offsets, and as a follower, who takes them.
//!
//! The one tricky idea: everything that can refuse a batch happens before the first byte is written; after it only the disk can fail, and
//! then the log is out of use. So memory and file never disagree about what was appended. A full disk is the exception: what did not fit
//! is cut off again, and the next append tries anew.

use std::io::{self, IoSlice};

use bytes::Bytes;
use ottla_protocol::records::{BatchHeader, NO_TIMESTAMP, TimestampType, batches};

use super::Log;
use crate::disk::OpenMode;
use crate::error::{AppendError, StorageError};
use crate::names;
use crate::producer::{AppendOrigin, TxnEnd, Verdict};
use crate::segment::{ActiveFiles, ActiveSegment, Indexer, fits};
use crate::validate::{Append, Prepared, check_offsets, check_single, prepare};

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    /// The first offset that was assigned (the one of the original, for a duplicate).
    pub first_offset: i64,
    /// The last offset that was assigned; `first_offset - 1` if nothing was appended.
    pub last_offset: i64,
    /// The broker's time, if it rules (`LogAppendTime`), otherwise -1. A duplicate answers with the original's timestamp.
    pub log_append_time: i64,
    /// The log start offset at the time.
    pub log_start_offset: i64,
    /// The batch was in the log already and nothing was written.
    pub duplicate: bool,
    /// Bytes that were written.
    pub bytes: usize,
}

impl Log {
    /// Appends as a leader, or on behalf of one (`origin` says who asks). Clients and coordinators bring exactly one batch.
    ///
    /// On success the records are in the page cache, visible to readers of this log, and not yet synced.
    pub fn append(
        &mut self,
        records: &Bytes,
        origin: AppendOrigin,
        leader_epoch: i32,
        now: i64,
    ) -> Result<AppendInfo, AppendError> {
        self.check_healthy()?;
        match origin {
            AppendOrigin::Replication => self.append_as_follower(records, leader_epoch, now),
            AppendOrigin::RaftLeader => self.append_all(records, leader_epoch, now),
            AppendOrigin::Client { .. } | AppendOrigin::Coordinator { .. } | AppendOrigin::Marker { .. } => {
                self.append_one(records, origin, leader_epoch, now)
            }
        }
    }

    fn append_one(
        &mut self,
        records: &Bytes,
        origin: AppendOrigin,
        leader_epoch: i32,
        now: i64,
    ) -> Result<AppendInfo, AppendError> {
        let append = Append { config: &self.config, origin, leader_epoch, now };
        let batch = check_single(records, &append)?;
        let prepared = prepare(&batch, records, self.log_end_offset, &append)?;
        let (size, max) = (prepared.header.size(), self.segment_bytes() as usize);
        if size > max {
            return Err(AppendError::RecordListTooLarge { size, max });
        }
        let end = if batch.is_control() { TxnEnd::read(&batch) } else { None };
        match self.producers.check(&prepared.header, end, origin, self.config.verify_transactions)? {
            Verdict::Duplicate(span) => Ok(AppendInfo {
                first_offset: span.first_offset(),
                last_offset: span.last_offset,
                log_append_time: span.timestamp,
                log_start_offset: self.log_start_offset,
                duplicate: true,
                bytes: 0,
            }),
            Verdict::Append => {
                let first_offset = self.log_end_offset;
                self.write(&prepared, end, now)?;
                let appended = self.appended(first_offset, size);
                let broker_time = self.config.timestamp_type == TimestampType::LogAppendTime;
                Ok(AppendInfo { log_append_time: if broker_time { now } else { NO_TIMESTAMP }, ..appended })
            }
        }
    }

    /// The batches of a raft leader: offsets and epoch are assigned here, everything else is taken as it is.
    fn append_all(
        &mut self,
        records: &Bytes,
        leader_epoch: i32,
        now: i64,
    ) -> Result<AppendInfo, AppendError> {
        let mut next_offset = self.log_end_offset;
        let mut prepared = Vec::new();
        for batch in batches(records) {
            let batch = batch.map_err(|error| AppendError::Corrupt(error.to_string()))?;
            batch.verify_crc().map_err(|error| AppendError::Corrupt(error.to_string()))?;
            check_offsets(&batch)?;
            let append = Append { config: &self.config, origin: AppendOrigin::RaftLeader, leader_epoch, now };
            let ready = prepare(&batch, records, next_offset, &append)?;
            next_offset = ready.header.next_offset();
            prepared.push(ready);
        }
        if prepared.is_empty() {
            return Err(AppendError::invalid("a whole record batch is expected"));
        }
        self.write_all(&prepared, now)
    }

    /// Appends what the leader sent: whole batches with their offsets; a partial one at the end is left out. Batches of a later epoch
    /// than the one that the follower fetched in (`leader_epoch`, -1: any) are left out as well.
    pub fn append_as_follower(
        &mut self,
        records: &Bytes,
        leader_epoch: i32,
        now: i64,
    ) -> Result<AppendInfo, AppendError> {
        self.check_healthy()?;
        let mut next_offset = self.log_end_offset;
        let mut prepared = Vec::new();
        for batch in batches(records) {
            let batch = batch.map_err(|error| AppendError::Corrupt(error.to_string()))?;
            if leader_epoch >= 0 && batch.leader_epoch > leader_epoch {
                break;
            }
            batch.verify_crc().map_err(|error| AppendError::Corrupt(error.to_string()))?;
            check_offsets(&batch)?;
            if batch.base_offset < next_offset || batch.next_offset() == i64::MAX {
                return Err(AppendError::UnexpectedOffset {
                    found: batch.base_offset,
                    log_end_offset: next_offset,
                });
            }
            next_offset = batch.next_offset();
            prepared.push(Prepared::verbatim(&batch, records));
        }
        self.write_all(&prepared, now)
    }

    fn write_all(&mut self, prepared: &[Prepared], now: i64) -> Result<AppendInfo, AppendError> {
        let first_offset = prepared.first().map_or(self.log_end_offset, |first| first.header.base_offset);
        let mut bytes = 0;
        for batch in prepared {
            let end = if batch.header.is_control() { read_end(batch) } else { None };
            self.write(batch, end, now)?;
            bytes += batch.header.size();
        }
        Ok(self.appended(first_offset, bytes))
    }

    fn appended(&self, first_offset: i64, bytes: usize) -> AppendInfo {
        AppendInfo {
            first_offset,
            last_offset: self.log_end_offset - 1,
            log_append_time: NO_TIMESTAMP,
            log_start_offset: self.log_start_offset,
            duplicate: false,
            bytes,
        }
    }

    /// Ends the active segment and begins another, unless it is empty. The producers' state is written down with it.
    pub fn roll(&mut self, now: i64) -> Result<(), StorageError> {
        self.check_healthy()?;
        if self.active.size > 0 {
            self.try_roll(self.log_end_offset, now).map_err(|error| self.fail_unless_full(error))?;
        }
        Ok(())
    }

    /// Writes a prepared batch and takes it over in memory.
    fn write(&mut self, batch: &Prepared, end: Option<TxnEnd>, now: i64) -> Result<(), StorageError> {
        let header = &batch.header;
        assert!(header.base_offset >= self.log_end_offset, "a log is appended to at its end");
        self.try_write(batch, now).map_err(|error| self.fail_unless_full(error))?;
        self.changed = true;
        if header.leader_epoch >= 0 {
            self.epochs.assign(header.leader_epoch, header.base_offset);
        }
        if let Some(completed) = self.producers.apply(header, end)
            && completed.aborted
        {
            self.active.aborted.push(completed.into());
        }
        self.tail.push(header, batch.front(), &batch.rest);
        self.log_end_offset = header.next_offset();
        self.assert_invariants();
        Ok(())
    }

    fn try_write(&mut self, batch: &Prepared, now: i64) -> io::Result<()> {
        if self.must_roll(&batch.header, now)? {
            // Where the log ends, so that there is no gap between segments that recovery could take for a loss; unless a gap within
            // the log (of a compacted leader) is too large to be spanned.
            let (header, end_offset) = (&batch.header, self.log_end_offset);
            let base_offset =
                if fits(end_offset, header.last_offset()) { end_offset } else { header.base_offset };
            self.try_roll(base_offset, now)?;
        }
        self.create_active()?;
        let segment_bytes = self.segment_bytes();
        let interval = self.config.index_interval_bytes;
        let ActiveSegment { base_offset, size, max_timestamp, files, .. } = &mut self.active;
        let files = files.as_mut().expect("created or loaded above");
        let count = batch.header.size();
        files.allocate_ahead(*size, count, segment_bytes);
        files
            .log
            .write_all_at(&[IoSlice::new(batch.front()), IoSlice::new(&batch.rest)], u64::from(*size))?;
        files.indexer.add(*base_offset, interval, &batch.header, *size);
        *max_timestamp = files.indexer.max_timestamp;
        *size += count as u32;
        Ok(())
    }

    /// Positions in an index are `i32`s, whatever the configuration says.
    fn segment_bytes(&self) -> u32 {
        self.config.segment_bytes.min(i32::MAX as u32)
    }

    fn must_roll(&mut self, header: &BatchHeader, now: i64) -> io::Result<bool> {
        let base_offset = self.active.base_offset;
        if self.active.size == 0 {
            return Ok(!fits(base_offset, header.last_offset()));
        }
        let (created_at, size) = (self.active.created_at, self.active.size as usize);
        let full = size.saturating_add(header.size()) > self.segment_bytes() as usize;
        let segment_ms = self.config.segment_ms.saturating_sub(self.config.jitter_ms(base_offset));
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
