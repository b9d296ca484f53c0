//! What a leader makes of the bytes that it is asked to append: checks them and prepares the batch as it will stand in the log
//! (`LogValidator`, `UnifiedLog.analyzeAndValidateRecords`, `ProduceRequest.validateRecords`).
//!
//! The one tricky idea: a batch is prepared as a patched start and the untouched rest of the request's bytes. Sixteen bytes are patched
//! for offset and epoch, sixty-one if the broker's clock rules, and only recompression makes new bytes.

use bytes::Bytes;
use ottla_protocol::compression::{Codec, CompressionErrorKind};
use ottla_protocol::records::{
    Batch, BatchError, BatchHeader, BatchOptions, HEADER_BYTES, InvalidBatch, NO_TIMESTAMP, PREFIX_BYTES,
    RecordsError, TimestampType, measure_producer_records, patched_prefix, rebuild, set_max_timestamp,
    stamped_header, validate_producer_batch, validate_producer_records,
};

use crate::config::{LogConfig, TargetCompression};
use crate::error::AppendError;
use crate::producer::AppendOrigin;

/// Single records that are named in an error at most.
const RECORD_ERRORS_MAX: usize = 1000;

/// A batch as it will stand in the log: `front()`, then `rest`.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) header: BatchHeader,
    front: [u8; HEADER_BYTES],
    front_bytes: usize,
    pub(crate) rest: Bytes,
}

impl Prepared {
    fn new(header: BatchHeader, front: &[u8], rest: Bytes) -> Prepared {
        let mut padded = [0; HEADER_BYTES];
        padded[..front.len()].copy_from_slice(front);
        assert!(
            front.len() + rest.len() == header.size(),
            "a prepared batch must have the size of its header"
        );
        Prepared { header, front: padded, front_bytes: front.len(), rest }
    }

    pub(crate) fn front(&self) -> &[u8] {
        &self.front[..self.front_bytes]
    }

    /// A batch whose offset and epoch are assigned already.
    pub(crate) fn verbatim(batch: &Batch<'_>, bytes: &Bytes) -> Prepared {
        let (front, rest) = batch.bytes().split_at(PREFIX_BYTES);
        Prepared::new(*batch.header(), front, bytes.slice_ref(rest))
    }
}

/// What the preparation needs to know besides the batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Append<'c> {
    pub(crate) config: &'c LogConfig,
    pub(crate) origin: AppendOrigin,
    pub(crate) leader_epoch: i32,
    pub(crate) now: i64,
}

/// The first batch of `bytes`.
pub(crate) fn first_batch(bytes: &[u8]) -> Result<Batch<'_>, AppendError> {
    Batch::parse(bytes).map_err(|error| match error {
        BatchError::Truncated { .. } => AppendError::invalid("a whole record batch is expected"),
        BatchError::UnsupportedMagic { .. } => AppendError::invalid(error),
        BatchError::InvalidLength { .. } | BatchError::Checksum { .. } => {
            AppendError::Corrupt(error.to_string())
        }
    })
}

/// Checks the only batch of `bytes`.
pub(crate) fn check_single<'b>(bytes: &'b [u8], append: &Append<'_>) -> Result<Batch<'b>, AppendError> {
    let batch = first_batch(bytes)?;
    let rest = &bytes[batch.size()..];
    if !rest.is_empty() && !matches!(Batch::parse(rest), Err(BatchError::Truncated { .. })) {
        return Err(AppendError::invalid("exactly one record batch is expected"));
    }
    if let AppendOrigin::Client { zstd_allowed, .. } = append.origin {
        if batch.codec() == Some(Codec::Zstd) && !zstd_allowed {
            return Err(AppendError::UnsupportedCompression);
        }
        if batch.base_offset != 0 {
            return Err(AppendError::invalid(format_args!(
                "the base offset has to be 0 and is {}",
                batch.base_offset
            )));
        }
    }
    let max = append.config.message_bytes_max as usize;
    if batch.size() > max {
        return Err(AppendError::MessageTooLarge { size: batch.size(), max });
    }
    batch.verify_crc().map_err(|error| AppendError::Corrupt(error.to_string()))?;
    check_offsets(&batch)?;
    if append.origin.is_client() {
        check_client_header(&batch)?;
    }
    Ok(batch)
}

/// No batch ends before it begins, whoever sends it.
pub(crate) fn check_offsets(batch: &Batch<'_>) -> Result<(), AppendError> {
    match batch.last_offset_delta {
        0.. => Ok(()),
        delta => Err(AppendError::invalid(format_args!("the last offset delta {delta} is invalid"))),
    }
}

