//! Appending: as a leader, who assigns offsets, and as a follower, who takes them.
//!
//! The one tricky idea: everything that can refuse a batch happens before the first byte is written; after it only the disk can fail, and
//! then the log is out of use. So memory and file never disagree about what was appended. A full disk is the exception: what did not fit
//! is cut off again, and the next append tries anew.

use bytes::Bytes;
use ottla_protocol::records::{NO_TIMESTAMP, TimestampType, batches};

use super::Log;
use crate::error::AppendError;
use crate::producer::{AppendOrigin, TxnEnd, Verdict};
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
        self.append_group([(records, origin)], leader_epoch, now).pop().expect("one result for one batch")
    }

    /// Appends batches of clients or coordinators in their order, each as [`Log::append`] would, with as few writes as possible. One
    /// result for each: that one is refused says nothing about the others.
    pub fn append_group<'r>(
        &mut self,
        batches: impl IntoIterator<Item = (&'r Bytes, AppendOrigin)>,
        leader_epoch: i32,
        now: i64,
    ) -> Vec<Result<AppendInfo, AppendError>> {
        let batches = batches.into_iter();
        let mut group = Group::with_capacity(batches.size_hint().0);
        for (records, origin) in batches {
            let result = self.join(&mut group, records, origin, leader_epoch, now);
            group.results.push(result);
        }
        self.write_group(&mut group, now);
        group.results
    }

    /// Decides about one more batch of a group. What is accepted is not written yet.
    fn join(
        &mut self,
        group: &mut Group,
        records: &Bytes,
        origin: AppendOrigin,
        leader_epoch: i32,
        now: i64,
    ) -> Result<AppendInfo, AppendError> {
        self.check_healthy()?;
        let append = Append { config: &self.config, origin, leader_epoch, now };
        let batch = check_single(records, &append)?;
        if batch.has_producer_id() && group.has_producer(batch.producer_id) {
            // A producer's batch is judged by what is in the log.
            self.write_group(group, now);
            self.check_healthy()?;
        }
        let append = Append { config: &self.config, origin, leader_epoch, now };
        let next_offset = group.prepared.last().map_or(self.log_end_offset, |last| last.header.next_offset());
        let prepared = prepare(&batch, records, next_offset, &append)?;
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
                let broker_time = self.config.timestamp_type == TimestampType::LogAppendTime;
                let info = AppendInfo {
                    first_offset: next_offset,
                    last_offset: prepared.header.last_offset(),
                    log_append_time: if broker_time { now } else { NO_TIMESTAMP },
                    log_start_offset: self.log_start_offset,
                    duplicate: false,
                    bytes: size,
                };
                group.unwritten.push(group.results.len());
                group.prepared.push(prepared);
                Ok(info)
            }
        }
    }

    /// Writes what the group has gathered. Whoever could not be written is told why.
    fn write_group(&mut self, group: &mut Group, now: i64) {
        let (written, count) = self.write(&group.prepared, now);
        if let Err(error) = written {
            for &place in &group.unwritten[count..] {
                group.results[place] = Err(AppendError::Storage(error.clone()));
            }
        }
        group.prepared.clear();
        group.unwritten.clear();
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
        self.write(prepared, now).0?;
        Ok(AppendInfo {
            first_offset,
            last_offset: self.log_end_offset - 1,
            log_append_time: NO_TIMESTAMP,
            log_start_offset: self.log_start_offset,
            duplicate: false,
            bytes: prepared.iter().map(|batch| batch.header.size()).sum(),
        })
    }
}

/// Batches that are appended together.
struct Group {
    results: Vec<Result<AppendInfo, AppendError>>,
    /// Accepted and not written yet, and where their results stand.
    prepared: Vec<Prepared>,
    unwritten: Vec<usize>,
}

impl Group {
    fn with_capacity(batches: usize) -> Group {
        Group {
            results: Vec::with_capacity(batches),
            prepared: Vec::with_capacity(batches),
            unwritten: Vec::with_capacity(batches),
        }
    }

    fn has_producer(&self, producer_id: i64) -> bool {
        self.prepared.iter().any(|batch| batch.header.producer_id == producer_id)
    }
}
