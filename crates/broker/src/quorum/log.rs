//! The metadata log of this node, and what of it has become the committed image.
//!
//! The one tricky idea: what is appended and not committed waits in a queue, in memory, in front of the image. A commit moves it over, a
//! truncation drops it, and it makes no difference whether this node wrote it, fetched it, or found it when it started.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ottla_metadata::Replayer;
use ottla_protocol::Uuid;
use ottla_protocol::messages::kraft_version_record::KRaftVersionRecord;
use ottla_protocol::messages::leader_change_message::{LeaderChangeMessage, Voter};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::records::{self, Batch, BatchBuilder, BatchOptions, ControlKey, ControlType};
use ottla_raft::{Control, EpochLog, OffsetAndEpoch};
use ottla_storage::{AppendOrigin, Log};

use super::checkpoint::encode;
use super::history::replay_batch;
use super::snapshots::Snapshots;
use super::wire::encode_voters;
use crate::effect::Millis;
use crate::store::Root;

/// A batch that was appended and is not known to be committed.
#[derive(Debug)]
pub(super) struct Uncommitted {
    pub end_offset: i64,
    pub bytes: usize,
    pub timestamp: Millis,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// Records that this node made, with their offsets.
    Made(Vec<(i64, MetadataRecord<'static>)>),
    /// A batch that was read or fetched.
    Read(Bytes),
}

impl Uncommitted {
    /// A batch of the log, a slice of `bytes`.
    pub fn read(batch: &Batch<'_>, bytes: &Bytes) -> Self {
        Uncommitted {
            end_offset: batch.next_offset(),
            bytes: batch.size(),
            timestamp: batch.max_timestamp,
            content: Content::Read(bytes.slice_ref(batch.bytes())),
        }
    }

    fn replay(&self, replayer: &mut Replayer) -> Result<(), String> {
        match &self.content {
            Content::Made(records) => {
                for (offset, record) in records {
                    replayer.replay(record, *offset).map_err(|error| error.to_string())?;
                }
                Ok(())
            }
            Content::Read(batch) => replay_batch(replayer, batch),
        }
    }
}

/// The log as raft asks about it.
pub(super) struct Epochs<'l> {
    pub log: &'l Log,
    pub snapshots: &'l Snapshots,
}

impl EpochLog for Epochs<'_> {
    fn log_end_offset(&self) -> i64 {
        self.log.log_end_offset()
    }

    fn log_start_offset(&self) -> i64 {
        self.log.log_start_offset()
    }

    fn last_epoch(&self) -> i32 {
        let end = self.log.log_end_offset();
        let at_start = self.snapshots.latest().filter(|id| id.offset == end).map(|id| id.epoch);
        self.log.latest_epoch().or(at_start).unwrap_or(0)
    }

    fn end_offset_for_epoch(&self, epoch: i32) -> OffsetAndEpoch {
        let entries = self.log.epochs();
        let start = self.log.log_start_offset();
        let after = entries.partition_point(|entry| entry.leader_epoch <= epoch);
        let end_of = |next: usize| entries.get(next).map_or(self.log.log_end_offset(), |it| it.start_offset);
        match after.checked_sub(1) {
            Some(last) => OffsetAndEpoch { offset: end_of(after), epoch: entries[last].leader_epoch },
            // Older than the log: the snapshot that it begins with may tell.
            None => match self.snapshots.earliest().filter(|id| id.offset == start && id.epoch <= epoch) {
                Some(id) => id,
                None => OffsetAndEpoch { offset: start, epoch: 0 },
            },
        }
    }

    fn latest_snapshot(&self) -> Option<OffsetAndEpoch> {
        self.snapshots.latest()
    }

    fn earliest_snapshot(&self) -> Option<OffsetAndEpoch> {
        self.snapshots.earliest()
    }

    fn has_snapshot(&self, id: OffsetAndEpoch) -> bool {
        self.snapshots.holds(id)
    }
}

/// The log, the queue, the image.
#[derive(Debug)]
pub(super) struct MetadataLog {
    pub log: Log,
    pub committed: Replayer,
    /// When the last committed batch was appended.
    pub committed_timestamp: Millis,
    /// Where it lives.
    root: Arc<Root>,
    uncommitted: VecDeque<Uncommitted>,
}

impl MetadataLog {
    pub fn new(
        log: Log,
        root: Arc<Root>,
        committed: Replayer,
        committed_timestamp: Millis,
        tail: Vec<Uncommitted>,
    ) -> Self {
        MetadataLog { log, committed, committed_timestamp, root, uncommitted: tail.into() }
    }

    /// Appends a batch of records that this node made, the leader of `epoch`.
    pub fn append(
        &mut self,
        values: &[Bytes],
        records: Vec<MetadataRecord<'static>>,
        epoch: i32,
        now: Millis,
    ) -> Result<Vec<(i64, MetadataRecord<'static>)>, String> {
        let base = self.log.log_end_offset();
        let mut batch = BatchBuilder::new(base, BatchOptions { leader_epoch: epoch, ..Default::default() });
        for value in values {
            batch.push(now, None, Some(value), &[]);
        }
        let numbered: Vec<_> = (base..).zip(records).collect();
        self.write(batch.finish(), numbered.clone(), epoch, now)?;
        Ok(numbered)
    }

