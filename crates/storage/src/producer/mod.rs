//! What a log knows of its idempotent and transactional producers (`ProducerStateManager`, `ProducerAppendInfo`).
//!
//! The one tricky idea: checking and applying are apart. `check` looks at a batch before it is written; `apply` takes over a batch that is
//! in the log, whoever put it there, and cannot refuse it. Recovery is nothing but `apply` over the batches after a snapshot.

mod admission;
mod entry;
mod guards;
#[cfg(feature = "mutations")]
mod model;
mod snapshot;

use std::collections::BTreeMap;

use ottla_protocol::records::{Batch, BatchHeader, ControlKey, ControlType, EndTxnMarker};

pub use admission::Admission;
pub(crate) use entry::{BatchSpan, ProducerEntry};
#[cfg(feature = "mutations")]
pub use guards::{LogGuard as NamedGuard, LogGuards as NamedGuards};
#[cfg(feature = "mutations")]
pub use model::{ModelAppend, ModelBatch, ModelLog};
pub(crate) use snapshot::{decode_snapshot, encode_snapshot};

use crate::error::AppendError;
use admission::Admissions;
use guards::{LogGuard, LogGuards};

/// What a control record of two integers may decompress to.
const MARKER_BYTES_MAX: usize = 64 << 10;

/// Who appends, which decides how far a batch is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A producer: everything is checked.
    Client {
        /// Whether the request's version knows zstd (Produce 7 and later).
        zstd_allowed: bool,
        /// Needed for the first batch of a transaction.
        admission: Option<Admission>,
    },
    /// A coordinator of this node, which writes its own records, or the offset commits of a transaction. Sequence numbers are not
    /// checked.
    Coordinator {
        /// Needed for the first batch of a transaction.
        admission: Option<Admission>,
    },
    /// A transaction coordinator, which ends a transaction here.
    Marker {
        /// Whether every end takes a new epoch (transaction version 2): then the epoch of the marker must not have been seen.
        bumps_epoch: bool,
    },
    /// The leader of the metadata quorum: the batch is taken as it is.
    RaftLeader,
    /// The leader of the partition: offsets and epochs are already assigned, and nothing is refused that it accepted.
    Replication,
}

impl AppendOrigin {
    /// A coordinator that writes its own records.
    pub const COORDINATOR: AppendOrigin = AppendOrigin::Coordinator { admission: None };

    pub(crate) fn is_client(self) -> bool {
        matches!(self, AppendOrigin::Client { .. })
    }
}

/// A producer as DescribeProducers shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerSummary {
    /// Producer id.
    pub producer_id: i64,
    /// Its current epoch.
    pub producer_epoch: i16,
    /// The last sequence number, or -1.
    pub last_sequence: i32,
    /// The largest timestamp of its last batch, in ms since the epoch, or -1.
    pub last_timestamp: i64,
    /// The epoch of the coordinator that wrote its last marker, or -1.
    pub coordinator_epoch: i32,
    /// The first offset of its open transaction.
    pub current_txn_start_offset: Option<i64>,
}

/// The record in the log that carries a producer's state: compaction does not remove its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastRecord {
    /// The last offset of the producer's last batch of data; `None` if its last epoch has only a marker.
    pub(crate) data_offset: Option<i64>,
    pub(crate) producer_epoch: i16,
}

/// A transaction that ended with the marker at `last_offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompletedTxn {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) aborted: bool,
}

/// The end of a transaction, as its marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TxnEnd {
    pub(crate) committed: bool,
    pub(crate) coordinator_epoch: i32,
    pub(crate) timestamp: i64,
}

impl TxnEnd {
    /// Reads the marker of a control batch; `None` if the batch ends no transaction (or compaction emptied it).
    pub(crate) fn read(batch: &Batch<'_>) -> Option<TxnEnd> {
        let records = batch.records(MARKER_BYTES_MAX).ok()?;
        let record = records.iter().next()?.ok()?;
        let committed = match ControlKey::read(record.key).ok()?.control_type()? {
            ControlType::Commit => true,
            ControlType::Abort => false,
            _ => return None,
        };
        let marker = EndTxnMarker::read(record.value).ok()?;
        Some(TxnEnd { committed, coordinator_epoch: marker.coordinator_epoch, timestamp: record.timestamp })
    }
}

