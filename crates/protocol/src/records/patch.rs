//! What a broker changes in a batch that it appends.
//!
//! Base offset and leader epoch lie before the checksummed bytes, so a log writes sixteen new bytes and then the rest of the
//! producer's batch as it came. Only a timestamp set by the broker (LogAppendTime) costs a new checksum.

use super::header::{ATTRIBUTES_AT, BatchError, BatchHeader, HEADER_BYTES, PREFIX_BYTES, TimestampType};
use super::{Batch, crc32c};

const MAX_TIMESTAMP_AT: usize = 35;
const CRC_AT: usize = 17;

/// The first sixteen bytes of `batch` with another base offset and leader epoch; bytes 16.. of the batch follow them unchanged.
pub fn patched_prefix(batch: &Batch<'_>, base_offset: i64, leader_epoch: i32) -> [u8; PREFIX_BYTES] {
    let mut prefix = [0; PREFIX_BYTES];
    prefix[0..8].copy_from_slice(&base_offset.to_be_bytes());
    prefix[8..12].copy_from_slice(&batch.batch_length.to_be_bytes());
    prefix[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    prefix
}

/// The whole header of `batch` as appended with LogAppendTime: `append_time` becomes the time of all its records. The bytes
/// after the header follow unchanged; the new checksum reads them, but nothing copies them.
pub fn stamped_header(
    batch: &Batch<'_>,
    base_offset: i64,
    leader_epoch: i32,
    append_time: i64,
) -> [u8; HEADER_BYTES] {
    let mut header = BatchHeader {
        base_offset,
        leader_epoch,
        attributes: batch.attributes.with_timestamp_type(TimestampType::LogAppendTime),
        max_timestamp: append_time,
        ..*batch.header()
    };
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&header.to_bytes()[ATTRIBUTES_AT..]);
    digest.update(batch.records_payload());
    header.crc = digest.finalize() as u32;
    header.to_bytes()
}

/// Sets the base offset of the batch at the start of `bytes`. The checksum does not cover it.
pub fn set_base_offset(bytes: &mut [u8], base_offset: i64) -> Result<(), BatchError> {
    BatchHeader::read(bytes)?;
    bytes[0..8].copy_from_slice(&base_offset.to_be_bytes());
    Ok(())
}

/// Sets the leader epoch of the batch at the start of `bytes`. The checksum does not cover it.
pub fn set_leader_epoch(bytes: &mut [u8], leader_epoch: i32) -> Result<(), BatchError> {
    BatchHeader::read(bytes)?;
    bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    Ok(())
}

/// Sets timestamp type and maximum timestamp of the batch at the start of `bytes`, and its checksum if anything changed.
pub fn set_max_timestamp(
    bytes: &mut [u8],
    timestamp_type: TimestampType,
    max_timestamp: i64,
) -> Result<(), BatchError> {
    let batch = Batch::parse(bytes)?;
    let attributes = batch.attributes.with_timestamp_type(timestamp_type);
    if attributes == batch.attributes && max_timestamp == batch.max_timestamp {
        return Ok(());
    }
    let end = batch.size();
    bytes[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.0.to_be_bytes());
    bytes[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max_timestamp.to_be_bytes());
    let crc = crc32c(&bytes[ATTRIBUTES_AT..end]);
    bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}
