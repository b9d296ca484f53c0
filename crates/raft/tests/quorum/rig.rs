//! One voter for scripts: its settings, and a log that is nothing but a list of epochs.

use std::sync::Arc;

use ottla_raft::*;

pub fn key(id: i32) -> ReplicaKey {
    ReplicaKey { id, directory_id: [id as u8; 16] }
}

pub fn endpoints(id: i32) -> Endpoints {
    Arc::new([Endpoint { listener: "CONTROLLER".to_owned(), host: "localhost".to_owned(), port: id as u16 }])
}

pub fn leader(id: i32) -> Leader {
    Leader { id, endpoints: endpoints(id) }
}

pub fn voter(id: i32) -> Voter {
    Voter { key: key(id), endpoints: endpoints(id), kraft_versions: VersionRange { min: 0, max: 1 } }
}

pub fn voters(ids: &[i32]) -> Voters {
    Voters::new(ids.iter().map(|id| voter(*id)).collect()).expect("different ids")
}

/// Node `id` of the static voters 1 to `count`.
pub fn settings(id: i32, count: i32, seed: u64) -> Settings {
    let ids: Vec<i32> = (1..=count).collect();
    Settings {
        me: key(id),
        endpoints: endpoints(id),
        kraft_versions: VersionRange { min: 0, max: 1 },
        static_voters: voters(&ids),
        bootstrap_servers: 0,
        may_vote: true,
        auto_join: false,
        election_timeout_ms: 100,
        fetch_timeout_ms: 200,
        election_backoff_max_ms: 50,
        request_timeout_ms: 60,
        retry_backoff_ms: 10,
        append_linger_ms: 0,
        seed,
    }
}

/// A record: its epoch, and something to tell it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub epoch: i32,
    pub value: u64,
}

/// A log from `start` on, and the state on disk.
#[derive(Debug, Clone, Default)]
pub struct Book {
    pub start: i64,
    pub start_epoch: i32,
    pub records: Vec<Record>,
    pub state: QuorumState,
    pub snapshot: Option<OffsetAndEpoch>,
}

impl Book {
    pub fn append(&mut self, epoch: i32, value: u64) {
        self.records.push(Record { epoch, value });
    }

    pub fn truncate(&mut self, end: usize) {
        self.records.truncate(end - self.start as usize);
    }
}

impl EpochLog for Book {
    fn log_end_offset(&self) -> i64 {
        self.start + self.records.len() as i64
    }

    fn log_start_offset(&self) -> i64 {
        self.start
    }

    fn last_epoch(&self) -> i32 {
        self.records.last().map_or(self.start_epoch, |last| last.epoch)
    }

    fn end_offset_for_epoch(&self, epoch: i32) -> OffsetAndEpoch {
        let inside = self.records.partition_point(|record| record.epoch <= epoch);
        let found = inside.checked_sub(1).map_or(self.start_epoch, |last| self.records[last].epoch);
        let offset = self.start + inside as i64;
        OffsetAndEpoch { offset, epoch: if found <= epoch { found } else { 0 } }
    }

    fn latest_snapshot(&self) -> Option<OffsetAndEpoch> {
        self.snapshot
    }

    fn earliest_snapshot(&self) -> Option<OffsetAndEpoch> {
        self.snapshot
    }
}
