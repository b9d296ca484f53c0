//! What a broker checks in a batch that a producer sent (Kafka's `LogValidator`).
//!
//! Two levels: the header alone, which costs nothing and is always done; and the records, which needs them decompressed. A batch that
//! passes the second one, in order, gives every consumer exactly one record for each of its offsets.

use std::fmt;

use super::header::{NO_TIMESTAMP, TimestampType};
use super::record::{Skimmed, skim_record, take_record};
use super::{Batch, BatchHeader, RecordFault, RecordsError};
use crate::wire::varint;

/// What a producer must not send; answered with INVALID_RECORD where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidBatch {
    /// Only brokers write control batches.
    Control,
    /// There is a producer id, but the base sequence is negative.
    NegativeSequence(i32),
    /// The offsets end before they begin.
    OffsetRange {
        /// The last offset delta of the header.
        last_offset_delta: i32,
    },
    /// There are no records, or a negative number of them.
    RecordCount(i32),
    /// There is not one record for each offset.
    CountMismatch {
        /// How many offsets the batch takes.
        offsets: i64,
        /// How many records it has.
        records: i32,
    },
    /// The attributes name no codec.
    UnknownCodec(u8),
    /// The time of the append is for the broker to set; answered with INVALID_TIMESTAMP.
    LogAppendTime,
}

impl fmt::Display for InvalidBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidBatch::Control => f.write_str("producers may not write control batches"),
            InvalidBatch::NegativeSequence(sequence) => {
                write!(f, "the sequence number {sequence} is invalid")
            }
            InvalidBatch::OffsetRange { last_offset_delta } => {
                write!(f, "the last offset delta {last_offset_delta} is invalid")
            }
            InvalidBatch::RecordCount(count) => write!(f, "the record count {count} is invalid"),
            InvalidBatch::CountMismatch { offsets, records } => {
                write!(f, "the batch takes {offsets} offsets for {records} records")
            }
            InvalidBatch::UnknownCodec(id) => write!(f, "unknown compression codec {id}"),
            InvalidBatch::LogAppendTime => f.write_str("producers may not set the append time"),
        }
    }
}

impl std::error::Error for InvalidBatch {}

/// Checks the header of a batch from a producer. Length, format and checksum are [`Batch::parse`]'s and `verify_crc`'s matter.
pub fn validate_producer_batch(header: &BatchHeader) -> Result<(), InvalidBatch> {
    let offsets = i64::from(header.last_offset_delta) + 1;
    if offsets <= 0 {
        Err(InvalidBatch::OffsetRange { last_offset_delta: header.last_offset_delta })
    } else if header.record_count <= 0 {
        Err(InvalidBatch::RecordCount(header.record_count))
    } else if offsets != i64::from(header.record_count) {
        Err(InvalidBatch::CountMismatch { offsets, records: header.record_count })
    } else if header.is_control() {
        Err(InvalidBatch::Control)
    } else if header.has_producer_id() && header.base_sequence < 0 {
        Err(InvalidBatch::NegativeSequence(header.base_sequence))
    } else if header.codec().is_none() {
        Err(InvalidBatch::UnknownCodec(header.attributes.codec_id()))
    } else if header.timestamp_type() == TimestampType::LogAppendTime {
        Err(InvalidBatch::LogAppendTime)
    } else {
        Ok(())
    }
}

/// What a walk over the records of a producer's batch finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordStats {
    /// How many records there are.
    pub record_count: i32,
    /// Whether the relative offsets are 0, 1, 2, ... If not, the batch must be rebuilt before it is appended, as Kafka does with
    /// what some clients compress: see [`super::rebuild`].
    pub offsets_in_order: bool,
    /// The smallest timestamp. If it or the largest is out of bounds, a second walk finds the records to complain about.
    pub min_timestamp: i64,
    /// The largest timestamp; if the header says otherwise, the broker corrects it with [`super::set_max_timestamp`].
    pub max_timestamp: i64,
    /// The index of the first record without a key: a topic with compaction refuses it.
    pub first_null_key: Option<i32>,
    /// The size of the records without compression, in bytes.
    pub payload_bytes: usize,
    /// The size of the largest of them in bytes, as its record says it; 0 if it was not asked for.
    pub largest_record_bytes: usize,
}

