//! The 61 bytes at the start of a batch, as a plain struct, and what its fields mean together.
//!
//! A header can be read without the records behind it: recovery, index rebuilding and offset lookups scan logs that way.

use std::fmt;

use crate::compression::Codec;

/// The length of a batch's header, in bytes; records follow.
pub const HEADER_BYTES: usize = 61;
/// The bytes before the magic: base offset, batch length, leader epoch. No checksum covers them.
pub const PREFIX_BYTES: usize = 16;
/// The only format of batches that Kafka 4 knows.
pub const MAGIC: i8 = 2;
/// A timestamp that says nothing (`RecordBatch.NO_TIMESTAMP`).
pub const NO_TIMESTAMP: i64 = -1;
/// The producer id of batches without idempotence.
pub const NO_PRODUCER_ID: i64 = -1;
/// The producer epoch of batches without idempotence.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// The base sequence of batches without idempotence, and of control batches.
pub const NO_SEQUENCE: i32 = -1;
/// The leader epoch of batches which no leader has appended yet.
pub const NO_PARTITION_LEADER_EPOCH: i32 = -1;

/// The bytes before the batch length counts.
pub(super) const LOG_OVERHEAD: usize = 12;
/// Where the magic is in every format that ever was: what is needed to tell whether a batch can be read.
pub(super) const MAGIC_AT: usize = 16;
/// The first byte that the checksum covers.
pub(super) const ATTRIBUTES_AT: usize = 21;

/// Why bytes are not a batch, or not a whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchError {
    /// The bytes end before the header or the batch does.
    Truncated {
        /// How many bytes from the start of the batch are needed to get further.
        needed: usize,
    },
    /// The batch length is smaller than a header, or negative.
    InvalidLength {
        /// The length as it stands in the header.
        batch_length: i32,
    },
    /// Not format 2: the old formats 0 and 1 (KIP-724), or no batch at all.
    UnsupportedMagic {
        /// The byte found.
        magic: i8,
    },
    /// The checksum does not match the bytes.
    Checksum {
        /// The checksum in the header.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Truncated { needed } => write!(f, "the batch is cut off: it needs {needed} bytes"),
            BatchError::InvalidLength { batch_length } => write!(f, "invalid batch length {batch_length}"),
            BatchError::UnsupportedMagic { magic } => write!(f, "unsupported batch format {magic}"),
            BatchError::Checksum { stored, computed } => {
                write!(f, "the checksum of the batch is {computed:#010x}, its header says {stored:#010x}")
            }
        }
    }
}

impl std::error::Error for BatchError {}

/// Whose clock the timestamps of a batch show: bit 3 of its attributes (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// Each record carries the time that its producer gave it.
    CreateTime,
    /// All records carry the time of the append, which is the batch's maximum timestamp.
    LogAppendTime,
}

