//! What can go wrong with a log, sorted by what the caller does about it.
//!
//! The one tricky idea: a write or sync that failed is never retried (the kernel may have dropped the pages), so a [`StorageError`] of a
//! write path is kept by the log and answers every later call.

use std::fmt;
use std::io;
use std::path::Path;

use ottla_protocol::ErrorCode;

/// The disk failed, has no space, or holds what cannot be (KAFKA_STORAGE_ERROR).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageError {
    kind: io::ErrorKind,
    is_disk_failure: bool,
    message: String,
}

impl StorageError {
    pub(crate) fn at(path: &Path, error: &io::Error) -> StorageError {
        StorageError {
            kind: error.kind(),
            is_disk_failure: is_disk_failure(error),
            message: format!("{}: {error}", path.display()),
        }
    }

    /// See [`is_disk_failure`].
    pub fn is_disk_failure(&self) -> bool {
        self.is_disk_failure
    }

    /// What the operating system called it.
    pub fn kind(&self) -> io::ErrorKind {
        self.kind
    }

    /// KAFKA_STORAGE_ERROR.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::KafkaStorageError
    }
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> StorageError {
        let is_disk_failure = is_disk_failure(&error);
        StorageError { kind: error.kind(), is_disk_failure, message: error.to_string() }
    }
}

/// Whether an error says that the disk does not work, so that its log directory has to go offline (KIP-112); and not that there is no
/// space, or too little of something else, which may pass, or that a file is missing or damaged, which says nothing about others.
pub fn is_disk_failure(error: &io::Error) -> bool {
    /// ENFILE and EMFILE: too many open files, which [`io::ErrorKind`] has no names for.
    const TOO_MANY_FILES: [i32; 2] = [23, 24];
    use io::ErrorKind::*;
    let passes = matches!(
        error.kind(),
        StorageFull
            | QuotaExceeded
            | OutOfMemory
            | Interrupted
            | WouldBlock
            | NotFound
            | InvalidData
            | UnexpectedEof
    );
    !passes && os_code(error).is_none_or(|code| !TOO_MANY_FILES.contains(&code))
}

/// The operating system's number of an error, however often it was wrapped into one that says more.
fn os_code(error: &io::Error) -> Option<i32> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        next = match error.downcast_ref::<io::Error>() {
            Some(error) if error.raw_os_error().is_some() => return error.raw_os_error(),
            Some(error) => error.get_ref().map(|inner| inner as _),
            None => error.source(),
        };
    }
    None
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

    /// Whether it was the disk. The log is lost to this process, unless [`crate::Log::failure`] says nothing: then the disk was full.
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

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn what_may_pass_and_what_says_nothing_of_other_files_is_no_failure_of_the_disk() {
        let codes = [(5, true), (30, true), (28, false), (122, false), (23, false), (24, false), (2, false)];
        for (code, expected) in codes {
            let error = Error::from_raw_os_error(code);
            assert_eq!(is_disk_failure(&error), expected, "{error}");
        }
        assert!(!is_disk_failure(&Error::from(ErrorKind::InvalidData)));
        assert!(is_disk_failure(&Error::other("injected")));
    }

    #[derive(Debug)]
    struct Named(io::Error);

    impl fmt::Display for Named {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a file: {}", self.0)
        }
    }

    impl std::error::Error for Named {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_that_was_wrapped_is_still_what_it_was() {
        let told = |code| {
            let source = Error::from_raw_os_error(code);
            Error::other(Error::new(source.kind(), Named(source)))
        };
        assert!(!is_disk_failure(&told(23)));
        assert!(!is_disk_failure(&told(24)));
        assert!(is_disk_failure(&told(5)));
    }
}
