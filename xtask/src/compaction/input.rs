//! The log that is compacted, and what has to be left of it by a model that knows no offset maps: the last of each key.
//!
//! The one tricky idea: transactions are over where a segment ends. So what a segment holds is known when it ends, and the model needs
//! no rule for a transaction of which one half may be compacted.

use super::Left;
use crate::steps::{Doing, Trouble};
use ottla_protocol::records::{
    BatchBuilder, BatchOptions, ControlKey, ControlType, EndTxnMarker, end_txn_batch,
};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Records of one batch.
const BATCH_RECORDS: u64 = 100;
/// Bytes at which a segment of the input ends.
pub const SEGMENT_BYTES: usize = 100 << 20;
/// Bytes of a value.
const VALUE_BYTES: usize = 100;
/// Records' time, in ms since the epoch.
const TIMESTAMP: i64 = 1_700_000_000_000;
/// One record in so many is a tombstone.
const TOMBSTONE_EVERY: u64 = 50;
/// Producers that take turns, batch by batch; half of them write in transactions.
const PRODUCERS: u64 = 16;
/// Batches of a transaction.
const TRANSACTION_BATCHES: u64 = 10;
/// One transaction in so many is aborted.
const ABORT_EVERY: u64 = 5;

/// A log as it was written.
pub struct Input {
    pub bytes: u64,
    /// What compaction has to leave.
    pub left: Left,
}

/// Offset and hash of the last record of each key.
type Latest = HashMap<u64, (u64, u64)>;

/// A producer that writes in transactions.
#[derive(Default)]
struct Producer {
    sequence: i32,
    transactions: u64,
    /// Keys and records of the transaction that is open.
    written: Vec<(u64, (u64, u64))>,
}

struct Writer<'a> {
    dir: &'a Path,
    segment: Vec<u8>,
    base_offset: u64,
    offset: u64,
    bytes: u64,
    producers: Vec<Producer>,
    /// Of whole segments.
    latest: Latest,
    markers: Left,
    /// Of the segment that is being written: all that was committed, and all that is in the file.
    committed: Vec<(u64, (u64, u64))>,
    in_segment: Left,
}

/// Writes the segments of a log of `records` records (markers come on top), without indexes.
pub fn write(dir: &Path, records: u64, keys: u64) -> Result<Input, Trouble> {
    let mut writer = Writer {
        dir,
        segment: Vec::new(),
        base_offset: 0,
        offset: 0,
        bytes: 0,
        producers: (0..PRODUCERS / 2).map(|_| Producer::default()).collect(),
        latest: Latest::new(),
        markers: Left::new(),
        committed: Vec::new(),
        in_segment: Left::new(),
    };
    let (mut written, mut state) = (0, 1_u64);
    while written < records {
        if writer.segment.len() >= SEGMENT_BYTES {
            writer.seal()?;
        }
        for turn in 0..TRANSACTION_BATCHES * PRODUCERS {
            for record in
                writer.batch(turn % PRODUCERS, BATCH_RECORDS.min(records - written), keys, &mut state)
            {
                writer.in_segment.push(record);
                written += 1;
            }
        }
        (0..writer.producers.len()).for_each(|index| writer.end_transaction(index));
    }
    writer.finish()
}

impl Writer<'_> {
    /// One batch of a producer. Keys come in an order without a pattern.
    fn batch(&mut self, producer: u64, records: u64, keys: u64, state: &mut u64) -> Left {
        if records == 0 {
            return Left::new();
        }
        let transactional = self.producers.get_mut(producer as usize);
        let mut options = BatchOptions { leader_epoch: 0, ..BatchOptions::default() };
        if let Some(Producer { sequence, .. }) = &transactional {
            let producer_id = producer as i64;
            options = BatchOptions {
                producer_id,
                producer_epoch: 0,
                base_sequence: *sequence,
                transactional: true,
                ..options
            };
        }
        let mut builder = BatchBuilder::new(self.offset as i64, options);
        let (mut all, mut of_keys) = (Left::new(), Vec::new());
        for offset in self.offset..self.offset + records {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (*state >> 20) % keys;
            let key = format!("key-{number:012}");
            let value = [offset as u8; VALUE_BYTES];
            let value = (!offset.is_multiple_of(TOMBSTONE_EVERY)).then_some(&value[..]);
            builder.push(TIMESTAMP, Some(key.as_bytes()), value, &[]);
            let record = (offset, super::hash(Some(key.as_bytes()), value, TIMESTAMP));
            all.push(record);
            of_keys.push((number, record));
        }
        self.offset += records;
        self.segment.extend_from_slice(&builder.finish());
        match transactional {
            Some(producer) => {
                producer.sequence = producer.sequence.wrapping_add(records as i32) & i32::MAX;
                producer.written.extend(of_keys);
            }
            None => self.committed.extend(of_keys),
        }
        all
    }

    /// Commits a producer's transaction, or aborts it.
    fn end_transaction(&mut self, index: usize) {
        let producer = &mut self.producers[index];
        let written = std::mem::take(&mut producer.written);
        if written.is_empty() {
            return;
        }
        producer.transactions += 1;
        let commit = !(producer.transactions + index as u64).is_multiple_of(ABORT_EVERY);
        let marker = EndTxnMarker { coordinator_epoch: 0 };
        let batch = end_txn_batch(self.offset as i64, TIMESTAMP, commit, marker, index as i64, 0, 0);
        self.segment.extend_from_slice(&batch);
        let control_type = if commit { ControlType::Commit } else { ControlType::Abort };
        let key = ControlKey::new(control_type).to_bytes();
        let record = (self.offset, super::hash(Some(&key), Some(&marker.to_bytes()), TIMESTAMP));
        self.in_segment.push(record);
        self.markers.push(record);
        self.offset += 1;
        if commit {
            self.committed.extend(written);
        }
    }

    fn write_segment(&mut self) -> Result<(), Trouble> {
        let path = self.dir.join(format!("{:020}.log", self.base_offset));
        fs::write(&path, &self.segment).doing(format!("writing {}", path.display()))?;
        self.bytes += self.segment.len() as u64;
        Ok(())
    }

    /// Ends a segment behind which another one comes: it is compacted.
    fn seal(&mut self) -> Result<(), Trouble> {
        self.write_segment()?;
        self.segment.clear();
        self.base_offset = self.offset;
        self.in_segment.clear();
        for (key, record) in self.committed.drain(..) {
            let latest = self.latest.entry(key).or_insert(record);
            *latest = record.max(*latest);
        }
        Ok(())
    }

    /// Ends the last segment. It is the active one: nothing of it is compacted, and nothing goes because of it.
    fn finish(mut self) -> Result<Input, Trouble> {
        self.write_segment()?;
        let mut left = self.in_segment;
        left.extend(self.latest.into_values());
        left.extend(self.markers.into_iter().filter(|(offset, _)| *offset < self.base_offset));
        left.sort_unstable();
        Ok(Input { bytes: self.bytes, left })
    }
}
