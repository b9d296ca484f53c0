//! What can go wrong with a log, sorted by what the caller does about it.
//!
//! The one tricky idea: a write or sync that failed is never retried (the kernel may have dropped the pages), so a [`StorageError`] of a
//! write path is kept by the log and answers every later call.

use std::fmt;
use std::io;
use std::path::Path;

use ottla_protocol::ErrorCode;

use crate::meaning::Meaning;

/// The disk failed, has no space, or holds what cannot be (KAFKA_STORAGE_ERROR).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageError {
    meaning: Meaning,
    message: String,
}

impl StorageError {
    pub(crate) fn at(path: &Path, error: &io::Error) -> StorageError {
        StorageError { meaning: Meaning::of(error), message: format!("{}: {error}", path.display()) }
    }

    /// What it says about the disk.
    pub fn meaning(&self) -> Meaning {
        self.meaning
    }

    /// KAFKA_STORAGE_ERROR.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::KafkaStorageError
    }
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> StorageError {
        StorageError { meaning: Meaning::of(&error), message: error.to_string() }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StorageError {}

/// Why a read gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// The offset is below the log start or above the log end.
    OffsetOutOfRange {
        /// What was asked for.
        offset: i64,
        /// The first readable offset.
        log_start_offset: i64,
        /// The offset that the next record will get.
        log_end_offset: i64,
    },
    /// The disk failed.
    Storage(StorageError),
}