/// What is to be done with a batch that passed the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// It is in the log already.
    Duplicate(BatchSpan),
}

/// The producers of a log up to `end_offset`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Producers {
    by_id: BTreeMap<i64, ProducerEntry>,
    /// Open transactions: first offset to producer id.
    ongoing: BTreeMap<i64, i64>,
    /// Decided transactions whose marker may not be committed yet: first offset to the marker's offset.
    unreplicated: BTreeMap<i64, i64>,
    /// Who waits to begin a transaction.
    admissions: Admissions,
    guards: LogGuards,
    end_offset: i64,
}

impl Producers {
    /// No producers, in a log that begins at `offset`.
    pub(crate) fn starting_at(offset: i64) -> Producers {
        Producers { end_offset: offset, ..Producers::default() }
    }

    /// The state that a snapshot holds for its offset.
    pub(crate) fn from_snapshot(entries: BTreeMap<i64, ProducerEntry>, offset: i64) -> Producers {
        let ongoing = entries.iter().filter_map(|(id, entry)| Some((entry.txn_first_offset?, *id))).collect();
        Producers { by_id: entries, ongoing, end_offset: offset, ..Producers::default() }
    }

    /// Everything below this offset has been applied.
    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    pub(crate) fn set_end_offset(&mut self, offset: i64) {
        assert!(offset >= self.end_offset, "producer state only moves forward");
        self.end_offset = offset;
    }

    pub(crate) fn snapshot(&self) -> Vec<u8> {
        encode_snapshot(&self.by_id)
    }

