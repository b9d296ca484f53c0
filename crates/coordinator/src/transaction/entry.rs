//! One transactional id: its producer, the open transaction, and the transitions (Kafka: `TransactionMetadata`).
//!
//! A transition is a function from an entry to the next one; nothing changes before the record of the next one is replayed. The tricky
//! part is the last epoch of a producer id: the epoch that clients see never goes beyond 32766, and 32767 is only used to fence.

use super::TransactionVersion;
use super::state::TransactionState;
use crate::guards::Guard;
use crate::transaction::TopicPartition;
use ottla_protocol::ErrorCode;
use std::collections::BTreeSet;

const NO_PRODUCER_ID: i64 = -1;
pub(super) const NO_EPOCH: i16 = -1;

/// What is known of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub producer_id: i64,
    /// The producer id before the last transition; differs from the current one right after the epochs were used up.
    pub previous_producer_id: i64,
    /// The producer id that follows when the transaction that is ending is complete, or -1.
    pub next_producer_id: i64,
    pub producer_epoch: i16,
    /// The epoch before, if the current one was given to the same producer: so its retry is known. Not in the log.
    pub last_producer_epoch: i16,
    pub timeout_ms: i32,
    pub state: TransactionState,
    pub partitions: BTreeSet<TopicPartition>,
    /// When the open transaction began, or -1. Milliseconds since the epoch.
    pub start_timestamp: i64,
    pub last_update_timestamp: i64,
    /// The rules that the client of the last transition plays by.
    pub client_version: TransactionVersion,
}

/// Whether no epoch is left that a client may be given.
pub(super) fn is_exhausted(producer_epoch: i16) -> bool {
    producer_epoch >= i16::MAX - 1
}

impl Entry {
    /// A transactional id that nobody used before. It is in no log yet.
    pub fn new(producer_id: i64, timeout_ms: i32, now: i64) -> Entry {
        Entry {
            producer_id,
            previous_producer_id: NO_PRODUCER_ID,
            next_producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_EPOCH,
            last_producer_epoch: NO_EPOCH,
            timeout_ms,
            state: TransactionState::Empty,
            partitions: BTreeSet::new(),
            start_timestamp: -1,
            last_update_timestamp: now,
            client_version: TransactionVersion::V0,
        }
    }

    fn to(&self, state: TransactionState, now: i64) -> Entry {
        Entry {
            state,
            previous_producer_id: self.producer_id,
            last_update_timestamp: now.max(self.last_update_timestamp),
            ..self.clone()
        }
    }

    /// InitProducerId: the next epoch, for a producer that begins (`expected` is `None`) or goes on after an error (KIP-360).
    pub fn next_epoch(&self, timeout_ms: i32, expected: Option<i16>, now: i64) -> Result<Entry, ErrorCode> {
        let bumped = || {
            assert!(!is_exhausted(self.producer_epoch), "the caller takes a new producer id instead");
            let bump = i16::from(Guard::InitBumpsEpoch.stands());
            (self.producer_epoch + bump).max(0)
        };
        let (producer_epoch, last_producer_epoch) = match expected {
            None => (bumped(), NO_EPOCH),
            Some(epoch) if self.producer_epoch == NO_EPOCH || epoch == self.producer_epoch => {
                (bumped(), self.producer_epoch)
            }
            // A retry of a call that succeeded. Had another producer begun since, there were no last epoch.
            Some(epoch) if epoch == self.last_producer_epoch => {
                (self.producer_epoch, self.last_producer_epoch)
            }
            Some(_) if Guard::InitChecksProducer.stands() => return Err(ErrorCode::ProducerFenced),
            Some(_) => (bumped(), NO_EPOCH),
        };
        Ok(Entry { producer_epoch, last_producer_epoch, ..self.begun(timeout_ms, now) })
    }

    /// InitProducerId: a new producer id, as the epochs of this one are used up.
    pub fn rotated(&self, producer_id: i64, timeout_ms: i32, keeps_last_epoch: bool, now: i64) -> Entry {
        let last_producer_epoch = if keeps_last_epoch { self.producer_epoch } else { NO_EPOCH };
        Entry { producer_id, producer_epoch: 0, last_producer_epoch, ..self.begun(timeout_ms, now) }
    }

    fn begun(&self, timeout_ms: i32, now: i64) -> Entry {
        let empty = self.to(TransactionState::Empty, now);
        Entry { timeout_ms, partitions: BTreeSet::new(), start_timestamp: -1, ..empty }
    }