    /// Appends control records as one batch of the leader's epoch.
    pub fn append_control(
        &mut self,
        records: &[(ControlType, Bytes)],
        epoch: i32,
        now: Millis,
    ) -> Result<(), String> {
        let options = BatchOptions { leader_epoch: epoch, control: true, ..Default::default() };
        let mut batch = BatchBuilder::new(self.log.log_end_offset(), options);
        for (control_type, value) in records {
            batch.push(now, Some(&ControlKey::new(*control_type).to_bytes()), Some(value), &[]);
        }
        self.write(batch.finish(), Vec::new(), epoch, now)
    }

    fn write(
        &mut self,
        batch: Vec<u8>,
        records: Vec<(i64, MetadataRecord<'static>)>,
        epoch: i32,
        now: Millis,
    ) -> Result<(), String> {
        let batch = Bytes::from(batch);
        let appended =
            self.root.reserve.spend(|| self.log.append(&batch, AppendOrigin::RaftLeader, epoch, now));
        let info = appended.map_err(|error| error.to_string())?;
        self.uncommitted.push_back(Uncommitted {
            end_offset: info.last_offset + 1,
            bytes: info.bytes,
            timestamp: now,
            content: Content::Made(records),
        });
        Ok(())
    }

    /// Appends what was fetched from the leader.
    pub fn append_fetched(&mut self, bytes: &Bytes, now: Millis) -> Result<(), String> {
        let appended = self.root.reserve.spend(|| self.log.append(bytes, AppendOrigin::Replication, -1, now));
        appended.map_err(|error| error.to_string())?;
        for batch in records::batches(bytes) {
            let batch = batch.map_err(|error| error.to_string())?;
            self.uncommitted.push_back(Uncommitted::read(&batch, bytes));
        }
        Ok(())
    }

    /// Cuts off what was never committed. Waits for the disk.
    pub fn truncate(&mut self, end_offset: i64, now: Millis) -> Result<(), String> {
        self.log.truncate_to(end_offset, now).map_err(|error| error.to_string())?;
        while self.uncommitted.pop_back_if(|batch| batch.end_offset > end_offset).is_some() {}
        Ok(())
    }

    /// A snapshot takes the place of everything. Waits for the disk.
    pub fn begin_with(
        &mut self,
        end_offset: i64,
        replayer: Replayer,
        timestamp: Millis,
        now: Millis,
    ) -> Result<(), String> {
        self.log.truncate_fully_and_start_at(end_offset, now).map_err(|error| error.to_string())?;
        self.uncommitted.clear();
        (self.committed, self.committed_timestamp) = (replayer, timestamp);
        Ok(())
    }

    /// Replays what is committed into the image; returns how many bytes of the log that was.
    pub fn commit(&mut self, high_watermark: i64) -> Result<usize, String> {
        let mut bytes = 0;
        while let Some(batch) = self.uncommitted.pop_front_if(|batch| batch.end_offset <= high_watermark) {
            batch.replay(&mut self.committed)?;
            bytes += batch.bytes;
            self.committed_timestamp = batch.timestamp;
        }
        Ok(bytes)
    }
}

/// The first record of an epoch. Version 0, also in a quorum whose voters may change: Apache Kafka 4.4 reads no other (`ControlRecordUtils`),
/// and a node of it ends at one that it can not read.
pub(super) fn leader_change(leader_id: i32, (voters, granted_by): (&[i32], &[i32])) -> Result<Bytes, String> {
    let voter = |voter_id: &i32| Voter { voter_id: *voter_id, voter_directory_id: Uuid::ZERO };
    let message = LeaderChangeMessage {
        version: 0,
        leader_id,
        voters: voters.iter().map(voter).collect(),
        granting_voters: granted_by.iter().map(voter).collect(),
    };
    encode(&message)
}

/// What raft wants to be written about the voters.
pub(super) fn control_records(control: &[Control]) -> Result<Vec<(ControlType, Bytes)>, String> {
    let record = |control: &Control| match control {
        Control::KRaftVersion(level) => {
            let record = KRaftVersionRecord { version: 0, kraft_version: *level };
            Ok((ControlType::KraftVersion, encode(&record)?))
        }
        Control::Voters(voters) => Ok((ControlType::KraftVoters, encode(&encode_voters(voters))?)),
    };
    control.iter().map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::leader_change;

    #[test]
    fn a_leader_change_is_what_kafka_writes() {
        // By a standalone controller of Apache Kafka 4.4 with kraft.version 1, in its second epoch.
        let kafka = [0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 0, 2, 0, 0, 0, 1, 0, 0];
        assert_eq!(leader_change(1, (&[1], &[1])).as_deref(), Ok(&kafka[..]));
    }
}
