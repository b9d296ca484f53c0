//! What compaction leaves of one batch (`Cleaner.cleanInto`, `MemoryRecords.filterTo`).
//!
//! The one tricky idea: offsets never change. A batch that loses records keeps its first and last offset, and with them the sequence
//! numbers of its producer; one that loses all of them may have to stay as a header for the same reason.

use std::collections::BTreeMap;

use ottla_protocol::records::{
    Batch, BatchBuilder, BatchHeader, BatchOptions, HEADER_BYTES, Record, RecordSet, empty_batch,
};

use super::key_map::{KEYS_AT_ONCE, KeyMap};
use super::transactions::Transactions;
use crate::producer::LastRecord;

/// What is left of a batch.
#[derive(Debug)]
pub(crate) enum Left {
    Nothing,
    /// All of it, as it stands.
    Whole,
    /// A header without records.
    Header([u8; HEADER_BYTES]),
    /// Some of its records, or all with the time of their removal.
    Rewritten(Vec<u8>),
}

/// Decides what is left of batches. One for a whole compaction, which meets the batches in the order of the log.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) map: KeyMap,
    /// The map knows all keys below.
    pub(crate) mapped_end: i64,
    pub(crate) transactions: Transactions,
    /// By producer: the record that carries its state.
    pub(crate) last_records: BTreeMap<i64, LastRecord>,
    pub(crate) high_watermark: i64,
    pub(crate) now: i64,
    pub(crate) delete_retention_ms: i64,
    pub(crate) decompressed_bytes_max: usize,
}

impl Filter {
    /// What is left of the next batch, whose checksum is right. `None`: it is a control batch that can not be read.
    pub(crate) fn next(&mut self, batch: &Batch<'_>) -> Option<Left> {
        let control = batch.is_control();
        let discardable = match control {
            true => self.transactions.on_control(batch)?,
            false => self.transactions.on_data(batch),
        };
        let stays = self.carries_state(batch) || batch.next_offset() == self.high_watermark;
        let header_at_most = || if stays { Left::Header(empty_batch(batch)) } else { Left::Nothing };
        let ripe = batch.delete_horizon().is_some_and(|horizon| horizon <= self.now);
        if discardable && (!control || ripe) {
            return Some(header_at_most());
        }
        let Ok(records) = batch.records(self.decompressed_bytes_max) else {
            // The producer's own concern, and nobody knows which keys are in it.
            return Some(Left::Whole);
        };
        let mut all = Vec::with_capacity(batch.record_count.clamp(0, 4096) as usize);
        let mut place = Place::of(batch);
        for record in &records {
            let Some(record) = record.ok().filter(|record| place.is_next(record)) else {
                return Some(Left::Whole);
            };
            all.push(record);
        }
        let count = all.len();
        let kept = if control { all } else { self.retained(batch, all) };
        if kept.is_empty() {
            return Some(header_at_most());
        }
        let tombstones = kept.iter().any(|record| record.value.is_none());
        let begins_to_ripen = (tombstones || (control && discardable)) && batch.delete_horizon().is_none();
        if kept.len() == count && !begins_to_ripen {
            return Some(Left::Whole);
        }
        let delete_horizon = match begins_to_ripen {
            true => Some(self.now.saturating_add(self.delete_retention_ms)),
            false => batch.delete_horizon(),
        };
        Some(Left::Rewritten(rewrite(batch, &kept, delete_horizon)))
    }

    /// Adds the keys of a batch from `start` on, while there is room. Whether all of them had room.
    pub(crate) fn map_keys(
        map: &mut KeyMap,
        batch: &BatchHeader,
        records: &RecordSet<'_>,
        start: i64,
    ) -> bool {
        let mut keys = Vec::with_capacity(KEYS_AT_ONCE);
        let mut place = Place::of(batch);
        for record in records {
            // A batch that can not be read is kept whole, so none of its keys may speak against older records. Those before the
            // fault do no harm: their offsets are in the log.
            let Some(record) = record.ok().filter(|record| place.is_next(record)) else { break };
            let Some(key) = record.key.filter(|_| record.offset >= start) else { continue };
            keys.push((map.hash(key), record.offset));
            if keys.len() == KEYS_AT_ONCE && !map.put_all(&mut keys) {
                return false;
            }
        }
        map.put_all(&mut keys)
    }

    /// Whether the batch says what is known of its producer: its last sequence number, or, without data, its last epoch.
    fn carries_state(&self, batch: &BatchHeader) -> bool {
        batch.has_producer_id()
            && self.last_records.get(&batch.producer_id).is_some_and(|last| match last.data_offset {
                Some(offset) => batch.last_offset() == offset,
                None => batch.is_control() && batch.producer_epoch == last.producer_epoch,
            })
    }

    /// Those of a batch's records that stay.
    fn retained<'a>(&self, batch: &BatchHeader, records: Vec<Record<'a>>) -> Vec<Record<'a>> {
        let ripe = batch.delete_horizon().is_some_and(|horizon| horizon <= self.now);
        let mut kept = Vec::with_capacity(records.len());
        let mut hashes = Vec::with_capacity(KEYS_AT_ONCE);
        let mut records = records.into_iter();
        while !records.as_slice().is_empty() {
            let near = records.as_slice().iter().take(KEYS_AT_ONCE);
            hashes.clear();
            hashes.extend(near.map(|record| record.key.map(|key| self.map.hash(key))));
            self.map.bring_near(hashes.iter().flatten().copied());
            let near = hashes.iter().zip(records.by_ref());
            kept.extend(
                near.filter(|(hash, record)| self.retains(record, **hash, ripe)).map(|(_, record)| record),
            );
        }
        kept
    }

    fn retains(&self, record: &Record<'_>, hash: Option<[u64; 2]>, ripe: bool) -> bool {
        if record.offset >= self.mapped_end {
            return true;
        }
        let Some(hash) = hash else { return false };
        let superseded = self.map.get(hash).is_some_and(|last| record.offset < last);
        !superseded && (record.value.is_some() || !ripe)
    }
}

/// Where in a batch its next record may be. A leader has looked at the records of a compressed batch only where something asked it to, and
/// some producers do not number them: what is not at an offset of its own can not be told apart, nor be written anew.
struct Place {
    next: i64,
    last: i64,
}

impl Place {
    fn of(batch: &BatchHeader) -> Place {
        Place { next: batch.base_offset, last: batch.last_offset() }
    }

    fn is_next(&mut self, record: &Record<'_>) -> bool {
        let fits = (self.next..=self.last).contains(&record.offset);
        self.next = record.offset.saturating_add(1);
        fits
    }
}

/// The batch with only these of its records.
fn rewrite(batch: &BatchHeader, kept: &[Record<'_>], delete_horizon: Option<i64>) -> Vec<u8> {
    let options = BatchOptions { delete_horizon, ..BatchOptions::of(batch) };
    let mut builder = BatchBuilder::new(batch.base_offset, options);
    kept.iter().for_each(|record| builder.push_record(record));
    builder.finish_through(batch.last_offset())
}