fn check_client_header(batch: &Batch<'_>) -> Result<(), AppendError> {
    validate_producer_batch(batch.header()).map_err(|invalid| match invalid {
        InvalidBatch::LogAppendTime => {
            AppendError::InvalidTimestamp { message: invalid.to_string(), records: Vec::new() }
        }
        _ => AppendError::invalid(invalid),
    })
}

/// Prepares a checked batch for its place at `base_offset`.
pub(crate) fn prepare(
    batch: &Batch<'_>,
    bytes: &Bytes,
    base_offset: i64,
    append: &Append<'_>,
) -> Result<Prepared, AppendError> {
    let mut target = target_codec(batch, append);
    let mut max_timestamp = batch.max_timestamp;
    if append.origin.is_client() {
        let checked = check_records(batch, target.is_some(), append)?;
        max_timestamp = checked.max_timestamp;
        if !checked.are_in_order {
            target = target.or_else(|| own_codec(batch, append));
        }
    }
    let append_time = (append.config.timestamp_type == TimestampType::LogAppendTime && !is_raft(append))
        .then_some(append.now);
    if let Some((codec, level)) = target {
        return recompress(batch, base_offset, codec, level, append_time, append);
    }
    if let Some(append_time) = append_time {
        let front = stamped_header(batch, base_offset, append.leader_epoch, append_time);
        let header = BatchHeader::read(&front).map_err(AppendError::invalid)?;
        return Ok(Prepared::new(header, &front, bytes.slice_ref(batch.records_payload())));
    }
    if max_timestamp != batch.max_timestamp {
        // The producer's header does not say what its records say. The records are right.
        let mut corrected = batch.bytes().to_vec();
        set_max_timestamp(&mut corrected, TimestampType::CreateTime, max_timestamp)
            .map_err(AppendError::invalid)?;
        let corrected = Bytes::from(corrected);
        let batch = first_batch(&corrected)?;
        return Ok(place(&batch, &corrected, base_offset, append.leader_epoch));
    }
    Ok(place(batch, bytes, base_offset, append.leader_epoch))
}

fn is_raft(append: &Append<'_>) -> bool {
    matches!(append.origin, AppendOrigin::RaftLeader)
}

fn place(batch: &Batch<'_>, bytes: &Bytes, base_offset: i64, leader_epoch: i32) -> Prepared {
    let front = patched_prefix(batch, base_offset, leader_epoch);
    let header = BatchHeader { base_offset, leader_epoch, ..*batch.header() };
    Prepared::new(header, &front, bytes.slice_ref(&batch.bytes()[PREFIX_BYTES..]))
}

/// The codec that the batch has to be changed to, if it is not the one that it has.
fn target_codec(batch: &Batch<'_>, append: &Append<'_>) -> Option<(Codec, Option<i32>)> {
    match append.config.compression {
        TargetCompression::Codec(codec, level)
            if batch.codec() != Some(codec) && !batch.is_control() && !is_raft(append) =>
        {
            Some((codec, level))
        }
        _ => None,
    }
}

/// The codec that the batch has, to write it anew: some producers number the records in a batch wrong, and consumers go by those numbers.
fn own_codec(batch: &Batch<'_>, append: &Append<'_>) -> Option<(Codec, Option<i32>)> {
    match append.config.compression {
        TargetCompression::Codec(codec, level) if batch.codec() == Some(codec) => Some((codec, level)),
        _ => batch.codec().map(|codec| (codec, None)),
    }
}

/// What is known of a client's records.
struct Checked {
    /// The largest timestamp.
    max_timestamp: i64,
    /// Whether their relative offsets are 0, 1, 2, ... As far as they were looked at.
    are_in_order: bool,
}

/// Walks over the records where that is cheap (no codec) or asked for. A batch that is not walked over is believed to its header.
fn check_records(batch: &Batch<'_>, recompress: bool, append: &Append<'_>) -> Result<Checked, AppendError> {
    let config = append.config;
    let create_time = config.timestamp_type == TimestampType::CreateTime;
    let walk = batch.codec() == Some(Codec::None)
        || recompress
        || config.strict_validation
        || config.record_bytes_max.is_some()
        || config.compacted
        || (create_time && config.timestamp_before_max_ms != i64::MAX);
    let (mut oldest, mut newest) = (batch.max_timestamp, batch.max_timestamp);
    let (mut are_in_order, mut lack_keys) = (true, false);
    if walk {
        let record_bytes_max = config.record_bytes_max.filter(|_| batch.codec() != Some(Codec::None));
        let walk =
            if record_bytes_max.is_some() { measure_producer_records } else { validate_producer_records };
        let stats =
            walk(batch, config.decompressed_bytes_max).map_err(|error| records_error(error, batch))?;
        if let Some(max) = record_bytes_max.filter(|max| stats.largest_record_bytes > *max as usize) {
            let size = stats.largest_record_bytes;
            return Err(AppendError::invalid(format_args!(
                "a record of {size} bytes is larger than max.decompressed.message.bytes, which is {max}"
            )));
        }
        (oldest, newest) = (stats.min_timestamp, stats.max_timestamp);
        are_in_order = stats.offsets_in_order;
        lack_keys = config.compacted && stats.first_null_key.is_some();
    }
    // A record without a timestamp may hide an old one behind it, so it sends us through the records as well.
    let suspicious = |timestamp| timestamp == NO_TIMESTAMP || !in_time(timestamp, append);
    let may_be_out_of_time = create_time
        && (!in_time(newest, append) || (suspicious(oldest) && config.timestamp_before_max_ms != i64::MAX));
    if lack_keys || may_be_out_of_time {
        check_each(batch, create_time, append)?;
    }
    Ok(Checked { max_timestamp: newest, are_in_order })
}

