//! The log and the quorum state of one node on a model disk that loses what was not flushed.

use ottla_raft::{EpochLog, OffsetAndEpoch, QuorumState};

/// One record: the epoch that it was appended in, and something to tell it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub epoch: i32,
    pub value: u64,
}

/// A log from offset 0 on.
#[derive(Debug, Clone, Default)]
pub struct Store {
    pub records: Vec<Record>,
    /// These many are on disk.
    pub durable: usize,
    /// Truncations so far: a flush that began before one counts no more.
    pub truncations: u64,
    /// The state on disk.
    pub state: QuorumState,
}

impl Store {
    pub fn append(&mut self, epoch: i32, value: u64) {
        assert!(self.records.last().is_none_or(|last| last.epoch <= epoch), "epochs never go back in a log");
        self.records.push(Record { epoch, value });
    }

    pub fn truncate(&mut self, end: usize) {
        assert!(end <= self.records.len());
        self.records.truncate(end);
        self.durable = self.durable.min(end);
        self.truncations += 1;
    }

    /// A flush that began when the log had `end` records and had been truncated `truncations` times is done.
    pub fn flushed(&mut self, end: usize, truncations: u64) -> i64 {
        if truncations == self.truncations {
            self.durable = self.durable.max(end);
        }
        self.durable as i64
    }

    /// The machine lost its power: of what was not flushed, `kept` records are there again.
    pub fn crash(&mut self, kept: usize) {
        self.records.truncate((self.durable + kept).min(self.records.len()));
        self.durable = self.records.len();
        self.truncations += 1;
    }
}

impl EpochLog for Store {
    fn log_end_offset(&self) -> i64 {
        self.records.len() as i64
    }

    fn log_start_offset(&self) -> i64 {
        0
    }

    fn last_epoch(&self) -> i32 {
        self.records.last().map_or(0, |last| last.epoch)
    }

    fn end_offset_for_epoch(&self, epoch: i32) -> OffsetAndEpoch {
        let end = self.records.partition_point(|record| record.epoch <= epoch);
        let epoch = end.checked_sub(1).map_or(0, |last| self.records[last].epoch);
        OffsetAndEpoch { offset: end as i64, epoch }
    }
}