/// The attribute bits of a batch. Bits 7-15 are unused, and kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// How the records are compressed; `None` for the ids 5-7, which name no codec.
    pub const fn codec(self) -> Option<Codec> {
        Codec::from_id(self.codec_id())
    }

    /// The codec's id, known or not.
    pub const fn codec_id(self) -> u8 {
        (self.0 & Attributes::CODEC) as u8
    }

    /// Whose clock the timestamps show.
    pub const fn timestamp_type(self) -> TimestampType {
        match self.0 & Attributes::LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// Whether the records belong to a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & Attributes::TRANSACTIONAL != 0
    }

    /// Whether the records are for the brokers and invisible to consumers' applications.
    pub const fn is_control(self) -> bool {
        self.0 & Attributes::CONTROL != 0
    }

    /// Whether the base timestamp is the time from which on compaction drops the batch's tombstones (KIP-534).
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Attributes::DELETE_HORIZON != 0
    }

    /// The same attributes with another codec.
    #[must_use]
    pub const fn with_codec(self, codec: Codec) -> Attributes {
        Attributes(self.0 & !Attributes::CODEC | codec.id() as i16)
    }

    /// The same attributes with another timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        self.with_bit(Attributes::LOG_APPEND_TIME, matches!(timestamp_type, TimestampType::LogAppendTime))
    }

    /// The same attributes with the transactional bit set or not.
    #[must_use]
    pub const fn with_transactional(self, on: bool) -> Attributes {
        self.with_bit(Attributes::TRANSACTIONAL, on)
    }

    /// The same attributes with the control bit set or not.
    #[must_use]
    pub const fn with_control(self, on: bool) -> Attributes {
        self.with_bit(Attributes::CONTROL, on)
    }

    /// The same attributes with the delete-horizon bit set or not.
    #[must_use]
    pub const fn with_delete_horizon(self, on: bool) -> Attributes {
        self.with_bit(Attributes::DELETE_HORIZON, on)
    }

    const fn with_bit(self, bit: i16, on: bool) -> Attributes {
        Attributes(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// The header of a batch. The magic is not a field: it is always [`MAGIC`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record (of the first one ever, if compaction removed it).
    pub base_offset: i64,
    /// The length of what follows this field, in bytes: the whole batch is 12 bytes longer.
    pub batch_length: i32,
    /// The leader epoch of the partition under which the batch was appended.
    pub leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: Attributes,
    /// The last offset, relative to the base offset; compaction keeps it.
    pub last_offset_delta: i32,
    /// What the timestamp deltas of the records count from, in ms since the epoch; or the delete horizon.
    pub base_timestamp: i64,
    /// The largest timestamp among the records, or the time of the append.
    pub max_timestamp: i64,
    /// The idempotent producer that sent the batch, or [`NO_PRODUCER_ID`].
    pub producer_id: i64,
    /// That producer's epoch, or [`NO_PRODUCER_EPOCH`].
    pub producer_epoch: i16,
    /// The sequence number of the first record, or [`NO_SEQUENCE`].
    pub base_sequence: i32,
    /// How many records the batch holds; after compaction fewer than offsets.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; the records need not be there.
    pub fn read(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        if bytes.len() <= MAGIC_AT {
            return Err(BatchError::Truncated { needed: MAGIC_AT + 1 });
        }
        let magic = bytes[MAGIC_AT] as i8;
        if magic != MAGIC {
            return Err(BatchError::UnsupportedMagic { magic });
        }
        let batch_length = i32::from_be_bytes(array(bytes, 8));
        if batch_length < (HEADER_BYTES - LOG_OVERHEAD) as i32 {
            return Err(BatchError::InvalidLength { batch_length });
        }
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Truncated { needed: HEADER_BYTES });
        };
        Ok(BatchHeader {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            batch_length,
            leader_epoch: i32::from_be_bytes(array(bytes, 12)),
            crc: u32::from_be_bytes(array(bytes, 17)),
            attributes: Attributes(i16::from_be_bytes(array(bytes, 21))),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            record_count: i32::from_be_bytes(array(bytes, 57)),
        })
    }

    /// The header as bytes, with the length and the checksum as they stand in the struct.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        bytes[16] = MAGIC as u8;
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        bytes
    }

    /// The length of the whole batch in bytes, header included.
    pub fn size(&self) -> usize {
        LOG_OVERHEAD + self.batch_length as usize
    }

    /// The last offset that the batch takes, inclusive.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The sequence number of the last record, or [`NO_SEQUENCE`]; the numbers wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence {
            NO_SEQUENCE => NO_SEQUENCE,
            base => advance_sequence(base, self.last_offset_delta),
        }
    }

    /// Whether an idempotent producer sent the batch.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// How the records are compressed; `None` for an id that names no codec.
    pub fn codec(&self) -> Option<Codec> {
        self.attributes.codec()
    }

    /// Whose clock the timestamps show.
    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes.timestamp_type()
    }

    /// Whether the records belong to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }

    /// Whether the batch is a control batch.
    pub fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    /// The time from which on compaction drops the batch's tombstones and markers, if it is set.
    pub fn delete_horizon(&self) -> Option<i64> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }
}

/// The sequence number `delta` records after `sequence`: 0 follows `i32::MAX`.
pub fn advance_sequence(sequence: i32, delta: i32) -> i32 {
    sequence.wrapping_add(delta) & i32::MAX
}

/// The `N` bytes at `at`; the caller has checked that they are there.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the caller checked the length")
}
