//! Writes batches: for the coordinators and the metadata log, for compaction and recompression, for clients and tests.
//!
//! Records are encoded as they are pushed, behind 61 reserved bytes; finishing compresses them if a codec is set, and fills in the
//! header. Without a codec nothing is copied twice.

use super::header::{
    ATTRIBUTES_AT, Attributes, BatchHeader, HEADER_BYTES, LOG_OVERHEAD, NO_PARTITION_LEADER_EPOCH,
    NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType,
};
use super::record::{Header, Headers, Record};
use super::{Batch, RecordsError, crc32c};
use crate::compression::{Codec, compress};
use crate::wire::varint::{len_i32, len_i64, put_i32, put_i64};

/// What is written into the header of a batch apart from its records. The default is a plain batch without a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// The partition's leader epoch.
    pub leader_epoch: i32,
    /// The idempotent producer.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The sequence number of the first record.
    pub base_sequence: i32,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// Whether it is a control batch.
    pub control: bool,
    /// How to compress the records.
    pub codec: Codec,
    /// How hard to compress them; `None` is the codec's default.
    pub level: Option<i32>,
    /// The time of the append, if it is to stand for the time of all records; otherwise they keep their own.
    pub append_time: Option<i64>,
    /// From when on compaction may drop the batch's tombstones and markers (KIP-534).
    pub delete_horizon: Option<i64>,
}

impl Default for BatchOptions {
    fn default() -> Self {
        BatchOptions {
            leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            transactional: false,
            control: false,
            codec: Codec::None,
            level: None,
            append_time: None,
            delete_horizon: None,
        }
    }
}

impl BatchOptions {
    /// The options under which the batch of `header` was written (with the codec's default level): what compaction starts from.
    pub fn of(header: &BatchHeader) -> BatchOptions {
        BatchOptions {
            leader_epoch: header.leader_epoch,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            transactional: header.is_transactional(),
            control: header.is_control(),
            codec: header.codec().unwrap_or_default(),
            level: None,
            append_time: (header.timestamp_type() == TimestampType::LogAppendTime)
                .then_some(header.max_timestamp),
            delete_horizon: header.delete_horizon(),
        }
    }

    fn attributes(&self) -> Attributes {
        let timestamp_type =
            if self.append_time.is_some() { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        Attributes::default()
            .with_codec(self.codec)
            .with_timestamp_type(timestamp_type)
            .with_transactional(self.transactional)
            .with_control(self.control)
            .with_delete_horizon(self.delete_horizon.is_some())
    }
}

/// Writes one batch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    options: BatchOptions,
    base_offset: i64,
    /// 61 bytes for the header, then the records.
    bytes: Vec<u8>,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    last_offset_delta: i32,
    record_count: i32,
}

impl BatchBuilder {
    /// Starts a batch whose first offset is `base_offset`.
    pub fn new(base_offset: i64, options: BatchOptions) -> BatchBuilder {
        BatchBuilder {
            options,
            base_offset,
            bytes: vec![0; HEADER_BYTES],
            base_timestamp: options.delete_horizon,
            max_timestamp: NO_TIMESTAMP,
            last_offset_delta: -1,
            record_count: 0,
        }
    }

    /// How many records were pushed.
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Whether no record was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The offset that the next record gets from [`push`](BatchBuilder::push).
    pub fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    /// The size of the batch so far in bytes, before compression.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the batch with this record more takes at most `limit` bytes, before compression. A batch without records takes any
    /// record, so that one which is larger than the limit is not refused for ever.
    pub fn fits(
        &self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
        limit: usize,
    ) -> bool {
        if self.is_empty() {
            return true;
        }
        let body = self.body_bytes(
            self.last_offset_delta.wrapping_add(1),
            timestamp,
            key,
            value,
            headers_bytes(headers),
        );
        self.size().saturating_add(body).saturating_add(5) <= limit
    }