impl ReadError {
    /// The code that answers the reader.
    pub fn code(&self) -> ErrorCode {
        match self {
            ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            ReadError::Storage(error) => error.code(),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::OffsetOutOfRange { offset, log_start_offset, log_end_offset } => {
                write!(f, "offset {offset} is not within {log_start_offset}..={log_end_offset}")
            }
            ReadError::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> ReadError {
        ReadError::Storage(error)
    }
}

/// Why an append was refused. Nothing was written, except after [`AppendError::Storage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendError {
    /// The batch breaks a rule of the format or of the topic (INVALID_RECORD), perhaps in single records.
    InvalidRecord {
        /// What is wrong.
        message: String,
        /// Which records, by index within the batch, and why.
        records: Vec<(i32, String)>,
    },
    /// A checksum or length does not fit the bytes (CORRUPT_MESSAGE).
    Corrupt(String),
    /// The batch is larger than `max.message.bytes`, or decompresses to more than is allowed (MESSAGE_TOO_LARGE).
    MessageTooLarge {
        /// Bytes of the batch.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The batch is larger than a segment (RECORD_LIST_TOO_LARGE).
    RecordListTooLarge {
        /// Bytes of the batch.
        size: usize,
        /// `segment.bytes`.
        max: usize,
    },
    /// A timestamp is out of the allowed range (INVALID_TIMESTAMP).
    InvalidTimestamp {
        /// What is wrong.
        message: String,
        /// Which records, by index within the batch, and why.
        records: Vec<(i32, String)>,
    },
    /// The client speaks a version that does not know the codec (UNSUPPORTED_COMPRESSION_TYPE, KIP-110).
    UnsupportedCompression,
    /// The producer's sequence has a gap (OUT_OF_ORDER_SEQUENCE_NUMBER).
    OutOfOrderSequence {
        /// The producer.
        producer_id: i64,
        /// The first sequence number of the batch.
        found: i32,
        /// The last sequence number in the log (-1: none in this epoch).
        last: i32,
    },
    /// A newer instance of the producer has written already (INVALID_PRODUCER_EPOCH).
    InvalidProducerEpoch {
        /// The producer.
        producer_id: i64,
        /// The epoch of the batch.
        found: i16,
        /// The epoch in the log.
        current: i16,
    },
    /// A producer with an open transaction wrote outside of it (INVALID_TXN_STATE).
    InvalidTxnState {
        /// The producer.
        producer_id: i64,
    },
    /// A transactional batch that its coordinator did not admit, or not in time (INVALID_TXN_STATE).
    NotAdmitted {
        /// The producer.
        producer_id: i64,
    },
    /// A newer transaction coordinator has written markers already (TRANSACTION_COORDINATOR_FENCED).
    CoordinatorFenced {
        /// The producer.
        producer_id: i64,
        /// The coordinator epoch of the marker.
        found: i32,
        /// The coordinator epoch in the log.
        current: i32,
    },
    /// A replicated batch does not continue the log (UNKNOWN_SERVER_ERROR; the follower has to truncate).
    UnexpectedOffset {
        /// The batch's base offset.
        found: i64,
        /// The log end offset.
        log_end_offset: i64,
    },
    /// The disk failed (KAFKA_STORAGE_ERROR).
    Storage(StorageError),
}

impl AppendError {
    pub(crate) fn invalid(message: impl fmt::Display) -> AppendError {
        AppendError::InvalidRecord { message: message.to_string(), records: Vec::new() }
    }

    /// The code that answers the producer.
    pub fn code(&self) -> ErrorCode {
        match self {
            AppendError::InvalidRecord { .. } => ErrorCode::InvalidRecord,
            AppendError::Corrupt(_) => ErrorCode::CorruptMessage,
            AppendError::MessageTooLarge { .. } => ErrorCode::MessageTooLarge,
            AppendError::RecordListTooLarge { .. } => ErrorCode::RecordListTooLarge,
            AppendError::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
            AppendError::UnsupportedCompression => ErrorCode::UnsupportedCompressionType,
            AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            AppendError::InvalidTxnState { .. } | AppendError::NotAdmitted { .. } => {
                ErrorCode::InvalidTxnState
            }
            AppendError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
            AppendError::UnexpectedOffset { .. } => ErrorCode::UnknownServerError,
            AppendError::Storage(error) => error.code(),
        }
    }

    /// The records at fault, by index within the batch, and why: for Produce v8 and later.
    pub fn record_errors(&self) -> &[(i32, String)] {
        match self {
            AppendError::InvalidRecord { records, .. } | AppendError::InvalidTimestamp { records, .. } => {
                records
            }
            _ => &[],
        }
    }

    /// Whether it was the disk. If [`crate::Log::failure`] says nothing there was too little of something, and the next try may succeed.
    pub fn is_storage_failure(&self) -> bool {
        matches!(self, AppendError::Storage(_))
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::InvalidRecord { message, .. } | AppendError::InvalidTimestamp { message, .. } => {
                f.write_str(message)
            }
            AppendError::Corrupt(message) => f.write_str(message),
            AppendError::MessageTooLarge { size, max } => {
                write!(f, "the record batch takes {size} bytes, {max} are allowed")
            }
            AppendError::RecordListTooLarge { size, max } => {
                write!(f, "the record batch takes {size} bytes, a segment {max}")
            }
            AppendError::UnsupportedCompression => f.write_str("zstd needs Produce version 7 or later"),
            AppendError::OutOfOrderSequence { producer_id, found, last } => {
                write!(f, "out of order sequence of producer {producer_id}: {found} came after {last}")
            }
            AppendError::InvalidProducerEpoch { producer_id, found, current } => {
                write!(f, "epoch {found} of producer {producer_id} is older than {current}")
            }
            AppendError::InvalidTxnState { producer_id } => {
                write!(f, "producer {producer_id} has an open transaction and wrote outside of it")
            }
            AppendError::NotAdmitted { producer_id } => {
                write!(f, "the batch of producer {producer_id} is not part of an open transaction")
            }
            AppendError::CoordinatorFenced { producer_id, found, current } => {
                write!(f, "coordinator epoch {found} for producer {producer_id} is older than {current}")
            }
            AppendError::UnexpectedOffset { found, log_end_offset } => {
                write!(f, "a batch at offset {found} does not continue a log that ends at {log_end_offset}")
            }
            AppendError::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AppendError {}

impl From<StorageError> for AppendError {
    fn from(error: StorageError) -> AppendError {
        AppendError::Storage(error)
    }
}