/// Steps over a record of any kind.
fn step_over(bytes: &mut &[u8]) -> Result<Skimmed, RecordFault> {
    let record = take_record(bytes)?;
    let (timestamp_delta, offset_delta) = (record.timestamp_delta, record.offset_delta);
    Ok(Skimmed { timestamp_delta, offset_delta, has_key: record.key.is_some() })
}

/// Walks over the records of a batch from a producer, decompressed to at most `limit` bytes: each well-formed, as many
/// as the header says, and nothing after them.
pub fn validate_producer_records(batch: &Batch<'_>, limit: usize) -> Result<RecordStats, RecordsError> {
    walk::<false>(batch, limit)
}

/// Like [`validate_producer_records`], and measures the records.
pub fn measure_producer_records(batch: &Batch<'_>, limit: usize) -> Result<RecordStats, RecordsError> {
    walk::<true>(batch, limit)
}

fn walk<const MEASURES: bool>(batch: &Batch<'_>, limit: usize) -> Result<RecordStats, RecordsError> {
    let set = batch.records(limit)?;
    let mut stats = RecordStats {
        record_count: set.count(),
        offsets_in_order: true,
        min_timestamp: i64::MAX,
        max_timestamp: NO_TIMESTAMP,
        first_null_key: None,
        payload_bytes: set.payload().len(),
        largest_record_bytes: 0,
    };
    let mut rest = set.payload();
    for index in 0..set.count() {
        if MEASURES && let Ok((length, _)) = varint::get_i32(rest) {
            let length = usize::try_from(length).unwrap_or(0);
            stats.largest_record_bytes = stats.largest_record_bytes.max(length);
        }
        let record = match skim_record(&mut rest) {
            Some(record) => record,
            None => step_over(&mut rest).map_err(|fault| RecordsError::Record { index, fault })?,
        };
        stats.offsets_in_order &= record.offset_delta == index;
        let timestamp = batch.base_timestamp.wrapping_add(record.timestamp_delta);
        stats.min_timestamp = stats.min_timestamp.min(timestamp);
        stats.max_timestamp = stats.max_timestamp.max(timestamp);
        if !record.has_key && stats.first_null_key.is_none() {
            stats.first_null_key = Some(index);
        }
    }
    if !rest.is_empty() {
        return Err(RecordsError::Trailing { bytes: rest.len() });
    }
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{BatchBuilder, BatchOptions, Header};

    /// Records of many kinds: sizes around the lengths of numbers, with and without keys, values, headers.
    fn payload() -> Vec<u8> {
        let mut builder = BatchBuilder::new(0, BatchOptions::default());
        let bytes = vec![7; 20_000];
        for size in [0, 1, 56, 57, 63, 64, 65, 1000, 8190, 8192, 20_000] {
            let (long, short) = (Some(&bytes[..size]), Some(&bytes[..size % 60]));
            for (key, value) in [(None, long), (long, None), (long, short), (short, long), (None, None)] {
                builder.push(size as i64 * 1_000_000, key, value, &[]);
                builder.push(0, key, value, &[]);
            }
            builder.push(0, long, short, &[Header { key: b"h", value: short }]);
        }
        Batch::parse(&builder.finish()).expect("a batch").records_payload().to_vec()
    }

    #[test]
    fn to_skim_is_to_step_over() {
        let payload = payload();
        let (mut rest, mut skimmed) = (&payload[..], 0);
        while !rest.is_empty() {
            let (mut other, mut careful) = (rest, rest);
            let expected = step_over(&mut careful).expect("well-formed");
            if let Some(found) = skim_record(&mut other) {
                assert_eq!((found, other.len()), (expected, careful.len()));
                skimmed += 1;
            }
            // Cut off or damaged, it may be left to the other one, but never be believed where that one would not.
            for cut in 0..(rest.len() - careful.len()).min(80) {
                let mut short = &rest[..cut];
                assert_eq!(skim_record(&mut short), None);
                let mut damaged = rest.to_vec();
                damaged[cut] = damaged[cut].wrapping_add(0x43);
                let (mut one, mut two) = (&damaged[..], &damaged[..]);
                if let Some(found) = skim_record(&mut one) {
                    assert_eq!(step_over(&mut two).map(|record| (record, two.len())), Ok((found, one.len())));
                }
            }
            rest = careful;
        }
        assert!(skimmed > 60, "{skimmed}");
    }
}