fn records_error(error: RecordsError, batch: &Batch<'_>) -> AppendError {
    match error {
        RecordsError::Compression(error) => match error.kind {
            CompressionErrorKind::TooLarge { limit } => {
                AppendError::MessageTooLarge { size: batch.size(), max: limit }
            }
            CompressionErrorKind::Corrupt(_) => AppendError::Corrupt(error.to_string()),
        },
        error => AppendError::invalid(error),
    }
}

fn in_time(timestamp: i64, append: &Append<'_>) -> bool {
    let age = i128::from(append.now) - i128::from(timestamp);
    timestamp == NO_TIMESTAMP
        || (age <= i128::from(append.config.timestamp_before_max_ms)
            && -age <= i128::from(append.config.timestamp_after_max_ms))
}

/// Finds the records that lack a key or are out of time; fails if there are any, or if the header alone is out of time. One answer for both
/// kinds (KIP-467): who has to mend a batch wants to know of all that is wrong with it.
fn check_each(batch: &Batch<'_>, create_time: bool, append: &Append<'_>) -> Result<(), AppendError> {
    let config = append.config;
    let (before, after) = (config.timestamp_before_max_ms, config.timestamp_after_max_ms);
    let range = format!("[{}, {}]", append.now.saturating_sub(before), append.now.saturating_add(after));
    let mut are_out_of_time = create_time && !in_time(batch.max_timestamp, append);
    let mut faulty = Vec::new();
    let records =
        batch.records(config.decompressed_bytes_max).map_err(|error| records_error(error, batch))?;
    for (index, record) in (0..).zip(&records) {
        let record = record.map_err(|error| records_error(error, batch))?;
        if config.compacted && record.key.is_none() {
            faulty.push((index, "Compacted topic cannot accept message without key".to_owned()));
        } else if create_time && !in_time(record.timestamp, append) {
            are_out_of_time = true;
            faulty.push((index, format!("timestamp {} is not within {range}", record.timestamp)));
        }
        if faulty.len() >= RECORD_ERRORS_MAX {
            break;
        }
    }
    match (are_out_of_time, faulty.len()) {
        (true, _) => {
            let message = "One or more records have been rejected due to invalid timestamp".to_owned();
            Err(AppendError::InvalidTimestamp { message, records: faulty })
        }
        (false, 0) => Ok(()),
        (false, count) => {
            let message =
                format!("One or more records have been rejected due to {count} record errors in total");
            Err(AppendError::InvalidRecord { message, records: faulty })
        }
    }
}

/// Writes the batch anew with a codec, its records numbered from 0 on. Its records are known to be well-formed if a client sent them.
fn recompress(
    batch: &Batch<'_>,
    base_offset: i64,
    codec: Codec,
    level: Option<i32>,
    append_time: Option<i64>,
    append: &Append<'_>,
) -> Result<Prepared, AppendError> {
    let options = BatchOptions {
        leader_epoch: append.leader_epoch,
        producer_id: batch.producer_id,
        producer_epoch: batch.producer_epoch,
        base_sequence: batch.base_sequence,
        transactional: batch.is_transactional(),
        control: false,
        codec,
        level,
        append_time,
        delete_horizon: None,
    };
    let bytes = rebuild(batch, base_offset, options, append.config.decompressed_bytes_max);
    let bytes = Bytes::from(bytes.map_err(|error| records_error(error, batch))?);
    let max = append.config.message_bytes_max as usize;
    if bytes.len() > max {
        return Err(AppendError::MessageTooLarge { size: bytes.len(), max });
    }
    let batch = first_batch(&bytes)?;
    Ok(place(&batch, &bytes, base_offset, append.leader_epoch))
}

#[cfg(test)]
mod tests;