    /// AddPartitions: the partitions belong to the open transaction, which begins with them if there was none.
    pub fn with_partitions(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        client_version: TransactionVersion,
        now: i64,
    ) -> Entry {
        let mut next = self.to(TransactionState::Ongoing, now);
        if self.state != TransactionState::Ongoing {
            next.start_timestamp = now;
        }
        next.partitions.extend(partitions);
        next.client_version = client_version;
        next
    }

    /// EndTxn by rules of version 0 and 1: the epoch stays.
    pub fn ended(&self, commit: bool, now: i64) -> Entry {
        let state = if commit { TransactionState::PrepareCommit } else { TransactionState::PrepareAbort };
        Entry { client_version: TransactionVersion::V0, ..self.to(state, now) }
    }

    /// An abort that fences the producer, by rules of version 0 and 1: the epoch goes up.
    pub fn fenced(&self, now: i64) -> Entry {
        let producer_epoch = self.producer_epoch.saturating_add(1);
        Entry { producer_epoch, last_producer_epoch: NO_EPOCH, ..self.ended(false, now) }
    }

    /// Any end by rules of version 2: the epoch goes up, and `next_producer_id` follows if that was the last one.
    pub fn ended_with_bump(&self, commit: bool, next_producer_id: Option<i64>, now: i64) -> Entry {
        let state = if commit { TransactionState::PrepareCommit } else { TransactionState::PrepareAbort };
        let mut next = self.to(state, now);
        // An abort of nothing begins and ends now.
        if self.state != TransactionState::Ongoing {
            next.start_timestamp = now;
        }
        let bump = i16::from(Guard::EndBumpsEpoch.stands());
        Entry {
            // At the very last epoch, which no client was given, an abort goes through without another.
            producer_epoch: self.producer_epoch.saturating_add(bump),
            last_producer_epoch: self.producer_epoch,
            next_producer_id: next_producer_id.unwrap_or(NO_PRODUCER_ID),
            client_version: TransactionVersion::V2,
            ..next
        }
    }

    /// Every partition has its marker.
    pub fn completed(&self, now: i64) -> Entry {
        let state = match self.state {
            TransactionState::PrepareCommit => TransactionState::CompleteCommit,
            TransactionState::PrepareAbort => TransactionState::CompleteAbort,
            state => unreachable!("nothing is being ended in state {}", state.name()),
        };
        let mut next = self.to(state, now);
        (next.producer_id, next.producer_epoch) = self.producer_after_end();
        next.next_producer_id = NO_PRODUCER_ID;
        next.partitions.clear();
        next
    }

    /// The producer id and epoch with which the client goes on when the transaction that is ending is complete.
    pub fn producer_after_end(&self) -> (i64, i16) {
        let rotates = self.client_version.bumps_epoch() && self.next_producer_id != NO_PRODUCER_ID;
        if rotates { (self.next_producer_id, 0) } else { (self.producer_id, self.producer_epoch) }
    }

    /// What every transition of our own keeps (Kafka: `completeTransitionTo`).
    pub fn assert_follows(&self, before: &Entry) {
        let (from, to) = (before.state, self.state);
        assert!(to.may_follow(from), "a transaction does not go from {} to {}", from.name(), to.name());
        assert!(self.producer_id >= 0 && self.producer_epoch >= 0, "a record names a producer");
        assert!(self.last_update_timestamp >= before.last_update_timestamp, "time does not go back");
        let same_id = self.producer_id == before.producer_id;
        match to {
            TransactionState::Empty => {
                assert!(self.partitions.is_empty() && self.start_timestamp == -1, "nothing is begun");
                assert!(!same_id || self.producer_epoch >= before.producer_epoch, "epochs do not go back");
                assert!(same_id || self.producer_epoch == 0, "a new producer id begins at epoch 0");
            }
            TransactionState::Ongoing => {
                assert!(self.partitions.is_superset(&before.partitions), "partitions stay until the end");
                assert!(same_id && self.producer_epoch == before.producer_epoch, "the producer stays");
            }
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                assert_eq!(self.partitions, before.partitions, "an end concerns what was begun");
                assert!(same_id && self.producer_epoch >= before.producer_epoch, "the producer stays");
            }
            TransactionState::CompleteCommit | TransactionState::CompleteAbort => {
                assert!(self.partitions.is_empty() && self.start_timestamp != -1, "all is done");
                assert!(same_id || self.producer_id == before.next_producer_id, "the next id was announced");
            }
            TransactionState::Dead | TransactionState::PrepareEpochFence => {
                unreachable!("never in a record")
            }
        }
    }
}