    /// Adds a record at the next offset, and returns that offset.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> i64 {
        let offset = self.next_offset();
        self.push_at(offset, timestamp, key, value, headers);
        offset
    }

    /// Adds a record at `offset`, which must lie after the offsets pushed before; there may be a gap.
    pub fn push_at(
        &mut self,
        offset: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) {
        self.put_record(offset, timestamp, key, value, headers_bytes(headers), |bytes| {
            put_i32(bytes, length(headers.len()));
            for header in headers {
                put_i32(bytes, length(header.key.len()));
                bytes.extend_from_slice(header.key);
                put_nullable(header.value, bytes);
            }
        });
    }

    /// Adds a record read from another batch, at its own offset and with its own time; its headers are copied verbatim.
    pub fn push_record(&mut self, record: &Record<'_>) {
        let headers: Headers<'_> = record.headers;
        let count = length(headers.len());
        let headers_bytes = len_i32(count) + headers.raw().len();
        self.put_record(record.offset, record.timestamp, record.key, record.value, headers_bytes, |bytes| {
            put_i32(bytes, count);
            bytes.extend_from_slice(headers.raw());
        });
    }

    /// Finishes the batch, which ends with its last record.
    ///
    /// There must be a record: [`empty_batch`] is for those that compaction emptied.
    pub fn finish(self) -> Vec<u8> {
        let last_offset = self.next_offset() - 1;
        self.finish_through(last_offset)
    }

    /// Finishes a batch which takes the offsets up to `last_offset` inclusive, though the last of them have no records any more:
    /// compaction keeps the last offset of a batch, so that the log has no holes between batches.
    pub fn finish_through(self, last_offset: i64) -> Vec<u8> {
        assert!(self.record_count > 0, "a batch without records");
        assert!(last_offset >= self.next_offset() - 1, "a batch that ends before its last record");
        let last_offset_delta = offset_delta(self.base_offset, last_offset);
        let mut bytes = match self.options.codec {
            Codec::None => self.bytes,
            codec => {
                let mut bytes = vec![0; HEADER_BYTES];
                compress(codec, self.options.level, &self.bytes[HEADER_BYTES..], &mut bytes);
                bytes
            }
        };
        seal(
            &mut bytes,
            BatchHeader {
                base_offset: self.base_offset,
                batch_length: 0,
                leader_epoch: self.options.leader_epoch,
                crc: 0,
                attributes: self.options.attributes(),
                last_offset_delta,
                base_timestamp: self.base_timestamp.unwrap_or(NO_TIMESTAMP),
                max_timestamp: self.options.append_time.unwrap_or(self.max_timestamp),
                producer_id: self.options.producer_id,
                producer_epoch: self.options.producer_epoch,
                base_sequence: self.options.base_sequence,
                record_count: self.record_count,
            },
        );
        bytes
    }

    fn put_record(
        &mut self,
        offset: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers_bytes: usize,
        put_headers: impl FnOnce(&mut Vec<u8>),
    ) {
        let offset_delta = offset_delta(self.base_offset, offset);
        assert!(offset_delta > self.last_offset_delta, "the offsets of a batch must grow");
        let base_timestamp = *self.base_timestamp.get_or_insert(timestamp);
        let size = self.body_bytes(offset_delta, timestamp, key, value, headers_bytes);
        let end = self.bytes.len() + len_i32(length(size)) + size;
        assert!(end <= i32::MAX as usize, "a batch of more than 2 GiB");
        self.bytes.reserve(end - self.bytes.len());
        put_i32(&mut self.bytes, length(size));
        self.bytes.push(0);
        put_i64(&mut self.bytes, timestamp.wrapping_sub(base_timestamp));
        put_i32(&mut self.bytes, offset_delta);
        put_nullable(key, &mut self.bytes);
        put_nullable(value, &mut self.bytes);
        put_headers(&mut self.bytes);
        assert!(self.bytes.len() == end, "a record is not as long as computed");
        self.last_offset_delta = offset_delta;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.record_count += 1;
    }

    /// The size of a record without its own size field.
    fn body_bytes(
        &self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers_bytes: usize,
    ) -> usize {
        let base_timestamp = self.base_timestamp.unwrap_or(timestamp);
        1 + len_i64(timestamp.wrapping_sub(base_timestamp))
            + len_i32(offset_delta)
            + nullable_bytes(key)
            + nullable_bytes(value)
            + headers_bytes
    }
}

/// Writes the records of `batch` again under `options`, with the offsets `base_offset`, `base_offset + 1`, ...: for topics with a
/// codec of their own (`compression.type`), and for producers whose relative offsets are not 0, 1, 2, ... The records are
/// decompressed to at most `limit` bytes.
pub fn rebuild(
    batch: &Batch<'_>,
    base_offset: i64,
    options: BatchOptions,
    limit: usize,
) -> Result<Vec<u8>, RecordsError> {
    let set = batch.records(limit)?;
    let mut builder = BatchBuilder::new(base_offset, options);
    for record in &set {
        let offset = builder.next_offset();
        builder.push_record(&Record { offset, ..record? });
    }
    match builder.is_empty() {
        true => Err(RecordsError::NoRecords),
        false => Ok(builder.finish()),
    }
}

/// What compaction leaves of a batch whose records are all gone, as long as the producer's last sequence must be remembered: a
/// header which takes the same offsets (Kafka's `DefaultRecordBatch.writeEmptyHeader`).
pub fn empty_batch(of: &BatchHeader) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let attributes = of.attributes.with_codec(Codec::None).with_delete_horizon(false);
    seal(&mut bytes, BatchHeader { attributes, base_timestamp: NO_TIMESTAMP, record_count: 0, ..*of });
    bytes
}

/// Writes the header in front of the records, with length and checksum.
fn seal(bytes: &mut [u8], header: BatchHeader) {
    let batch_length = length(bytes.len() - LOG_OVERHEAD);
    bytes[..HEADER_BYTES].copy_from_slice(&BatchHeader { batch_length, ..header }.to_bytes());
    let crc = crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[17..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

fn offset_delta(base_offset: i64, offset: i64) -> i32 {
    let delta = offset.checked_sub(base_offset).and_then(|delta| i32::try_from(delta).ok());
    delta.filter(|delta| *delta >= 0).expect("an offset far from the base offset of its batch")
}

fn length(length: usize) -> i32 {
    i32::try_from(length).expect("a record of more than 2 GiB")
}

fn put_nullable(field: Option<&[u8]>, bytes: &mut Vec<u8>) {
    match field {
        None => put_i32(bytes, -1),
        Some(field) => {
            put_i32(bytes, length(field.len()));
            bytes.extend_from_slice(field);
        }
    }
}

fn nullable_bytes(field: Option<&[u8]>) -> usize {
    field.map_or(1, |field| len_i32(length(field.len())) + field.len())
}

fn headers_bytes(headers: &[Header<'_>]) -> usize {
    let each = headers
        .iter()
        .map(|header| len_i32(length(header.key.len())) + header.key.len() + nullable_bytes(header.value));
    len_i32(length(headers.len())) + each.sum::<usize>()
}
