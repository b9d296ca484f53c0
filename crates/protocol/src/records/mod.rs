//! Record batches of format 2: the only form in which records travel, and the form in which they stand on disk.
//!
//! ```text
//!  0        8        12             16     17       21           23                27
//!  base     batch    leader         magic  CRC-32C  attributes   last offset       base
//!  offset   length   epoch          = 2    of 21..  codec, flags delta             timestamp
//!  i64      i32      i32            i8     u32      i16          i32               i64
//!
//! 35         43           51          53         57        61
//! max        producer     producer    base       record    records, as they are or compressed
//! timestamp  id           epoch       sequence   count     (length of the batch = 12 + batch length)
//! i64        i64          i16         i32        i32
//! ```
//!
//! Everything is big-endian; the records themselves use zigzag varints. The checksum covers everything from the attributes on, so a
//! broker sets the base offset and the leader epoch without touching it. The one tricky idea: a batch is looked at through its
//! header. Only who truly needs records (compaction, consumers, strict validation) asks for them, and gets slices of the bytes.

mod batch;
mod builder;
mod control;
mod header;
mod patch;
mod record;
mod set;
mod validate;

#[cfg(test)]
mod tests;

pub use batch::{Batch, Batches, batches};
pub use builder::{BatchBuilder, BatchOptions, empty_batch, rebuild};
pub use control::{ControlKey, ControlKeyError, ControlType, EndTxnMarker, control_batch, end_txn_batch};
pub use header::{
    Attributes, BatchError, BatchHeader, HEADER_BYTES, MAGIC, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, PREFIX_BYTES, TimestampType, advance_sequence,
};
pub use patch::{patched_prefix, set_base_offset, set_leader_epoch, set_max_timestamp, stamped_header};
pub use record::{Header, Headers, Record, RecordFault};
pub use set::{RecordIter, RecordSet, RecordsError};
pub use validate::{
    InvalidBatch, RecordStats, measure_producer_records, validate_producer_batch, validate_producer_records,
};

/// CRC-32C (Castagnoli), the checksum of batches and of producer snapshots.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}
