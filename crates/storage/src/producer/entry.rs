//! One producer: its epoch, its last five batches, its open transaction (`ProducerStateEntry`).
//!
//! The one tricky idea: five batches, because a producer may have five requests in flight and resend any of them.

use std::collections::VecDeque;

use ottla_protocol::records::{BatchHeader, NO_PRODUCER_EPOCH, NO_SEQUENCE, NO_TIMESTAMP, advance_sequence};

use super::{ProducerSummary, TxnEnd};
use crate::error::AppendError;

/// Batches that are remembered for each producer (`NUM_BATCHES_TO_RETAIN`).
const BATCHES_MAX: usize = 5;

/// A batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchSpan {
    pub(crate) last_sequence: i32,
    pub(crate) last_offset: i64,
    /// The last offset relative to the first one.
    pub(crate) offset_delta: i32,
    pub(crate) timestamp: i64,
}

impl BatchSpan {
    pub(crate) fn first_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }

    fn first_sequence(&self) -> i32 {
        // Sequence numbers live modulo 2^31, so stepping back is stepping forward by the complement.
        advance_sequence(self.last_sequence, self.offset_delta.wrapping_neg())
    }
}

/// What is known of one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerEntry {
    pub(crate) producer_epoch: i16,
    pub(crate) coordinator_epoch: i32,
    pub(crate) last_timestamp: i64,
    pub(crate) txn_first_offset: Option<i64>,
    /// Of the current epoch, oldest first.
    pub(crate) batches: VecDeque<BatchSpan>,
}

impl Default for ProducerEntry {
    fn default() -> ProducerEntry {
        ProducerEntry {
            producer_epoch: NO_PRODUCER_EPOCH,
            coordinator_epoch: -1,
            last_timestamp: NO_TIMESTAMP,
            txn_first_offset: None,
            batches: VecDeque::new(),
        }
    }
}

impl ProducerEntry {
    pub(crate) fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(NO_SEQUENCE, |batch| batch.last_sequence)
    }

    pub(super) fn summary(&self, producer_id: i64) -> ProducerSummary {
        ProducerSummary {
            producer_id,
            producer_epoch: self.producer_epoch,
            last_sequence: self.last_sequence(),
            last_timestamp: self.last_timestamp,
            coordinator_epoch: self.coordinator_epoch,
            current_txn_start_offset: self.txn_first_offset,
        }
    }

    pub(super) fn find_duplicate(&self, header: &BatchHeader) -> Option<BatchSpan> {
        if header.producer_epoch != self.producer_epoch || header.base_sequence == NO_SEQUENCE {
            return None;
        }
        let same = |batch: &&BatchSpan| {
            batch.first_sequence() == header.base_sequence && batch.last_sequence == header.last_sequence()
        };
        self.batches.iter().find(same).copied()
    }

    pub(super) fn check_epoch(&self, header: &BatchHeader) -> Result<(), AppendError> {
        if header.producer_epoch < self.producer_epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer_id: header.producer_id,
                found: header.producer_epoch,
                current: self.producer_epoch,
            });
        }
        Ok(())
    }

    /// The epoch of a marker must not be older than the producer's; where every end takes a new epoch it has to be newer. A marker that
    /// was written and is written again (a coordinator that was loaded, an answer that was lost) does no harm: nothing is open then. Nor
    /// does one at the last epoch there is.
    pub(super) fn check_marker_epoch(
        &self,
        header: &BatchHeader,
        bumps_epoch: bool,
    ) -> Result<(), AppendError> {
        let is_again = self.txn_first_offset.is_none() || header.producer_epoch == i16::MAX;
        if bumps_epoch && header.producer_epoch == self.producer_epoch && !is_again {
            return Err(AppendError::InvalidProducerEpoch {
                producer_id: header.producer_id,
                found: header.producer_epoch,
                current: self.producer_epoch,
            });
        }
        self.check_epoch(header)
    }

    pub(super) fn check_coordinator(&self, header: &BatchHeader, end: TxnEnd) -> Result<(), AppendError> {
        if end.coordinator_epoch < self.coordinator_epoch {
            return Err(AppendError::CoordinatorFenced {
                producer_id: header.producer_id,
                found: end.coordinator_epoch,
                current: self.coordinator_epoch,
            });
        }
        Ok(())
    }

    /// A new epoch starts at 0; within an epoch numbers follow one another; a producer that is not known may start anywhere
    /// (KIP-360: its records may have been deleted).
    pub(super) fn check_sequence(&self, header: &BatchHeader) -> Result<(), AppendError> {
        let found = header.base_sequence;
        let in_order = if self.producer_epoch == NO_PRODUCER_EPOCH {
            true
        } else if header.producer_epoch != self.producer_epoch {
            found == 0
        } else {
            match self.last_sequence() {
                NO_SEQUENCE => found == 0,
                last => found == advance_sequence(last, 1),
            }
        };
        if in_order { Ok(()) } else { Err(self.out_of_order(header)) }
    }

    pub(super) fn out_of_order(&self, header: &BatchHeader) -> AppendError {
        let last =
            if header.producer_epoch == self.producer_epoch { self.last_sequence() } else { NO_SEQUENCE };
        AppendError::OutOfOrderSequence { producer_id: header.producer_id, found: header.base_sequence, last }
    }

    fn enter_epoch(&mut self, producer_epoch: i16) {
        if self.producer_epoch != producer_epoch {
            self.batches.clear();
            self.producer_epoch = producer_epoch;
        }
    }

    pub(super) fn add_batch(&mut self, header: &BatchHeader) {
        self.enter_epoch(header.producer_epoch);
        if self.batches.len() == BATCHES_MAX {
            self.batches.pop_front();
        }
        self.batches.push_back(BatchSpan {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
        self.last_timestamp = header.max_timestamp;
    }

    /// Takes over a marker; returns the first offset of the transaction that it ended, if one was open here.
    pub(super) fn end_txn(&mut self, producer_epoch: i16, end: TxnEnd) -> Option<i64> {
        self.enter_epoch(producer_epoch);
        self.coordinator_epoch = end.coordinator_epoch;
        self.last_timestamp = end.timestamp;
        self.txn_first_offset.take()
    }

    pub(crate) fn is_expired(&self, now: i64, idle_ms_max: i64) -> bool {
        self.txn_first_offset.is_none() && now.saturating_sub(self.last_timestamp) >= idle_ms_max
    }
}