    pub(crate) fn summaries(&self) -> impl Iterator<Item = ProducerSummary> + '_ {
        self.by_id.iter().map(|(id, entry)| entry.summary(*id))
    }

    pub(crate) fn last_records(&self) -> BTreeMap<i64, LastRecord> {
        let last = |entry: &ProducerEntry| LastRecord {
            data_offset: entry.batches.back().map(|batch| batch.last_offset),
            producer_epoch: entry.producer_epoch,
        };
        self.by_id.iter().map(|(id, entry)| (*id, last(entry))).collect()
    }

    pub(crate) fn has_open_txn(&self, producer_id: i64, producer_epoch: i16) -> bool {
        self.by_id
            .get(&producer_id)
            .is_some_and(|entry| entry.txn_first_offset.is_some() && entry.producer_epoch == producer_epoch)
    }

    /// The admission that a batch needs to be the first of its transaction here, or `None` if the transaction is open already. Whoever
    /// gets one asks the transaction's coordinator before it appends with it.
    pub(crate) fn apply_for_admission(
        &mut self,
        header: &BatchHeader,
        bumps_epoch: bool,
        now: i64,
    ) -> Result<Option<Admission>, AppendError> {
        let (producer_id, producer_epoch) = (header.producer_id, header.producer_epoch);
        if let Some(entry) = self.by_id.get(&producer_id)
            && self.guards.stand(LogGuard::BatchEpoch)
        {
            entry.check_epoch(header)?;
        }
        if self.has_open_txn(producer_id, producer_epoch) {
            return Ok(None);
        }
        let sequence = header.base_sequence;
        Ok(Some(self.admissions.apply(producer_id, producer_epoch, sequence, bumps_epoch, now)))
    }

    /// Checks a batch that is about to be appended. `end` is its marker, if it is a control batch.
    pub(crate) fn check(
        &self,
        header: &BatchHeader,
        end: Option<TxnEnd>,
        origin: AppendOrigin,
        verifies: bool,
    ) -> Result<Verdict, AppendError> {
        if !header.has_producer_id() || matches!(origin, AppendOrigin::Replication) {
            return Ok(Verdict::Append);
        }
        let empty = ProducerEntry::default();
        let entry = self.by_id.get(&header.producer_id).unwrap_or(&empty);
        if origin.is_client()
            && self.guards.stand(LogGuard::Duplicate)
            && let Some(span) = entry.find_duplicate(header)
        {
            return Ok(Verdict::Duplicate(span));
        }
        if header.is_control() {
            let bumps_epoch = matches!(origin, AppendOrigin::Marker { bumps_epoch: true });
            if self.guards.stand(LogGuard::MarkerEpoch) {
                entry.check_marker_epoch(header, bumps_epoch)?;
            }
            if let Some(end) = end.filter(|_| self.guards.stand(LogGuard::CoordinatorEpoch)) {
                entry.check_coordinator(header, end)?;
            }
            return Ok(Verdict::Append);
        }
        if self.guards.stand(LogGuard::BatchEpoch) {
            entry.check_epoch(header)?;
        }
        if header.is_transactional() && !self.has_open_txn(header.producer_id, header.producer_epoch) {
            let admission = match origin {
                AppendOrigin::Client { admission, .. } | AppendOrigin::Coordinator { admission } => admission,
                _ => None,
            };
            let verifies = verifies && self.guards.stand(LogGuard::Admission);
            if verifies && !self.admissions.admits(header, admission) {
                return Err(AppendError::NotAdmitted { producer_id: header.producer_id });
            }
        }
        if origin.is_client() && self.guards.stand(LogGuard::Sequence) {
            // Within an epoch of which batches are known the next number is known too.
            let is_known = entry.producer_epoch == header.producer_epoch && !entry.batches.is_empty();
            if let Some(applicant) = self.admissions.get(header).filter(|_| !is_known) {
                // Where every transaction has its own epoch, a producer that is not known begins at 0.
                let must_begin =
                    applicant.bumps_epoch && entry.batches.is_empty() && header.base_sequence != 0;
                if must_begin || applicant.is_too_early(header.base_sequence) {
                    return Err(entry.out_of_order(header));
                }
            }
            entry.check_sequence(header)?;
        }
        if entry.txn_first_offset.is_some() && !header.is_transactional() {
            return Err(AppendError::InvalidTxnState { producer_id: header.producer_id });
        }
        Ok(Verdict::Append)
    }

    /// Takes over a batch that is in the log. `end` is its marker, if it is a control batch.
    pub(crate) fn apply(&mut self, header: &BatchHeader, end: Option<TxnEnd>) -> Option<CompletedTxn> {
        self.set_end_offset(header.next_offset().max(self.end_offset));
        if !header.has_producer_id() {
            return None;
        }
        let producer_id = header.producer_id;
        let takes_admission = !header.is_control() || self.guards.stand(LogGuard::MarkerTakesAdmission);
        if header.is_transactional() && takes_admission {
            self.admissions.on_batch(header);
        }
        let Some(end) = end else {
            if !header.is_control() {
                let entry = self.by_id.entry(producer_id).or_default();
                entry.add_batch(header);
                if header.is_transactional() && entry.txn_first_offset.is_none() {
                    entry.txn_first_offset = Some(header.base_offset);
                    self.ongoing.insert(header.base_offset, producer_id);
                }
            }
            return None;
        };
        let entry = self.by_id.entry(producer_id).or_default();
        let first_offset = entry.end_txn(header.producer_epoch, end);
        let first_offset = first_offset?;
        self.ongoing.remove(&first_offset);
        let last_offset = header.base_offset;
        self.unreplicated.insert(first_offset, last_offset);
        let last_stable_offset = self.ongoing.keys().next().copied().unwrap_or(last_offset + 1);
        Some(CompletedTxn {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset,
            aborted: !end.committed,
        })
    }

    /// The first offset of a transaction that is open, or whose marker is not below the high watermark.
    pub(crate) fn first_unstable_offset(&self, high_watermark: i64) -> Option<i64> {
        let undecided = self.ongoing.keys().next().copied();
        let uncommitted =
            self.unreplicated.iter().find(|(_, marker)| **marker >= high_watermark).map(|(first, _)| *first);
        undecided.into_iter().chain(uncommitted).min()
    }

    /// Markers below the high watermark are committed.
    pub(crate) fn on_high_watermark(&mut self, high_watermark: i64) {
        self.unreplicated.retain(|_, marker| *marker >= high_watermark);
    }

    /// The log now begins at `offset`.
    pub(crate) fn on_log_start(&mut self, offset: i64) {
        self.unreplicated.retain(|_, marker| *marker >= offset);
        self.end_offset = self.end_offset.max(offset);
    }

    /// Forgets producers that have been idle for `idle_ms_max` and have no open transaction.
    pub(crate) fn expire(&mut self, now: i64, idle_ms_max: i64) {
        self.by_id.retain(|_, entry| !entry.is_expired(now, idle_ms_max));
        self.admissions.expire(now, idle_ms_max);
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod transaction_tests;
