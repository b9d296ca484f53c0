//! Control records: what brokers and controllers write between the records of producers.
//!
//! The key says what happened: version i16, type i16. The value belongs to the type: an [`EndTxnMarker`] for the end of a
//! transaction; a message of the raft layer (LeaderChangeMessage, SnapshotHeaderRecord, ...) for the others.

use std::fmt;

use super::{BatchBuilder, BatchOptions};

/// The kinds of control records (Kafka's `ControlRecordType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum ControlType {
    /// The producer's transaction was aborted.
    Abort = 0,
    /// The producer's transaction was committed.
    Commit = 1,
    /// A leader of the metadata quorum begins its epoch.
    LeaderChange = 2,
    /// A snapshot begins.
    SnapshotHeader = 3,
    /// A snapshot ends.
    SnapshotFooter = 4,
    /// The version of the quorum's protocol (KIP-853).
    KraftVersion = 5,
    /// The voters of the quorum (KIP-853).
    KraftVoters = 6,
}

impl ControlType {
    /// The type of an id, if it is known.
    pub const fn from_id(id: i16) -> Option<ControlType> {
        match id {
            0 => Some(ControlType::Abort),
            1 => Some(ControlType::Commit),
            2 => Some(ControlType::LeaderChange),
            3 => Some(ControlType::SnapshotHeader),
            4 => Some(ControlType::SnapshotFooter),
            5 => Some(ControlType::KraftVersion),
            6 => Some(ControlType::KraftVoters),
            _ => None,
        }
    }

    /// The id as it stands in keys.
    pub const fn id(self) -> i16 {
        self as i16
    }
}

/// The key of a control record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlKey {
    /// The version of the key; higher ones may be longer, but begin alike.
    pub version: i16,
    /// The id of the type, which may be one that a later release knows: such records are skipped.
    pub type_id: i16,
}

/// Why bytes are not the key (or value) of a control record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlKeyError {
    /// There is no key, or it is cut off.
    Truncated,
    /// The version is negative.
    Version(i16),
}

impl fmt::Display for ControlKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlKeyError::Truncated => f.write_str("the control record is cut off"),
            ControlKeyError::Version(version) => {
                write!(f, "the control record has the invalid version {version}")
            }
        }
    }
}

impl std::error::Error for ControlKeyError {}

impl ControlKey {
    /// The key that is written for a type.
    pub const fn new(control_type: ControlType) -> ControlKey {
        ControlKey { version: 0, type_id: control_type.id() }
    }

    /// Reads the key of a control record.
    pub fn read(key: Option<&[u8]>) -> Result<ControlKey, ControlKeyError> {
        let Some([a, b, c, d, ..]) = key else { return Err(ControlKeyError::Truncated) };
        let version = i16::from_be_bytes([*a, *b]);
        if version < 0 {
            return Err(ControlKeyError::Version(version));
        }
        Ok(ControlKey { version, type_id: i16::from_be_bytes([*c, *d]) })
    }

    /// The key as bytes.
    pub const fn to_bytes(self) -> [u8; 4] {
        let [a, b] = self.version.to_be_bytes();
        let [c, d] = self.type_id.to_be_bytes();
        [a, b, c, d]
    }

    /// The type, if it is known.
    pub const fn control_type(self) -> Option<ControlType> {
        ControlType::from_id(self.type_id)
    }
}

/// The value of abort and commit records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// The epoch of the transaction coordinator that decided.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads the value of an abort or commit record. Later versions begin alike.
    pub fn read(value: Option<&[u8]>) -> Result<EndTxnMarker, ControlKeyError> {
        let Some([a, b, epoch @ ..]) = value else { return Err(ControlKeyError::Truncated) };
        let version = i16::from_be_bytes([*a, *b]);
        if version < 0 {
            return Err(ControlKeyError::Version(version));
        }
        let epoch = epoch.first_chunk().ok_or(ControlKeyError::Truncated)?;
        Ok(EndTxnMarker { coordinator_epoch: i32::from_be_bytes(*epoch) })
    }

    /// The value as bytes, in version 0.
    pub const fn to_bytes(self) -> [u8; 6] {
        let [a, b, c, d] = self.coordinator_epoch.to_be_bytes();
        [0, 0, a, b, c, d]
    }
}

/// A control batch with one record. The control flag is set whatever `options` say; sequence numbers, codec and the rest are theirs.
pub fn control_batch(
    base_offset: i64,
    timestamp: i64,
    control_type: ControlType,
    value: &[u8],
    options: BatchOptions,
) -> Vec<u8> {
    let mut builder = BatchBuilder::new(base_offset, BatchOptions { control: true, ..options });
    builder.push(timestamp, Some(&ControlKey::new(control_type).to_bytes()), Some(value), &[]);
    builder.finish()
}

/// The batch that ends a producer's transaction in a partition.
pub fn end_txn_batch(
    base_offset: i64,
    timestamp: i64,
    commit: bool,
    marker: EndTxnMarker,
    producer_id: i64,
    producer_epoch: i16,
    leader_epoch: i32,
) -> Vec<u8> {
    let control_type = if commit { ControlType::Commit } else { ControlType::Abort };
    let options = BatchOptions {
        leader_epoch,
        producer_id,
        producer_epoch,
        transactional: true,
        ..BatchOptions::default()
    };
    control_batch(base_offset, timestamp, control_type, &marker.to_bytes(), options)
}
