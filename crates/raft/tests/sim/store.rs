//! The log, the snapshots and the quorum state of one node on a model disk that loses what was not flushed.

use ottla_raft::{Control, EpochLog, OffsetAndEpoch, QuorumState};

/// One record: the epoch that it was appended in, and a number that no other record of the run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record {
    pub epoch: i32,
    /// Whether a batch begins with it.
    pub begins_batch: bool,
    pub value: u64,
}

/// A snapshot: what it stands for is told by the digest of all records before its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Snapshot {
    pub id: OffsetAndEpoch,
    pub digest: u64,
    pub control: Vec<Control>,
}

/// Bytes of a snapshot on the wire, and of one answer.
pub const SNAPSHOT_BYTES: i64 = 100;
pub const SNAPSHOT_PART_BYTES: i64 = 40;

#[derive(Debug, Clone, Default)]
pub struct Store {
    /// Offset of the first record, and epoch and digest of what was before it.
    pub start: i64,
    start_epoch: i32,
    start_digest: u64,
    pub records: Vec<Record>,
    /// Of each record, the digest of the log up to and with it.
    digests: Vec<u64>,
    /// The log is on disk up to here.
    pub durable: i64,
    /// Truncations so far: a flush that began before one counts no more.
    pub truncations: u64,
    /// The state on disk.
    pub state: QuorumState,
    /// By end; the last is the newest.
    pub snapshots: Vec<Snapshot>,
    /// Control records of snapshot and log, by offset.
    pub control: Vec<(i64, Control)>,
}

fn digest(before: u64, record: &Record) -> u64 {
    let mixed = before ^ record.value.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((record.epoch as u64) << 40);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

impl Store {
    pub fn end(&self) -> i64 {
        self.start + self.records.len() as i64
    }

    pub fn get(&self, offset: i64) -> Option<&Record> {
        self.records.get(usize::try_from(offset - self.start).ok()?)
    }

    /// Digest of everything before `offset`; `None` if that is not here.
    pub fn digest_at(&self, offset: i64) -> Option<u64> {
        if offset == self.start {
            return Some(self.start_digest);
        }
        self.digests.get(usize::try_from(offset - self.start - 1).ok()?).copied()
    }

    /// Epoch of the last record before `offset`.
    pub fn epoch_before(&self, offset: i64) -> i32 {
        if offset == self.start {
            self.start_epoch
        } else {
            self.get(offset - 1).map_or(0, |record| record.epoch)
        }
    }

    pub fn append(&mut self, record: Record) -> u64 {
        let last = self.epoch_before(self.end());
        assert!(last <= record.epoch, "epochs never go back in a log");
        let digest = digest(self.digest_at(self.end()).expect("the end"), &record);
        self.records.push(record);
        self.digests.push(digest);
        digest
    }

    pub fn truncate(&mut self, end: i64) {
        assert!((self.start..=self.end()).contains(&end), "a log is cut off inside");
        self.records.truncate((end - self.start) as usize);
        self.digests.truncate((end - self.start) as usize);
        self.control.retain(|(offset, _)| *offset < end);
        self.durable = self.durable.min(end);
        self.truncations += 1;
    }

    /// A flush that began when the log ended at `end` and had been truncated `truncations` times is done.
    pub fn flushed(&mut self, end: i64, truncations: u64) -> i64 {
        if truncations == self.truncations {
            self.durable = self.durable.max(end);
        }
        self.durable
    }

    /// Whether a batch begins at `offset`, or the log ends there.
    pub fn is_batch_boundary(&self, offset: i64) -> bool {
        offset == self.end() || self.get(offset).is_some_and(|record| record.begins_batch)
    }

    /// Where the batch begins that has `offset`; before the log, if the log begins inside of it.
    pub fn batch_start(&self, mut offset: i64) -> i64 {
        while offset >= self.start && !self.is_batch_boundary(offset) {
            offset -= 1;
        }
        offset
    }

    /// The machine lost its power: of what was not flushed, up to `kept` records are there again, as whole batches.
    pub fn crash(&mut self, kept: i64) {
        let end = self.batch_start((self.durable + kept).min(self.end())).max(self.durable);
        self.truncate(end);
        self.durable = end;
    }

    /// Takes a snapshot of everything before `offset`.
    pub fn take_snapshot(&mut self, offset: i64, control: Vec<Control>) {
        let id = OffsetAndEpoch { offset, epoch: self.epoch_before(offset) };
        let digest = self.digest_at(offset).expect("it is in the log");
        if self.snapshots.last().is_none_or(|last| last.id.offset < offset) {
            self.snapshots.push(Snapshot { id, digest, control });
        }
    }

    /// Drops all but the newest snapshot, and the log before it.
    pub fn delete_prefix(&mut self) -> bool {
        let Some(newest) = self.snapshots.last().filter(|newest| newest.id.offset > self.start).cloned()
        else {
            return false;
        };
        let gone = (newest.id.offset - self.start) as usize;
        self.records.drain(..gone);
        self.digests.drain(..gone);
        (self.start, self.start_epoch, self.start_digest) =
            (newest.id.offset, newest.id.epoch, newest.digest);
        self.control.retain(|(offset, _)| *offset >= newest.id.offset);
        let before = newest.control.iter().map(|control| (newest.id.offset - 1, control.clone()));
        let kept = std::mem::take(&mut self.control);
        self.control = before.chain(kept).collect();
        self.snapshots = vec![newest];
        true
    }

    /// A snapshot takes the place of the whole log.
    pub fn load_snapshot(&mut self, snapshot: Snapshot) {
        let id = snapshot.id;
        (self.start, self.start_epoch, self.start_digest) = (id.offset, id.epoch, snapshot.digest);
        self.records.clear();
        self.digests.clear();
        self.control = snapshot.control.iter().map(|control| (id.offset - 1, control.clone())).collect();
        self.durable = id.offset;
        self.truncations += 1;
        self.snapshots = vec![snapshot];
    }
}

impl EpochLog for Store {
    fn log_end_offset(&self) -> i64 {
        self.end()
    }

    fn log_start_offset(&self) -> i64 {
        self.start
    }

    fn last_epoch(&self) -> i32 {
        self.epoch_before(self.end())
    }

    fn end_offset_for_epoch(&self, epoch: i32) -> OffsetAndEpoch {
        let inside = self.records.partition_point(|record| record.epoch <= epoch);
        let offset = self.start + inside as i64;
        let found = self.epoch_before(offset);
        if found <= epoch {
            OffsetAndEpoch { offset, epoch: found }
        } else {
            OffsetAndEpoch { offset, epoch: 0 }
        }
    }

    fn latest_snapshot(&self) -> Option<OffsetAndEpoch> {
        self.snapshots.last().map(|snapshot| snapshot.id)
    }

    fn earliest_snapshot(&self) -> Option<OffsetAndEpoch> {
        self.snapshots.first().map(|snapshot| snapshot.id)
    }

    fn has_snapshot(&self, id: OffsetAndEpoch) -> bool {
        self.snapshots.iter().any(|snapshot| snapshot.id == id)
    }
}
