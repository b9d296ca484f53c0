//! `.snapshot`: the producers as of the offset in the file's name (ProducerSnapshot.json, version 1).
//!
//! ```text
//! version = 1: i16 | CRC-32C of what follows: u32 | count: i32 | count times:
//! producer id i64 | epoch i16 | last sequence i32 | last offset i64 | offset delta i32 | timestamp i64
//!   | coordinator epoch i32 | first offset of the open transaction, or -1: i64
//! ```
//!
//! The one tricky idea: only the last batch of each producer is stored, so after a restart older resends are out of order rather than
//! duplicates, as in Kafka.

use std::collections::{BTreeMap, VecDeque};

use ottla_protocol::records::crc32c;

use super::{BatchSpan, ProducerEntry};

const VERSION: i16 = 1;
const CRC_END: usize = 6;
const ENTRY_BYTES: usize = 46;

pub(crate) fn encode_snapshot(producers: &BTreeMap<i64, ProducerEntry>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CRC_END + 4 + producers.len() * ENTRY_BYTES);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(producers.len() as i32).to_be_bytes());
    for (producer_id, entry) in producers {
        let last = entry.batches.back();
        bytes.extend_from_slice(&producer_id.to_be_bytes());
        bytes.extend_from_slice(&entry.producer_epoch.to_be_bytes());
        bytes.extend_from_slice(&entry.last_sequence().to_be_bytes());
        bytes.extend_from_slice(&last.map_or(-1, |batch| batch.last_offset).to_be_bytes());
        bytes.extend_from_slice(&last.map_or(0, |batch| batch.offset_delta).to_be_bytes());
        bytes.extend_from_slice(&entry.last_timestamp.to_be_bytes());
        bytes.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
        bytes.extend_from_slice(&entry.txn_first_offset.unwrap_or(-1).to_be_bytes());
    }
    let crc = crc32c(&bytes[CRC_END..]);
    bytes[2..CRC_END].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Reads a file's bytes; `None` if they are damaged.
pub(crate) fn decode_snapshot(bytes: &[u8]) -> Option<BTreeMap<i64, ProducerEntry>> {
    let mut fields = Fields(bytes);
    if i16::from_be_bytes(fields.take()?) != VERSION {
        return None;
    }
    if u32::from_be_bytes(fields.take()?) != crc32c(fields.0) {
        return None;
    }
    let count = i32::from_be_bytes(fields.take()?);
    if usize::try_from(count).ok()?.checked_mul(ENTRY_BYTES)? != fields.0.len() {
        return None;
    }
    let mut producers = BTreeMap::new();
    for _ in 0..count {
        let producer_id = i64::from_be_bytes(fields.take()?);
        let producer_epoch = i16::from_be_bytes(fields.take()?);
        let last_sequence = i32::from_be_bytes(fields.take()?);
        let last_offset = i64::from_be_bytes(fields.take()?);
        let offset_delta = i32::from_be_bytes(fields.take()?);
        let last_timestamp = i64::from_be_bytes(fields.take()?);
        let coordinator_epoch = i32::from_be_bytes(fields.take()?);
        let txn_first_offset = i64::from_be_bytes(fields.take()?);
        let last = BatchSpan { last_sequence, last_offset, offset_delta, timestamp: last_timestamp };
        let entry = ProducerEntry {
            producer_epoch,
            coordinator_epoch,
            last_timestamp,
            txn_first_offset: Some(txn_first_offset).filter(|offset| *offset >= 0),
            batches: if last_offset >= 0 { VecDeque::from([last]) } else { VecDeque::new() },
        };
        producers.insert(producer_id, entry);
    }
    Some(producers)
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_read_back_and_damage_is_seen() {
        let span = BatchSpan { last_sequence: 9, last_offset: 42, offset_delta: 4, timestamp: 1000 };
        let mut entry = ProducerEntry {
            producer_epoch: 3,
            coordinator_epoch: 2,
            last_timestamp: 1000,
            txn_first_offset: Some(38),
            batches: VecDeque::from([span]),
        };
        let mut producers = BTreeMap::from([(7, entry.clone())]);
        entry.batches.clear();
        entry.txn_first_offset = None;
        producers.insert(8, entry);
        let bytes = encode_snapshot(&producers);
        assert_eq!(bytes.len(), 10 + 2 * 46);
        assert_eq!(decode_snapshot(&bytes), Some(producers));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode_snapshot(&damaged), None, "byte {at}");
            assert_eq!(decode_snapshot(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn an_empty_snapshot_has_ten_bytes() {
        let bytes = encode_snapshot(&BTreeMap::new());
        assert_eq!(bytes.len(), 10);
        assert_eq!(decode_snapshot(&bytes), Some(BTreeMap::new()));
    }
}
