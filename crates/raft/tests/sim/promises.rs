//! The promises of KRaft, checked at every event. They are those of the published TLA+ specifications of KRaft (KIP-853,
//! KIP-996), restated over the logs as they are on the model disks:
//!
//! - election safety: an epoch has at most one leader, and a disk votes at most once in an epoch;
//! - log matching: an offset and an epoch name one record, and everything before it;
//! - leader completeness: a new leader has every committed record;
//! - durability: what is committed never changes, on no node, and is on the disks of a majority when a leader says so;
//! - monotony: epochs and high watermarks never go back; nobody commits what it does not have;
//! - own epoch: a leader commits by a record of its own epoch, and speaks for the quorum only after that;
//! - reconfiguration: voters are those of the newest record in the own log; one uncommitted set at a time, made by a leader
//!   that has committed a record of its epoch; sets that follow each other differ by one voter; a leader that is no voter
//!   any more leaves;
//! - snapshots have committed records only, and end where a batch ends.

use std::collections::BTreeMap;

use ottla_raft::{Control, Raft, ReplicaKey, Voters};

use crate::sim::store::{Record, Store};

#[derive(Debug, Clone, Default)]
pub struct Promises {
    leaders: BTreeMap<i32, i32>,
    votes: BTreeMap<(ReplicaKey, i32), ReplicaKey>,
    /// For each offset: epochs of records that were ever there, and the digest of the log with each.
    records: Vec<Vec<(i32, u64)>>,
    /// Committed records, and the digest of the log with each.
    pub committed: Vec<(Record, u64)>,
    /// By which epoch's leader they were committed, and up to where.
    committed_by: Vec<(i32, i64)>,
}

impl Promises {
    pub fn on_append(&mut self, offset: i64, record: &Record, digest: u64) {
        let offset = offset as usize;
        if self.records.len() <= offset {
            self.records.resize(offset + 1, Vec::new());
        }
        match self.records[offset].iter().find(|(epoch, _)| *epoch == record.epoch) {
            Some((_, known)) => assert_eq!(*known, digest, "logs with one epoch at an offset match"),
            None => self.records[offset].push((record.epoch, digest)),
        }
    }

    pub fn on_persisted(&mut self, key: ReplicaKey, epoch: i32, voted: Option<ReplicaKey>) {
        if let Some(voted) = voted {
            let first = *self.votes.entry((key, epoch)).or_insert(voted);
            assert_eq!(first, voted, "a disk votes once in an epoch");
        }
    }

    /// `id` begins to lead.
    pub fn on_elected(&mut self, id: i32, epoch: i32, store: &Store) {
        let first = *self.leaders.entry(epoch).or_insert(id);
        assert_eq!(first, id, "epoch {epoch} has one leader");
        // Votes may arrive late: what later epochs have committed is not this leader's, and it will commit nothing.
        let earlier = self.committed_by.partition_point(|(by, _)| *by < epoch);
        let committed = earlier.checked_sub(1).map_or(0, |last| self.committed_by[last].1);
        assert!(store.end() >= committed, "a leader has every committed record");
        if store.start <= committed {
            let digest = self.digest_of_committed(committed);
            assert_eq!(store.digest_at(committed), digest, "a leader has every committed record");
        }
    }

    pub fn digest_of_committed(&self, offset: i64) -> Option<u64> {
        if offset == 0 {
            return Some(0);
        }
        self.committed.get(offset as usize - 1).map(|(_, digest)| *digest)
    }

    /// `raft` says that everything below `end` is committed.
    pub fn on_committed<'a>(
        &mut self,
        raft: &Raft,
        store: &Store,
        end: i64,
        stores: impl Iterator<Item = (ReplicaKey, &'a Store)>,
    ) {
        assert!(end <= store.end(), "what is committed is in the log");
        let known = end.min(self.committed.len() as i64);
        if known >= store.start {
            assert_eq!(
                store.digest_at(known),
                self.digest_of_committed(known),
                "what is committed never changes"
            );
        }
        if end <= self.committed.len() as i64 {
            return;
        }
        let epoch = leads_or_just_led(raft).expect("the leader is the first to know");
        assert_eq!(store.epoch_before(end), epoch, "a record of the leader's epoch commits");
        assert!(self.committed_by.last().is_none_or(|(by, _)| *by <= epoch), "later epochs commit later");
        self.committed_by.push((epoch, end));
        for offset in known..end {
            let record = *store.get(offset).expect("it is in the log");
            self.committed.push((record, store.digest_at(offset + 1).expect("it is in the log")));
        }
        let digest = self.digest_of_committed(end);
        let voters = newest_voters(store, raft);
        let holds = |(key, other): &(ReplicaKey, &Store)| {
            voters.contains(key)
                && other.durable >= end
                && (other.start > end || other.digest_at(end) == digest)
        };
        // Disks that are gone are among them: one that had it has done its part.
        let holders = stores.filter(holds).count();
        assert!(holders >= voters.majority(), "what is committed is on the disks of a majority: {holders}");
    }

    /// `raft` speaks for the quorum.
    pub fn on_announced(&self, raft: &Raft, epoch_start_offset: i64) {
        let committed = self.committed.get(epoch_start_offset as usize);
        let epoch = committed.map(|(record, _)| record.epoch);
        assert_eq!(
            epoch,
            leads_or_just_led(raft),
            "who speaks for the quorum committed a record of its epoch"
        );
    }

    /// A leader appends a set of voters; `before` is its log without it.
    pub fn on_voters(&self, raft: &Raft, before: &Store, voters: &Voters, first: bool) {
        let last = before.control.iter().rev().find_map(|(offset, control)| match control {
            Control::Voters(voters) => Some((*offset, voters)),
            Control::KRaftVersion(_) => None,
        });
        let Some((offset, last)) = last else { return };
        let gone = last.iter().filter(|voter| voters.get(voter.key.id).is_none_or(|v| v.key != voter.key));
        let come = voters.iter().filter(|voter| last.get(voter.key.id).is_none_or(|v| v.key != voter.key));
        assert!(gone.count() + come.count() <= 1, "sets that follow each other differ by one voter");
        if !first {
            let start = raft.epoch_start_offset().expect("a leader");
            assert!(
                raft.high_watermark() > Some(start),
                "voters change when the epoch has something committed"
            );
            assert!((offset as i128) < self.committed.len() as i128, "one uncommitted set of voters");
        }
    }

    /// After every event.
    pub fn check(&self, id: i32, raft: &Raft, store: &Store) {
        if !store.control.is_empty() {
            let newest = newest_voters(store, raft);
            assert_eq!(raft.voters(), &newest, "node {id}: the newest voters of the log count");
        }
        if raft.leading_epoch().is_some() && !raft.is_voter() {
            let is_voters = |(_, control): &&(i64, Control)| matches!(control, Control::Voters(_));
            let offset = store.control.iter().rev().find(is_voters).map_or(-1, |(offset, _)| *offset);
            assert!(raft.high_watermark() <= Some(offset), "a leader that was removed leaves");
        }
    }
}

fn newest_voters(store: &Store, raft: &Raft) -> Voters {
    let voters = store.control.iter().rev().find_map(|(_, control)| match control {
        Control::Voters(voters) => Some(voters.clone()),
        Control::KRaftVersion(_) => None,
    });
    voters.unwrap_or_else(|| raft.settings().static_voters.clone())
}

/// The epoch of a leader, also of one that left in the same step.
fn leads_or_just_led(raft: &Raft) -> Option<i32> {
    (raft.leader() == Some(raft.settings().me.id)).then_some(raft.epoch())
}
