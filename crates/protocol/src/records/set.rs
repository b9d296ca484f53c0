//! The records of one batch, decompressed if need be, and the walk over them.
//!
//! The set borrows records which are not compressed and owns those that it had to decompress. The record count of the header is
//! only compared with what is there, never used to reserve anything.

use std::borrow::Cow;
use std::fmt;

use super::Batch;
use super::header::TimestampType;
use super::record::{Record, RecordFault, take_record};
use crate::compression::{Codec, CompressionError, decompress};

/// Why the records of a batch cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordsError {
    /// The attributes name no codec.
    UnknownCodec(u8),
    /// The codec cannot read them, or they are too large.
    Compression(CompressionError),
    /// The header says that there is a negative number of records.
    NegativeCount(i32),
    /// A record is malformed.
    Record {
        /// Which one, counted from 0.
        index: i32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// There are none, where there must be.
    NoRecords,
    /// Bytes are left after the last record.
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl fmt::Display for RecordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordsError::UnknownCodec(id) => write!(f, "unknown compression codec {id}"),
            RecordsError::Compression(error) => error.fmt(f),
            RecordsError::NegativeCount(count) => write!(f, "invalid record count {count}"),
            RecordsError::Record { index, fault } => write!(f, "record {index} is malformed: {fault}"),
            RecordsError::NoRecords => f.write_str("the batch has no records"),
            RecordsError::Trailing { bytes } => write!(f, "{bytes} bytes are left after the last record"),
        }
    }
}

impl std::error::Error for RecordsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RecordsError::Compression(error) => Some(error),
            _ => None,
        }
    }
}

impl From<CompressionError> for RecordsError {
    fn from(error: CompressionError) -> Self {
        RecordsError::Compression(error)
    }
}

/// The records of a batch; see [`Batch::records`].
#[derive(Debug, Clone)]
pub struct RecordSet<'a> {
    payload: Cow<'a, [u8]>,
    count: i32,
    base_offset: i64,
    base_timestamp: i64,
    append_time: Option<i64>,
}

impl<'a> RecordSet<'a> {
    pub(super) fn of(batch: &Batch<'a>, limit: usize) -> Result<RecordSet<'a>, RecordsError> {
        let Some(codec) = batch.codec() else {
            return Err(RecordsError::UnknownCodec(batch.attributes.codec_id()));
        };
        if batch.record_count < 0 {
            return Err(RecordsError::NegativeCount(batch.record_count));
        }
        let stored = batch.records_payload();
        // An emptied batch may still name the codec that it once had.
        let payload = match codec {
            Codec::None => Cow::Borrowed(stored),
            _ if batch.record_count == 0 && stored.is_empty() => Cow::Borrowed(stored),
            _ => Cow::Owned(decompress(codec, stored, limit)?),
        };
        Ok(RecordSet {
            payload,
            count: batch.record_count,
            base_offset: batch.base_offset,
            base_timestamp: batch.base_timestamp,
            append_time: (batch.timestamp_type() == TimestampType::LogAppendTime)
                .then_some(batch.max_timestamp),
        })
    }

    /// How many records there are, according to the header.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// The bytes of the records, decompressed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Walks over the records.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter {
            rest: &self.payload,
            index: 0,
            count: self.count,
            base_offset: self.base_offset,
            base_timestamp: self.base_timestamp,
            append_time: self.append_time,
        }
    }
}

impl<'s> IntoIterator for &'s RecordSet<'_> {
    type Item = Result<Record<'s>, RecordsError>;
    type IntoIter = RecordIter<'s>;

    fn into_iter(self) -> RecordIter<'s> {
        self.iter()
    }
}

/// Iterator over the records of a batch; allocates nothing. It ends after the first error, and checks at the end that no bytes
/// are left.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
    index: i32,
    count: i32,
    base_offset: i64,
    base_timestamp: i64,
    append_time: Option<i64>,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            let bytes = std::mem::take(&mut self.rest).len();
            return (bytes > 0).then_some(Err(RecordsError::Trailing { bytes }));
        }
        let index = self.index;
        match take_record(&mut self.rest) {
            Ok(raw) => {
                self.index += 1;
                Some(Ok(Record {
                    offset: self.base_offset.wrapping_add(i64::from(raw.offset_delta)),
                    timestamp: self
                        .append_time
                        .unwrap_or_else(|| self.base_timestamp.wrapping_add(raw.timestamp_delta)),
                    key: raw.key,
                    value: raw.value,
                    headers: raw.headers,
                }))
            }
            Err(fault) => {
                self.index = self.count;
                self.rest = &[];
                Some(Err(RecordsError::Record { index, fault }))
            }
        }
    }
}
